-- Whether a request's selection has missed a key. $1 to $9: filter;
-- $10 request, $11 asked at
SELECT EXISTS (
    SELECT 1
    FROM tidings.parked_key p JOIN tidings.handler h ON h.id = p.handler_id
    WHERE p.request_id IS NULL AND (p.last_request IS NULL OR p.last_request < $10::bigint) AND p.parked_at <= $11::timestamptz
      AND h.epoch = (SELECT max(n.epoch) FROM tidings.handler n WHERE n.grp = h.grp AND n.name = h.name) AND
/*filter*/
)
