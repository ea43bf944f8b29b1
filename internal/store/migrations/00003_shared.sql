-- What the processes of one database must agree on, sealed where it is secret.
-- The first one to bring it decides.
CREATE TABLE shared (
    name @text NOT NULL PRIMARY KEY,
    value @text NOT NULL
);
