-- Parked keys, by ID. $1 to $9: filter; $10 above, $11 at most
SELECT p.id, h.grp, h.name, h.epoch, p.topic, CASE WHEN NOT p.keyless THEN coalesce(p.raw_key, p.key) END,
       p.head, p.event_type, p.cause, p.error, p.attempts, p.parked_at, p.head_at, p.due, p.letters, p.bytes,
       coalesce(p.request_id, 0), CASE WHEN p.claimed_until > clock_timestamp() THEN coalesce(p.member, '') ELSE '' END
FROM tidings.parked_key p JOIN tidings.handler h ON h.id = p.handler_id
WHERE p.id > $10::bigint AND
/*filter*/
ORDER BY p.id LIMIT $11::bigint
