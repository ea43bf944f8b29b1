package analytics

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cardea-apim/cardea/internal/fault"
)

// Query selects counted calls of one tenant. Empty fields select everything;
// Applications, when not nil, keeps the answer to those.
type Query struct {
	Tenant       string
	From, To     time.Time
	API          string
	Application  string
	Operation    string
	Verb         string
	Status       int
	Code         int
	KeyType      string
	Environment  string
	Applications []string
}

// Latency is in microseconds; a percentile is right within 25 %, never too small.
type Latency struct {
	Mean uint64 `json:"mean"`
	P50  uint64 `json:"p50"`
	P95  uint64 `json:"p95"`
	P99  uint64 `json:"p99"`
}

// Sums are the counts of a selection.
type Sums struct {
	Requests uint64  `json:"requests"`
	Errors   uint64  `json:"errors"`  // answered with a status of 400 or more
	Refused  uint64  `json:"refused"` // of those, the ones the gateway itself made
	BytesIn  uint64  `json:"bytesIn"`
	BytesOut uint64  `json:"bytesOut"`
	Gateway  Latency `json:"gateway"` // time spent in the gateway
	Backend  Latency `json:"backend"` // time spent waiting for the backend
}

// Range is the time an answer covers: the one asked for, rounded outward to
// whole minutes, or to hours and days as far back as only those are kept.
type Range struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Totals is the answer to Totals.
type Totals struct {
	Range
	Sums
}

// Point is one step of a series.
type Point struct {
	Time time.Time `json:"time"`
	Sums
}

// Series is the answer to Series: steps in which nothing was counted are left out.
type Series struct {
	Range
	Step   string  `json:"step"`
	Points []Point `json:"points"`
}

// Group is one value of a dimension.
type Group struct {
	Key              string `json:"key"` // API id, application id, "VERB template", status or code
	API              string `json:"api,omitempty"`
	APIName          string `json:"apiName,omitempty"` // as it was when it was called
	APIVersion       string `json:"apiVersion,omitempty"`
	ApplicationName  string `json:"applicationName,omitempty"` // as it is now; empty when it is gone
	ApplicationOwner string `json:"applicationOwner,omitempty"`
	Sums
}

// Groups is the answer to By, largest first.
type Groups struct {
	Range
	Dimension string  `json:"dimension"`
	Groups    []Group `json:"groups"`
	More      bool    `json:"more"` // there are smaller ones
}

// tally is Sums in the making.
type tally struct {
	n, errors, refused, in, out uint64
	gateway, backend            hist
	api, name, version          string
}

func (t *tally) sums() Sums {
	return Sums{
		Requests: t.n, Errors: t.errors, Refused: t.refused, BytesIn: t.in, BytesOut: t.out,
		Gateway: t.gateway.latency(), Backend: t.backend.latency(),
	}
}

func (h *hist) latency() Latency {
	l := Latency{P50: h.quantile(0.5), P95: h.quantile(0.95), P99: h.quantile(0.99)}
	if n := h.count(); n > 0 {
		l.Mean = h.sum / n
	}
	return l
}

// segment is a stretch of time answered from one roll-up.
type segment struct {
	table  string
	lo, hi int64 // Unix seconds, hi exclusive
}

// cover splits a time into the fewest rows: whole days from the days, whole
// hours at their edges from the hours, the rest from the minutes.
func (d *DB) cover(from, to time.Time) (Range, []segment) {
	lo, hi := floor(from.Unix(), 60), ceil(to, 60)
	now := d.o.Now()
	// The edges of what is kept, a step later than pruning: never half a bucket.
	minutes := floor(now.Add(-d.o.KeepMinutes).Unix(), 3600) + 3600
	hours := floor(now.Add(-d.o.KeepHours).Unix(), 86400) + 86400
	for _, b := range []struct{ since, size int64 }{{minutes, 3600}, {hours, 86400}} {
		if lo < b.since {
			lo = floor(lo, b.size)
		}
		if hi < b.since {
			hi = -floor(-hi, b.size)
		}
	}
	r := Range{time.Unix(lo, 0).UTC(), time.Unix(hi, 0).UTC()}
	var out []segment
	var split func(level int, lo, hi int64)
	split = func(level int, lo, hi int64) {
		if lo >= hi {
			return
		}
		size := steps[level]
		a, b := -floor(-lo, size), floor(hi, size)
		switch {
		case level == 0:
			out = append(out, segment{tables[0], lo, hi})
		case a >= b:
			split(level-1, lo, hi)
		default:
			split(level-1, lo, a)
			out = append(out, segment{tables[level], a, b})
			split(level-1, b, hi)
		}
	}
	split(2, lo, hi)
	return r, out
}

func ceil(t time.Time, size int64) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return -floor(-s, size)
}

// where is the condition of a query on dim d.
func (q *Query) where() (string, []any) {
	cond, args := []string{"d.tenant = ?"}, []any{q.Tenant}
	for _, c := range []struct {
		col, val string
	}{{"api", q.API}, {"application", q.Application}, {"operation", q.Operation}, {"verb", q.Verb}, {"key_type", q.KeyType}, {"environment", q.Environment}} {
		if c.val != "" {
			cond, args = append(cond, "d."+c.col+" = ?"), append(args, c.val)
		}
	}
	if q.Status != 0 {
		cond, args = append(cond, "d.status = ?"), append(args, q.Status)
	}
	if q.Code != 0 {
		cond, args = append(cond, "d.code = ?"), append(args, q.Code)
	}
	if q.Applications != nil {
		marks := strings.TrimSuffix(strings.Repeat("?,", len(q.Applications)), ",")
		cond = append(cond, "d.application IN ("+marks+")")
		for _, a := range q.Applications {
			args = append(args, a)
		}
	}
	return strings.Join(cond, " AND "), args
}

// gather adds up the segments by the expression group.
func (d *DB) gather(ctx context.Context, q *Query, segs []segment, group string) (map[string]*tally, error) {
	cond, args := q.where()
	out := map[string]*tally{}
	var mu sync.Mutex
	names := "'', '', ''" // of what a group is of, where that is an API
	if strings.Contains(group, "d.api") {
		names = "max(d.api), max(d.api_name), max(d.api_version)"
	}
	work, ctx := errgroup.WithContext(ctx)
	for _, s := range pieces(segs) {
		work.Go(func() error { return d.gatherOne(ctx, s, group, names, cond, args, &mu, out) })
	}
	if err := work.Wait(); err != nil {
		return nil, fmt.Errorf("query analytics: %w", err)
	}
	return out, nil
}

// pieces cuts long segments of minutes, so that all cores read.
func pieces(segs []segment) []segment {
	const least = 60 // minutes worth a query
	var out []segment
	for _, s := range segs {
		n := min(int64(queryConns), (s.hi-s.lo)/60/least)
		if s.table != tables[0] || n < 2 {
			out = append(out, s)
			continue
		}
		each := -floor(-(s.hi-s.lo)/n, 60)
		for lo := s.lo; lo < s.hi; lo += each {
			out = append(out, segment{s.table, lo, min(lo+each, s.hi)})
		}
	}
	return out
}

func (d *DB) gatherOne(ctx context.Context, s segment, group, names, cond string, args []any, mu *sync.Mutex, out map[string]*tally) error {
	// CROSS JOIN: the roll-up is read once, in its order, whatever the planner
	// thinks of grouping by a column of dim.
	rows, err := d.read.QueryContext(ctx, `SELECT `+group+`, `+names+`, sum(t.n),
			coalesce(sum(t.n) FILTER (WHERE d.status >= 400), 0), coalesce(sum(t.n) FILTER (WHERE d.code > 0 AND d.status >= 400), 0),
			sum(t.bytes_in), sum(t.bytes_out), hist_sum(t.gateway), hist_sum(t.backend)
			FROM `+s.table+` t CROSS JOIN dim d ON d.id = t.dim WHERE t.bucket >= ? AND t.bucket < ? AND `+cond+` GROUP BY 1`,
		append([]any{s.lo, s.hi}, args...)...)
	if err != nil {
		return err
	}
	return collect(rows, mu, out)
}

func collect(rows *sql.Rows, mu *sync.Mutex, out map[string]*tally) error {
	defer rows.Close()
	for rows.Next() {
		var key, api, name, version string
		var n, errs, refused, in, sent int64
		var gateway, backend sql.RawBytes
		if err := rows.Scan(&key, &api, &name, &version, &n, &errs, &refused, &in, &sent, &gateway, &backend); err != nil {
			return err
		}
		if err := add(mu, out, key, api, name, version, func(t *tally) error {
			t.n, t.errors, t.refused = plus(t.n, uint64(n)), plus(t.errors, uint64(errs)), plus(t.refused, uint64(refused))
			t.in, t.out = plus(t.in, uint64(in)), plus(t.out, uint64(sent))
			if err := t.gateway.merge(gateway); err != nil {
				return err
			}
			return t.backend.merge(backend)
		}); err != nil {
			return err
		}
	}
	return rows.Err()
}

// add changes the tally of a key, which several readers may hold parts of.
func add(mu *sync.Mutex, out map[string]*tally, key, api, name, version string, fn func(*tally) error) error {
	mu.Lock()
	defer mu.Unlock()
	t := out[key]
	if t == nil {
		t = &tally{api: api, name: name, version: version}
		out[key] = t
	}
	return fn(t)
}

// Totals adds up a selection.
func (d *DB) Totals(ctx context.Context, q Query) (*Totals, error) {
	r, segs := d.cover(q.From, q.To)
	groups, err := d.gather(ctx, &q, segs, "''")
	if err != nil {
		return nil, err
	}
	out := &Totals{Range: r}
	if t := groups[""]; t != nil {
		out.Sums = t.sums()
	}
	return out, nil
}

// maxPoints bounds a series.
const maxPoints = 3000

// Series is a selection over time. Step is minute, hour or day (UTC). Asking for
// steps finer than what is kept of that time is fault.BadRequest.
func (d *DB) Series(ctx context.Context, q Query, step string) (*Series, error) {
	at := slices.Index(tables[:], step)
	if at < 0 {
		return nil, fault.BadRequest.With("step is minute, hour or day")
	}
	size := steps[at]
	lo, hi := floor(q.From.Unix(), size), ceil(q.To, size)
	if (hi-lo)/size > maxPoints {
		return nil, fault.BadRequest.Withf("more than %d steps; choose a longer step or a shorter time", maxPoints)
	}
	now := d.o.Now()
	kept := [3]time.Duration{d.o.KeepMinutes, d.o.KeepHours, d.o.KeepDays}[at]
	if oldest := now.Add(-kept).Unix(); hi <= oldest && at < 2 {
		return nil, fault.BadRequest.Withf("steps of a %s are kept for %v; choose a longer step", step, kept)
	}
	groups, err := d.series(ctx, &q, at, lo, hi)
	if err != nil {
		return nil, err
	}
	out := &Series{Range: Range{time.Unix(lo, 0).UTC(), time.Unix(hi, 0).UTC()}, Step: step, Points: make([]Point, 0, len(groups))}
	for b := lo; b < hi; b += size {
		if t := groups[b]; t != nil {
			out.Points = append(out.Points, Point{Time: time.Unix(b, 0).UTC(), Sums: t.sums()})
		}
	}
	return out, nil
}

// dimensions are what By can tell apart, with their SQL.
var dimensions = map[string]string{
	"api":         "d.api",
	"application": "d.application",
	"operation":   "d.api || char(31) || d.verb || ' ' || d.operation",
	"status":      "CAST(d.status AS TEXT)",
	"code":        "CAST(d.code AS TEXT)",
}

// By splits a selection by a dimension: api, application, operation (within its
// API), status or code (the gateway's own errors by cause; calls without one are
// left out). At most limit groups are given.
func (d *DB) By(ctx context.Context, q Query, dimension string, limit int) (*Groups, error) {
	expr, ok := dimensions[dimension]
	if !ok {
		return nil, fault.BadRequest.With("dimension is api, application, operation, status or code")
	}
	r, segs := d.cover(q.From, q.To)
	groups, err := d.gather(ctx, &q, segs, expr)
	if err != nil {
		return nil, err
	}
	out := &Groups{Range: r, Dimension: dimension, Groups: make([]Group, 0, len(groups))}
	for k, t := range groups {
		g := Group{Key: k, Sums: t.sums()}
		switch dimension {
		case "api":
			g.APIName, g.APIVersion = t.name, t.version
		case "operation":
			g.API, g.Key, _ = strings.Cut(k, "\x1f")
			g.APIName, g.APIVersion = t.name, t.version
		case "code":
			if k == "0" {
				continue
			}
		}
		out.Groups = append(out.Groups, g)
	}
	slices.SortFunc(out.Groups, func(a, b Group) int {
		if a.Requests != b.Requests {
			if a.Requests > b.Requests {
				return -1
			}
			return 1
		}
		return strings.Compare(a.API+a.Key, b.API+b.Key)
	})
	if limit > 0 && len(out.Groups) > limit {
		out.Groups, out.More = out.Groups[:limit], true
	}
	return out, nil
}
