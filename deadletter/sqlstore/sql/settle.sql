-- Remembers an event as settled. PostgreSQL only. $1 event, $2 its time in ms
-- or null, $3 handler, $4 topic, $5 key or null, $6 partition, $7 offset,
-- $8 attempts, $9 source, $10 aggregate type, $11 aggregate ID, $12 sequence
SELECT tidings.inbox_settle($1::uuid, $2::bigint, $3::integer, $4::text, $5::bytea, $6::integer, $7::bigint, $8::integer,
    $9::text, $10::text, $11::text, $12::bigint)
