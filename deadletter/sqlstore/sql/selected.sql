-- $1 request, $2 keys more, $3 whether these are all
UPDATE tidings.dead_letter_request SET keys = keys + $2::bigint, selected = $3::boolean WHERE id = $1::bigint
