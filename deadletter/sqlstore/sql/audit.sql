-- $1 who, $2 why, $3 action, $4 group, $5 handler, $6 key, $7 letter, $8 event,
-- $9 request, $10 before, $11 after
INSERT INTO tidings.dead_letter_audit (at, who, reason, action, grp, handler, key, letter_id, event_id, request_id, before, after)
VALUES (clock_timestamp(), $1::text, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::bigint, $8::text, $9::bigint, $10::jsonb, $11::jsonb)
