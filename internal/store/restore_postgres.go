package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// pgSuccessor is a schema, named like the present one with _restore behind it,
// whose tables become the present one's. It holds the URL.
type pgSuccessor struct{ url string }

// connect opens a connection and names both schemas, quoted for SQL.
func (s pgSuccessor) connect(ctx context.Context) (conn *sql.Conn, present, next string, end func() error, err error) {
	cfg, err := pgx.ParseConfig(s.url)
	if err != nil {
		return nil, "", "", nil, err
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	cfg.RuntimeParams["synchronous_commit"] = "on"
	cfg.RuntimeParams["application_name"] = "cardea"
	db := stdlib.OpenDB(*cfg)
	if conn, err = db.Conn(ctx); err != nil {
		return nil, "", "", nil, errors.Join(postgresDialect.fault(err), db.Close())
	}
	end = func() error { return errors.Join(conn.Close(), db.Close()) }
	var name sql.NullString
	err = conn.QueryRowContext(ctx, "SELECT current_schema()").Scan(&name)
	if err == nil && !name.Valid {
		err = errors.New("the database has no schema to make tables in")
	}
	if err != nil {
		return nil, "", "", nil, errors.Join(err, end())
	}
	return conn, quoted(name.String), quoted(name.String + "_restore"), end, nil
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

func (s pgSuccessor) discard(ctx context.Context) error {
	conn, _, next, end, err := s.connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.ExecContext(ctx, "DROP SCHEMA IF EXISTS "+next+" CASCADE")
	return errors.Join(err, end())
}

func (s pgSuccessor) open(ctx context.Context, o Options, schema int64) (*DB, error) {
	conn, _, next, end, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+next)
	if err := errors.Join(err, end()); err != nil {
		return nil, fmt.Errorf("make room for the restored tables: the database must belong to the user: %w", err)
	}
	o.schema = next
	return open(ctx, s.url, o, schema)
}

// adopt moves the tables in one transaction.
func (s pgSuccessor) adopt(ctx context.Context, o Options) (v snapshot.Version, err error) {
	conn, present, next, end, err := s.connect(ctx)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, end()) }() // and with it the lock
	has := func(table string) (yes bool, err error) {
		err = conn.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", table).Scan(&yes)
		return yes, err
	}
	if ready, err := has(next + ".meta"); err != nil || !ready {
		return v, errors.Join(err, ErrNotPrepared)
	}
	if err := seizePG(ctx, conn); err != nil {
		return v, err
	}
	if used, err := has(present + ".goose_db_version"); err != nil {
		return v, err
	} else if used {
		var have int64
		if err := conn.QueryRowContext(ctx, "SELECT COALESCE(max(version_id), 0) FROM "+present+".goose_db_version").Scan(&have); err != nil {
			return v, err
		}
		if have > latestSchema { // it has tables that we do not know
			return v, fmt.Errorf("%w: its schema is %d; restore into an empty database", ErrNewer, have)
		}
	}
	t, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return v, err
	}
	defer t.Rollback() // nothing after the commit
	if v, err = succeedPG(ctx, t, present, next, o.Now().Unix()); err != nil {
		return v, err
	}
	return v, t.Commit()
}

// succeedPG gives the successor its epoch and moves its tables.
func succeedPG(ctx context.Context, t *sql.Tx, present, next string, now int64) (v snapshot.Version, err error) {
	var past former
	var exists bool
	for table, q := range map[string]struct {
		text string
		into any
	}{
		"meta":   {"SELECT COALESCE(max(epoch), 0) FROM " + present + ".meta", &past.epoch},
		"shared": {"SELECT count(*) > 0 FROM " + present + ".shared WHERE name = '" + sharedJoined + "'", &past.joined},
	} {
		if err := t.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", present+"."+table).Scan(&exists); err != nil {
			return v, err
		}
		if !exists {
			continue
		}
		if err := t.QueryRowContext(ctx, q.text).Scan(q.into); err != nil {
			return v, err
		}
	}
	var epoch, seq int64
	if err := t.QueryRowContext(ctx, "SELECT epoch, seq FROM "+next+".meta WHERE id = 1").Scan(&epoch, &seq); err != nil {
		return v, err
	}
	epoch = nextEpoch(epoch, past.epoch, now)
	if _, err := t.ExecContext(ctx, "UPDATE "+next+".meta SET epoch = $1 WHERE id = 1", epoch); err != nil {
		return v, err
	}
	if past.joined {
		if _, err := t.ExecContext(ctx, "INSERT INTO "+next+".shared (name, value) VALUES ($1, 'yes') ON CONFLICT (name) DO NOTHING", sharedJoined); err != nil {
			return v, err
		}
	}
	if err := t.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", present+".members").Scan(&exists); err != nil {
		return v, err
	}
	if exists {
		if _, err := t.ExecContext(ctx, "INSERT INTO "+next+".members AS m (id, node, roles, joined, withdrawn) SELECT id, node, roles, joined, withdrawn FROM "+present+
			".members ON CONFLICT (id) DO UPDATE SET withdrawn = GREATEST(m.withdrawn, excluded.withdrawn)"); err != nil {
			return v, err
		}
	}
	tables := append(slices.Clone(savedTables), "audit_sweep", "leases", "gateways", "join_tokens", "goose_db_version")
	var moves []string
	for _, name := range tables {
		moves = append(moves, "DROP TABLE IF EXISTS "+present+"."+name)
	}
	moves = append(moves, "DROP FUNCTION IF EXISTS "+present+".cardea_append_only()")
	for _, name := range tables {
		moves = append(moves, "ALTER TABLE "+next+"."+name+" SET SCHEMA "+present)
	}
	moves = append(moves, "ALTER FUNCTION "+next+".cardea_append_only() SET SCHEMA "+present,
		"DROP SCHEMA "+next+" CASCADE", postgresDialect.notify)
	for _, q := range moves {
		if _, err := t.ExecContext(ctx, q); err != nil {
			return v, fmt.Errorf("%.60s: %w", q, err)
		}
	}
	return snapshot.Version{Epoch: uint64(epoch), Seq: uint64(seq)}, nil
}

// Every process that has a store open holds a shared lock of its schema; one
// that replaces the store holds it alone, and whoever opens it then waits.
const (
	openLock  = 0x63617264
	lockOpen  = "SELECT pg_advisory_lock_shared($1, hashtext(current_schema()))"
	lockAlone = "SELECT pg_try_advisory_lock($1, hashtext(current_schema()))"
	lockCount = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = $1::bigint::oid
		AND objid = (hashtext(current_schema())::bigint & 4294967295)::oid AND objsubid = 2
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
)

// seizePG takes the lock alone. A process that has just ended may hold it for a
// moment longer.
func seizePG(ctx context.Context, conn *sql.Conn) error {
	for try := range 50 {
		var got bool
		if err := conn.QueryRowContext(ctx, lockAlone, int64(openLock)).Scan(&got); err != nil {
			return err
		}
		if got {
			return nil
		}
		select {
		case <-time.After(min(time.Duration(try+1)*10*time.Millisecond, 100*time.Millisecond)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var n int
	if err := conn.QueryRowContext(ctx, lockCount, int64(openLock)).Scan(&n); err != nil {
		return err
	}
	return fmt.Errorf("%w: %d of them; stop the other nodes with the control or identity role first", ErrInUse, n)
}

// Others counts the other processes that have the database open. On SQLite
// none is known of.
func (d *DB) Others(ctx context.Context) (int, error) {
	if d.dial != postgresDialect {
		return 0, nil
	}
	var n int
	if err := d.one(ctx, lockCount, []any{int64(openLock)}, &n); err != nil {
		return 0, fmt.Errorf("count processes: %w", err)
	}
	return max(0, n-1), nil
}
