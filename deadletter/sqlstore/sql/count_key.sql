-- Changes the number of parked events that admissions look at, making the key
-- row where it is missing. $1 handler, $2 topic, $3 key, $4 how many more
INSERT INTO tidings.key_row AS r (handler_id, topic, key, parked, created_at)
VALUES ($1::integer, $2::text, $3::bytea, $4::integer, clock_timestamp())
ON CONFLICT (handler_id, topic, key) DO UPDATE SET parked = r.parked + excluded.parked
