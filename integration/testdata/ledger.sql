-- What the suites count by. Nothing here is unique but the plan: a double must
-- be seen, not refused.

-- Every event that has to be applied, in the order of publishing.
CREATE TABLE plan (
    n         bigserial PRIMARY KEY,
    event_id  uuid   NOT NULL UNIQUE,
    type      text   NOT NULL,
    aggregate text   NOT NULL,
    sequence  bigint NOT NULL
);

-- Which handlers of a group take a type.
CREATE TABLE taker (grp text NOT NULL, handler text NOT NULL, type text NOT NULL);

-- Every effect, written in the handler's own transaction. Before is the highest
-- sequence of the aggregate that this handler's earlier effects left behind.
CREATE TABLE effect (
    serial    bigserial PRIMARY KEY,
    grp       text   NOT NULL,
    handler   text   NOT NULL,
    event_id  uuid   NOT NULL,
    aggregate text   NOT NULL,
    sequence  bigint NOT NULL,
    before    bigint NOT NULL,
    member    text   NOT NULL
);
CREATE INDEX ON effect (grp, handler, aggregate, sequence);
CREATE INDEX ON effect (member);

-- Every try that failed on purpose, written outside of the handler's transaction.
CREATE TABLE failure (grp text NOT NULL, handler text NOT NULL, event_id uuid NOT NULL, member text NOT NULL);

-- With a row in it, what was poison to the handlers is none any more.
CREATE TABLE cured (at timestamptz NOT NULL DEFAULT clock_timestamp());
