package traffic

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/throttle"
)

var quiet = slog.New(slog.DiscardHandler)

// world is gateways, hubs, a bus and a clock that move only when told to.
type world struct {
	now   time.Time
	subs  map[string][]func(string, []byte)
	queue []func()
	lose  func(subject string) bool
}

func newWorld() *world {
	return &world{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), subs: map[string][]func(string, []byte){}}
}

func (w *world) Publish(subject string, data []byte) error {
	if w.lose != nil && w.lose(subject) {
		return nil
	}
	for _, fn := range w.subs[subject] {
		w.queue = append(w.queue, func() { fn(subject, data) })
	}
	return nil
}

func (w *world) Subscribe(subject string, fn func(string, []byte)) (func(), error) {
	w.subs[subject] = append(w.subs[subject], fn)
	at := len(w.subs[subject]) - 1
	return func() { w.subs[subject][at] = func(string, []byte) {} }, nil
}

func (w *world) deliver() {
	for len(w.queue) > 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		next()
	}
}

type node struct {
	l *throttle.Limiter
	x *Exchange
}

func (w *world) gateway(t *testing.T, name string, skew time.Duration) *node {
	t.Helper()
	now := func() time.Time { return w.now.Add(skew) }
	l := throttle.New(throttle.Options{Track: true})
	x := NewExchange(ExchangeOptions{Limiter: l, Bus: w, Gateway: name, Now: now, Log: quiet})
	if err := x.start(); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	return &node{l, x}
}

func (w *world) hub(t *testing.T) *Hub {
	t.Helper()
	h := NewHub(HubOptions{Bus: w, Name: "hub", Now: func() time.Time { return w.now }, Log: quiet})
	if err := h.start(); err != nil {
		t.Fatal(err)
	}
	w.deliver()
	return h
}

func limitOf(n int64) []throttle.Check {
	return []throttle.Check{{Key: throttle.KeyOf(throttle.LevelApplication, "a"), Level: throttle.LevelApplication, Limit: n, Window: time.Minute}}
}

// round lets every gateway report and the hub answer, as one period does.
func (w *world) round(h *Hub, gs ...*node) {
	for _, g := range gs {
		g.x.tick()
	}
	w.deliver()
	if h != nil {
		h.tick()
		w.deliver()
	}
}

func TestOvershootStaysWithinTheBoundAndNothingIsRefusedTooEarly(t *testing.T) {
	t.Parallel()
	for _, gateways := range []int{1, 2, 5} {
		for _, perMilli := range []int{1, 7} {
			t.Run(fmt.Sprintf("%d gateways, %d calls a ms", gateways, perMilli), func(t *testing.T) {
				w := newWorld()
				h := w.hub(t)
				var gs []*node
				for i := range gateways {
					gs = append(gs, w.gateway(t, fmt.Sprint("g", i), 0))
				}
				const limit = 3000
				cs := limitOf(limit)
				var passed int64
				for ms := range 10_000 {
					w.now = w.now.Add(time.Millisecond)
					for i := range perMilli {
						if gs[(ms*perMilli+i)%gateways].l.Admit(w.now, cs).Allowed {
							passed++
						}
					}
					// Reports and answers are half a period apart, at the worst phase.
					if ms%50 == 0 {
						for _, g := range gs {
							g.x.tick()
						}
					}
					if ms%50 == 49 {
						w.deliver()
						h.tick()
						w.deliver()
					}
				}
				bound := Bound(float64(perMilli)*1000, gateways, DefaultPeriod)
				if passed < limit || passed > limit+bound {
					t.Errorf("%d passed, want %d to %d", passed, limit, limit+bound)
				}
				if gateways == 1 && passed != limit {
					t.Errorf("%d passed on one gateway, want exactly %d", passed, limit)
				}
			})
		}
	}
}

func passes(g *node, now time.Time, cs []throttle.Check, calls int) (n int) {
	for range calls {
		if g.l.Admit(now, cs).Allowed {
			n++
		}
	}
	return n
}

func TestGatewaysLearnOfEachOther(t *testing.T) {
	t.Parallel()
	cs := limitOf(10)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, w *world, h *Hub, a, b *node) int // how many pass on b at the end
		want int
	}{
		{"totals reach the other", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 4)
			passes(b, w.now, cs, 1)
			w.round(h, a, b)
			return passes(b, w.now, cs, 20)
		}, 5},
		{"what is used up is refused where it was never counted", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 20)
			w.round(h, a, b)
			return passes(b, w.now, cs, 20)
		}, 0},
		{"a late joiner asks and knows", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 7)
			w.round(h, a)
			return passes(w.gateway(t, "c", 0), w.now, cs, 20)
		}, 3},
		{"a new hub asks for everything", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 6)
			passes(b, w.now, cs, 1)
			w.round(h, a, b)
			h.stop()
			h2 := w.hub(t)
			w.round(h2, a, b)
			return passes(w.gateway(t, "c", 0), w.now, cs, 20)
		}, 3},
		{"a gateway that lost its count starts again beside its old one", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 4)
			w.round(h, a, b)
			a.x.stop()
			w.now = w.now.Add(time.Second)
			a2 := w.gateway(t, "g0", 0)
			passes(a2, w.now, cs, 2)
			w.round(h, a2, b)
			passes(b, w.now, cs, 1)
			w.round(h, a2, b)
			return 1 + passes(b, w.now, cs, 20)
		}, 4},
		{"a lost report is made good after the next", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(b, w.now, cs, 1)
			w.round(h, a, b)
			passes(a, w.now, cs, 4)
			w.lose = func(s string) bool { return strings.HasPrefix(s, subjectReport) }
			w.round(h, a, b)
			w.lose = nil
			w.now = w.now.Add(1100 * time.Millisecond)
			w.round(h, a, b) // the heartbeat shows the gap, the hub asks
			w.round(h, a, b)
			return passes(b, w.now, cs, 20)
		}, 5},
		{"the next window is everybody's own", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 20)
			w.round(h, a, b)
			w.now = w.now.Add(time.Minute)
			return passes(b, w.now, cs, 20)
		}, 10},
		{"a reset travels", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 10)
			w.round(h, a, b)
			w.now = w.now.Add(time.Second)
			a.l.Reset(w.now, cs[0].Key, w.now)
			b.l.Reset(w.now, cs[0].Key, w.now)
			passes(a, w.now, cs, 2)
			w.round(h, a, b)
			return passes(b, w.now, cs, 20)
		}, 8},
		{"a gateway that had counted nothing before a reset counts after it", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			passes(a, w.now, cs, 9)
			w.round(h, a) // b knows nothing of the counter
			w.now = w.now.Add(time.Second)
			a.l.Reset(w.now, cs[0].Key, w.now)
			w.round(h, a)
			b.l.Reset(w.now, cs[0].Key, w.now)
			passes(b, w.now, cs, 1)
			w.round(h, a, b)
			passes(b, w.now, cs, 3)
			w.round(h, a, b)
			return passes(a, w.now, cs, 20) // all four of the other gateway count
		}, 6},
		{"without a hub each goes on alone", func(t *testing.T, w *world, h *Hub, a, b *node) int {
			h.stop()
			passes(a, w.now, cs, 20)
			w.round(nil, a, b)
			return passes(b, w.now, cs, 20)
		}, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			h := w.hub(t)
			a, b := w.gateway(t, "g0", 0), w.gateway(t, "g1", 0)
			w.round(h, a, b)
			if got := c.run(t, w, h, a, b); got != c.want {
				t.Errorf("%d passed, want %d", got, c.want)
			}
		})
	}
}

func TestASkewedClockIsCorrectedAndReported(t *testing.T) {
	t.Parallel()
	w := newWorld()
	h := w.hub(t)
	a := w.gateway(t, "a", 0)
	b := w.gateway(t, "b", -90*time.Second) // would count the window before
	for range 3 {
		w.now = w.now.Add(time.Second)
		w.round(h, a, b)
	}
	if err := a.x.Health(); err != nil {
		t.Errorf("healthy gateway: %v", err)
	}
	if err := b.x.Health(); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("health of the skewed gateway: %v", err)
	}
	cs := limitOf(10)
	passes(a, w.now, cs, 7)
	w.round(h, a, b)
	passes(b, w.now.Add(-90*time.Second), cs, 1)
	w.round(h, a, b)
	if n := passes(b, w.now.Add(-90*time.Second), cs, 20); n != 2 {
		t.Errorf("%d passed on the skewed gateway, want 2: it must count in the hub's window", n)
	}
	w.now = w.now.Add(20 * time.Second)
	if err := a.x.Health(); err == nil {
		t.Error("silence of the traffic role is not reported")
	}
}

func TestHubForgetsPastWindowsAndIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld()
	h := w.hub(t)
	h.o.Max = 5
	a := w.gateway(t, "a", 0)
	for i := range 9 {
		a.l.Admit(w.now, []throttle.Check{{Key: throttle.KeyOf(throttle.LevelAPI, fmt.Sprint(i)), Limit: 3, Window: time.Minute}})
	}
	w.round(h, a)
	if st := h.Stats(); st.Counters != 5 || st.Dropped != 4 || h.Health() == nil {
		t.Errorf("%+v, health %v", st, h.Health())
	}
	w.now = w.now.Add(2 * time.Minute)
	w.round(h, a)
	w.round(h, a)
	if st := h.Stats(); st.Counters != 0 {
		t.Errorf("%d counters of past windows left", st.Counters)
	}
}

func TestTwoGatewaysOverTheRealBus(t *testing.T) {
	t.Parallel()
	b, err := bus.Embedded(bus.Options{Name: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	h := NewHub(HubOptions{Bus: b, Name: "hub", Log: quiet})
	wg.Go(func() { _ = h.Run(ctx) })
	var ls []*throttle.Limiter
	for _, name := range []string{"one", "two.with.dots"} {
		l := throttle.New(throttle.Options{Track: true})
		x := NewExchange(ExchangeOptions{Limiter: l, Bus: b, Gateway: name, Log: quiet})
		wg.Go(func() { _ = x.Run(ctx) })
		ls = append(ls, l)
	}
	for h.Stats().Gateways < 2 {
		time.Sleep(5 * time.Millisecond)
	}
	const limit, rate = 300, 1000
	cs := limitOf(limit)
	cs[0].Window = 24 * time.Hour
	var passed, slowest atomic.Int64
	var callers sync.WaitGroup
	for _, l := range ls {
		callers.Go(func() {
			last := time.Now()
			for range 750 {
				time.Sleep(2 * time.Millisecond)
				now := time.Now()
				slowest.Store(max(slowest.Load(), int64(now.Sub(last))))
				last = now
				if l.Admit(now, cs).Allowed {
					passed.Add(1)
				}
			}
		})
	}
	callers.Wait()
	// A machine that stalls the test's goroutines stretches the period by as much.
	period := DefaultPeriod + 2*time.Duration(slowest.Load()) + 50*time.Millisecond
	if got, bound := passed.Load(), Bound(rate, 2, period); got < limit || got > limit+bound {
		t.Errorf("%d passed, want %d to %d", got, limit, limit+bound)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add((&message{from: "a", items: []item{{number: 1, value: 2}}}).encode())
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decode(b); err == nil {
			if _, err := decode(m.encode()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
