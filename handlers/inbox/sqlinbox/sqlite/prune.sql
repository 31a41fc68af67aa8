-- Deletes rows admitted a retention ago, a batch at a time.
-- ?1 now in ms, ?2 rows
DELETE FROM main.tidings_inbox
WHERE (event_id, handler_id) IN (
    SELECT event_id, handler_id FROM main.tidings_inbox
    WHERE applied_at < ?1 - (SELECT retention_ms FROM main.tidings_inbox_cover)
    ORDER BY applied_at LIMIT ?2)
