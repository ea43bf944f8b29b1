package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

var engines = map[string]func(testing.TB) string{"sqlite": sqliteURL, "postgres": pgtest.URL}

func p99(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)*99/100].Microseconds()) / 1000
}

// BenchmarkListAPIs filters, sorts and pages 10,000 APIs of 20 operations; the
// goal is a p99 of 50 ms.
func BenchmarkListAPIs(b *testing.B) {
	for name, url := range engines {
		db := opened(b, url(b), store.Options{Sweep: -1})
		must(b, thousands(b.Context(), db, 10_000))
		for what, q := range map[string]apim.Query{
			"first page":         {Limit: 25},
			"far page":           {Sort: "name", Offset: 9_000, Limit: 25},
			"seen by two roles":  {Sort: "name", Offset: 4_000, Limit: 25, Any: [][]apim.Cond{{{Col: "editors", Op: apim.Eq, Value: apim.EveryEditor}, contains("editors", "\na\n"), contains("editors", "\nb\n"), {Col: "provider", Op: apim.Eq, Value: "x"}}}},
			"contains in 4":      {Sort: "name", Limit: 25, Any: [][]apim.Cond{{contains("name", "0123"), contains("context", "0123"), contains("description", "0123"), contains("tag", "0123")}}},
			"tag, state, by age": {Sort: "created", Desc: true, Offset: 100, Limit: 25, Where: []apim.Cond{{Col: "tag", Op: apim.Has, Value: "t3"}, {Col: "state", Op: apim.Eq, Value: "PUBLISHED"}}},
		} {
			b.Run(name+"/"+what, func(b *testing.B) {
				var times []time.Duration
				for b.Loop() {
					start := time.Now()
					if _, err := db.APIs.List(b.Context(), home, q); err != nil {
						b.Fatal(err)
					}
					times = append(times, time.Since(start))
				}
				b.ReportMetric(p99(times), "p99-ms")
			})
		}
		must(b, db.Close())
	}
}

func contains(col, v string) apim.Cond { return apim.Cond{Col: col, Op: apim.Contains, Value: v} }

func thousands(ctx context.Context, db *store.DB, n int) error {
	for from := 0; from < n; from += 500 {
		err := db.InTx(ctx, func(ctx context.Context) error {
			for i := from; i < min(from+500, n); i++ {
				a := pizza(i)
				a.Description = strings.Repeat("Orders pizza and brings it warm. ", 8) + fmt.Sprint(i)
				for o := range 20 {
					a.Operations = append(a.Operations, apim.Operation{Target: fmt.Sprintf("/menu/%d/{id}", o), Verb: "GET", Policy: "Unlimited"})
				}
				if err := db.APIs.Create(ctx, home, a); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkCreate writes single rows, each acknowledged once synced, from 64
// goroutines; the goal is 2,000 a second on SQLite.
func BenchmarkCreate(b *testing.B) {
	for name, url := range engines {
		b.Run(name, func(b *testing.B) {
			db := opened(b, url(b), store.Options{Sweep: -1, Readers: 32})
			var n atomic.Int64
			b.SetParallelism(32) // times GOMAXPROCS, which is 2 here: 64
			before := db.Stats()
			b.ResetTimer()
			start := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := n.Add(1)
					err := db.Subscriptions.Create(b.Context(), home, &apim.Subscription{
						Application: apim.AppID(fmt.Sprint("app", i)), API: apim.APIID(fmt.Sprint("api", i)), Policy: "Gold", State: "UNBLOCKED", Subscriber: "alice",
					})
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			s := db.Stats()
			b.ReportMetric(float64(s.Writes-before.Writes)/time.Since(start).Seconds(), "writes/s")
			b.ReportMetric(float64(s.Writes-before.Writes)/float64(s.Commits-before.Commits), "writes/commit")
			must(b, db.Close())
		})
	}
}

// BenchmarkPutRefresh is the storing half of issuing a token.
func BenchmarkPutRefresh(b *testing.B) {
	for name, url := range engines {
		b.Run(name, func(b *testing.B) {
			db := opened(b, url(b), store.Options{Sweep: -1})
			var n atomic.Int64
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					r := &apim.RefreshToken{Hash: apim.Digest(fmt.Sprint("sha256:", n.Add(1))), Family: "f", Expires: time.Now().Add(time.Hour)}
					if err := db.Tokens.PutRefresh(b.Context(), r); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			must(b, db.Close())
		})
	}
}

// BenchmarkGet reads one API by id.
func BenchmarkGet(b *testing.B) {
	for name, url := range engines {
		b.Run(name, func(b *testing.B) {
			db := opened(b, url(b), store.Options{Sweep: -1})
			a := pizza(1)
			must(b, db.APIs.Create(b.Context(), home, a))
			for b.Loop() {
				if _, err := db.APIs.Get(b.Context(), home, a.ID); err != nil {
					b.Fatal(err)
				}
			}
			must(b, db.Close())
		})
	}
}
