-- Whether a letter is there, is of that key, is the first of it, and is known as applied.
-- ?1 letter, ?2 handler, ?3 topic, ?4 key (null: none), ?5 event ID
WITH l AS (
    SELECT p.topic = ?3 AND p.keyless = (?4 IS NULL) AND p.key = coalesce(?4, p.key) AS of_key, p.head = d.id AS first
    FROM main.tidings_dead_letter d JOIN main.tidings_parked_key p ON p.id = d.parked_key_id
    WHERE d.id = ?1 AND d.handler_id = ?2 AND d.event_id = ?5
)
SELECT EXISTS (SELECT 1 FROM l),
       coalesce((SELECT of_key FROM l), false),
       coalesce((SELECT first FROM l), false),
       EXISTS (SELECT 1 FROM main.tidings_inbox WHERE event_id = ?5 AND handler_id = ?2)
