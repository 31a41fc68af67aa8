-- $1 parked key, $2 handler, $3 event, $4 type, $5 source, $6 aggregate type,
-- $7 aggregate ID, $8 sequence, $9 partition, $10 offset, $11 record time,
-- $12 record key, $13 value, $14 headers, $15 original or null, $16 bytes,
-- $17 cause, $18 error, $19 stack, $20 attempts, $21 first failed,
-- $22 last failed, $23 due, $24 parked at, or null: now
INSERT INTO tidings.dead_letter (parked_key_id, handler_id, event_id, event_type, source, aggregate_type, aggregate_id, sequence,
    partition, "offset", record_time, record_key, value, headers, original, bytes,
    cause, error, stack, attempts, first_failed, last_failed, due, parked_at)
VALUES ($1::bigint, $2::integer, $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::bigint,
    $9::integer, $10::bigint, $11::timestamptz, $12::bytea, $13::bytea, $14::jsonb, $15::jsonb, $16::bigint,
    $17::text, $18::text, $19::text, $20::integer, $21::timestamptz, $22::timestamptz, $23::timestamptz,
    coalesce($24::timestamptz, clock_timestamp()))
