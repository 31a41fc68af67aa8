-- Sets the last sequences of further streams of keys; they never go back.
-- $1 handler, $2 topics, $3 keys, $4 sources, $5 aggregate types, $6 aggregate IDs, $7 sequences
INSERT INTO tidings.key_stream (handler_id, topic, key, source, aggregate_type, aggregate_id, sequence)
SELECT $1::integer, e.* FROM unnest($2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::bigint[])
    AS e(topic, key, source, aggregate_type, aggregate_id, sequence)
ON CONFLICT (handler_id, topic, key, source, aggregate_type, aggregate_id)
    DO UPDATE SET sequence = greatest(key_stream.sequence, excluded.sequence)
