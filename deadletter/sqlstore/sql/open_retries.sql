-- Oldest first: whether all keys are selected, and none of them is left.
-- $1 group
SELECT r.id, r.selected, NOT EXISTS (SELECT 1 FROM tidings.parked_key p WHERE p.request_id = r.id)
FROM tidings.dead_letter_request r
WHERE r.grp = $1::text AND r.state = 'open' AND r.kind = 'retry'
ORDER BY r.id
