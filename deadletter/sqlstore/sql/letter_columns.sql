-- The columns of a Letter, of dead_letter d, parked_key p and handler h; included in others.
d.id, h.grp, h.name, h.epoch, p.topic, CASE WHEN NOT p.keyless THEN coalesce(p.raw_key, p.key) END, d.partition, d."offset",
d.event_id, d.event_type, d.source, d.aggregate_type, d.aggregate_id, d.sequence,
d.record_key, d.record_key IS NULL, d.value, d.value IS NULL, d.headers, d.original, d.record_time,
d.cause, d.error, d.stack, d.attempts, d.first_failed, d.last_failed, d.due, d.parked_at,
d.handler_id, d.bytes, p.id, p.keyless, p.key
