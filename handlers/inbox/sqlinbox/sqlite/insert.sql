-- ?1 event ID, ?2 handler, ?3 topic, ?4 partition, ?5 offset, ?6 attempt, ?7 now in ms
INSERT INTO main.tidings_inbox (event_id, handler_id, topic, partition, "offset", attempts, applied_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
