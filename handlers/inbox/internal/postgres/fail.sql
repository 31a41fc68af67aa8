-- Books a failed retry, after the lock: see tidings.letter_fail.
SELECT tidings.letter_fail(
    $1::bigint, $2::integer, $3::text, $4::bytea, $5::text::uuid,
    $6::text, $7::text, $8::text, $9::integer, $10::timestamptz, $11::timestamptz, $12::timestamptz)
