-- ?1 letter
DELETE FROM main.tidings_dead_letter WHERE id = ?1 RETURNING parked_key_id, bytes
