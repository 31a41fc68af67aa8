-- Writes what a batch changed of its key rows; nulls keep what is there.
-- $1 handler, $2 topics, $3 keys, $4 offsets by partition, in JSON,
-- $5 sources, $6 aggregate types, $7 aggregate IDs, $8 sequences
UPDATE tidings.key_row r SET
    offsets = r.offsets || e.offsets::jsonb,
    source = coalesce(e.source, r.source),
    aggregate_type = coalesce(e.aggregate_type, r.aggregate_type),
    aggregate_id = coalesce(e.aggregate_id, r.aggregate_id),
    sequence = coalesce(e.sequence, r.sequence)
FROM unnest($2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[])
    AS e(topic, key, offsets, source, aggregate_type, aggregate_id, sequence)
WHERE r.handler_id = $1::integer AND r.topic = e.topic AND r.key = e.key
