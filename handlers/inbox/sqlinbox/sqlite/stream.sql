-- ?1 handler, ?2 topic, ?3 key, ?4 source, ?5 aggregate type, ?6 aggregate ID, ?7 sequence
INSERT INTO main.tidings_key_stream (handler_id, topic, key, source, aggregate_type, aggregate_id, sequence)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (handler_id, topic, key, source, aggregate_type, aggregate_id)
    DO UPDATE SET sequence = max(sequence, excluded.sequence)
