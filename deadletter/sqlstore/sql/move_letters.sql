-- Copies the letters of a key behind what another has, in order: IDs are drawn
-- anew. Events that the other handler has parked are left out.
-- $1 from key, $2 to key, $3 to handler
INSERT INTO tidings.dead_letter (parked_key_id, handler_id, event_id, event_type, source, aggregate_type, aggregate_id, sequence,
    partition, "offset", record_time, record_key, value, headers, original, bytes,
    cause, error, stack, attempts, first_failed, last_failed, due, parked_at)
SELECT $2::bigint, $3::integer, event_id, event_type, source, aggregate_type, aggregate_id, sequence,
    partition, "offset", record_time, record_key, value, headers, original, bytes,
    cause, error, stack, attempts, first_failed, last_failed, due, parked_at
FROM (
    SELECT * FROM tidings.dead_letter m
    WHERE m.parked_key_id = $1::bigint
      AND NOT EXISTS (SELECT 1 FROM tidings.dead_letter o WHERE o.handler_id = $3::integer AND o.event_id = m.event_id)
    ORDER BY m.id
) moved
ORDER BY moved.id
