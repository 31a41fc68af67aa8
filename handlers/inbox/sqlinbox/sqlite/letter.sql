-- ?1 parked key, ?2 handler, ?3 event ID, ?4 type, ?5 source, ?6 aggregate type, ?7 aggregate ID, ?8 sequence,
-- ?9 partition, ?10 offset, ?11 the record's time, ?12 its key, ?13 value, ?14 headers, ?15 bytes,
-- ?16 cause, ?17 error, ?18 stack, ?19 attempts, ?20 first failed, ?21 last failed, ?22 due, ?23 now; times in ms
INSERT INTO main.tidings_dead_letter (parked_key_id, handler_id, event_id, event_type, source, aggregate_type, aggregate_id, sequence,
    partition, "offset", record_time, record_key, value, headers, bytes,
    cause, error, stack, attempts, first_failed, last_failed, due, parked_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)
RETURNING id
