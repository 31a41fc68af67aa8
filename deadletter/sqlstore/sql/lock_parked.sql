-- Locks a parked key as Claim does, so that nobody claims it meanwhile.
-- $1 key
SELECT letters, bytes, coalesce(request_id, 0),
       CASE WHEN claimed_until > clock_timestamp() THEN coalesce(member, '') ELSE '' END
FROM tidings.parked_key WHERE id = $1::bigint
FOR UPDATE
