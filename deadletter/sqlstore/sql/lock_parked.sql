-- Locks a parked key as Claim does, so that nobody claims it meanwhile.
-- $1 key
SELECT letters, bytes, CASE WHEN request_id IS NOT NULL OR claimed_until > clock_timestamp() THEN 1 ELSE 0 END, coalesce(request_id, 0)
FROM tidings.parked_key WHERE id = $1::bigint
FOR UPDATE
