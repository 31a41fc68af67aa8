-- Locks the key rows until the transaction ends, in the order in which every
-- batch does so, and returns them as they are under the lock.
-- $1 handler, $2 topics, $3 keys: distinct pairs
SELECT r.topic, r.key, r.parked, r.offsets::text, (extract(epoch FROM r.created_at) * 1000)::bigint,
       r.source, r.aggregate_type, r.aggregate_id, r.sequence
FROM unnest($2::text[], $3::bytea[]) AS k(topic, key)
JOIN tidings.key_row r ON r.handler_id = $1::integer AND r.topic = k.topic AND r.key = k.key
ORDER BY r.topic, r.key
FOR NO KEY UPDATE OF r
