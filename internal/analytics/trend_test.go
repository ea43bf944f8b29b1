package analytics

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/usage"
)

// mixed are batches of two tenants, calls of no API, of refusals and of errors,
// over several hours.
func mixed() []usage.Batch {
	var out []usage.Batch
	for seq := range uint64(20) {
		var cs []usage.Counter
		for range 50 {
			c := counter(noon.Add(-time.Duration(rand.IntN(300))*time.Minute), []string{"", "a", "b"}[rand.IntN(3)], []int{200, 404, 500}[rand.IntN(3)], uint64(1+rand.IntN(9)))
			c.Tenant = []string{"t", "other"}[rand.IntN(2)]
			c.Code = []int{0, 900908}[rand.IntN(2)]
			c.Gateway = latencies(uint64(rand.IntN(100_000)))
			c.Operation = fmt.Sprint("/op", rand.IntN(3))
			cs = append(cs, c)
		}
		out = append(out, batch(seq+1, cs...))
	}
	return out
}

// trendsAgree compares what a series is read from with the roll-ups.
func trendsAgree(t *testing.T, d *DB) {
	t.Helper()
	lo, hi := floor(noon.Add(-24*time.Hour).Unix(), 86400), floor(noon.Unix(), 86400)+86400
	for at, step := range tables {
		for _, q := range []Query{{Tenant: "t"}, {Tenant: "t", API: "a"}, {Tenant: "other"}, {Tenant: "other", API: "b"}, {Tenant: "nobody"}} {
			got, err := d.trend(t.Context(), &q, steps[at], lo, hi)
			if err != nil {
				t.Fatal(err)
			}
			want, err := d.gather(t.Context(), &q, []segment{{step, lo, hi}}, "t.bucket")
			if err != nil {
				t.Fatal(err)
			}
			if (len(want) == 0) != (q.Tenant == "nobody") || !reflect.DeepEqual(got, want) {
				t.Errorf("series by %s of tenant %q and API %q: %d points, the roll-ups have %d; or they differ", step, q.Tenant, q.API, len(got), len(want))
			}
		}
	}
}

func TestSeriesAgreeWithTheRollUps(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon())
	bs := mixed()
	store(t, d, bs...)
	store(t, d, bs[:5]...) // again: counts once
	trendsAgree(t, d)
}

func TestFilteredSeriesAreNotThoseOfTheTenant(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon())
	store(t, d, batch(1, counter(noon, "a", 200, 5), counter(noon, "a", 500, 2)))
	for name, c := range map[string]struct {
		change func(*Query)
		want   uint64
	}{
		"all":              {func(*Query) {}, 7},
		"API":              {func(q *Query) { q.API = "a" }, 7},
		"status":           {func(q *Query) { q.Status = 500 }, 2},
		"code":             {func(q *Query) { q.Code = 900908 }, 0},
		"application":      {func(q *Query) { q.Application = "else" }, 0},
		"operation":        {func(q *Query) { q.Operation = "/else" }, 0},
		"verb":             {func(q *Query) { q.Verb = "POST" }, 0},
		"key type":         {func(q *Query) { q.KeyType = "SANDBOX" }, 0},
		"environment":      {func(q *Query) { q.Environment = "else" }, 0},
		"own applications": {func(q *Query) { q.Applications = []string{} }, 0},
	} {
		q := within(time.Hour)
		c.change(&q)
		s, err := d.Series(t.Context(), q, "minute")
		if err != nil {
			t.Fatal(err)
		}
		var n uint64
		for _, p := range s.Points {
			n += p.Requests
		}
		if n != c.want {
			t.Errorf("%s: %d requests, want %d", name, n, c.want)
		}
	}
}

func TestAFileOfTheFirstSchemaGetsItsTrends(t *testing.T) {
	t.Parallel()
	dir, c := t.TempDir(), atNoon()
	d := open(t, dir, c)
	store(t, d, mixed()...)
	if _, err := d.write.Exec(`DROP TABLE trend; PRAGMA user_version = 1`); err != nil {
		t.Fatal(err)
	}
	d.Close()
	for range 2 { // the second time there is nothing to do
		d = open(t, dir, c)
		trendsAgree(t, d)
		d.Close()
	}
	d = open(t, dir, c)
	b := batch(100, counter(noon, "a", 200, 3))
	store(t, d, b, b)
	trendsAgree(t, d)
}

func TestShrinkingTakesTheTrendsAlong(t *testing.T) {
	t.Parallel()
	d := open(t, t.TempDir(), atNoon())
	store(t, d, mixed()...)
	d.o.MaxBytes = 1 // nothing but days is left
	if err := d.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	var minutes, left int
	if err := d.read.QueryRow(`SELECT (SELECT count(*) FROM minute), count(*) FROM trend WHERE step < 86400`).Scan(&minutes, &left); err != nil || minutes+left > 0 {
		t.Errorf("%d minutes and %d trends are left, %v", minutes, left, err)
	}
	q := Query{Tenant: "t", From: noon.Add(-time.Hour), To: noon}
	s, err := d.Series(t.Context(), q, "day")
	if err != nil || len(s.Points) != 1 {
		t.Errorf("%+v, %v: want one day", s, err)
	}
}
