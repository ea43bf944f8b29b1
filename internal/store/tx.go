package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/cardea-apim/cardea/internal/apim"
)

// querier is a connection, a pool or a transaction, as far as SQL goes.
type querier interface {
	ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

// tx is one logical transaction. It is used by one goroutine at a time.
type tx struct {
	q       querier
	d       *DB
	changes []int64  // change rows written
	undo    []func() // puts the caller's values back when the rows are rolled back
	signals bool     // wake the followers of the change log after the commit
	depth   int
}

func (t *tx) exec(ctx context.Context, q string, args ...any) (sql.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return t.q.ExecContext(t.d.dial.calm(ctx), q, args...)
}

func (t *tx) query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return t.q.QueryContext(t.d.dial.calm(ctx), q, args...)
}

// affect runs a statement and returns how many rows it touched.
func (t *tx) affect(ctx context.Context, q string, args ...any) (int64, error) {
	res, err := t.exec(ctx, q, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (t *tx) rollback(mark int) {
	for i := len(t.undo) - 1; i >= mark; i-- {
		t.undo[i]()
	}
	t.undo = t.undo[:mark]
}

// committed tells who waits for changes.
func (t *tx) committed(ctx context.Context) {
	if c := apim.ChangesFrom(ctx); c != nil && len(t.changes) > 0 {
		c.Add(t.changes...)
	}
	if t.signals || len(t.changes) > 0 {
		t.d.wake.signal()
	}
}

type txKey struct{ d *DB }

func (d *DB) txFrom(ctx context.Context) *tx {
	t, _ := ctx.Value(txKey{d}).(*tx)
	return t
}

// InTx runs fn in a transaction that commits, durably, if fn returns nil. It
// travels in the context given to fn: what is called with that context takes
// part, and an InTx inside joins. fn must be short, must not be shared among
// goroutines, and may be called again after a conflict on PostgreSQL, so it
// must not add to what it captured. A panic rolls back.
func (d *DB) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if d.txFrom(ctx) != nil {
		return fn(ctx)
	}
	return d.eng.run(ctx, true, func(ctx context.Context, _ *tx) error { return fn(ctx) })
}

// write is one statement or several that belong together: a transaction of its
// own, or inside one a savepoint, so that a refused write leaves nothing behind
// and the caller may go on.
func (d *DB) write(ctx context.Context, fn func(context.Context, *tx) error) error {
	t := d.txFrom(ctx)
	if t == nil {
		return d.eng.run(ctx, false, fn)
	}
	t.depth++
	defer func() { t.depth-- }()
	sp := fmt.Sprintf("w%d", t.depth)
	if _, err := t.exec(ctx, "SAVEPOINT "+sp); err != nil {
		return d.dial.fault(err)
	}
	undo, changes := len(t.undo), len(t.changes)
	err := fn(ctx, t)
	if err == nil {
		if _, err = t.exec(ctx, "RELEASE SAVEPOINT "+sp); err == nil {
			return nil
		}
	}
	t.rollback(undo)
	t.changes = t.changes[:changes]
	calm := context.WithoutCancel(ctx)
	if _, e := t.exec(calm, "ROLLBACK TO SAVEPOINT "+sp); e != nil {
		return errors.Join(d.dial.fault(err), e)
	}
	if _, e := t.exec(calm, "RELEASE SAVEPOINT "+sp); e != nil {
		return errors.Join(d.dial.fault(err), e)
	}
	return d.dial.fault(err)
}

// query reads inside the transaction of the context, or else from the pool.
func (d *DB) query(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if t := d.txFrom(ctx); t != nil {
		return t.query(ctx, q, args...)
	}
	return d.read.QueryContext(ctx, q, args...)
}

// one scans the only row of a query; sql.ErrNoRows when there is none.
func (d *DB) one(ctx context.Context, q string, args []any, dst ...any) error {
	rows, err := d.query(ctx, q, args...)
	if err != nil {
		return d.dial.fault(err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return d.dial.fault(err)
		}
		return sql.ErrNoRows
	}
	if err := rows.Scan(dst...); err != nil {
		return err
	}
	return rows.Close()
}

// each calls fn for every row of a query.
func (d *DB) each(ctx context.Context, q string, args []any, fn func(*sql.Rows) error) error {
	rows, err := d.query(ctx, q, args...)
	if err != nil {
		return d.dial.fault(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return d.dial.fault(err)
	}
	return rows.Close()
}

// stmts keeps statements prepared: compiling one costs SQLite more than
// running it. The number is bounded, since lists make statements of many forms.
type stmts struct {
	on interface {
		querier
		PrepareContext(ctx context.Context, q string) (*sql.Stmt, error)
	}
	mu   sync.RWMutex
	kept map[string]*sql.Stmt
	off  bool // the driver keeps them itself
}

const maxStmts = 400

func (s *stmts) get(ctx context.Context, q string) *sql.Stmt {
	if s.off {
		return nil
	}
	s.mu.RLock()
	st := s.kept[q]
	s.mu.RUnlock()
	if st != nil {
		return st
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.kept[q]; st != nil {
		return st
	}
	if len(s.kept) >= maxStmts {
		return nil
	}
	st, err := s.on.PrepareContext(ctx, q)
	if err != nil {
		return nil // running it unprepared reports the same error with more context
	}
	if s.kept == nil {
		s.kept = map[string]*sql.Stmt{}
	}
	s.kept[q] = st
	return st
}

// ExecContext runs a statement.
func (s *stmts) ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error) {
	if st := s.get(ctx, q); st != nil {
		return st.ExecContext(ctx, args...)
	}
	return s.on.ExecContext(ctx, q, args...)
}

// QueryContext runs a query.
func (s *stmts) QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error) {
	if st := s.get(ctx, q); st != nil {
		return st.QueryContext(ctx, args...)
	}
	return s.on.QueryContext(ctx, q, args...)
}

func (s *stmts) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, st := range s.kept {
		errs = append(errs, st.Close())
	}
	s.kept = nil
	return errors.Join(errs...)
}
