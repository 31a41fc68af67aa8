-- SQLite only: what a further stream of the key has seen, where the key row is
-- another one's. $1 handler, $2 topic, $3 key, $4 source, $5 aggregate type,
-- $6 aggregate ID, $7 sequence
INSERT INTO tidings.key_stream AS s (handler_id, topic, key, source, aggregate_type, aggregate_id, sequence)
SELECT $1, $2, $3, $4, $5, $6, $7
WHERE NOT EXISTS (SELECT 1 FROM tidings.key_row WHERE handler_id = $1 AND topic = $2 AND key = $3
    AND source = $4 AND aggregate_type = $5 AND aggregate_id = $6)
ON CONFLICT (handler_id, topic, key, source, aggregate_type, aggregate_id) DO UPDATE SET sequence = max(s.sequence, excluded.sequence)
