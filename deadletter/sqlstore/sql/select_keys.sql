-- Gives free keys to a request, but those that somebody changes just now.
-- $1 to $9: filter; $10 request, $11 asked at, $12 at most
WITH chosen AS MATERIALIZED (
    SELECT p.id
    FROM tidings.parked_key p JOIN tidings.handler h ON h.id = p.handler_id
    WHERE p.request_id IS NULL AND (p.last_request IS NULL OR p.last_request < $10::bigint) AND p.parked_at <= $11::timestamptz
      AND h.epoch = (SELECT max(n.epoch) FROM tidings.handler n WHERE n.grp = h.grp AND n.name = h.name) AND
/*filter*/
    ORDER BY p.id LIMIT $12::bigint
    FOR UPDATE OF p SKIP LOCKED
)
UPDATE tidings.parked_key SET request_id = $10::bigint
WHERE id IN (SELECT id FROM chosen)
