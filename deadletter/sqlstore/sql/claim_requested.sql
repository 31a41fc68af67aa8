-- Claims keys of open requests, oldest request first. $1 group, $2 handlers as a
-- JSON array, $3 member, $4 lease in ms, $5 at most
WITH chosen AS MATERIALIZED (
    SELECT p.id
    FROM tidings.parked_key p
    JOIN tidings.handler h ON h.id = +p.handler_id -- not by all keys of each handler
    JOIN tidings.dead_letter_request r ON r.id = p.request_id AND r.state = 'open'
    WHERE p.request_id IS NOT NULL AND (p.claimed_until IS NULL OR p.claimed_until <= clock_timestamp())
      AND h.grp = $1::text AND h.name IN (SELECT value FROM jsonb_array_elements_text($2::jsonb))
      AND h.epoch = (SELECT max(n.epoch) FROM tidings.handler n WHERE n.grp = h.grp AND n.name = h.name)
    ORDER BY p.request_id, p.id LIMIT $5::bigint
    FOR UPDATE OF p SKIP LOCKED
)
UPDATE tidings.parked_key SET member = $3::text, claimed_until = clock_timestamp() + $4::bigint * interval '1 millisecond'
WHERE id IN (SELECT id FROM chosen)
RETURNING id
