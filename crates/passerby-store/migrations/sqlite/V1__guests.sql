-- Keys begin with (tenant, user_id) and grow with time: rows are appended at one end of their trees.
-- Times are milliseconds since 1970, UTC. NULL stands for what is absent, or equal to what the comment names.
-- No index on random values, and none at all on users and sessions.

CREATE TABLE meta(
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants(
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE clients(
    no        INTEGER PRIMARY KEY,
    tenant    INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    UNIQUE(tenant, client_id)
) STRICT;

CREATE TABLE users(
    tenant      INTEGER NOT NULL,
    user_id     BLOB NOT NULL,
    client      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    data        TEXT NOT NULL,
    entry       TEXT,
    kind        INTEGER NOT NULL DEFAULT 0,
    version     INTEGER NOT NULL DEFAULT 1,
    epoch       INTEGER NOT NULL DEFAULT 0,
    updated_at  INTEGER,             -- NULL: created_at
    server_data TEXT,
    chosen_id   TEXT,
    chosen_by   INTEGER,
    PRIMARY KEY(tenant, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions(
    tenant            INTEGER NOT NULL,
    user_id           BLOB NOT NULL,
    id                BLOB NOT NULL,
    client            INTEGER NOT NULL,
    kind              INTEGER NOT NULL,
    created_at        INTEGER NOT NULL,
    active_at         INTEGER,       -- NULL: created_at
    generation        INTEGER NOT NULL DEFAULT 0,
    rotated_at        INTEGER,
    late_generation   INTEGER,
    ended_at          INTEGER,
    has_denied_tokens INTEGER NOT NULL DEFAULT 0,
    metadata          TEXT,
    parent            BLOB,
    PRIMARY KEY(tenant, user_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE marks(
    tenant  INTEGER NOT NULL,
    user_id BLOB NOT NULL,
    id      BLOB NOT NULL,           -- a session, a token's jti, or all zero for the user
    ends_at INTEGER NOT NULL,
    PRIMARY KEY(tenant, user_id, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX marks_end ON marks(ends_at);

CREATE TABLE look_ups(
    tenant     INTEGER NOT NULL,
    kind       INTEGER NOT NULL,
    hash       BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    session_id BLOB NOT NULL,
    body       BLOB NOT NULL,
    ends_at    INTEGER NOT NULL,
    PRIMARY KEY(tenant, kind, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX look_ups_end ON look_ups(ends_at);

CREATE TABLE operation_keys(
    tenant  INTEGER NOT NULL,
    user_id BLOB NOT NULL,
    hash    BLOB NOT NULL,
    body    BLOB NOT NULL,
    ends_at INTEGER NOT NULL,
    PRIMARY KEY(tenant, user_id, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_keys_end ON operation_keys(ends_at);

CREATE TABLE signing_keys(
    tenant       INTEGER NOT NULL,
    purpose      INTEGER NOT NULL,
    algorithm    TEXT NOT NULL,
    name         TEXT NOT NULL,
    generation   INTEGER NOT NULL,
    kid          TEXT NOT NULL UNIQUE,
    created_at   INTEGER NOT NULL,
    activates_at INTEGER NOT NULL,
    sealed       BLOB NOT NULL,
    PRIMARY KEY(tenant, purpose, algorithm, name, generation)
) STRICT, WITHOUT ROWID;
