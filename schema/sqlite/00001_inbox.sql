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

-- Parked events. The rows of a key are in the order of id: it is drawn under the
-- lock of the key row. What a message says of itself stands in columns, so that
-- nothing needs to be decoded to list it; the record is as it was read.
CREATE TABLE tidings_dead_letter (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    parked_key_id  INTEGER      NOT NULL,
    handler_id     INTEGER     NOT NULL,
    event_id       BLOB        NOT NULL, -- of an undecodable message: derived from its place
    event_type     TEXT        NOT NULL DEFAULT '',
    source         TEXT        NOT NULL DEFAULT '',
    aggregate_type TEXT        NOT NULL DEFAULT '',
    aggregate_id   TEXT        NOT NULL DEFAULT '',
    sequence       INTEGER      NOT NULL DEFAULT 0,
    partition      INTEGER     NOT NULL,
    "offset"       INTEGER      NOT NULL,
    record_time    INTEGER NOT NULL,
    record_key     BLOB, -- whole, unlike key
    value          BLOB,
    headers        TEXT       NOT NULL DEFAULT '[]', -- [[name, value in base64 or null], ...]
    original       TEXT, -- {"value": base64 or null, "headers": as above}: before the first edit
    bytes          INTEGER      NOT NULL,
    cause          TEXT        NOT NULL,
    error          TEXT        NOT NULL DEFAULT '',
    stack          TEXT        NOT NULL DEFAULT '',
    attempts       INTEGER     NOT NULL DEFAULT 0,
    first_failed   INTEGER,
    last_failed    INTEGER,
    due            INTEGER,
    parked_at      INTEGER NOT NULL,
    UNIQUE (handler_id, event_id)
);
CREATE INDEX tidings_dead_letter_key ON tidings_dead_letter (parked_key_id, id);

-- A key that has parked events: what is listed, claimed and counted, so that a
-- million letters behind ten thousand keys are never read for it. Changed in
-- the transactions that change its letters, under the lock of the key row. A
-- message without a key is a row of its own: keyless, with its event ID as key.
CREATE TABLE tidings_parked_key (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    handler_id  INTEGER     NOT NULL,
    topic       TEXT        NOT NULL,
    keyless     INTEGER     NOT NULL,
    key         BLOB       NOT NULL, -- as in key_row
    raw_key     BLOB, -- whole, for people
    parked_at   INTEGER NOT NULL,
    letters     INTEGER      NOT NULL,
    bytes       INTEGER      NOT NULL,
    -- Of the first letter:
    head        INTEGER      NOT NULL,
    head_at     INTEGER NOT NULL,
    event_type  TEXT        NOT NULL,
    cause       TEXT        NOT NULL,
    error       TEXT        NOT NULL,
    attempts    INTEGER     NOT NULL,
    due         INTEGER,
    -- Who retries it, and for whom:
    request_id  INTEGER,
    last_request INTEGER, -- that was done with it
    member      TEXT,
    claimed_until INTEGER,
    UNIQUE (handler_id, topic, keyless, key)
);
CREATE INDEX tidings_parked_key_due ON tidings_parked_key (due) WHERE due IS NOT NULL;
CREATE INDEX tidings_parked_key_request ON tidings_parked_key (request_id) WHERE request_id IS NOT NULL;

-- What somebody asked of a group's members.
CREATE TABLE tidings_dead_letter_request (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    grp          TEXT        NOT NULL,
    kind         TEXT        NOT NULL,
    state        TEXT        NOT NULL,
    asked_at     INTEGER NOT NULL,
    ended_at     INTEGER,
    who          TEXT        NOT NULL,
    reason       TEXT        NOT NULL,
    error        TEXT        NOT NULL DEFAULT '',
    filter       TEXT       NOT NULL DEFAULT '{}',
    rate         REAL NOT NULL DEFAULT 0,
    letter_id    INTEGER,
    value        BLOB,
    selected     INTEGER NOT NULL DEFAULT 0, -- all its keys have its ID
    turn_at      INTEGER, -- of the next event, under its rate
    keys         INTEGER      NOT NULL DEFAULT 0,
    busy         INTEGER      NOT NULL DEFAULT 0, -- keys left to other requests
    keys_done    INTEGER      NOT NULL DEFAULT 0,
    keys_stopped INTEGER      NOT NULL DEFAULT 0,
    applied      INTEGER      NOT NULL DEFAULT 0,
    failed       INTEGER      NOT NULL DEFAULT 0
);
CREATE INDEX tidings_dead_letter_request_open ON tidings_dead_letter_request (grp, id) WHERE state = 'open';

-- Who did what to the dead letters, and why. Never changed.
CREATE TABLE tidings_dead_letter_audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    who        TEXT        NOT NULL,
    reason     TEXT        NOT NULL,
    action     TEXT        NOT NULL,
    grp        TEXT        NOT NULL,
    handler    TEXT        NOT NULL DEFAULT '',
    key        BLOB,
    letter_id  INTEGER,
    event_id   TEXT        NOT NULL DEFAULT '',
    request_id INTEGER,
    before     TEXT,
    after      TEXT
);
CREATE INDEX tidings_dead_letter_audit_grp ON tidings_dead_letter_audit (grp, id);

-- +goose Down
DROP TABLE tidings_dead_letter_audit;
DROP TABLE tidings_dead_letter_request;
DROP TABLE tidings_parked_key;
DROP TABLE tidings_dead_letter;
DROP TABLE tidings_inbox_cover;
DROP TABLE tidings_inbox;
DROP TABLE tidings_key_stream;
DROP TABLE tidings_key_row;
DROP TABLE tidings_handler;
DROP TABLE tidings_meta;
