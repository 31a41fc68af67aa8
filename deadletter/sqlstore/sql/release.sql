-- $1 key, $2 member, $3 done, $4 request (0: none)
UPDATE tidings.parked_key SET member = NULL, claimed_until = NULL,
    request_id = CASE WHEN $3::boolean AND request_id = $4::bigint THEN NULL ELSE request_id END,
    last_request = CASE WHEN $3::boolean AND request_id = $4::bigint THEN request_id ELSE last_request END
WHERE id = $1::bigint AND member = $2::text
