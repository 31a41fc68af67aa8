-- Locks events without a key, as lock_event.sql does, in the order given.
-- $1 class, $2 hashes, rising
SELECT pg_advisory_xact_lock($1::integer, e.hash) FROM unnest($2::integer[]) AS e(hash)
