-- Everything that belongs to a user is keyed by (tenant, user_id) first, so that it can be distributed by user id;
-- no foreign keys, no sequences. Times are milliseconds since 1970, UTC. NULL stands for what is absent, or equal to
-- what the comment names. JSON is kept as text, byte for byte. Columns of fixed width come first: no padding.
-- No index on random values of the hot path, and none beside the keys on users and sessions.

CREATE TABLE meta(
    name  text  NOT NULL PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE tenants(
    no int4 NOT NULL PRIMARY KEY,
    id uuid NOT NULL UNIQUE
);

CREATE TABLE clients(
    no        int4 NOT NULL PRIMARY KEY,
    tenant    int4 NOT NULL,
    client_id text NOT NULL,
    UNIQUE(tenant, client_id)
);

CREATE TABLE users(
    tenant      int4 NOT NULL,
    user_id     uuid NOT NULL,
    client      int4 NOT NULL,
    created_at  int8 NOT NULL,
    version     int8 NOT NULL DEFAULT 1,
    epoch       int4 NOT NULL DEFAULT 0,
    kind        int2 NOT NULL DEFAULT 0,
    data        text NOT NULL,
    entry       text,
    updated_at  int8,                -- NULL: created_at
    chosen_by   int4,
    chosen_id   text,
    server_data text,
    PRIMARY KEY(tenant, user_id)
);

CREATE TABLE sessions(
    tenant            int4 NOT NULL,
    user_id           uuid NOT NULL,
    id                uuid NOT NULL,
    client            int4 NOT NULL,
    created_at        int8 NOT NULL,
    generation        int4 NOT NULL DEFAULT 0,
    kind              int2 NOT NULL,
    has_denied_tokens bool NOT NULL DEFAULT false,
    active_at         int8,          -- NULL: created_at
    rotated_at        int8,
    ended_at          int8,
    late_generation   int4,
    parent            uuid,
    metadata          text,
    PRIMARY KEY(tenant, user_id, id)
);

CREATE TABLE marks(
    tenant  int4 NOT NULL,
    user_id uuid NOT NULL,
    id      uuid NOT NULL,           -- a session, a token's jti, or all zero for the user
    ends_at int8 NOT NULL,
    PRIMARY KEY(tenant, user_id, id)
);
CREATE INDEX marks_end ON marks(ends_at);

CREATE TABLE look_ups(
    tenant     int4  NOT NULL,
    kind       int2  NOT NULL,
    hash       bytea NOT NULL,
    user_id    uuid  NOT NULL,
    session_id uuid  NOT NULL,
    body       bytea NOT NULL,
    ends_at    int8  NOT NULL,
    PRIMARY KEY(tenant, kind, hash)
);
CREATE INDEX look_ups_end ON look_ups(ends_at);

CREATE TABLE operation_keys(
    tenant  int4  NOT NULL,
    user_id uuid  NOT NULL,
    hash    bytea NOT NULL,
    body    bytea NOT NULL,
    ends_at int8  NOT NULL,
    PRIMARY KEY(tenant, user_id, hash)
);
CREATE INDEX operation_keys_end ON operation_keys(ends_at);

CREATE TABLE signing_keys(
    tenant       int4  NOT NULL,
    purpose      int2  NOT NULL,
    algorithm    text  NOT NULL,
    name         text  NOT NULL,
    generation   int4  NOT NULL,
    kid          text  NOT NULL UNIQUE,
    created_at   int8  NOT NULL,
    activates_at int8  NOT NULL,
    sealed       bytea NOT NULL,
    PRIMARY KEY(tenant, purpose, algorithm, name, generation)
);
