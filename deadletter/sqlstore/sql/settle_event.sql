-- SQLite only. $1 event, $2 handler, $3 topic, $4 partition, $5 offset, $6 attempts
INSERT INTO tidings.inbox (event_id, handler_id, topic, partition, "offset", attempts, applied_at)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
ON CONFLICT (event_id, handler_id) DO NOTHING
