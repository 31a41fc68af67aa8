-- One letter less of a key, whose first is now the next one, with the cause it
-- has; where it only waited behind, it is due when the one before it was, so that
-- a key whose head was tried by itself goes on by itself. No row: none is left.
-- ?1 parked key, ?2 bytes that left
UPDATE main.tidings_parked_key AS p SET letters = letters - 1, bytes = p.bytes - ?2,
    head = d.id, head_at = d.parked_at, event_type = d.event_type,
    cause = d.cause, error = d.error, attempts = d.attempts,
    due = CASE WHEN p.head = d.id OR d.cause = 'behind' AND d.due IS NULL THEN p.due ELSE d.due END
FROM (SELECT * FROM main.tidings_dead_letter WHERE parked_key_id = ?1 ORDER BY id LIMIT 1) d
WHERE p.id = ?1
RETURNING handler_id, topic, keyless, key
