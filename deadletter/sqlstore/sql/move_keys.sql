-- Parked keys of a handler, in the order in which they are locked.
-- $1 handler, $2 at most
SELECT id, topic, keyless, key, raw_key FROM tidings.parked_key
WHERE handler_id = $1::integer
ORDER BY topic, keyless, key LIMIT $2::bigint
