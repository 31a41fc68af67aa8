-- $1 its ID, $2 state, $3 error
UPDATE tidings.dead_letter_request SET state = $2::text, error = $3::text, ended_at = clock_timestamp()
WHERE id = $1::bigint AND state = 'open'
