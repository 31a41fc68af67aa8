-- SQLite only: what the key row has seen. $1 handler, $2 topic, $3 key,
-- $4 partition, $5 offset, $6 source, $7 aggregate type, $8 aggregate ID,
-- $9 sequence (0: none)
UPDATE tidings.key_row SET
    offsets = CASE WHEN $5 < 0 THEN offsets
        ELSE json_set(offsets, '$."' || $4 || '"', max($5, coalesce(json_extract(offsets, '$."' || $4 || '"'), $5))) END,
    sequence = CASE
        WHEN $9 > 0 AND (source IS NULL OR (source = $6 AND aggregate_type = $7 AND aggregate_id = $8)) THEN max($9, coalesce(sequence, 0))
        ELSE sequence END,
    aggregate_type = CASE WHEN $9 > 0 AND source IS NULL THEN $7 ELSE aggregate_type END,
    aggregate_id = CASE WHEN $9 > 0 AND source IS NULL THEN $8 ELSE aggregate_id END,
    source = CASE WHEN $9 > 0 AND source IS NULL THEN $6 ELSE source END
WHERE handler_id = $1 AND topic = $2 AND key = $3
