-- As permit_postgres.sql; fractions of a millisecond stand in turn_at as such.
UPDATE tidings.dead_letter_request
SET turn_at = max(coalesce(turn_at, 0), clock_timestamp()) + $2 / 1000.0
WHERE id = $1 AND state = 'open'
RETURNING CAST((turn_at - clock_timestamp()) * 1000 AS INTEGER) - $2
