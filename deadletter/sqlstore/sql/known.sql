-- The handlers that a group ever had. $1 group (empty: any)
SELECT grp, name, epoch FROM tidings.handler
WHERE ($1::text = '' OR grp = $1::text)
ORDER BY grp, name, epoch
