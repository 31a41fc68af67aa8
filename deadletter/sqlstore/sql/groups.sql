-- The groups that handlers ever were of.
SELECT DISTINCT grp FROM tidings.handler ORDER BY grp
