-- Locks an event without a key until the transaction ends: two members that
-- have it at once could otherwise disagree on which table its ID belongs to.
-- $1 class, $2 hash of handler and event; equal hashes only wait.
SELECT pg_advisory_xact_lock($1::integer, $2::integer)
