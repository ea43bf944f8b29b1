package traffic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/throttle"
)

// HubOptions of NewHub.
type HubOptions struct {
	Bus    Bus
	Name   string           // node name, unique
	Shards []int            // which parts of the counters are this hub's; empty: all
	Period time.Duration    // 0: DefaultPeriod; equal on hubs and gateways
	Max    int              // counters held at once; 0: throttle.DefaultMax
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger     // nil: slog.Default
}

// Hub is the traffic role: it adds up what gateways report, per window of its
// own clock. It keeps nothing on disk: a new hub asks every gateway for all it
// counts. Two hubs on the same shards answer alike and do no harm.
type Hub struct {
	o     HubOptions
	boot  int64
	cut   []func()
	owned [Shards]bool

	mu       sync.Mutex
	sums     map[sumID]*sum
	changed  []*sum
	gateways map[string]*peer
	beat     time.Time
	dropped  uint64
	skewed   uint64
	failed   error
}

type sumID struct {
	throttle.Counter
	number int64
}

// sum is one counter in one window over all gateways.
type sum struct {
	id      sumID
	gen     int64
	limit   int64
	total   int64
	parts   map[string]*part // by gateway
	changed bool
	refused bool
}

// part is what one gateway counted: base in earlier lives, used in this one.
type part struct {
	boot       int64
	base, used int64
	sent       int64 // what it was last told about the others; -1: nothing
}

// peer is a gateway that was heard of.
type peer struct {
	boot int64
	seq  [Shards]uint64
	seen time.Time
}

// HubStats says what a hub holds.
type HubStats struct {
	Counters int
	Gateways int
	Dropped  uint64 // reports of new counters refused because Max was reached
	Skewed   uint64 // reports for windows of another time
}

// NewHub makes the traffic role; Run starts it.
func NewHub(o HubOptions) *Hub {
	if o.Period <= 0 {
		o.Period = DefaultPeriod
	}
	if o.Max <= 0 {
		o.Max = throttle.DefaultMax
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	h := &Hub{o: o, boot: o.Now().UnixNano(), sums: map[sumID]*sum{}, gateways: map[string]*peer{}}
	for _, s := range o.Shards {
		h.owned[((s%Shards)+Shards)%Shards] = true
	}
	if len(o.Shards) == 0 {
		for s := range h.owned {
			h.owned[s] = true
		}
	}
	return h
}

// Run serves until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	if err := h.start(); err != nil {
		return err
	}
	defer h.stop()
	t := time.NewTicker(h.o.Period / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			h.tick()
			return nil
		case <-t.C:
			h.tick()
		}
	}
}

func (h *Hub) start() error {
	subjects := map[string]func(*message){subjectJoin: h.join}
	for s, own := range h.owned {
		if own {
			subjects[reportTo(s)] = h.report
		}
	}
	for subject, fn := range subjects {
		cancel, err := h.o.Bus.Subscribe(subject, func(_ string, data []byte) {
			m, err := decode(data)
			if err != nil {
				h.o.Log.Warn("throttle message refused", "subject", subject, "err", err)
				return
			}
			fn(m)
		})
		if err != nil {
			h.stop()
			return fmt.Errorf("start traffic role: %w", err)
		}
		h.cut = append(h.cut, cancel)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.send(subjectHello, &message{})
	return nil
}

func (h *Hub) stop() {
	for _, cancel := range h.cut {
		cancel()
	}
	h.cut = nil
}

// report takes in what a gateway counted. A gap in its numbers means that a
// message was lost: the gateway is asked for everything.
func (h *Hub) report(m *message) {
	now := h.o.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.gateways[m.from]
	if p == nil {
		p = &peer{boot: m.boot}
		h.gateways[m.from] = p
	}
	if m.boot < p.boot {
		return // of an earlier life, late
	}
	if m.boot > p.boot {
		*p = peer{boot: m.boot}
	}
	p.seen = now
	if last := p.seq[m.shard]; m.seq > last {
		if m.seq != last+1 && last != 0 {
			h.send(subjectHello, &message{to: m.from})
		}
		p.seq[m.shard] = m.seq
	}
	for i := range m.items {
		h.count(m, &m.items[i], now)
	}
}

func (h *Hub) count(m *message, it *item, now time.Time) {
	start := time.Unix(0, it.number*int64(it.Window))
	if start.Sub(now) > 2*SkewLimit || now.Sub(throttle.End(it.number, it.Window)) > grace {
		h.skewed++
		return
	}
	id := sumID{it.Counter, it.number}
	s := h.sums[id]
	if s == nil {
		if len(h.sums) >= h.o.Max {
			h.dropped++
			return
		}
		s = &sum{id: id, gen: it.gen, parts: map[string]*part{}}
		h.sums[id] = s
	}
	if it.gen < s.gen {
		// It has not heard of the reset, perhaps because it had counted nothing then:
		// tell it, and take its counts from there on.
		p := s.parts[m.from]
		if p == nil {
			p = &part{boot: m.boot}
			s.parts[m.from] = p
		}
		p.sent = -1
		h.touch(s)
		return
	}
	if it.gen > s.gen { // reset: everybody begins again
		*s = sum{id: id, gen: it.gen, parts: map[string]*part{}, changed: s.changed}
	}
	p := s.parts[m.from]
	if p == nil {
		p = &part{boot: m.boot, sent: -1}
		s.parts[m.from] = p
	}
	before := p.base + p.used
	switch {
	case m.boot < p.boot:
		return
	case m.boot > p.boot:
		// A gateway that kept its count goes on from it; one that lost it begins again.
		kept := m.durable && it.Window >= throttle.LongWindow && it.value >= p.used
		if !kept {
			p.base += p.used
			p.used = 0
		}
		p.boot, p.sent = m.boot, -1
	}
	p.used = max(p.used, it.value)
	s.total += p.base + p.used - before
	if it.limit > 0 {
		s.limit = it.limit
	}
	h.touch(s)
}

// touch makes sure that the next tick looks at s.
func (h *Hub) touch(s *sum) {
	if !s.changed {
		s.changed = true
		h.changed = append(h.changed, s)
	}
}

// grace is how long a window is kept after its end, for late reports.
const grace = 5 * time.Second

// tick answers what changed, tells the time, and forgets what is over.
func (h *Hub) tick() {
	now := h.o.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	answers := map[string][]item{}
	var refusals []item
	for _, s := range h.changed {
		s.changed = false
		for name, p := range s.parts {
			if others := s.total - p.used; others != p.sent {
				p.sent = others
				answers[name] = append(answers[name], s.item(others))
			}
		}
		if s.over() && !s.refused && len(h.gateways) > 1 {
			s.refused = true
			refusals = append(refusals, s.refusal())
		}
	}
	h.changed = h.changed[:0]
	for name, items := range answers {
		h.sendAll(totalsFor(name), items)
	}
	h.sendAll(subjectRefuse, refusals)
	if now.Sub(h.beat) >= time.Second || now.Before(h.beat) {
		h.beat = now
		h.send(subjectClock, &message{})
		h.forget(now)
	}
}

func (s *sum) over() bool { return s.limit > 0 && s.total >= s.limit }

func (s *sum) item(value int64) item {
	return item{Counter: s.id.Counter, number: s.id.number, gen: s.gen, limit: s.limit, value: value}
}

func (s *sum) refusal() item {
	return s.item(throttle.End(s.id.number, s.id.Window).UnixNano())
}

func (h *Hub) forget(now time.Time) {
	for id, s := range h.sums {
		if now.Sub(throttle.End(id.number, id.Window)) > grace && !s.changed {
			delete(h.sums, id)
		}
	}
	for name, p := range h.gateways {
		if now.Sub(p.seen) > time.Minute {
			delete(h.gateways, name)
		}
	}
}

// join tells a gateway that has just started all that is known.
func (h *Hub) join(m *message) {
	now := h.o.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.gateways[m.from]; p == nil || m.boot > p.boot {
		h.gateways[m.from] = &peer{boot: m.boot, seen: now}
	}
	var totals []item
	for _, s := range h.sums {
		if !now.Before(throttle.End(s.id.number, s.id.Window)) {
			continue
		}
		others := s.total
		if p := s.parts[m.from]; p != nil && m.durable && s.id.Window >= throttle.LongWindow {
			others -= p.used // it still has those
		}
		totals = append(totals, s.item(others))
	}
	h.sendAll(totalsFor(m.from), totals)
	h.send(subjectClock, &message{})
}

func (h *Hub) sendAll(subject string, items []item) {
	for len(items) > 0 {
		n := min(len(items), maxItems)
		h.send(subject, &message{items: items[:n]})
		items = items[n:]
	}
}

// send needs mu.
func (h *Hub) send(subject string, m *message) {
	m.from, m.boot, m.now = h.o.Name, h.boot, h.o.Now().UnixNano()
	err := h.o.Bus.Publish(subject, m.encode())
	if (err != nil) != (h.failed != nil) {
		if err != nil {
			h.o.Log.Warn("traffic role cannot answer gateways", "err", err)
		} else {
			h.o.Log.Info("traffic role answers gateways again")
		}
	}
	h.failed = err
}

// Stats says what the hub holds.
func (h *Hub) Stats() HubStats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return HubStats{Counters: len(h.sums), Gateways: len(h.gateways), Dropped: h.dropped, Skewed: h.skewed}
}

// Health is nil while gateways can be answered.
func (h *Hub) Health() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	if h.failed != nil {
		errs = append(errs, h.failed)
	}
	if h.dropped > 0 && len(h.sums) >= h.o.Max {
		errs = append(errs, fmt.Errorf("all %d counters are taken", h.o.Max))
	}
	return errors.Join(errs...)
}
