-- Parks an event, after the lock: see tidings.letter_park.
SELECT tidings.letter_park(
    $1::integer, $2::text, $3::bytea, $4::text::uuid, $5::boolean,
    $6::bytea, $7::text, $8::text, $9::text, $10::text, $11::bigint,
    $12::integer, $13::bigint, $14::timestamptz,
    $15::bytea, $16::bytea, $17::text::jsonb, $18::bigint,
    $19::text, $20::text, $21::text, $22::integer,
    $23::timestamptz, $24::timestamptz, $25::timestamptz)
