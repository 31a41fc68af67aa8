-- $1 letter
DELETE FROM tidings.dead_letter WHERE id = $1::bigint
