-- $1 key, $2 member, $3 lease in ms
UPDATE tidings.parked_key SET claimed_until = clock_timestamp() + $3::bigint * interval '1 millisecond'
WHERE id = $1::bigint AND member = $2::text AND claimed_until > clock_timestamp()
