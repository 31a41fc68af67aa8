-- ?1 handler, ?2 topic, ?3 key, ?4 partition, ?5 offset (below 0: none); and
-- where the stream's sequence belongs in the key row, else null:
-- ?6 source, ?7 aggregate type, ?8 aggregate ID, ?9 sequence;
-- ?10 now in ms, ?11 the offset may go back: one applied below the last, while
-- its ID would still be known, says that offsets began anew.
INSERT INTO main.tidings_key_row (handler_id, topic, key, offsets, source, aggregate_type, aggregate_id, sequence, created_at)
VALUES (?1, ?2, ?3, CASE WHEN ?5 < 0 THEN '{}' ELSE json_object(CAST(?4 AS TEXT), ?5) END, ?6, ?7, ?8, ?9, ?10)
ON CONFLICT (handler_id, topic, key) DO UPDATE SET
    offsets = CASE
        WHEN ?5 < 0 THEN offsets
        WHEN ?11 THEN json_set(offsets, '$."' || ?4 || '"', ?5)
        ELSE json_set(offsets, '$."' || ?4 || '"', max(?5, coalesce(json_extract(offsets, '$."' || ?4 || '"'), ?5)))
    END,
    source = coalesce(excluded.source, source),
    aggregate_type = coalesce(excluded.aggregate_type, aggregate_type),
    aggregate_id = coalesce(excluded.aggregate_id, aggregate_id),
    sequence = CASE WHEN excluded.sequence IS NULL THEN sequence ELSE max(excluded.sequence, coalesce(sequence, 0)) END
