-- Accounts: what a guest became and where it went, records of a tenant that belong to no user, the outbox.
-- New columns are NULL in what a plain creation writes, so that its rows are as long as before.

ALTER TABLE users ADD COLUMN converted_at int8;
ALTER TABLE users ADD COLUMN merged_into uuid;
ALTER TABLE users ADD COLUMN frozen bool;      -- NULL: false

CREATE TABLE records(
    tenant   int4  NOT NULL,
    revision int4  NOT NULL,
    ends_at  int8  NOT NULL,
    kind     int2  NOT NULL,
    id       bytea NOT NULL,
    body     text  NOT NULL,
    PRIMARY KEY(tenant, kind, id)
);
CREATE INDEX records_end ON records(ends_at) WHERE ends_at < 253402207200000;

CREATE TABLE outbox(
    tenant  int4  NOT NULL,
    user_id uuid  NOT NULL,
    seq     int8  NOT NULL,
    id      uuid  NOT NULL,
    lane    uuid  NOT NULL,
    at      int8  NOT NULL,
    ends_at int8  NOT NULL,
    due_at  int8,                    -- NULL: it does not wait
    tries   int4  NOT NULL,
    target  int2  NOT NULL,
    state   int2  NOT NULL,          -- 0 waits, 1 done, 2 dead
    name    text  NOT NULL,
    body    bytea NOT NULL,
    PRIMARY KEY(tenant, user_id, seq)
);
-- Few rows wait, and few are dead: neither is looked for among the events that are kept.
CREATE INDEX outbox_due ON outbox(target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_lane ON outbox(tenant, user_id, lane, seq) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_dead ON outbox(tenant, at, id) WHERE state = 2;
CREATE INDEX outbox_at ON outbox(tenant, at, id);
CREATE INDEX outbox_end ON outbox(ends_at) WHERE ends_at < 253402207200000;
