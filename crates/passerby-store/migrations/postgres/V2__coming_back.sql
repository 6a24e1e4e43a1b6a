-- Device keys and other small things of a user, raised epochs, API keys, spent proofs.
-- New columns are NULL in what a plain creation writes, so that its rows are as long as before.

ALTER TABLE users ADD COLUMN held bool;        -- NULL: false
ALTER TABLE sessions ADD COLUMN key bytea;
ALTER TABLE sessions ADD COLUMN bound bool;    -- NULL: false

CREATE TABLE items(
    tenant   int4  NOT NULL,
    user_id  uuid  NOT NULL,
    ends_at  int8  NOT NULL,
    revision int4  NOT NULL,
    kind     int2  NOT NULL,
    id       bytea NOT NULL,
    body     text  NOT NULL,
    PRIMARY KEY(tenant, user_id, kind, id)
);

-- What never ends (its end is the last moment that can be written) is never swept, so no index holds it.
CREATE INDEX items_end ON items(ends_at) WHERE ends_at < 253402207200000;
DROP INDEX look_ups_end;
CREATE INDEX look_ups_end ON look_ups(ends_at) WHERE ends_at < 253402207200000;

CREATE TABLE epochs(
    tenant    int4 NOT NULL,
    at        int8 NOT NULL,         -- a whole second
    user_id   uuid NOT NULL,
    epoch     int4 NOT NULL,
    chosen_id text,
    PRIMARY KEY(tenant, at, user_id)
);
CREATE INDEX epochs_at ON epochs(at);

CREATE TABLE api_keys(
    tenant         int4  NOT NULL,
    id             uuid  NOT NULL,
    created_at     int8  NOT NULL,
    expires_at     int8,
    last_used_at   int8,
    previous_until int8,
    revision       int4  NOT NULL,
    hash           bytea NOT NULL UNIQUE,
    previous_hash  bytea,
    prefix         text  NOT NULL,
    name           text  NOT NULL,
    grants         text  NOT NULL,
    PRIMARY KEY(tenant, id)
);
CREATE INDEX api_keys_previous ON api_keys(previous_hash);

CREATE TABLE spent_proofs(
    tenant  int4  NOT NULL,
    hash    bytea NOT NULL,
    ends_at int8  NOT NULL,
    PRIMARY KEY(tenant, hash)
);
CREATE INDEX spent_proofs_end ON spent_proofs(ends_at);
