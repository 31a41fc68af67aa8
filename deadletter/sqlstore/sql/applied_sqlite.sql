-- $1 event, $2 handler
    EXISTS (SELECT 1 FROM tidings.inbox WHERE event_id = $1 AND handler_id = $2)
