-- Whether the handler has applied the event, or has it parked. $1 event, $2 handler
SELECT /*applied*/, EXISTS (SELECT 1 FROM tidings.dead_letter WHERE handler_id = $2::integer AND event_id = $1::uuid)
