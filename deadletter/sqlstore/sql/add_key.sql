-- Adds letters to a parked key, making it for the first of them; its head is set
-- when that has an ID. $1 handler, $2 topic, $3 keyless, $4 key, $5 raw key,
-- $6 letters, $7 bytes
INSERT INTO tidings.parked_key AS p (handler_id, topic, keyless, key, raw_key, parked_at, letters, bytes,
    head, head_at, event_type, cause, error, attempts)
VALUES ($1::integer, $2::text, $3::boolean, $4::bytea, $5::bytea, clock_timestamp(), $6::bigint, $7::bigint,
    0, clock_timestamp(), '', '', '', 0)
ON CONFLICT (handler_id, topic, keyless, key) DO UPDATE SET letters = p.letters + excluded.letters, bytes = p.bytes + excluded.bytes
RETURNING id
