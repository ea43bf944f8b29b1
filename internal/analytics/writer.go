package analytics

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cardea-apim/cardea/internal/usage"
)

// Bounds of one batch and of one transaction.
const (
	maxGroup    = 32      // batches committed together
	maxText     = 2048    // bytes of a stored path, user agent or name
	maxAhead    = 10_000  // batches of one boot held beyond a gap
	maxDims     = 200_000 // keys remembered by the writer
	pruneEvery  = time.Minute
	sourcesKept = 30 * 24 * time.Hour
)

// ErrClosed says that the store has been closed.
var ErrClosed = errors.New("analytics is closed")

// ErrBatch says that a batch can never be stored.
var ErrBatch = errors.New("batch is malformed")

// job is one thing the writer does: store a batch, or prune.
type job struct {
	batch *usage.Batch
	prune bool
	done  chan error
}

// Store keeps a batch; it returns after the commit. A batch of a number that is
// stored already is ignored, in whatever order batches arrive, so sending again
// is safe. ErrBatch means that sending again is also useless.
func (d *DB) Store(ctx context.Context, b usage.Batch) error {
	if b.Gateway == "" || b.Boot == "" || b.Seq == 0 || b.Seq > math.MaxInt64 || len(b.Gateway) > 255 || len(b.Boot) > 255 {
		return fmt.Errorf("%w: gateway, boot and seq are required", ErrBatch)
	}
	return d.do(ctx, &job{batch: &b, done: make(chan error, 1)})
}

func (d *DB) do(ctx context.Context, j *job) error {
	select {
	case d.jobs <- j:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.quit:
		return ErrClosed
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		select {
		case err := <-j.done:
			return err
		default:
			return ErrClosed
		}
	}
}

// run is the writer: whatever waits is committed together, then answered.
func (d *DB) run() {
	defer close(d.done)
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		select {
		case j := <-d.jobs:
			group := []*job{j}
			for len(group) < maxGroup && len(d.jobs) > 0 {
				group = append(group, <-d.jobs)
			}
			d.commit(group)
		case <-t.C:
			d.commit([]*job{{prune: true, done: make(chan error, 1)}})
		case <-d.quit:
			for len(d.jobs) > 0 {
				d.commit([]*job{<-d.jobs})
			}
			return
		}
	}
}

func (d *DB) commit(group []*job) {
	var batches []*job
	for _, j := range group {
		if j.prune {
			j.done <- d.note(d.prune())
		} else {
			batches = append(batches, j)
		}
	}
	if len(batches) == 0 {
		return
	}
	err := d.note(d.store(batches))
	if err == nil || len(batches) == 1 {
		for _, j := range batches {
			j.done <- err
		}
		return
	}
	for _, j := range batches { // one that fails must not hold up the others
		j.done <- d.note(d.store([]*job{j}))
	}
}

// note keeps the latest outcome for Health and logs when it changes.
func (d *DB) note(err error) error {
	before := d.Health()
	if err != nil {
		d.failed.Store(&err)
		if before == nil {
			d.o.Log.Error("analytics cannot write", "err", err)
		}
		return err
	}
	d.failed.Store(nil)
	if before != nil {
		d.o.Log.Info("analytics writes again")
	}
	return nil
}

// cell is what one transaction adds to one row of a roll-up.
type cell struct {
	n, in, out       uint64
	gateway, backend hist
}

func (x *cell) add(c *usage.Counter) {
	x.n, x.in, x.out = plus(x.n, c.Count), plus(x.in, c.BytesIn), plus(x.out, c.BytesOut)
	x.gateway.add(&c.Gateway)
	x.backend.add(&c.Backend)
}

type cellKey struct {
	bucket, dim int64
}

func (d *DB) store(group []*job) error {
	tx, err := d.write.Begin()
	if err != nil {
		return fmt.Errorf("store usage: %w", err)
	}
	defer tx.Rollback()
	w := &writing{d: d, tx: tx, trends: map[trendKey]*trendCell{}, made: map[usage.CounterKey]int64{}, stmts: map[string]*sql.Stmt{}}
	for i := range w.cells {
		w.cells[i] = map[cellKey]*cell{}
	}
	var stored, repeated, dropped uint64
	for _, j := range group {
		fresh, err := w.first(j.batch)
		if err == nil && fresh {
			err = w.batch(j.batch)
			stored++
			dropped += j.batch.Dropped
		} else if err == nil {
			repeated++
		}
		if err != nil {
			return fmt.Errorf("store batch %d of %s: %w", j.batch.Seq, j.batch.Gateway, err)
		}
	}
	if err := w.flush(); err != nil {
		return fmt.Errorf("store roll-ups: %w", err)
	}
	if dropped > 0 {
		if err := w.exec(`INSERT INTO tally VALUES ('dropped', ?) ON CONFLICT DO UPDATE SET n = n + excluded.n`, int64(dropped)); err != nil {
			return fmt.Errorf("store tally: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("store usage: %w", err)
	}
	if len(d.dims) > maxDims {
		clear(d.dims)
	}
	for k, id := range w.made {
		d.dims[k] = id
	}
	d.batches.Add(stored)
	d.repeated.Add(repeated)
	d.dropped.Add(dropped)
	return nil
}

// writing is one transaction.
type writing struct {
	d      *DB
	tx     *sql.Tx
	cells  [3]map[cellKey]*cell // minute, hour, day
	trends map[trendKey]*trendCell
	made   map[usage.CounterKey]int64
	stmts  map[string]*sql.Stmt
}

func (w *writing) stmt(q string) (*sql.Stmt, error) {
	if s := w.stmts[q]; s != nil {
		return s, nil
	}
	s, err := w.tx.Prepare(q)
	if err == nil {
		w.stmts[q] = s
	}
	return s, err
}

func (w *writing) exec(q string, args ...any) error {
	s, err := w.stmt(q)
	if err == nil {
		_, err = s.Exec(args...)
	}
	return err
}

func (w *writing) scan(q string, into any, args ...any) error {
	s, err := w.stmt(q)
	if err == nil {
		err = s.QueryRow(args...).Scan(into)
	}
	return err
}

// first reports whether a batch has not been stored yet, and notes that it is.
func (w *writing) first(b *usage.Batch) (bool, error) {
	var low, held int64
	err := w.scan(`SELECT low FROM source WHERE gateway = ? AND boot = ?`, &low, b.Gateway, b.Boot)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, err
	}
	seq := int64(b.Seq)
	if seq <= low {
		return false, nil
	}
	if err := w.scan(`SELECT count(*) FROM ahead WHERE gateway = ? AND boot = ? AND seq = ?`, &held, b.Gateway, b.Boot, seq); err != nil || held > 0 {
		return false, err
	}
	if seq > low+maxAhead {
		// Only after this file was lost: what is missing below will not come any more.
		low = seq - maxAhead/2
		if err := w.exec(`DELETE FROM ahead WHERE gateway = ? AND boot = ? AND seq <= ?`, b.Gateway, b.Boot, low); err != nil {
			return false, err
		}
	}
	if seq == low+1 {
		low = seq
		for {
			var next int64
			err := w.scan(`DELETE FROM ahead WHERE gateway = ? AND boot = ? AND seq = ? RETURNING seq`, &next, b.Gateway, b.Boot, low+1)
			if errors.Is(err, sql.ErrNoRows) {
				break
			}
			if err != nil {
				return false, err
			}
			low = next
		}
	} else if err := w.exec(`INSERT INTO ahead VALUES (?, ?, ?)`, b.Gateway, b.Boot, seq); err != nil {
		return false, err
	}
	return true, w.exec(`INSERT INTO source VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET low = excluded.low, updated = excluded.updated`,
		b.Gateway, b.Boot, low, w.d.o.Now().Unix())
}

func (w *writing) batch(b *usage.Batch) error {
	for i := range b.Counters {
		c := &b.Counters[i]
		dim, err := w.dim(c.CounterKey)
		if err != nil {
			return err
		}
		at := c.Minute * 60
		for i, size := range steps {
			k := cellKey{floor(at, size), dim}
			x := w.cells[i][k]
			if x == nil {
				x = &cell{}
				w.cells[i][k] = x
			}
			x.add(c)
		}
		w.trend(c)
	}
	for i := range b.Calls {
		c := &b.Calls[i]
		if err := w.exec(`INSERT INTO call (time, ref, tenant, api, api_name, api_version, application, user, operation, verb, path, status, code,
			key_type, gateway, backend, bytes_in, bytes_out, client, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			c.Time.UnixMicro(), cut(c.ID), cut(c.Tenant), cut(c.API), cut(c.APIName), cut(c.APIVersion), cut(c.Application), cut(c.User),
			cut(c.Operation), cut(c.Verb), cut(c.Path), c.Status, c.Code, cut(c.KeyType), c.Gateway.Microseconds(), c.Backend.Microseconds(),
			c.BytesIn, c.BytesOut, cut(c.Client), cut(c.UserAgent)); err != nil {
			return err
		}
	}
	for i := range b.Decisions {
		x := &b.Decisions[i]
		doc, err := json.Marshal(x)
		if err != nil {
			return err
		}
		if len(doc) > 64<<10 {
			continue // the id still tells the rule
		}
		if err := w.exec(`INSERT INTO decision VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, cut(x.ID), x.Time.UnixMicro(), cut(x.Tenant), string(doc)); err != nil {
			return err
		}
	}
	return nil
}

func cut(s string) string { return s[:min(len(s), maxText)] }

// steps are the lengths of the roll-ups in seconds; tables are their names.
var (
	steps  = [3]int64{60, 3600, 86400}
	tables = [3]string{"minute", "hour", "day"}
)

func floor(t, size int64) int64 {
	r := t % size
	if r < 0 {
		r += size
	}
	return t - r
}

// dim is the row of a counter's key.
func (w *writing) dim(k usage.CounterKey) (int64, error) {
	k.Minute = 0
	for _, s := range []*string{&k.Tenant, &k.API, &k.APIName, &k.APIVersion, &k.Application, &k.Operation, &k.Verb, &k.KeyType, &k.Environment} {
		*s = cut(*s)
	}
	if id, ok := w.d.dims[k]; ok {
		return id, nil
	}
	if id, ok := w.made[k]; ok {
		return id, nil
	}
	var id int64
	// The update that changes nothing makes RETURNING give the row that exists.
	err := w.scan(`INSERT INTO dim (tenant, api, api_name, api_version, application, operation, verb, status, code, key_type, environment)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET tenant = excluded.tenant RETURNING id`, &id,
		k.Tenant, k.API, k.APIName, k.APIVersion, k.Application, k.Operation, k.Verb, k.Status, k.Code, k.KeyType, k.Environment)
	if err == nil {
		w.made[k] = id
	}
	return id, err
}

// whole is a count as SQLite keeps it, with room for sums.
func whole(n uint64) int64 { return int64(min(n, 1<<52)) }

func (w *writing) flush() error {
	for i, cells := range w.cells {
		q := `INSERT INTO ` + tables[i] + ` VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
			n = n + excluded.n, bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + excluded.bytes_out,
			gateway = hist_merge(gateway, excluded.gateway), backend = hist_merge(backend, excluded.backend)`
		for k, c := range cells {
			if err := w.exec(q, k.bucket, k.dim, whole(c.n), whole(c.in), whole(c.out), c.gateway.encode(), c.backend.encode()); err != nil {
				return err
			}
		}
	}
	return w.flushTrends()
}
