-- What a retry would select: keys that are free, keys of other requests, and
-- one of those. $1 to $9: filter
SELECT count(*), coalesce(sum(CASE WHEN p.request_id IS NOT NULL THEN 1 ELSE 0 END), 0), coalesce(min(p.request_id), 0)
FROM tidings.parked_key p JOIN tidings.handler h ON h.id = p.handler_id
WHERE h.epoch = (SELECT max(n.epoch) FROM tidings.handler n WHERE n.grp = h.grp AND n.name = h.name) AND
/*filter*/
