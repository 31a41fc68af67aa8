-- $1 key
SELECT EXISTS (SELECT 1 FROM tidings.parked_key WHERE id = $1::bigint)
