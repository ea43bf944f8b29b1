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

// SkewLimit is the difference of clocks that health reports.
const SkewLimit = time.Second

// silence is how long the traffic role may say nothing before health reports it.
const silence = 5 * time.Second

// ExchangeOptions of NewExchange.
type ExchangeOptions struct {
	Limiter *throttle.Limiter // made with Track
	Bus     Bus
	Gateway string           // node name, unique
	Durable bool             // the limiter has a Backing
	Period  time.Duration    // 0: DefaultPeriod
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: slog.Default
}

// Exchange is a gateway's side: it reports the counters of its limiter and
// merges what the traffic role answers.
type Exchange struct {
	o    ExchangeOptions
	boot int64
	cut  []func()

	mu      sync.Mutex
	all     bool // report everything next
	seq     [Shards]uint64
	beat    time.Time // latest message on every shard
	swept   time.Time
	heard   time.Time // latest sign of the traffic role
	started time.Time
	clock   clock
	failed  error
	buf     []throttle.Change
}

// NewExchange makes the gateway's side; Run starts it.
func NewExchange(o ExchangeOptions) *Exchange {
	if o.Period <= 0 {
		o.Period = DefaultPeriod
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	now := o.Now()
	return &Exchange{o: o, boot: now.UnixNano(), started: now, all: true}
}

// Run exchanges until ctx ends.
func (x *Exchange) Run(ctx context.Context) error {
	if err := x.start(); err != nil {
		return err
	}
	defer x.stop()
	t := time.NewTicker(x.o.Period / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			x.tick()
			return nil
		case <-t.C:
			x.tick()
		}
	}
}

func (x *Exchange) start() error {
	for subject, fn := range map[string]func(*message){
		totalsFor(x.o.Gateway): x.totals,
		subjectRefuse:          x.refuse,
		subjectHello:           x.hello,
		subjectClock:           x.tock,
	} {
		cancel, err := x.o.Bus.Subscribe(subject, func(_ string, data []byte) {
			m, err := decode(data)
			if err != nil {
				x.o.Log.Warn("throttle message refused", "subject", subject, "err", err)
				return
			}
			fn(m)
		})
		if err != nil {
			x.stop()
			return fmt.Errorf("start exchange of counts: %w", err)
		}
		x.cut = append(x.cut, cancel)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.send(subjectJoin, &message{})
	return nil
}

func (x *Exchange) stop() {
	for _, cancel := range x.cut {
		cancel()
	}
	x.cut = nil
}

// tick reports what changed.
func (x *Exchange) tick() {
	now := x.o.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.buf = x.o.Limiter.Changes(x.buf[:0])
	changes := x.buf
	if x.all {
		x.all = false
		changes = x.o.Limiter.All(now)
	}
	var parts [Shards][]item
	for i := range changes {
		c := &changes[i]
		s := shardOf(&c.Key)
		parts[s] = append(parts[s], item{Counter: c.Counter, number: c.Number, gen: c.Gen, limit: c.Limit, value: c.Used})
	}
	beat := now.Sub(x.beat) >= time.Second || now.Before(x.beat)
	if beat {
		x.beat = now
	}
	for s, items := range parts {
		for beat && len(items) == 0 || len(items) > 0 {
			n := min(len(items), maxItems)
			x.seq[s]++
			ok := x.send(reportTo(s), &message{seq: x.seq[s], shard: s, items: items[:n]})
			if !ok {
				x.all = true // a lost report is made good by a whole one
			}
			if items = items[n:]; len(items) == 0 {
				break
			}
		}
	}
	if now.Sub(x.swept) >= 5*time.Second || now.Before(x.swept) {
		x.swept = now
		x.o.Limiter.Sweep(now)
	}
}

// send needs mu.
func (x *Exchange) send(subject string, m *message) bool {
	m.from, m.boot, m.durable, m.now = x.o.Gateway, x.boot, x.o.Durable, x.o.Now().UnixNano()
	err := x.o.Bus.Publish(subject, m.encode())
	if (err != nil) != (x.failed != nil) {
		if err != nil {
			x.o.Log.Warn("counts cannot be reported; local limits go on", "err", err)
		} else {
			x.o.Log.Info("counts are reported again")
		}
	}
	x.failed = err
	return err == nil
}

func (x *Exchange) totals(m *message) {
	now := x.o.Now()
	for i := range m.items {
		it := &m.items[i]
		x.o.Limiter.AddRemote(now, it.Counter, it.number, it.gen, it.value)
	}
}

func (x *Exchange) refuse(m *message) {
	now := x.o.Now()
	for i := range m.items {
		it := &m.items[i]
		x.o.Limiter.Refuse(now, it.Counter, it.gen, time.Unix(0, it.value))
	}
}

func (x *Exchange) hello(m *message) {
	if m.to != "" && m.to != x.o.Gateway {
		return
	}
	x.mu.Lock()
	x.all = true
	x.mu.Unlock()
}

func (x *Exchange) tock(m *message) {
	now := x.o.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heard = now
	if offset, ok := x.clock.hear(m.from, m.now, now); ok {
		x.o.Limiter.SetOffset(offset)
	}
}

// Skew is how far the traffic role's clock is ahead of this node's.
func (x *Exchange) Skew() time.Duration { return x.o.Limiter.Offset() }

// Health is nil while counts are exchanged and the clocks agree.
func (x *Exchange) Health() error {
	now := x.o.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	var errs []error
	if d := x.o.Limiter.Offset(); d.Abs() > SkewLimit {
		errs = append(errs, fmt.Errorf("clock differs by %v from the traffic role's", d))
	}
	if last := maxTime(x.heard, x.started); now.Sub(last) > silence {
		errs = append(errs, fmt.Errorf("nothing heard from a traffic role for %v; limits hold per gateway", now.Sub(last).Round(time.Second)))
	}
	if x.failed != nil {
		errs = append(errs, x.failed)
	}
	return errors.Join(errs...)
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// clock estimates how far a hub's clock is ahead, from messages that only travel
// one way: of the latest few, the one that was under way the shortest is right.
// Of several hubs the one whose name sorts first is followed.
type clock struct {
	hub     string
	last    time.Time
	samples [8]time.Duration
	n       int
}

// same is a difference too small to act on.
const same = 10 * time.Millisecond

func (c *clock) hear(hub string, theirs int64, now time.Time) (offset time.Duration, ok bool) {
	if c.hub != "" && hub > c.hub && now.Sub(c.last) < silence {
		return 0, false
	}
	if hub != c.hub {
		*c = clock{hub: hub}
	}
	d := time.Duration(theirs - now.UnixNano())
	if c.n > 0 && (d-c.samples[(c.n-1)%len(c.samples)]).Abs() > SkewLimit {
		c.n = 0 // one of the clocks was set: what was measured before is void
	}
	c.last = now
	c.samples[c.n%len(c.samples)] = d
	c.n++
	best := d
	for i := range min(c.n, len(c.samples)) {
		best = max(best, c.samples[i])
	}
	if best.Abs() < same {
		best = 0
	}
	return best, true
}
