-- Which events of a batch are applied, or parked without a key. Runs after the
-- locks, as its own statement. Each is looked up by itself: a plan that joins
-- would read whole partitions when the planner guesses wrong.
-- $1 handler, $2 event IDs, $3 which have no key
SELECT at::integer, applied, parked
FROM (
    SELECT e.at, coalesce(o.known, i.known, false) AS applied,
           e.keyless AND tidings.letter_has(e.id, $1::integer) AS parked
    FROM unnest($2::uuid[], $3::boolean[]) WITH ORDINALITY AS e(id, keyless, at)
    LEFT JOIN LATERAL (
        SELECT true AS known FROM tidings.inbox_other
        WHERE event_id = e.id AND handler_id = $1::integer LIMIT 1
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT true AS known FROM tidings.inbox
        WHERE event_id = e.id AND handler_id = $1::integer LIMIT 1
    ) i ON true
) known
WHERE applied OR parked
