package analytics

import (
	"fmt"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/usage"
)

// million fills a store with 1,000,000 counters: 100 APIs of 5 operations and 2
// statuses over 1,000 minutes.
const minutes = 1000

func million(b *testing.B) *DB {
	d := open(b, b.TempDir(), atNoon())
	start := time.Now()
	seq := uint64(0)
	var cs []usage.Counter
	for m := range minutes {
		for api := range 100 {
			for op := range 5 {
				for _, status := range []int{200, 500} {
					c := counter(noon.Add(-time.Duration(m)*time.Minute), fmt.Sprint("api", api), status, 3)
					c.Operation = fmt.Sprint("/op", op)
					cs = append(cs, c)
				}
			}
		}
		if m%10 == 9 {
			seq++
			store(b, d, batch(seq, cs...))
			cs = cs[:0]
		}
	}
	b.Logf("stored 1,000,000 counters in %v", time.Since(start))
	return d
}

func BenchmarkQueriesOverAMillionCounters(b *testing.B) {
	d := million(b)
	if n := requests(b, d, within(24*time.Hour)); n != 3_000_000 {
		b.Fatalf("%d requests, want 3,000,000", n)
	}
	q := within(16 * time.Hour)
	for _, c := range []struct {
		name string
		run  func() error
	}{
		{"totals", func() error { _, err := d.Totals(b.Context(), q); return err }},
		{"by api", func() error { _, err := d.By(b.Context(), q, "api", 100); return err }},
		{"by operation", func() error { _, err := d.By(b.Context(), q, "operation", 100); return err }},
		{"series by hour", func() error { _, err := d.Series(b.Context(), q, "hour"); return err }},
		{"series by minute", func() error { _, err := d.Series(b.Context(), q, "minute"); return err }},
		{"one api by minute", func() error { one := q; one.API = "api7"; _, err := d.Series(b.Context(), one, "minute"); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkStoreABatchOf100Counters(b *testing.B) {
	d := open(b, b.TempDir(), atNoon())
	var cs []usage.Counter
	for i := range 100 {
		cs = append(cs, counter(noon, fmt.Sprint("api", i), 200, 3))
	}
	seq := uint64(0)
	for b.Loop() {
		seq++
		store(b, d, batch(seq, cs...))
	}
}
