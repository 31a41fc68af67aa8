-- What a handler has parked, and the age of the oldest in ms.
SELECT coalesce(sum(letters), 0)::bigint,
       coalesce(sum(bytes), 0)::bigint,
       coalesce(extract(epoch FROM clock_timestamp() - min(head_at)) * 1000, 0)::bigint
FROM tidings.parked_key WHERE handler_id = $1::integer
