-- One letter. $1 its ID
SELECT
/*letter_columns*/
FROM tidings.dead_letter d
JOIN tidings.parked_key p ON p.id = d.parked_key_id
JOIN tidings.handler h ON h.id = d.handler_id
WHERE d.id = $1::bigint
