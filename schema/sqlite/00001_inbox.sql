-- +goose Up

-- What a binary must know before it uses this database: one row.
CREATE TABLE tidings_meta (
    singleton      INTEGER PRIMARY KEY CHECK (singleton = 1),
    version        INTEGER NOT NULL, -- of this schema
    oldest_binary  INTEGER NOT NULL, -- binaries with a lower level must not use it
    oldest_release TEXT    NOT NULL  -- the release that has that level, for people
);
INSERT INTO tidings_meta (singleton, version, oldest_binary, oldest_release) VALUES (1, 1, 1, '0.1.0');

-- A handler of a group in one epoch. Its ID stands in every row of its state.
CREATE TABLE tidings_handler (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    grp        TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    created_at INTEGER NOT NULL, -- milliseconds since 1970, as all times here
    UNIQUE (grp, name, epoch)
);

-- The key row. A key nearly always carries one stream (source, aggregate type,
-- aggregate ID), so the first stands in the row; further ones go to key_stream.
-- A key over 1,000 bytes is kept as "sha256:" and its digest.
CREATE TABLE tidings_key_row (
    handler_id     INTEGER NOT NULL,
    topic          TEXT    NOT NULL,
    key            BLOB    NOT NULL,
    parked         INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    offsets        TEXT    NOT NULL DEFAULT '{}', -- partition: last applied offset
    source         TEXT,
    aggregate_type TEXT,
    aggregate_id   TEXT,
    sequence       INTEGER,
    PRIMARY KEY (handler_id, topic, key)
) WITHOUT ROWID;

CREATE TABLE tidings_key_stream (
    handler_id     INTEGER NOT NULL,
    topic          TEXT    NOT NULL,
    key            BLOB    NOT NULL,
    source         TEXT    NOT NULL,
    aggregate_type TEXT    NOT NULL,
    aggregate_id   TEXT    NOT NULL,
    sequence       INTEGER NOT NULL,
    PRIMARY KEY (handler_id, topic, key, source, aggregate_type, aggregate_id)
) WITHOUT ROWID;

-- The inbox: one row for each applied event. SQLite has no partitions, and one
-- file has one writer: a single table, pruned in small batches by the time of
-- admission, costs no member more than a batch.
CREATE TABLE tidings_inbox (
    event_id   BLOB    NOT NULL,
    handler_id INTEGER NOT NULL,
    topic      TEXT    NOT NULL,
    partition  INTEGER NOT NULL,
    "offset"   INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (event_id, handler_id)
) WITHOUT ROWID;
CREATE INDEX tidings_inbox_applied_at ON tidings_inbox (applied_at);

-- The longest retention that a member asked for: one row.
CREATE TABLE tidings_inbox_cover (
    singleton    INTEGER PRIMARY KEY CHECK (singleton = 1),
    retention_ms INTEGER NOT NULL
);
INSERT INTO tidings_inbox_cover (singleton, retention_ms) VALUES (1, 0);

-- +goose Down
DROP TABLE tidings_inbox_cover;
DROP TABLE tidings_inbox;
DROP TABLE tidings_key_stream;
DROP TABLE tidings_key_row;
DROP TABLE tidings_handler;
DROP TABLE tidings_meta;
