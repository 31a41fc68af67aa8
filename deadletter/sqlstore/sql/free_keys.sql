-- Takes keys back from a request that is ended. $1 request
WITH chosen AS MATERIALIZED (
    SELECT p.id FROM tidings.parked_key p WHERE p.request_id = $1::bigint ORDER BY p.id
    FOR UPDATE OF p
)
UPDATE tidings.parked_key SET request_id = NULL WHERE id IN (SELECT id FROM chosen)
