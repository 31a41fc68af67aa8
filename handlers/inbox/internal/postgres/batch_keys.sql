-- Makes the key rows that are missing, in the order in which every batch does so.
-- What another member is making is waited for: afterwards all are there, and
-- none is made by anybody else.
-- $1 handler, $2 topics, $3 keys: distinct pairs
INSERT INTO tidings.key_row (handler_id, topic, key)
SELECT $1::integer, k.topic, k.key
FROM unnest($2::text[], $3::bytea[]) AS k(topic, key)
LEFT JOIN LATERAL (
    SELECT true AS known FROM tidings.key_row r
    WHERE r.handler_id = $1::integer AND r.topic = k.topic AND r.key = k.key LIMIT 1
) r ON true
WHERE r.known IS NULL
ORDER BY k.topic, k.key
ON CONFLICT (handler_id, topic, key) DO NOTHING
