-- Where the tables are, what a commit here is worth, and whether the role may
-- make and drop partitions.
SELECT (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('tidings.inbox')),
       (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('tidings.key_row')),
       (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('tidings.dead_letter')),
       (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('tidings.parked_key')),
       EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'tidings' AND p.proname = 'letter_park'),
       pg_is_in_recovery(),
       current_setting('synchronous_commit'),
       current_user::text,
       coalesce((SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = to_regclass('tidings.inbox')), ''),
       coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('tidings.inbox')), false),
       has_schema_privilege('tidings', 'CREATE')
