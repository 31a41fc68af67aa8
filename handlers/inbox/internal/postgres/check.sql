-- Where the tables are, and what a commit here is worth.
SELECT (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('tidings.inbox')),
       (SELECT relkind::text FROM pg_class WHERE oid = to_regclass('tidings.key_row')),
       pg_is_in_recovery(),
       current_setting('synchronous_commit')
