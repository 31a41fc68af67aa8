-- $1 key
DELETE FROM tidings.dead_letter WHERE parked_key_id = $1::bigint
