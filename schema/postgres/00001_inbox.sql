-- +goose Up

-- What a binary must know before it uses this database: one row.
CREATE TABLE tidings.meta (
    singleton      boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version        integer NOT NULL, -- of this schema
    oldest_binary  integer NOT NULL, -- binaries with a lower level must not use it
    oldest_release text    NOT NULL  -- the release that has that level, for people
);
INSERT INTO tidings.meta (version, oldest_binary, oldest_release) VALUES (1, 1, '0.1.0');

-- A handler of a group in one epoch. Its ID stands in every row of its state.
CREATE TABLE tidings.handler (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    grp        text    NOT NULL,
    name       text    NOT NULL,
    epoch      integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (grp, name, epoch)
);

-- The key row: locked from admission to commit. A key nearly always carries one
-- stream (source, aggregate type, aggregate ID), so the first stands in the row;
-- further ones go to key_stream. There are no foreign keys: their checks would
-- lock the one handler row in every transaction. Room in each page keeps
-- updates on it, without touching the index. A key over 1,000 bytes is kept as
-- "sha256:" and its digest, which an index has room for.
CREATE TABLE tidings.key_row (
    handler_id     integer NOT NULL,
    topic          text    NOT NULL,
    key            bytea   NOT NULL,
    parked         integer NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    offsets        jsonb   NOT NULL DEFAULT '{}', -- partition: last applied offset
    source         text,
    aggregate_type text,
    aggregate_id   text,
    sequence       bigint,
    PRIMARY KEY (handler_id, topic, key)
) WITH (fillfactor = 70);

CREATE TABLE tidings.key_stream (
    handler_id     integer NOT NULL,
    topic          text    NOT NULL,
    key            bytea   NOT NULL,
    source         text    NOT NULL,
    aggregate_type text    NOT NULL,
    aggregate_id   text    NOT NULL,
    sequence       bigint  NOT NULL,
    PRIMARY KEY (handler_id, topic, key, source, aggregate_type, aggregate_id)
) WITH (fillfactor = 70);

-- The inbox: one row for each applied event, partitioned by the time in its
-- UUIDv7, so that what is past retention is dropped and not deleted. There is no
-- default partition: it would forbid concurrent detach and be scanned, under
-- lock, for each new range.
CREATE TABLE tidings.inbox (
    event_id   uuid        NOT NULL,
    handler_id integer     NOT NULL,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    attempts   integer     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, handler_id)
) PARTITION BY RANGE (event_id);

-- IDs that belong to no partition: old, from the future, not UUIDv7. Pruned by
-- the time of admission.
CREATE TABLE tidings.inbox_other (
    event_id   uuid        NOT NULL,
    handler_id integer     NOT NULL,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    attempts   integer     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (event_id, handler_id)
);
CREATE INDEX inbox_other_applied_at ON tidings.inbox_other (applied_at);

-- The ranges that have a partition, in milliseconds since 1970.
CREATE TABLE tidings.inbox_partition (
    name     text   PRIMARY KEY,
    from_ms  bigint NOT NULL,
    until_ms bigint NOT NULL
);

-- What admission must know about them: one row, changed together with them.
CREATE TABLE tidings.inbox_cover (
    singleton    boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    retention_ms bigint NOT NULL, -- the longest that a member asked for
    from_ms      bigint NOT NULL, -- IDs from here on
    until_ms     bigint NOT NULL  -- and before this have a partition
);
INSERT INTO tidings.inbox_cover (retention_ms, from_ms, until_ms) VALUES (0, 0, 0);

-- Parked events. The rows of a key are in the order of id: it is drawn under the
-- lock of the key row. What a message says of itself stands in columns, so that
-- nothing needs to be decoded to list it; the record is as it was read.
CREATE TABLE tidings.dead_letter (
    id             bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parked_key_id  bigint      NOT NULL,
    handler_id     integer     NOT NULL,
    event_id       uuid        NOT NULL, -- of an undecodable message: derived from its place
    event_type     text        NOT NULL DEFAULT '',
    source         text        NOT NULL DEFAULT '',
    aggregate_type text        NOT NULL DEFAULT '',
    aggregate_id   text        NOT NULL DEFAULT '',
    sequence       bigint      NOT NULL DEFAULT 0,
    partition      integer     NOT NULL,
    "offset"       bigint      NOT NULL,
    record_time    timestamptz NOT NULL,
    record_key     bytea, -- whole, unlike key
    value          bytea,
    headers        jsonb       NOT NULL DEFAULT '[]', -- [[name, value in base64 or null], ...]
    original       jsonb, -- {"value": base64 or null, "headers": as above}: before the first edit
    bytes          bigint      NOT NULL,
    cause          text        NOT NULL,
    error          text        NOT NULL DEFAULT '',
    stack          text        NOT NULL DEFAULT '',
    attempts       integer     NOT NULL DEFAULT 0,
    first_failed   timestamptz,
    last_failed    timestamptz,
    due            timestamptz,
    parked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (handler_id, event_id)
);
CREATE INDEX dead_letter_key ON tidings.dead_letter (parked_key_id, id);

-- A key that has parked events: what is listed, claimed and counted, so that a
-- million letters behind ten thousand keys are never read for it. Changed in
-- the transactions that change its letters, under the lock of the key row. A
-- message without a key is a row of its own: keyless, with its event ID as key.
CREATE TABLE tidings.parked_key (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    handler_id  integer     NOT NULL,
    topic       text        NOT NULL,
    keyless     boolean     NOT NULL,
    key         bytea       NOT NULL, -- as in key_row
    raw_key     bytea, -- whole, for people
    parked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    letters     bigint      NOT NULL,
    bytes       bigint      NOT NULL,
    -- Of the first letter:
    head        bigint      NOT NULL,
    head_at     timestamptz NOT NULL,
    event_type  text        NOT NULL,
    cause       text        NOT NULL,
    error       text        NOT NULL,
    attempts    integer     NOT NULL,
    due         timestamptz,
    -- Who retries it, and for whom:
    request_id  bigint,
    member      text,
    claimed_until timestamptz,
    UNIQUE (handler_id, topic, keyless, key)
);
CREATE INDEX parked_key_due ON tidings.parked_key (due) WHERE due IS NOT NULL;
CREATE INDEX parked_key_request ON tidings.parked_key (request_id) WHERE request_id IS NOT NULL;

-- What somebody asked of a group's members.
CREATE TABLE tidings.dead_letter_request (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    grp          text        NOT NULL,
    kind         text        NOT NULL,
    state        text        NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at     timestamptz,
    who          text        NOT NULL,
    reason       text        NOT NULL,
    error        text        NOT NULL DEFAULT '',
    filter       jsonb       NOT NULL DEFAULT '{}',
    rate         double precision NOT NULL DEFAULT 0,
    letter_id    bigint,
    value        bytea,
    keys         bigint      NOT NULL DEFAULT 0,
    keys_done    bigint      NOT NULL DEFAULT 0,
    keys_stopped bigint      NOT NULL DEFAULT 0,
    applied      bigint      NOT NULL DEFAULT 0,
    failed       bigint      NOT NULL DEFAULT 0
);
CREATE INDEX dead_letter_request_open ON tidings.dead_letter_request (grp, id) WHERE state = 'open';

-- Who did what to the dead letters, and why. Never changed.
CREATE TABLE tidings.dead_letter_audit (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    who        text        NOT NULL,
    reason     text        NOT NULL,
    action     text        NOT NULL,
    grp        text        NOT NULL,
    handler    text        NOT NULL DEFAULT '',
    key        bytea,
    letter_id  bigint,
    event_id   text        NOT NULL DEFAULT '',
    request_id bigint,
    before     jsonb,
    after      jsonb
);
CREATE INDEX dead_letter_audit_grp ON tidings.dead_letter_audit (grp, id);

-- The least UUIDv7 of a time.
-- +goose StatementBegin
CREATE FUNCTION tidings.uuid_floor(ms bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT (lpad(to_hex(ms), 12, '0') || '00000000000000000000')::uuid
$$;
-- +goose StatementEnd

-- The three that follow are what an admission needs rarely: as functions they
-- cost the common one neither planning nor locks (a plan that reads a
-- partitioned table locks every partition each time it runs).

-- Whether a partition has the event.
-- +goose StatementBegin
CREATE FUNCTION tidings.inbox_has(event uuid, handler integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (SELECT FROM tidings.inbox WHERE event_id = event AND handler_id = handler);
END
$$;
-- +goose StatementEnd

-- Adds a row to inbox_other; false: it is there.
-- +goose StatementBegin
CREATE FUNCTION tidings.inbox_other_add(event uuid, handler integer, of_topic text, of_partition integer, at bigint, tries integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tidings.inbox_other (event_id, handler_id, topic, partition, "offset", attempts)
    VALUES (event, handler, of_topic, of_partition, at, tries)
    ON CONFLICT DO NOTHING;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd

-- Sets the last sequence of a further stream of a key; it never goes back.
-- +goose StatementBegin
CREATE FUNCTION tidings.key_stream_set(handler integer, of_topic text, of_key bytea, of_source text, of_type text, of_id text, applied bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tidings.key_stream (handler_id, topic, key, source, aggregate_type, aggregate_id, sequence)
    VALUES (handler, of_topic, of_key, of_source, of_type, of_id, applied)
    ON CONFLICT (handler_id, topic, key, source, aggregate_type, aggregate_id)
        DO UPDATE SET sequence = greatest(key_stream.sequence, excluded.sequence);
END
$$;
-- +goose StatementEnd

-- Makes partitions of the given width until they reach ahead_ms from now, and
-- records the longest retention asked for. One member at a time; a table is
-- made on its own and attached, so that admissions go on meanwhile.
-- +goose StatementBegin
CREATE FUNCTION tidings.inbox_extend(retention bigint, width bigint, ahead bigint) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    cover tidings.inbox_cover%ROWTYPE;
    now_ms bigint;
    made integer := 0;
    part text;
    next_ms bigint;
    owner name := (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'tidings.inbox'::regclass);
BEGIN
    SELECT * INTO STRICT cover FROM tidings.inbox_cover FOR UPDATE;
    now_ms := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    IF retention > cover.retention_ms THEN
        UPDATE tidings.inbox_cover SET retention_ms = retention;
        cover.retention_ms := retention;
    END IF;
    IF cover.until_ms = 0 OR cover.until_ms < now_ms - cover.retention_ms THEN
        -- The first range, or the clock jumped past them all: start anew, with
        -- room for what is on its way. What lies between goes to inbox_other.
        cover.from_ms := ((now_ms - cover.retention_ms / 2) / width) * width;
        cover.until_ms := cover.from_ms;
    END IF;
    WHILE cover.until_ms < now_ms + ahead LOOP
        next_ms := cover.until_ms + width;
        part := format('inbox_%s_%s', cover.until_ms, next_ms);
        EXECUTE format('CREATE TABLE tidings.%I (LIKE tidings.inbox INCLUDING ALL)', part);
        IF owner <> current_user THEN -- any member of the owner may drop it later
            EXECUTE format('ALTER TABLE tidings.%I OWNER TO %I', part, owner);
        END IF;
        EXECUTE format('ALTER TABLE tidings.inbox ATTACH PARTITION tidings.%I FOR VALUES FROM (%L) TO (%L)',
            part, tidings.uuid_floor(cover.until_ms), tidings.uuid_floor(next_ms));
        INSERT INTO tidings.inbox_partition (name, from_ms, until_ms) VALUES (part, cover.until_ms, next_ms);
        cover.until_ms := next_ms;
        made := made + 1;
    END LOOP;
    IF made > 0 THEN
        UPDATE tidings.inbox_cover SET from_ms = cover.from_ms, until_ms = cover.until_ms;
    END IF;
    RETURN made;
END
$$;
-- +goose StatementEnd

-- Names the oldest partition that is due, or null: its youngest ID may have been
-- admitted half a retention after its time, and stays for a whole one. From here
-- on no ID belongs to it. Who asks detaches and drops it, which cannot be done
-- here: DETACH ... CONCURRENTLY runs in no transaction, and a plain DROP waits for
-- every transaction that touches the inbox, with all admissions behind it.
-- +goose StatementBegin
CREATE FUNCTION tidings.inbox_due() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    cover tidings.inbox_cover%ROWTYPE;
    due tidings.inbox_partition%ROWTYPE;
BEGIN
    SELECT * INTO STRICT cover FROM tidings.inbox_cover FOR UPDATE;
    SELECT * INTO due FROM tidings.inbox_partition
        WHERE until_ms < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - cover.retention_ms * 3 / 2 AND cover.retention_ms > 0
        ORDER BY from_ms LIMIT 1;
    IF due.until_ms > cover.from_ms THEN
        UPDATE tidings.inbox_cover SET from_ms = due.until_ms;
    END IF;
    RETURN due.name;
END
$$;
-- +goose StatementEnd

-- +goose Down
DROP SCHEMA tidings CASCADE;
