-- The handlers that have parked events. $1 group (empty: any)
SELECT h.grp, h.name, h.epoch
FROM tidings.handler h
WHERE ($1::text = '' OR h.grp = $1::text) AND EXISTS (SELECT 1 FROM tidings.parked_key p WHERE p.handler_id = h.id)
ORDER BY h.grp, h.name, h.epoch
