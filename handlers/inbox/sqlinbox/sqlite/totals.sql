-- What a handler has parked, and the age of the oldest in ms. ?1 handler, ?2 now in ms
SELECT coalesce(sum(letters), 0), coalesce(sum(bytes), 0), coalesce(?2 - min(head_at), 0)
FROM main.tidings_parked_key WHERE handler_id = ?1
