-- Books a failed retry. ?1 letter, ?2 handler, ?3 event ID,
-- ?4 cause, ?5 error, ?6 stack, ?7 attempts, ?8 first failed, ?9 last failed, ?10 due, ?11 now; times in ms;
-- ?12 topic, ?13 key (null: none)
UPDATE main.tidings_dead_letter SET cause = ?4, error = ?5, stack = ?6,
    attempts = max(attempts + 1, ?7), first_failed = coalesce(first_failed, ?8, ?9, ?11), last_failed = coalesce(?9, ?11), due = ?10
WHERE id = ?1 AND handler_id = ?2 AND event_id = ?3 AND EXISTS (
    SELECT 1 FROM main.tidings_parked_key p WHERE p.id = parked_key_id
        AND p.topic = ?12 AND p.keyless = (?13 IS NULL) AND p.key = coalesce(?13, p.key))
RETURNING parked_key_id, attempts
