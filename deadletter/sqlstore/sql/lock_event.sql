-- Locks an event without a key, as an admission does. PostgreSQL only.
-- $1 class, $2 hash of handler and event
SELECT pg_advisory_xact_lock($1::integer, $2::integer)
