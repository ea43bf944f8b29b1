-- What protocols keep between two requests: codes, sessions, consents, opaque
-- tokens. hash is of the secret handle; expires is 0 for rows without an end.
CREATE TABLE ephemera (
    kind @text NOT NULL,
    hash @text NOT NULL,
    tenant @text NOT NULL,
    subject @text NOT NULL,
    client @text NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used BIGINT NOT NULL,
    doc @text NOT NULL,
    PRIMARY KEY (kind, hash)
);
CREATE INDEX ix_ephemera_subject ON ephemera (subject, kind, client);
CREATE INDEX ix_ephemera_client ON ephemera (client, kind);
CREATE INDEX ix_ephemera_expires ON ephemera (expires);
