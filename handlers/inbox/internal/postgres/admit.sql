-- Answers an admission, and writes what follows from "fresh". Runs after the
-- lock on the key row, as its own statement.
-- $1 handler, $2 topic, $3 key (null: orders nothing), $4 event ID,
-- $5 its time in ms (null: not a UUIDv7), $6 partition, $7 offset, $8 attempt,
-- $9 source, $10 aggregate type, $11 aggregate ID, $12 sequence (0: none),
-- $13 mode: 0 look only, 1 admit, 2 record an effect that happened already,
-- 3 admit a parked event whose turn it is.
-- Answers: 1 fresh, 2 duplicate, 3 parked, 4 late. An event without a key is
-- parked when it is in the dead letters itself.
-- An offset below 0 is none: it judges nothing and is not kept.
WITH cover AS (
    SELECT from_ms, until_ms, retention_ms,
           (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms
    FROM tidings.inbox_cover
    LIMIT 1 -- for the planner, which guesses thousands of rows else, and compiles a plan worth it
), k AS (
    SELECT parked,
           (offsets ->> $6::integer::text)::bigint AS last_offset,
           created_at,
           source IS NULL OR (source = $9::text AND aggregate_type = $10::text AND aggregate_id = $11::text) AS in_row,
           CASE
               WHEN source = $9::text AND aggregate_type = $10::text AND aggregate_id = $11::text THEN sequence
               WHEN source IS NOT NULL AND $12::bigint > 0 THEN (
                   SELECT s.sequence FROM tidings.key_stream s
                   WHERE s.handler_id = $1::integer AND s.topic = $2::text AND s.key = $3::bytea
                     AND s.source = $9::text AND s.aggregate_type = $10::text AND s.aggregate_id = $11::text)
           END AS last_sequence
    FROM tidings.key_row
    WHERE handler_id = $1::integer AND topic = $2::text AND key = $3::bytea
), judged AS MATERIALIZED (
    SELECT CASE
               WHEN EXISTS (SELECT FROM tidings.inbox_other WHERE event_id = $4::uuid AND handler_id = $1::integer) THEN 2
               WHEN $13::integer >= 2 THEN 1
               -- What may be forgotten is judged first: behind parked events it would be applied again.
               WHEN $12::bigint > 0 AND $12::bigint <= k.last_sequence AND (age.past OR age.unsure AND passed.by) THEN 2
               WHEN $12::bigint = 0 AND (age.past OR age.unsure) AND passed.by THEN 2
               WHEN k.parked > 0 THEN 3
               WHEN $3::bytea IS NULL AND tidings.letter_has($4::uuid, $1::integer) THEN 3
               WHEN $12::bigint > 0 AND $12::bigint <= k.last_sequence THEN 4
               ELSE 1
           END AS answer,
           -- Old IDs go elsewhere before their partition is near its end, and
           -- IDs from the future until their partition is made.
           coalesce($5::bigint >= cover.from_ms AND $5::bigint < cover.until_ms
               AND $5::bigint >= cover.now_ms - cover.retention_ms / 2, false) AS covered,
           coalesce(k.in_row, false) AS in_row,
           -- One applied below the last, while its ID would still be known, says
           -- that offsets began anew: a topic deleted and made again. A parked
           -- event comes late, and says nothing.
           CASE
               WHEN $5::bigint IS NOT NULL AND NOT age.past AND $13::integer <> 3 THEN $7::bigint
               ELSE greatest($7::bigint, k.last_offset)
           END AS kept_offset,
           k.last_sequence
    FROM cover
    LEFT JOIN k ON true
    -- past: an ID of that time is forgotten. unsure: it tells no time, and the
    -- key is old enough that IDs of it may be forgotten.
    CROSS JOIN LATERAL (
        SELECT coalesce(cover.retention_ms > 0 AND $5::bigint < cover.now_ms - cover.retention_ms, false) AS past,
               coalesce($5::bigint IS NULL AND cover.retention_ms > 0
                   AND k.created_at < to_timestamp((cover.now_ms - cover.retention_ms) / 1000.0), false) AS unsure
    ) age
    CROSS JOIN LATERAL (SELECT coalesce($7::bigint >= 0 AND $7::bigint <= k.last_offset, false) AS by) passed
), verdict AS MATERIALIZED (
    -- Where the insert into a partition follows, it finds out what is known.
    SELECT CASE
               WHEN answer = 2 OR (answer = 1 AND covered AND $13::integer > 0) THEN answer
               WHEN tidings.inbox_has($4::uuid, $1::integer) THEN 2
               ELSE answer
           END AS answer,
           covered, in_row, kept_offset, last_sequence
    FROM judged
), young AS (
    INSERT INTO tidings.inbox (event_id, handler_id, topic, partition, "offset", attempts)
    SELECT $4::uuid, $1::integer, $2::text, $6::integer, $7::bigint, $8::integer
    FROM verdict WHERE answer = 1 AND covered AND $13::integer > 0
    ON CONFLICT DO NOTHING
    RETURNING 1
), written AS MATERIALIZED (
    SELECT CASE
               WHEN answer <> 1 OR $13::integer = 0 THEN false
               WHEN covered THEN EXISTS (SELECT FROM young)
               ELSE tidings.inbox_other_add($4::uuid, $1::integer, $2::text, $6::integer, $7::bigint, $8::integer)
           END AS row
    FROM verdict
), key_updated AS (
    UPDATE tidings.key_row SET
        offsets = CASE WHEN $7::bigint < 0 THEN offsets ELSE offsets || jsonb_build_object($6::integer::text, verdict.kept_offset) END,
        source = CASE WHEN verdict.in_row AND $12::bigint > 0 THEN $9::text ELSE key_row.source END,
        aggregate_type = CASE WHEN verdict.in_row AND $12::bigint > 0 THEN $10::text ELSE key_row.aggregate_type END,
        aggregate_id = CASE WHEN verdict.in_row AND $12::bigint > 0 THEN $11::text ELSE key_row.aggregate_id END,
        sequence = CASE WHEN verdict.in_row AND $12::bigint > 0 THEN greatest($12::bigint, verdict.last_sequence) ELSE key_row.sequence END
    FROM verdict, written
    WHERE handler_id = $1::integer AND topic = $2::text AND key = $3::bytea AND written.row
)
SELECT CASE
           WHEN answer = 1 AND $13::integer > 0 AND NOT written.row THEN 2
           ELSE answer
       END,
       CASE WHEN $3::bytea IS NOT NULL AND $12::bigint > 0 AND NOT in_row AND written.row THEN
           tidings.key_stream_set($1::integer, $2::text, $3::bytea, $9::text, $10::text, $11::text, $12::bigint)
       END IS NULL
FROM verdict, written
