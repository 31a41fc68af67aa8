-- The letters of a key in order. $1 key, $2 above, $3 at most
SELECT
/*letter_columns*/
FROM tidings.dead_letter d
JOIN tidings.parked_key p ON p.id = d.parked_key_id
JOIN tidings.handler h ON h.id = d.handler_id
WHERE d.parked_key_id = $1::bigint AND d.id > $2::bigint
ORDER BY d.id LIMIT $3::bigint
