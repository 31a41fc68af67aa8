-- Finishes a retry that has no key left. Keys that left without a word (their
-- member died after the last event) have been drained.
-- $1 request
UPDATE tidings.dead_letter_request SET state = 'done', ended_at = clock_timestamp(),
    keys_done = CASE WHEN keys > keys_stopped THEN keys - keys_stopped ELSE 0 END
WHERE id = $1::bigint AND state = 'open' AND selected
  AND NOT EXISTS (SELECT 1 FROM tidings.parked_key WHERE request_id = $1::bigint)
