package analytics

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"github.com/cardea-apim/cardea/internal/usage"
)

// A series over time is asked for far more often than it is filtered, and has
// many steps: to read every key of each step only to add them up is slow. The
// table trend holds what a series of a tenant or of one API needs, ready added.

// trendKey is a row of trend; api is empty for the whole tenant.
type trendKey struct {
	step, bucket int64
	tenant, api  string
}

// trendCell is what one transaction adds to a row of trend.
type trendCell struct {
	cell
	errors, refused uint64
}

// trend notes a counter for its tenant and, where it has one, its API.
func (w *writing) trend(c *usage.Counter) {
	tenant, api := cut(c.Tenant), cut(c.API)
	for _, size := range steps {
		k := trendKey{size, floor(c.Minute*60, size), tenant, ""}
		w.trendOf(k).add(c)
		if k.api = api; api != "" {
			w.trendOf(k).add(c)
		}
	}
}

func (w *writing) trendOf(k trendKey) *trendCell {
	x := w.trends[k]
	if x == nil {
		x = &trendCell{}
		w.trends[k] = x
	}
	return x
}

func (x *trendCell) add(c *usage.Counter) {
	x.cell.add(c)
	if c.Status >= 400 {
		x.errors = plus(x.errors, c.Count)
		if c.Code > 0 {
			x.refused = plus(x.refused, c.Count)
		}
	}
}

func (w *writing) flushTrends() error {
	const q = `INSERT INTO trend VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
		n = n + excluded.n, errors = errors + excluded.errors, refused = refused + excluded.refused,
		bytes_in = bytes_in + excluded.bytes_in, bytes_out = bytes_out + excluded.bytes_out,
		gateway = hist_merge(gateway, excluded.gateway), backend = hist_merge(backend, excluded.backend)`
	for k, x := range w.trends {
		if err := w.exec(q, k.step, k.bucket, k.tenant, k.api, whole(x.n), whole(x.errors), whole(x.refused), whole(x.in), whole(x.out),
			x.gateway.encode(), x.backend.encode()); err != nil {
			return err
		}
	}
	return nil
}

// plain reports whether a query selects nothing but a tenant and perhaps an API.
func (q *Query) plain() bool {
	return q.Application == "" && q.Operation == "" && q.Verb == "" && q.Status == 0 && q.Code == 0 &&
		q.KeyType == "" && q.Environment == "" && q.Applications == nil
}

// trend reads the steps of a plain query: one row of each, found by its key.
func (d *DB) trend(ctx context.Context, q *Query, size, lo, hi int64) (map[string]*tally, error) {
	rows, err := d.read.QueryContext(ctx, `WITH RECURSIVE at(bucket) AS (SELECT ? WHERE ? < ? UNION ALL SELECT bucket + ? FROM at WHERE bucket + ? < ?)
		SELECT t.bucket, '', '', '', t.n, t.errors, t.refused, t.bytes_in, t.bytes_out, t.gateway, t.backend
		FROM at CROSS JOIN trend t ON t.step = ? AND t.bucket = at.bucket AND t.tenant = ? AND t.api = ?`,
		lo, lo, hi, size, size, hi, size, q.Tenant, q.API)
	if err != nil {
		return nil, fmt.Errorf("query analytics: %w", err)
	}
	out := map[string]*tally{}
	if err := collect(rows, new(sync.Mutex), out); err != nil {
		return nil, fmt.Errorf("query analytics: %w", err)
	}
	return out, nil
}

// series adds up a query by step: from trend where that says enough.
func (d *DB) series(ctx context.Context, q *Query, at int, lo, hi int64) (map[int64]*tally, error) {
	var groups map[string]*tally
	var err error
	if q.plain() {
		groups, err = d.trend(ctx, q, steps[at], lo, hi)
	} else {
		groups, err = d.gather(ctx, q, []segment{{tables[at], lo, hi}}, "t.bucket")
	}
	if err != nil {
		return nil, err
	}
	out := make(map[int64]*tally, len(groups))
	for k, t := range groups {
		bucket, err := strconv.ParseInt(k, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("query analytics: %w", err)
		}
		out[bucket] = t
	}
	return out, nil
}
