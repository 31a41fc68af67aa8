-- $1 group, $2 kind, $3 who, $4 why, $5 filter, $6 rate, $7 letter, $8 value, $9 busy
INSERT INTO tidings.dead_letter_request (grp, kind, state, asked_at, who, reason, filter, rate, letter_id, value, selected, busy)
VALUES ($1::text, $2::text, 'open', clock_timestamp(), $3::text, $4::text, $5::jsonb, $6::double precision, $7::bigint, $8::bytea, false, $9::bigint)
RETURNING id
