-- Counts every event of group $1 and names the first offender of each kind.
WITH wanted AS (
    SELECT t.handler, p.event_id, p.aggregate, p.sequence
    FROM taker t JOIN plan p USING (type) WHERE t.grp = $1
), effects AS (
    SELECT e.*, lag(sequence, 1, 0) OVER w AS predecessor
    FROM effect e WHERE grp = $1
    WINDOW w AS (PARTITION BY handler, aggregate ORDER BY serial)
), lost AS (
    SELECT w.handler, w.event_id, w.aggregate, w.sequence, '' AS detail
    FROM wanted w
    WHERE NOT EXISTS (SELECT FROM effects e WHERE e.handler = w.handler AND e.event_id = w.event_id)
), doubled AS (
    SELECT handler, event_id, aggregate, sequence, 'by ' || string_agg(member, ', ' ORDER BY serial) AS detail
    FROM effects GROUP BY handler, event_id, aggregate, sequence HAVING count(*) > 1
), stray AS (
    SELECT e.handler, e.event_id, e.aggregate, e.sequence, 'by ' || e.member AS detail
    FROM effects e
    WHERE NOT EXISTS (SELECT FROM wanted w WHERE w.handler = e.handler AND w.event_id = e.event_id)
), disordered AS (
    SELECT handler, event_id, aggregate, sequence,
        format('by %s after sequence %s', member, predecessor) AS detail
    FROM effects WHERE sequence < predecessor
), overlapping AS (
    -- An effect that did not see its predecessor's ran beside it.
    SELECT handler, event_id, aggregate, sequence,
        format('by %s saw sequence %s, its predecessor is %s', member, before, predecessor) AS detail
    FROM effects WHERE before < predecessor
), found (kind, rank, handler, event_id, aggregate, sequence, detail) AS (
    SELECT 'lost', 1, * FROM lost
    UNION ALL SELECT 'doubled', 2, * FROM doubled
    UNION ALL SELECT 'stray', 3, * FROM stray
    UNION ALL SELECT 'disordered', 4, * FROM disordered
    UNION ALL SELECT 'overlapping', 5, * FROM overlapping
)
SELECT DISTINCT ON (rank) kind, count(*) OVER (PARTITION BY kind),
    format('handler %s, event %s, aggregate %s, sequence %s %s', handler, event_id, aggregate, sequence, detail)
FROM found ORDER BY rank, sequence, aggregate, handler;
