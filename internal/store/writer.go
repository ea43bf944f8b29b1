package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
)

// writer is SQLite's one writing connection with group commit: logical
// transactions run one after another, each in a savepoint, inside one
// transaction of the file; they are acknowledged together once its commit is
// synced. A transaction runs in its caller's goroutine while it holds the turn.
type writer struct {
	d      *DB
	db     *sql.DB
	conn   *sql.Conn
	st     *stmts
	path   string
	queue  chan *turn
	stop   chan struct{} // closed to refuse new turns
	done   chan struct{} // closed when the loop has ended
	once   sync.Once
	broken atomic.Pointer[error]
	commit func(context.Context) error // replaced by tests to fail
}

// turn is one caller waiting to write.
type turn struct {
	state  atomic.Int32 // waiting, then taken or left
	begin  chan *tx
	end    chan outcome
	result chan error
}

const (
	waiting int32 = iota
	taken
	left
)

// outcome is how a turn ended: abort tells that SQLite gave up the whole
// transaction, of which the turn was only a part.
type outcome struct {
	ok    bool
	abort error
}

const (
	maxGroup  = 256
	groupTime = 25 * time.Millisecond
)

var errClosed = errors.New("the store is closed")

func newWriter(ctx context.Context, d *DB, db *sql.DB, path string) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	w := &writer{
		d: d, db: db, conn: conn, st: &stmts{on: conn}, path: path,
		queue: make(chan *turn, maxGroup), stop: make(chan struct{}), done: make(chan struct{}),
	}
	w.commit = func(ctx context.Context) error {
		_, err := w.st.ExecContext(ctx, "COMMIT")
		return err
	}
	go w.loop(context.WithoutCancel(ctx))
	return w, nil
}

func (w *writer) loop(ctx context.Context) {
	defer close(w.done)
	for {
		select {
		case t := <-w.queue:
			w.group(ctx, t)
		case <-w.stop:
			for { // whoever got in before the stop is served
				select {
				case t := <-w.queue:
					w.group(ctx, t)
				default:
					return
				}
			}
		}
	}
}

// group serves a turn and all that queue behind it with one commit.
func (w *writer) group(ctx context.Context, t *turn) {
	if err := w.healthy(); err != nil {
		if t.state.CompareAndSwap(waiting, taken) {
			t.refuse(fault.Busy.With("the store has stopped acknowledging writes").Because(err))
		}
		return
	}
	if _, err := w.st.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		if t.state.CompareAndSwap(waiting, taken) {
			t.refuse(w.d.dial.fault(err))
		}
		return
	}
	var ran, refused []*turn // refused ended in an error of their own
	var abort error
	start := time.Now()
	for t != nil {
		if t.state.CompareAndSwap(waiting, taken) {
			var ended ending
			switch ended, abort = w.serve(ctx, t); ended {
			case kept:
				ran = append(ran, t)
			case undone:
				refused = append(refused, t)
			case told:
			}
			if abort != nil {
				break
			}
		}
		t = nil
		if len(ran) < maxGroup && time.Since(start) < groupTime {
			select {
			case t = <-w.queue:
			default:
			}
		}
	}
	if abort == nil && len(ran) == 0 {
		_, abort = w.st.ExecContext(ctx, "ROLLBACK") // nothing to sync
		if abort == nil {
			release(refused, nil)
			return
		}
	}
	if abort == nil {
		if abort = w.commit(ctx); abort != nil && !w.d.dial.classify(abort).full {
			// What reached the disk is unknown now, so nothing more is acknowledged.
			err := fmt.Errorf("commit to %s: %w", w.path, abort)
			w.broken.CompareAndSwap(nil, &err)
			w.d.opt.Log.ErrorContext(ctx, "store stopped acknowledging writes", "path", w.path, "err", abort)
		}
	}
	if abort != nil {
		// Best effort: the errors that bring us here mostly rolled back already.
		_, _ = w.conn.ExecContext(ctx, "ROLLBACK")
		release(ran, w.d.dial.fault(abort))
		release(refused, w.d.dial.fault(abort))
		return
	}
	w.d.stats.commits.Add(1)
	if n := int64(len(ran)); n > w.d.stats.largest.Load() {
		w.d.stats.largest.Store(n)
	}
	release(ran, nil)
	release(refused, nil)
}

func release(turns []*turn, err error) {
	for _, t := range turns {
		t.result <- err
	}
}

// ending says how a turn ended.
type ending int

const (
	told   ending = iota // its result was sent
	kept                 // its rows are part of the group
	undone               // it failed and its rows are gone
)

// serve gives the turn to its caller and waits for it to end. A failed turn is
// released with the group and not before: what it failed on may be a row of the
// group (a name just taken), which others can read only after the commit.
func (w *writer) serve(ctx context.Context, t *turn) (ended ending, abort error) {
	if _, err := w.st.ExecContext(ctx, "SAVEPOINT turn"); err != nil {
		t.refuse(w.d.dial.fault(err))
		return told, err
	}
	t.begin <- &tx{q: w.st, d: w.d}
	out := <-t.end
	if out.abort != nil {
		t.result <- nil // the caller knows its own error
		return told, out.abort
	}
	if !out.ok {
		_, err := w.st.ExecContext(ctx, "ROLLBACK TO turn")
		if err == nil {
			_, err = w.st.ExecContext(ctx, "RELEASE turn")
		}
		return undone, err
	}
	if _, err := w.st.ExecContext(ctx, "RELEASE turn"); err != nil {
		t.result <- w.d.dial.fault(err)
		return told, err
	}
	return kept, nil
}

func (t *turn) refuse(err error) {
	close(t.begin)
	t.result <- err
}

// run waits for the turn, runs fn and waits for the commit.
func (w *writer) run(ctx context.Context, _ bool, fn func(context.Context, *tx) error) error {
	t := &turn{begin: make(chan *tx, 1), end: make(chan outcome, 1), result: make(chan error, 1)}
	w.d.stats.waiting.Add(1)
	x, err := w.enter(ctx, t)
	w.d.stats.waiting.Add(-1)
	if err != nil {
		w.d.stats.failed.Add(1)
		return err
	}
	if err := w.hold(ctx, t, x, fn); err != nil {
		w.d.stats.failed.Add(1)
		return err
	}
	if err := <-t.result; err != nil {
		x.rollback(0)
		w.d.stats.failed.Add(1)
		return err
	}
	w.d.stats.writes.Add(1)
	x.committed(ctx)
	return nil
}

func (w *writer) enter(ctx context.Context, t *turn) (*tx, error) {
	late := time.NewTimer(w.d.opt.Wait)
	defer late.Stop()
	select {
	case <-w.stop:
		return nil, errClosed
	default:
	}
	select {
	case w.queue <- t:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late.C:
		return nil, fault.Busy.With("too many writes are waiting")
	case <-w.stop:
		return nil, errClosed
	}
	var err error
	select {
	case x, ok := <-t.begin:
		if !ok {
			return nil, <-t.result
		}
		return x, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-late.C:
		err = fault.Busy.With("too many writes are waiting")
	case <-w.done: // the loop ended between the stop and our entering
		err = errClosed
	}
	if t.state.CompareAndSwap(waiting, left) {
		return nil, err
	}
	x, ok := <-t.begin
	if !ok {
		return nil, <-t.result
	}
	return x, nil
}

// hold runs fn and gives the turn back, also when fn panics or ends its goroutine.
func (w *writer) hold(ctx context.Context, t *turn, x *tx, fn func(context.Context, *tx) error) (err error) {
	out := outcome{}
	defer func() {
		if !out.ok {
			x.rollback(0)
		}
		t.end <- out
		if !out.ok {
			// The rows are gone, and those it failed on are there, when the
			// caller hears of the error.
			if lost := <-t.result; lost != nil {
				err = lost
			}
		}
	}()
	err = fn(context.WithValue(ctx, txKey{w.d}, x), x)
	if err != nil {
		if w.d.dial.classify(err).abort {
			out.abort = err
		}
		return w.d.dial.fault(err)
	}
	out.ok = true
	return nil
}

func (w *writer) healthy() error {
	if p := w.broken.Load(); p != nil {
		return *p
	}
	return nil
}

func (w *writer) close() error {
	w.once.Do(func() { close(w.stop) })
	<-w.done
	return errors.Join(w.st.close(), w.conn.Close(), w.db.Close())
}

// bytes is the size of the database file and its write-ahead log.
func (w *writer) bytes() int64 {
	var n int64
	for _, f := range []string{w.path, w.path + "-wal"} {
		if fi, err := os.Stat(f); err == nil {
			n += fi.Size()
		}
	}
	return n
}
