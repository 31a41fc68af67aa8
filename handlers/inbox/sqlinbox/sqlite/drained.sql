-- ?1 parked key
DELETE FROM main.tidings_parked_key WHERE id = ?1 RETURNING handler_id, topic, keyless, key
