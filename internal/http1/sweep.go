package http1

import (
	"sync"
	"sync/atomic"
	"time"
)

var epoch = time.Now()

// mono is the monotonic time in nanoseconds; never 0.
func mono() int64 { return int64(time.Since(epoch)) + 1 }

// past is a deadline that has been missed.
var past = time.Unix(1, 0)

// deadline is a point in time that the sweeper enforces. Its owner arms it
// around one blocking call; setting it costs an atomic store instead of a
// runtime timer.
type deadline struct{ at atomic.Int64 }

const fired = -1

func (d *deadline) arm(at int64) { d.at.Store(at) }

// off reports whether the deadline was met.
func (d *deadline) off() bool { return d.at.Swap(0) != fired }

// push moves an armed deadline; any goroutine may call it.
func (d *deadline) push(at int64) {
	if old := d.at.Load(); old > 0 {
		d.at.CompareAndSwap(old, at)
	}
}

// due reports, once, that the deadline has passed.
func (d *deadline) due(now int64) bool {
	at := d.at.Load()
	return at > 0 && now >= at && d.at.CompareAndSwap(at, fired)
}

type swept interface{ sweep(now int64) }

// sweeper keeps a coarse clock and looks at every member on each tick. With no
// member it sleeps.
type sweeper struct {
	tick  time.Duration
	clock atomic.Int64
	wake  chan struct{}
	stop  chan struct{}
	done  chan struct{}
	mu    sync.Mutex
	set   map[swept]struct{}
	once  sync.Once
}

func newSweeper(tick time.Duration) *sweeper {
	s := &sweeper{
		tick: tick, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		set: make(map[swept]struct{}),
	}
	s.clock.Store(mono())
	go s.run()
	return s
}

// after is the moment d from now, never early.
func (s *sweeper) after(d time.Duration) int64 { return s.clock.Load() + int64(d) + int64(s.tick) }

func (s *sweeper) add(m swept) {
	s.mu.Lock()
	s.set[m] = struct{}{}
	if len(s.set) == 1 {
		s.clock.Store(mono())
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.mu.Unlock()
}

func (s *sweeper) remove(m swept) {
	s.mu.Lock()
	delete(s.set, m)
	s.mu.Unlock()
}

func (s *sweeper) close() {
	s.once.Do(func() { close(s.stop) })
	<-s.done
}

func (s *sweeper) run() {
	defer close(s.done)
	timer := time.NewTimer(s.tick)
	defer timer.Stop()
	for {
		s.mu.Lock()
		empty := len(s.set) == 0
		s.mu.Unlock()
		if empty {
			select {
			case <-s.wake:
			case <-s.stop:
				return
			}
		}
		timer.Reset(s.tick)
		select {
		case <-timer.C:
		case <-s.stop:
			return
		}
		now := mono()
		s.clock.Store(now)
		s.mu.Lock()
		for m := range s.set {
			m.sweep(now)
		}
		s.mu.Unlock()
	}
}

// allowance is how long a peer may keep us waiting: a grace, which a stall
// uses up and bytes at the floor rate restore. Time in which we did not wait
// for the peer does not count.
type allowance struct {
	rate          int64 // bytes per second; 0: the whole grace for every wait
	grace, credit int64 // nanoseconds
}

func newAllowance(grace time.Duration, rate int64) allowance {
	return allowance{rate: rate, grace: int64(grace), credit: int64(grace)}
}

func (a *allowance) used(waited int64, n int) {
	if a.rate > 0 {
		a.credit = min(a.grace, a.credit-waited+int64(n)*int64(time.Second)/a.rate)
	}
}
