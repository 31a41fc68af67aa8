-- Makes the first letter that is left the head of its key. One that only waited
-- behind is due when the one before it was. $1 key, $2 letters fewer, $3 bytes fewer
UPDATE tidings.parked_key AS p SET
    letters = p.letters - $2::bigint, bytes = p.bytes - $3::bigint,
    head = f.id, head_at = f.parked_at, event_type = f.event_type, cause = f.cause, error = f.error, attempts = f.attempts,
    due = CASE WHEN p.head = f.id OR f.cause = 'behind' AND f.due IS NULL THEN p.due ELSE f.due END
FROM (
    SELECT id, parked_at, event_type, cause, error, attempts, due
    FROM tidings.dead_letter WHERE parked_key_id = $1::bigint ORDER BY id LIMIT 1
) f
WHERE p.id = $1::bigint
