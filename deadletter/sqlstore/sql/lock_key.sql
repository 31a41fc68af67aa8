-- Locks the key row until the transaction ends, making it where it is missing:
-- the lock of an admission. The next statement has a snapshot taken after it.
-- PostgreSQL only. $1 handler, $2 topic, $3 key
WITH held AS MATERIALIZED (
    SELECT 1 FROM tidings.key_row
    WHERE handler_id = $1::integer AND topic = $2::text AND key = $3::bytea
    FOR NO KEY UPDATE
)
INSERT INTO tidings.key_row (handler_id, topic, key)
SELECT $1::integer, $2::text, $3::bytea
WHERE NOT EXISTS (SELECT FROM held)
ON CONFLICT (handler_id, topic, key) DO UPDATE SET parked = key_row.parked
