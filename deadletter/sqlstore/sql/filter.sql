-- What a Filter selects of parked_key p and handler h; included in others.
-- $1 group (empty: any), and as JSON arrays or null: $2 handlers, $3 topics,
-- $4 keys in hex, as a row has them (empty: no key), $5 types, $6 causes,
-- $7 IDs; $8 head parked at or after, $9 before
    ($1::text = '' OR h.grp = $1::text)
AND ($2::jsonb IS NULL OR h.name IN (SELECT value FROM jsonb_array_elements_text($2::jsonb)))
AND ($3::jsonb IS NULL OR p.topic IN (SELECT value FROM jsonb_array_elements_text($3::jsonb)))
AND ($4::jsonb IS NULL OR CASE
        WHEN p.keyless THEN '' IN (SELECT value FROM jsonb_array_elements_text($4::jsonb))
        ELSE p.key IN (SELECT decode(value, 'hex') FROM jsonb_array_elements_text($4::jsonb))
    END)
AND ($5::jsonb IS NULL OR p.event_type IN (SELECT value FROM jsonb_array_elements_text($5::jsonb)))
AND ($6::jsonb IS NULL OR p.cause IN (SELECT value FROM jsonb_array_elements_text($6::jsonb)))
AND ($7::jsonb IS NULL OR p.id IN (SELECT value::bigint FROM jsonb_array_elements_text($7::jsonb)))
AND ($8::timestamptz IS NULL OR p.head_at >= $8::timestamptz)
AND ($9::timestamptz IS NULL OR p.head_at < $9::timestamptz)
