-- One process at a time: CREATE TABLE IF NOT EXISTS fails when two do it at once.
SELECT pg_advisory_xact_lock(7090127349021);

-- The order service's state.
CREATE TABLE IF NOT EXISTS demo_order (
    id       text   PRIMARY KEY,
    state    text   NOT NULL,
    paid     bigint NOT NULL,
    parcels  bigint NOT NULL,
    sequence bigint NOT NULL -- of its last event
);

-- What the order service says happened: the audit's measure of everything else.
CREATE TABLE IF NOT EXISTS demo_journal (
    place    bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id text    NOT NULL UNIQUE,
    order_id text    NOT NULL,
    sequence bigint  NOT NULL,
    type     text    NOT NULL,
    amount   bigint  NOT NULL, -- what it adds to the order's balance
    twice    boolean NOT NULL  -- published a second time, on purpose
);

-- The effects of handlers, in the order they happened. Deliberately without a
-- unique key: a second effect of one event must be visible. Effects of one order
-- are one at a time, so that places follow their order.
CREATE TABLE IF NOT EXISTS demo_effect (
    place    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service  text   NOT NULL,
    member   text   NOT NULL, -- the process that had it; empty: it has no name
    event_id text   NOT NULL,
    order_id text   NOT NULL,
    sequence bigint NOT NULL,
    type     text   NOT NULL
);

-- A sum that an effect changes: applied twice, it is wrong.
CREATE TABLE IF NOT EXISTS demo_balance (
    service  text   NOT NULL,
    order_id text   NOT NULL,
    balance  bigint NOT NULL,
    PRIMARY KEY (service, order_id)
);
