-- Version 1. Buckets are Unix seconds at the start of the minute, hour or UTC day.
CREATE TABLE dim (
    id          INTEGER PRIMARY KEY,
    tenant      TEXT NOT NULL,
    api         TEXT NOT NULL,
    api_name    TEXT NOT NULL,
    api_version TEXT NOT NULL,
    application TEXT NOT NULL,
    operation   TEXT NOT NULL,
    verb        TEXT NOT NULL,
    status      INTEGER NOT NULL,
    code        INTEGER NOT NULL,
    key_type    TEXT NOT NULL,
    environment TEXT NOT NULL,
    UNIQUE (tenant, api, application, operation, verb, status, code, key_type, environment, api_name, api_version)
);

CREATE TABLE minute (
    bucket INTEGER NOT NULL, dim INTEGER NOT NULL,
    n INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, gateway BLOB, backend BLOB,
    PRIMARY KEY (bucket, dim)
) WITHOUT ROWID;

CREATE TABLE hour (
    bucket INTEGER NOT NULL, dim INTEGER NOT NULL,
    n INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, gateway BLOB, backend BLOB,
    PRIMARY KEY (bucket, dim)
) WITHOUT ROWID;

CREATE TABLE day (
    bucket INTEGER NOT NULL, dim INTEGER NOT NULL,
    n INTEGER NOT NULL, bytes_in INTEGER NOT NULL, bytes_out INTEGER NOT NULL, gateway BLOB, backend BLOB,
    PRIMARY KEY (bucket, dim)
) WITHOUT ROWID;

CREATE TABLE call (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    time        INTEGER NOT NULL, -- Unix microseconds
    ref         TEXT NOT NULL,    -- decision or correlation id
    tenant      TEXT NOT NULL,
    api         TEXT NOT NULL,
    api_name    TEXT NOT NULL,
    api_version TEXT NOT NULL,
    application TEXT NOT NULL,
    user        TEXT NOT NULL,
    operation   TEXT NOT NULL,
    verb        TEXT NOT NULL,
    path        TEXT NOT NULL,
    status      INTEGER NOT NULL,
    code        INTEGER NOT NULL,
    key_type    TEXT NOT NULL,
    gateway     INTEGER NOT NULL, -- microseconds
    backend     INTEGER NOT NULL, -- microseconds
    bytes_in    INTEGER NOT NULL,
    bytes_out   INTEGER NOT NULL,
    client      TEXT NOT NULL,
    agent       TEXT NOT NULL
);
CREATE INDEX call_time ON call (time);
CREATE INDEX call_tenant ON call (tenant, time, id);

CREATE TABLE decision (
    ref    TEXT PRIMARY KEY,
    time   INTEGER NOT NULL, -- Unix microseconds
    tenant TEXT NOT NULL,
    doc    TEXT NOT NULL     -- JSON of usage.Decision
) WITHOUT ROWID;
CREATE INDEX decision_time ON decision (time);

-- Batches seen: all of a boot up to low, and those of ahead beyond it.
CREATE TABLE source (
    gateway TEXT NOT NULL, boot TEXT NOT NULL,
    low     INTEGER NOT NULL,
    updated INTEGER NOT NULL, -- Unix seconds
    PRIMARY KEY (gateway, boot)
) WITHOUT ROWID;
CREATE TABLE ahead (
    gateway TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (gateway, boot, seq)
) WITHOUT ROWID;

CREATE TABLE tally (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
