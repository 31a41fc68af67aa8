-- A request that is done has counted its drained keys itself.
-- $1 request, and how many more: $2 keys done, $3 stopped, $4 events applied, $5 failed
UPDATE tidings.dead_letter_request SET
    keys_done = CASE WHEN state = 'done' THEN keys_done ELSE keys_done + $2::bigint END,
    keys_stopped = keys_stopped + $3::bigint,
    applied = applied + $4::bigint, failed = failed + $5::bigint
WHERE id = $1::bigint
