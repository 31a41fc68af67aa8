-- As batch_insert.sql, for IDs that no partition takes.
-- $1 handler, $2 event IDs, $3 topics, $4 partitions, $5 offsets, $6 attempts
INSERT INTO tidings.inbox_other (event_id, handler_id, topic, partition, "offset", attempts)
SELECT e.id, $1::integer, e.topic, e.partition, e.at, e.attempts
FROM unnest($2::uuid[], $3::text[], $4::integer[], $5::bigint[], $6::integer[]) AS e(id, topic, partition, at, attempts)
ORDER BY e.id
ON CONFLICT DO NOTHING
