-- Audit rows can be deleted only by the retention of the store: it notes here,
-- within its own transaction, up to which time they end, and takes the note away
-- before the commit. The table is empty at any other time, and for everybody else.
CREATE TABLE audit_sweep (
    cutoff BIGINT NOT NULL
);
CREATE INDEX ix_audits_age ON audits (at);

-- only sqlite
DROP TRIGGER audits_keep_rows;
CREATE TRIGGER audits_keep_rows BEFORE DELETE ON audits
  WHEN NOT EXISTS (SELECT 1 FROM audit_sweep WHERE OLD.at < cutoff) BEGIN
    SELECT RAISE(ABORT, 'audits are append-only');
END;
-- only postgres
CREATE OR REPLACE FUNCTION cardea_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'DELETE' THEN
      IF EXISTS (SELECT 1 FROM audit_sweep s WHERE OLD.at < s.cutoff) THEN
        RETURN OLD;
      END IF;
    END IF;
    RAISE EXCEPTION '% are append-only', TG_TABLE_NAME;
  END
$$;
-- both
