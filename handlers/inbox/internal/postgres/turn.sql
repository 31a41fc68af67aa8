-- Whether it is a letter's turn: see tidings.letter_turn. To take it out, the
-- caller holds the lock.
SELECT tidings.letter_turn($1::bigint, $2::integer, $3::text, $4::bytea, $5::text::uuid, $6::boolean)
