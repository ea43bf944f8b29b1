package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/cardea-apim/cardea/internal/fault"
)

// pgEngine runs every logical transaction as one of the server's, again after
// a serialization failure or a deadlock.
type pgEngine struct {
	d    *DB
	db   *sql.DB
	down atomic.Pointer[error] // why the last write did not reach the server
}

const pgTries = 24

// openPostgres opens a pool, and in the background one connection that listens
// for the commits of other processes until bg ends.
func (d *DB) openPostgres(ctx, bg context.Context, url string, schema int64) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	// An acknowledged write is on the server's disk, whatever the role's default.
	cfg.RuntimeParams["synchronous_commit"] = "on"
	cfg.RuntimeParams["application_name"] = "cardea"
	cfg.RuntimeParams["idle_in_transaction_session_timeout"] = "60000"
	if d.opt.schema != "" {
		cfg.RuntimeParams["search_path"] = d.opt.schema
	}
	d.dial = postgresDialect
	// Held as long as the store is open, so that nobody replaces it meanwhile.
	ear, err := listening(ctx, cfg)
	if err != nil {
		return fmt.Errorf("open store: %w", d.dial.fault(err))
	}
	d.pool = stdlib.OpenDB(*cfg)
	conns := d.opt.Readers
	if conns == 0 {
		conns = 16
	}
	d.pool.SetMaxOpenConns(conns)
	d.pool.SetMaxIdleConns(conns)
	d.pool.SetConnMaxIdleTime(5 * time.Minute)
	d.read = &stmts{on: d.pool, off: true}
	if err := migrate(ctx, d.dial, d.pool, schema, d.opt.Version); err != nil {
		d.pool.Close()
		hangUp(ctx, ear)
		return err
	}
	d.eng = &pgEngine{d: d, db: d.pool}
	d.bg.Go(func() { d.listen(bg, cfg, ear) })
	return nil
}

func (e *pgEngine) run(ctx context.Context, strict bool, fn func(context.Context, *tx) error) error {
	iso := sql.LevelReadCommitted
	if strict {
		iso = sql.LevelSerializable
	}
	var err error
	for try := range pgTries {
		if try > 0 {
			e.d.stats.retried.Add(1)
			pause := time.Duration(rand.Int64N(int64(time.Millisecond) << min(try, 6)))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		var again bool
		if again, err = e.once(ctx, iso, fn); !again {
			break
		}
	}
	if err == nil {
		e.d.stats.writes.Add(1)
		e.d.stats.commits.Add(1)
		e.down.Store(nil)
		return nil
	}
	e.d.stats.failed.Add(1)
	c := e.d.dial.classify(err)
	if c.busy {
		e.down.Store(&err)
	}
	if c.retry {
		return fault.Busy.With("too many conflicting writes").Because(err)
	}
	return e.d.dial.fault(err)
}

func (e *pgEngine) once(ctx context.Context, iso sql.IsolationLevel, fn func(context.Context, *tx) error) (again bool, err error) {
	conn, err := e.connection(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close() // back to the pool
	sqlTx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: iso})
	if err != nil {
		return false, fmt.Errorf("begin: %w", err)
	}
	t := &tx{q: sqlTx, d: e.d}
	ok := false
	defer func() {
		if !ok {
			t.rollback(0)
			_ = sqlTx.Rollback() // after a lost connection or a failed commit there is none to roll back
		}
	}()
	err = fn(context.WithValue(ctx, txKey{e.d}, t), t)
	if err == nil && (t.signals || len(t.changes) > 0) {
		_, err = t.exec(ctx, e.d.dial.notify)
	}
	if err == nil {
		err = sqlTx.Commit()
	}
	if err != nil {
		return e.d.dial.classify(err).retry, err
	}
	ok = true
	t.committed(ctx)
	return false, nil
}

// connection waits for one of the pool, at most as long as a write waits for its turn.
func (e *pgEngine) connection(ctx context.Context) (*sql.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, e.d.opt.Wait)
	defer cancel()
	conn, err := e.db.Conn(wait)
	switch {
	case err == nil:
		return conn, nil
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return nil, fault.Busy.Because(fmt.Errorf("no connection of the pool was free for %s", e.d.opt.Wait))
	}
	return nil, fmt.Errorf("begin: %w", err)
}

func (e *pgEngine) healthy() error {
	if p := e.down.Load(); p != nil {
		return *p
	}
	return nil
}

func (e *pgEngine) close() error { return nil } // the pool is closed by DB

// listening is a connection that hears of the commits of other processes and
// holds the shared lock of an open store.
func listening(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	_, err = conn.Exec(ctx, lockOpen, int32(openLock))
	if err == nil {
		_, err = conn.Exec(ctx, "LISTEN cardea")
	}
	if err != nil {
		hangUp(ctx, conn)
		return nil, fmt.Errorf("listen: %w", err)
	}
	return conn, nil
}

func hangUp(ctx context.Context, conn *pgx.Conn) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(end) // it only listened
}

// listen signals commits of other processes. After a lost connection it
// signals once more, since some may have been missed.
func (d *DB) listen(ctx context.Context, cfg *pgx.ConnConfig, ear *pgx.Conn) {
	for pause := 100 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		err := error(nil)
		if ear == nil {
			ear, err = listening(ctx, cfg)
		}
		if err == nil {
			pause = 50 * time.Millisecond
			err = d.hear(ctx, ear)
			hangUp(ctx, ear)
			ear = nil
		}
		if ctx.Err() != nil {
			return
		}
		d.opt.Log.WarnContext(ctx, "lost the database's notifications", "err", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	if ear != nil {
		hangUp(ctx, ear)
	}
}

// hear signals until the connection is lost or ctx ends.
func (d *DB) hear(ctx context.Context, ear *pgx.Conn) error {
	for {
		d.wake.signal()
		if _, err := ear.WaitForNotification(ctx); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
	}
}
