-- Answers an admission, and says whether the stream's sequence belongs in the
-- key row and whether the ID would be known, had it been applied. The caller holds the write lock, or only looks.
-- ?1 handler, ?2 topic, ?3 key (null: orders nothing), ?4 event ID,
-- ?5 its time in ms (null: not a UUIDv7), ?6 partition, ?7 offset,
-- ?8 source, ?9 aggregate type, ?10 aggregate ID, ?11 sequence (0: none),
-- ?12 mode: 0 look only, 1 admit, 2 record an effect that happened already,
-- 3 admit a parked event whose turn it is,
-- ?13 now in ms.
-- Answers: 1 fresh, 2 duplicate, 3 parked, 4 late. An event without a key is
-- parked when it is in the dead letters itself.
-- An offset below 0 is none: it judges nothing.
WITH k AS (
    SELECT parked,
           coalesce(?7 >= 0 AND ?7 <= json_extract(offsets, '$."' || ?6 || '"'), false) AS passed,
           created_at,
           source IS NULL OR (source = ?8 AND aggregate_type = ?9 AND aggregate_id = ?10) AS in_row,
           CASE
               WHEN source = ?8 AND aggregate_type = ?9 AND aggregate_id = ?10 THEN sequence
               WHEN source IS NOT NULL AND ?11 > 0 THEN (
                   SELECT s.sequence FROM main.tidings_key_stream s
                   WHERE s.handler_id = ?1 AND s.topic = ?2 AND s.key = ?3
                     AND s.source = ?8 AND s.aggregate_type = ?9 AND s.aggregate_id = ?10)
           END AS last_sequence
    FROM main.tidings_key_row
    WHERE handler_id = ?1 AND topic = ?2 AND key = ?3
), age AS (
    -- past: an ID of that time is forgotten. forgetful: IDs admitted before
    -- that time may be.
    SELECT coalesce(retention_ms > 0 AND ?5 < ?13 - retention_ms, false) AS past,
           CASE WHEN retention_ms > 0 THEN ?13 - retention_ms END AS forgetful
    FROM main.tidings_inbox_cover
)
SELECT CASE
           WHEN EXISTS (SELECT 1 FROM main.tidings_inbox WHERE event_id = ?4 AND handler_id = ?1) THEN 2
           WHEN ?12 >= 2 THEN 1
           -- What may be forgotten is judged first: behind parked events it would be applied again.
           WHEN ?11 > 0 AND ?11 <= k.last_sequence AND (age.past OR (?5 IS NULL AND k.created_at < age.forgetful AND k.passed)) THEN 2
           WHEN ?11 = 0 AND k.passed AND (age.past OR (?5 IS NULL AND k.created_at < age.forgetful)) THEN 2
           WHEN k.parked > 0 THEN 3
           WHEN ?3 IS NULL AND EXISTS (SELECT 1 FROM main.tidings_dead_letter WHERE handler_id = ?1 AND event_id = ?4) THEN 3
           WHEN ?11 > 0 AND ?11 <= k.last_sequence THEN 4
           ELSE 1
       END,
       coalesce(k.in_row, true),
       ?5 IS NOT NULL AND NOT age.past AND ?12 <> 3
FROM age LEFT JOIN k ON true
