-- Sums of parked keys. $1 to $9: filter; by $10 cause, $11 type, $12 handler,
-- $13 topic, $14 key
SELECT cause, type, handler, topic, key, count(*), sum(letters)::bigint, sum(bytes)::bigint, min(head_at), max(head_at)
FROM (
    SELECT CASE WHEN $10::boolean THEN p.cause ELSE '' END AS cause,
           CASE WHEN $11::boolean THEN p.event_type ELSE '' END AS type,
           CASE WHEN $12::boolean THEN h.name ELSE '' END AS handler,
           CASE WHEN $13::boolean THEN p.topic ELSE '' END AS topic,
           CASE WHEN $14::boolean AND NOT p.keyless THEN coalesce(p.raw_key, p.key) END AS key,
           p.letters, p.bytes, p.head_at
    FROM tidings.parked_key p JOIN tidings.handler h ON h.id = p.handler_id
    WHERE
/*filter*/
) parked
GROUP BY cause, type, handler, topic, key
ORDER BY count(*) DESC, cause, type, handler, topic, key
