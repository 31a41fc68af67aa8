-- What a batch is judged by, besides its keys.
SELECT from_ms, until_ms, retention_ms, (extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM tidings.inbox_cover
