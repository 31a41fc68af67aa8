-- Newest first. $1 group (empty: any), $2 only open ones, $3 at most
SELECT
/*request_columns*/
FROM tidings.dead_letter_request r
WHERE ($1::text = '' OR r.grp = $1::text) AND (NOT $2::boolean OR r.state = 'open')
ORDER BY r.id DESC LIMIT $3::bigint
