-- $1 its ID
SELECT
/*request_columns*/
FROM tidings.dead_letter_request r WHERE r.id = $1::bigint
