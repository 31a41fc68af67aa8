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
    last_request bigint, -- that was done with it
    member      text,
    claimed_until timestamptz,
    UNIQUE (handler_id, topic, keyless, key)
) WITH (fillfactor = 70); -- counters change with each letter
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
    selected     boolean     NOT NULL DEFAULT false, -- all its keys have its ID
    turn_at      timestamptz, -- of the next event, under its rate
    keys         bigint      NOT NULL DEFAULT 0,
    busy         bigint      NOT NULL DEFAULT 0, -- keys left to other requests
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

-- What follows keeps parked events. Each runs in a transaction that holds the
-- lock of the key row, or of the event where there is no key; the answers are
-- those of an admission: 1 fresh, 2 duplicate, 3 parked, 5 gone, and
-- 6: it would be parked, but there is no room; 7: parked by this call.

-- Whether the handler has applied the event, by any table.
-- +goose StatementBegin
CREATE FUNCTION tidings.inbox_knows(event uuid, handler integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (SELECT FROM tidings.inbox_other WHERE event_id = event AND handler_id = handler)
        OR EXISTS (SELECT FROM tidings.inbox WHERE event_id = event AND handler_id = handler);
END
$$;
-- +goose StatementEnd

-- Whether the handler has the event parked: what an admission without a key asks.
-- +goose StatementBegin
CREATE FUNCTION tidings.letter_has(event uuid, handler integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN EXISTS (SELECT FROM tidings.dead_letter WHERE event_id = event AND handler_id = handler);
END
$$;
-- +goose StatementEnd

-- Parks an event behind what its key has. A null of_key: it has none. An event
-- that is only to go behind others is fresh when there are none.
-- +goose StatementBegin
CREATE FUNCTION tidings.letter_park(
    handler integer, of_topic text, of_key bytea, event uuid, room boolean,
    whole_key bytea, of_type text, of_source text, of_aggregate_type text, of_aggregate_id text, of_sequence bigint,
    of_partition integer, at bigint, written timestamptz,
    of_record_key bytea, of_value bytea, of_headers jsonb, size bigint,
    why text, of_error text, of_stack text, tries integer,
    first_at timestamptz, last_at timestamptz, due_at timestamptz
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    parent bigint;
    waiting bigint;
    letter bigint;
    now_at timestamptz := clock_timestamp();
BEGIN
    IF tidings.inbox_knows(event, handler) THEN
        RETURN 2;
    END IF;
    IF tidings.letter_has(event, handler) THEN
        RETURN 3;
    END IF;
    IF why = 'behind' AND NOT EXISTS (
        SELECT FROM tidings.key_row r WHERE r.handler_id = handler AND r.topic = of_topic AND r.key = of_key AND r.parked > 0
    ) THEN
        RETURN 1;
    END IF;
    IF NOT room THEN
        RETURN 6;
    END IF;
    INSERT INTO tidings.parked_key AS p (handler_id, topic, keyless, key, raw_key, parked_at, letters, bytes,
        head, head_at, event_type, cause, error, attempts, due)
    VALUES (handler, of_topic, of_key IS NULL, coalesce(of_key, uuid_send(event)), whole_key, now_at, 1, size,
        0, now_at, of_type, why, of_error, tries, due_at)
    ON CONFLICT (handler_id, topic, keyless, key) DO UPDATE SET letters = p.letters + 1, bytes = p.bytes + excluded.bytes
    RETURNING p.id, p.letters INTO parent, waiting;
    INSERT INTO tidings.dead_letter (parked_key_id, handler_id, event_id, event_type, source, aggregate_type, aggregate_id, sequence,
        partition, "offset", record_time, record_key, value, headers, bytes,
        cause, error, stack, attempts, first_failed, last_failed, due, parked_at)
    VALUES (parent, handler, event, of_type, of_source, of_aggregate_type, of_aggregate_id, of_sequence,
        of_partition, at, written, of_record_key, of_value, of_headers, size,
        why, of_error, of_stack, tries, first_at, last_at, due_at, now_at)
    RETURNING id INTO letter;
    IF waiting = 1 THEN
        UPDATE tidings.parked_key SET head = letter WHERE id = parent;
    END IF;
    UPDATE tidings.key_row SET parked = parked + 1 WHERE handler_id = handler AND topic = of_topic AND key = of_key;
    RETURN 7;
END
$$;
-- +goose StatementEnd

-- Takes a letter out; false: it is not there. The next one of its key becomes the
-- first, with the cause it has; where it only waited behind, it is due when the
-- one before it was, so that a key whose head was tried by itself goes on by itself.
-- +goose StatementBegin
CREATE FUNCTION tidings.letter_leave(letter bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    parent bigint;
    size bigint;
    first record;
    k record;
BEGIN
    DELETE FROM tidings.dead_letter WHERE id = letter RETURNING parked_key_id, bytes INTO parent, size;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT id, parked_at, event_type, cause, error, attempts, due INTO first
        FROM tidings.dead_letter WHERE parked_key_id = parent ORDER BY id LIMIT 1;
    IF FOUND THEN
        UPDATE tidings.parked_key SET letters = letters - 1, bytes = bytes - size,
            head = first.id, head_at = first.parked_at, event_type = first.event_type,
            cause = first.cause, error = first.error, attempts = first.attempts,
            due = CASE WHEN head = first.id OR first.cause = 'behind' AND first.due IS NULL THEN due ELSE first.due END
        WHERE id = parent RETURNING handler_id, topic, keyless, key INTO k;
    ELSE
        DELETE FROM tidings.parked_key WHERE id = parent RETURNING handler_id, topic, keyless, key INTO k;
    END IF;
    IF NOT k.keyless THEN
        UPDATE tidings.key_row SET parked = parked - 1 WHERE handler_id = k.handler_id AND topic = k.topic AND key = k.key;
    END IF;
    RETURN true;
END
$$;
-- +goose StatementEnd

-- Whether it is the letter's turn: 1 it is the first of its key; 5 it is not, or
-- is not there, or is not of that key; 2 the event was applied, and with take
-- the letter is taken out.
-- +goose StatementBegin
CREATE FUNCTION tidings.letter_turn(letter bigint, handler integer, of_topic text, of_key bytea, event uuid, take boolean) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    k record;
    here boolean;
BEGIN
    SELECT p.head, p.topic, p.keyless, p.key INTO k
        FROM tidings.dead_letter d JOIN tidings.parked_key p ON p.id = d.parked_key_id
        WHERE d.id = letter AND d.handler_id = handler AND d.event_id = event;
    here := FOUND;
    IF here AND (k.topic <> of_topic OR k.keyless <> (of_key IS NULL) OR k.key <> coalesce(of_key, k.key)) THEN
        RETURN 5;
    END IF;
    IF tidings.inbox_knows(event, handler) THEN
        IF here AND take THEN
            PERFORM tidings.letter_leave(letter);
        END IF;
        RETURN 2;
    END IF;
    IF here AND k.head = letter THEN
        RETURN 1;
    END IF;
    RETURN 5;
END
$$;
-- +goose StatementEnd

-- Books a failed retry of a letter, whose place stays.
-- +goose StatementBegin
CREATE FUNCTION tidings.letter_fail(
    letter bigint, handler integer, of_topic text, of_key bytea, event uuid,
    why text, of_error text, of_stack text, tries integer, first_at timestamptz, last_at timestamptz, due_at timestamptz
) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    parent bigint;
    total integer;
BEGIN
    IF tidings.letter_turn(letter, handler, of_topic, of_key, event, true) = 2 THEN
        RETURN 2;
    END IF;
    UPDATE tidings.dead_letter SET cause = why, error = of_error, stack = of_stack,
        attempts = greatest(attempts + 1, tries), first_failed = coalesce(first_failed, first_at, last_at, clock_timestamp()),
        last_failed = coalesce(last_at, clock_timestamp()), due = due_at
    WHERE id = letter AND handler_id = handler AND event_id = event AND EXISTS (
        SELECT FROM tidings.parked_key p WHERE p.id = parked_key_id
            AND p.topic = of_topic AND p.keyless = (of_key IS NULL) AND p.key = coalesce(of_key, p.key))
    RETURNING parked_key_id, attempts INTO parent, total;
    IF NOT FOUND THEN
        RETURN 5;
    END IF;
    UPDATE tidings.parked_key SET cause = why, error = of_error, attempts = total, due = due_at
        WHERE id = parent AND head = letter;
    RETURN 3;
END
$$;
-- +goose StatementEnd

-- Remembers an event as settled without an effect: its inbox row goes where an
-- admission looks for it, and its key has seen its offset and sequence. False:
-- it was known. Runs under the lock of the key row. A null event_ms: the ID is no
-- UUIDv7. A null of_key: it has none.
-- +goose StatementBegin
CREATE FUNCTION tidings.inbox_settle(
    event uuid, event_ms bigint, handler integer, of_topic text, of_key bytea, of_partition integer, at bigint, tries integer,
    of_source text, of_type text, of_id text, of_sequence bigint
) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    known boolean;
    covered boolean;
    in_row boolean;
BEGIN
    known := EXISTS (SELECT FROM tidings.inbox_other WHERE event_id = event AND handler_id = handler)
        OR tidings.inbox_has(event, handler);
    IF NOT known THEN
        SELECT coalesce(event_ms >= from_ms AND event_ms < until_ms
            AND event_ms >= (extract(epoch FROM clock_timestamp()) * 1000)::bigint - retention_ms / 2, false)
            INTO STRICT covered FROM tidings.inbox_cover;
        IF covered THEN
            INSERT INTO tidings.inbox (event_id, handler_id, topic, partition, "offset", attempts)
            VALUES (event, handler, of_topic, of_partition, at, tries);
        ELSE
            PERFORM tidings.inbox_other_add(event, handler, of_topic, of_partition, at, tries);
        END IF;
    END IF;
    IF of_key IS NULL THEN
        RETURN NOT known;
    END IF;
    UPDATE tidings.key_row SET offsets = offsets || jsonb_build_object(of_partition::text,
            greatest(at, coalesce((offsets ->> of_partition::text)::bigint, at)))
        WHERE handler_id = handler AND topic = of_topic AND key = of_key AND at >= 0;
    IF of_sequence > 0 THEN
        UPDATE tidings.key_row SET source = of_source, aggregate_type = of_type, aggregate_id = of_id,
                sequence = greatest(sequence, of_sequence)
            WHERE handler_id = handler AND topic = of_topic AND key = of_key
              AND (source IS NULL OR (source = of_source AND aggregate_type = of_type AND aggregate_id = of_id));
        in_row := FOUND;
        IF NOT in_row THEN
            PERFORM tidings.key_stream_set(handler, of_topic, of_key, of_source, of_type, of_id, of_sequence);
        END IF;
    END IF;
    RETURN NOT known;
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
