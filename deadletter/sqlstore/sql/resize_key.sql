-- $1 key, $2 bytes more
UPDATE tidings.parked_key SET bytes = bytes + $2::bigint WHERE id = $1::bigint
