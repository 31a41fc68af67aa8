-- A parked key of a handler that is being retried. $1 handler
SELECT id, coalesce(request_id, 0) FROM tidings.parked_key
WHERE handler_id = $1::integer AND (request_id IS NOT NULL OR claimed_until > clock_timestamp())
ORDER BY id LIMIT 1
