-- Who joined: a row for each joining, whose certificates carry the member's id.
-- withdrawn is when they stopped to be good, 0 while they are.
CREATE TABLE members (
    id @text NOT NULL PRIMARY KEY,
    node @text NOT NULL,
    roles @text NOT NULL,
    joined BIGINT NOT NULL,
    withdrawn BIGINT NOT NULL
);
CREATE INDEX ix_members_node ON members (node);
