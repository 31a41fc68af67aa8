-- What is known of an event before it is parked.
-- ?1 handler, ?2 topic, ?3 key (null: none), ?4 event ID
SELECT EXISTS (SELECT 1 FROM main.tidings_inbox WHERE event_id = ?4 AND handler_id = ?1),
       EXISTS (SELECT 1 FROM main.tidings_dead_letter WHERE handler_id = ?1 AND event_id = ?4),
       coalesce((SELECT parked FROM main.tidings_key_row WHERE handler_id = ?1 AND topic = ?2 AND key = ?3), 0)
