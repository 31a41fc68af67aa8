-- Takes the next turn of a request: turns are $2 microseconds apart, and none is
-- handed out for the past. Answers how many microseconds to wait for it.
-- $1 request
UPDATE tidings.dead_letter_request
SET turn_at = greatest(turn_at, clock_timestamp()) + $2::bigint * interval '1 microsecond'
WHERE id = $1::bigint AND state = 'open'
RETURNING (extract(epoch FROM turn_at - clock_timestamp()) * 1000000)::bigint - $2::bigint
