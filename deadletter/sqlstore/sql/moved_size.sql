-- $1 from key, $2 to handler: what of the key is not parked there
SELECT count(*), coalesce(sum(bytes), 0)::bigint FROM tidings.dead_letter m
WHERE m.parked_key_id = $1::bigint
  AND NOT EXISTS (SELECT 1 FROM tidings.dead_letter o WHERE o.handler_id = $2::integer AND o.event_id = m.event_id)
