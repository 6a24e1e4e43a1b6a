-- Accounts: what a guest became and where it went, records of a tenant that belong to no user, the outbox.

ALTER TABLE users ADD COLUMN converted_at INTEGER;
ALTER TABLE users ADD COLUMN merged_into BLOB;
ALTER TABLE users ADD COLUMN frozen INTEGER;   -- NULL: false

CREATE TABLE records(
    tenant   INTEGER NOT NULL,
    kind     INTEGER NOT NULL,
    id       BLOB NOT NULL,
    revision INTEGER NOT NULL,
    ends_at  INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY(tenant, kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_end ON records(ends_at) WHERE ends_at < 253402207200000;

CREATE TABLE outbox(
    tenant  INTEGER NOT NULL,
    user_id BLOB NOT NULL,
    seq     INTEGER NOT NULL,
    id      BLOB NOT NULL,
    name    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    target  INTEGER NOT NULL,
    lane    BLOB NOT NULL,
    due_at  INTEGER,                 -- NULL: it does not wait
    ends_at INTEGER NOT NULL,
    tries   INTEGER NOT NULL,
    state   INTEGER NOT NULL,        -- 0 waits, 1 done, 2 dead
    body    BLOB NOT NULL,
    PRIMARY KEY(tenant, user_id, seq)
) STRICT, WITHOUT ROWID;
-- Few rows wait, and few are dead: neither is looked for among the events that are kept.
CREATE INDEX outbox_due ON outbox(target, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_lane ON outbox(tenant, user_id, lane, seq) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_dead ON outbox(tenant, at, id) WHERE state = 2;
CREATE INDEX outbox_at ON outbox(tenant, at, id);
CREATE INDEX outbox_end ON outbox(ends_at) WHERE ends_at < 253402207200000;
