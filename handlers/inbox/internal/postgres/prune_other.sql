-- Deletes rows admitted a retention ago, a batch at a time.
-- $1 rows
DELETE FROM tidings.inbox_other
WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM tidings.inbox_other
    WHERE applied_at < clock_timestamp() - make_interval(secs => (SELECT retention_ms / 1000.0 FROM tidings.inbox_cover))
      AND (SELECT retention_ms FROM tidings.inbox_cover) > 0
    ORDER BY applied_at LIMIT $1::integer))
