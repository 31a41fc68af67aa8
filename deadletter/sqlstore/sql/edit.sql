-- $1 letter, $2 value, $3 bytes, $4 original, kept from the first edit on
UPDATE tidings.dead_letter SET value = $2::bytea, bytes = $3::bigint, original = coalesce(original, $4::jsonb)
WHERE id = $1::bigint
