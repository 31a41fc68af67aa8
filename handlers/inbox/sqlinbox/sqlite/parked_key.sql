-- One letter more of a key; its first one is still to be written.
-- ?1 handler, ?2 topic, ?3 keyless, ?4 key, ?5 raw key, ?6 now in ms, ?7 bytes,
-- ?8 type, ?9 cause, ?10 error, ?11 attempts, ?12 due in ms
INSERT INTO main.tidings_parked_key (handler_id, topic, keyless, key, raw_key, parked_at, letters, bytes,
    head, head_at, event_type, cause, error, attempts, due)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, 0, ?6, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (handler_id, topic, keyless, key) DO UPDATE SET letters = letters + 1, bytes = bytes + excluded.bytes
RETURNING id, letters
