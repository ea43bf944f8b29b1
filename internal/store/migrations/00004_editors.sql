-- Who may see an API in the publisher: a line with * for everybody, otherwise a
-- line for each role, between line ends. Empty: not known, from before.
ALTER TABLE apis ADD COLUMN "editors" @text NOT NULL DEFAULT '';
