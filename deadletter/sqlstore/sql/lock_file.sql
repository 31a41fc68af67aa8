-- Takes the file's write lock: a write, though of no row. SQLite only.
UPDATE tidings.inbox_cover SET retention_ms = retention_ms WHERE singleton = 0
