-- The rate of a request, if it is open. $1 request
SELECT rate FROM tidings.dead_letter_request WHERE id = $1::bigint AND state = 'open'
