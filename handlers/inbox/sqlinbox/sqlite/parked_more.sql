-- ?1 handler, ?2 topic, ?3 key, ?4 how many more are parked (or fewer), ?5 now in ms
INSERT INTO main.tidings_key_row (handler_id, topic, key, parked, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (handler_id, topic, key) DO UPDATE SET parked = parked + excluded.parked
