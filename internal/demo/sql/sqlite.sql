-- The order service's state.
CREATE TABLE IF NOT EXISTS demo_order (
    id       TEXT    PRIMARY KEY,
    state    TEXT    NOT NULL,
    paid     INTEGER NOT NULL,
    parcels  INTEGER NOT NULL,
    sequence INTEGER NOT NULL -- of its last event
);

-- What the order service says happened: the audit's measure of everything else.
CREATE TABLE IF NOT EXISTS demo_journal (
    place    INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT    NOT NULL UNIQUE,
    order_id TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    type     TEXT    NOT NULL,
    amount   INTEGER NOT NULL, -- what it adds to the order's balance
    twice    INTEGER NOT NULL  -- published a second time, on purpose
);

-- The effects of handlers, in the order they happened. Deliberately without a
-- unique key: a second effect of one event must be visible.
CREATE TABLE IF NOT EXISTS demo_effect (
    place    INTEGER PRIMARY KEY AUTOINCREMENT,
    service  TEXT    NOT NULL,
    member   TEXT    NOT NULL, -- the process that had it; empty: it has no name
    event_id TEXT    NOT NULL,
    order_id TEXT    NOT NULL,
    sequence INTEGER NOT NULL,
    type     TEXT    NOT NULL
);

-- A sum that an effect changes: applied twice, it is wrong.
CREATE TABLE IF NOT EXISTS demo_balance (
    service  TEXT    NOT NULL,
    order_id TEXT    NOT NULL,
    balance  INTEGER NOT NULL,
    PRIMARY KEY (service, order_id)
) WITHOUT ROWID;
