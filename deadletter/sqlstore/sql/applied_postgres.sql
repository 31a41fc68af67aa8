-- In PostgreSQL a function asks the partitions. $1 event, $2 handler
    (tidings.inbox_has($1::uuid, $2::integer)
    OR EXISTS (SELECT 1 FROM tidings.inbox_other WHERE event_id = $1::uuid AND handler_id = $2::integer))
