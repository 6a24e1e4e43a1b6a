-- Device keys and other small things of a user, raised epochs, API keys. (Spent proofs are kept in memory.)

ALTER TABLE users ADD COLUMN held INTEGER;     -- NULL: false
ALTER TABLE sessions ADD COLUMN key BLOB;
ALTER TABLE sessions ADD COLUMN bound INTEGER; -- NULL: false

CREATE TABLE items(
    tenant   INTEGER NOT NULL,
    user_id  BLOB NOT NULL,
    kind     INTEGER NOT NULL,
    id       BLOB NOT NULL,
    revision INTEGER NOT NULL,
    ends_at  INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY(tenant, user_id, kind, id)
) STRICT, WITHOUT ROWID;

-- What never ends (its end is the last moment that can be written) is never swept, so no index holds it.
CREATE INDEX items_end ON items(ends_at) WHERE ends_at < 253402207200000;
DROP INDEX look_ups_end;
CREATE INDEX look_ups_end ON look_ups(ends_at) WHERE ends_at < 253402207200000;

CREATE TABLE epochs(
    tenant    INTEGER NOT NULL,
    at        INTEGER NOT NULL,      -- a whole second
    user_id   BLOB NOT NULL,
    epoch     INTEGER NOT NULL,
    chosen_id TEXT,
    PRIMARY KEY(tenant, at, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX epochs_at ON epochs(at);

CREATE TABLE api_keys(
    tenant         INTEGER NOT NULL,
    id             BLOB NOT NULL,
    revision       INTEGER NOT NULL,
    hash           BLOB NOT NULL UNIQUE,
    previous_hash  BLOB,
    previous_until INTEGER,
    prefix         TEXT NOT NULL,
    name           TEXT NOT NULL,
    grants         TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER,
    last_used_at   INTEGER,
    PRIMARY KEY(tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_previous ON api_keys(previous_hash);
