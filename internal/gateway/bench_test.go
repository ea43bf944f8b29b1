package gateway

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
	"github.com/cardea-apim/cardea/internal/gateway/report"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

type instant struct{ res proxy.Response }

type nothing struct{}

func (nothing) Read([]byte) (int, error) { return 0, io.EOF }
func (nothing) Close() error             { return nil }

func (u *instant) Send(_ context.Context, _ *proxy.Request, res *proxy.Response) error {
	*res = u.res
	return nil
}

type discard struct{}

func (discard) Report(*report.Record) {}

// handle runs one warm call without an engine and without a network.
func handle(b *testing.B, w *world, path, auth string) {
	peer := netip.MustParseAddr("192.0.2.7")
	ctx := b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := w.g.acquire()
			c.Ctx, c.Method, c.RawPath, c.Host, c.Peer = ctx, "GET", path, "localhost:8280", peer
			c.Header = append(c.Header, exchange.Field{Name: "Accept", Value: "*/*"}, exchange.Field{Name: "User-Agent", Value: "bench"})
			if auth != "" {
				c.Header = append(c.Header, exchange.Field{Name: "Authorization", Value: auth})
			}
			c.serve()
			if c.Reply.Status != 200 {
				b.Fatalf("status %d: %s", c.Reply.Status, c.Reply.Text)
			}
			c.done(0)
		}
	})
}

func benchWorld(b testing.TB, limited bool, change func(*snapshot.API), options ...func(*Options)) *world {
	up := &instant{proxy.Response{Status: 200, Body: nothing{}, Header: exchange.Header{{Name: "Content-Type", Value: "text/plain"}, {Name: "Date", Value: "x"}}}}
	w := pizzeria(b, func(a *snapshot.API) {
		for i := range a.Operations {
			a.Operations[i].Policy = "Big"
		}
		if change != nil {
			change(a)
		}
	}, append([]func(*Options){func(o *Options) { o.Upstream, o.Reporter = up, discard{} }}, options...)...)
	if limited {
		big := snapshot.Limit{Count: 1 << 30, Window: time.Minute}
		w.apply(false,
			policy(w, snapshot.KindAPIPolicy, snapshot.Policy{Name: "Big", Limit: big}),
			policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "Plan", Limit: big, StopOnQuota: true}),
			policy(w, snapshot.KindAppPolicy, snapshot.Policy{Name: "App", Limit: big}),
			item(b, snapshot.KindSubscription, "app-1/api-1", "", subscription("UNBLOCKED", "Plan")),
			item(b, snapshot.KindApplication, "app-1", "", snapshot.Application{ID: "app-1", Tenant: tenant, Policy: "App", Owner: "alice"}))
	} else {
		w.apply(false, policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "Unauthenticated", Limit: snapshot.Limit{Unlimited: true}}))
	}
	return w
}

func BenchmarkHandle(b *testing.B) {
	b.Run("open", func(b *testing.B) { handle(b, benchWorld(b, false, nil), "/pizza/1.0/open", "") })
	b.Run("jwt", func(b *testing.B) {
		w := benchWorld(b, false, nil)
		handle(b, w, "/pizza/1.0/menu", "Bearer "+w.token())
	})
	b.Run("jwt+limits", func(b *testing.B) {
		w := benchWorld(b, true, nil)
		handle(b, w, "/pizza/1.0/menu", "Bearer "+w.token())
	})
}

// BenchmarkApply measures one changed API beside many others, and reports what
// an operation takes in memory.
func BenchmarkApply(b *testing.B) {
	const apis, operations = 2000, 20
	w := newWorld(b)
	var items []snapshot.Item
	for i := range apis {
		a := pizza()
		a.ID, a.Context = fmt.Sprintf("api-%d", i), fmt.Sprintf("/context-%d/1.0", i)
		a.Operations = nil
		for j := range operations {
			a.Operations = append(a.Operations, snapshot.Operation{Target: fmt.Sprintf("/resource-%d/{id}", j/2), Verb: []string{"GET", "PUT"}[j%2], Auth: "Any"})
		}
		items = append(items, w.api(a))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w.apply(true, items...)
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportAllocs()
	for b.Loop() {
		items[7].Hash += "x"
		w.apply(false, items[7])
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(apis*operations), "B/operation")
}

// BenchmarkApplyFull measures a first snapshot.
func BenchmarkApplyFull(b *testing.B) {
	const apis = 1000
	w := newWorld(b)
	var items []snapshot.Item
	for i := range apis {
		a := pizza()
		a.ID, a.Context = fmt.Sprintf("api-%d", i), fmt.Sprintf("/context-%d/1.0", i)
		items = append(items, w.api(a))
	}
	for b.Loop() {
		w.apply(true)
		w.apply(true, items...)
	}
}
