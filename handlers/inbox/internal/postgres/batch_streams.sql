-- The last sequences of further streams of keys.
-- $1 handler, $2 topics, $3 keys, $4 sources, $5 aggregate types, $6 aggregate IDs
SELECT e.at::integer, s.sequence
FROM unnest($2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[])
    WITH ORDINALITY AS e(topic, key, source, aggregate_type, aggregate_id, at)
CROSS JOIN LATERAL (
    SELECT s.sequence FROM tidings.key_stream s
    WHERE s.handler_id = $1::integer AND s.topic = e.topic AND s.key = e.key
      AND s.source = e.source AND s.aggregate_type = e.aggregate_type AND s.aggregate_id = e.aggregate_id
    LIMIT 1
) s
