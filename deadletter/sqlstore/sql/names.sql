-- The handlers that a group ever had.
-- $1 group
SELECT DISTINCT name FROM tidings.handler WHERE grp = $1::text ORDER BY name
