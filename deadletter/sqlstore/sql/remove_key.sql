-- $1 key, of which no letter is left
DELETE FROM tidings.parked_key WHERE id = $1::bigint
