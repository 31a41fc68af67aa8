-- The audit log, newest first. $1 group (empty: any), $2 before (0: from the newest), $3 at most
SELECT id, at, who, reason, action, grp, handler, key, coalesce(letter_id, 0), event_id, coalesce(request_id, 0), before, after
FROM tidings.dead_letter_audit
WHERE ($1::text = '' OR grp = $1::text) AND ($2::bigint = 0 OR id < $2::bigint)
ORDER BY id DESC LIMIT $3::bigint
