package http1

import (
	"runtime"
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

const (
	firing  = -1 // the sweeper is about to act
	fired   = -2 // it has
	idleBit = 1  // the bit of a deadline that draining may bring forward
)

func (d *deadline) arm(at int64) { d.at.Store(at) }

// off reports whether the deadline was met. What the sweeper does about a missed
// one is done by then.
func (d *deadline) off() bool {
	for {
		at := d.at.Load()
		if at == firing {
			runtime.Gosched()
		} else if d.at.CompareAndSwap(at, 0) {
			return at != fired
		}
	}
}

// push moves an armed deadline; any goroutine may call it.
func (d *deadline) push(at int64) {
	if old := d.at.Load(); old > 0 {
		d.at.CompareAndSwap(old, at)
	}
}

// expire ends what the deadline is for if it has passed, or if it may and is to
// be brought forward.
func (d *deadline) expire(now int64, forward bool, end func(time.Time) error) {
	at := d.at.Load()
	if at > 0 && (now >= at || forward && at&idleBit != 0) && d.at.CompareAndSwap(at, firing) {
		_ = end(past)
		d.at.Store(fired)
	}
}

// look asks about a deadline that has passed, once, and reaches it if the answer
// is yes.
func (d *deadline) look(now int64, reached func() bool) {
	at := d.at.Load()
	if at <= 0 || now < at || !d.at.CompareAndSwap(at, firing) {
		return
	}
	if reached() {
		d.at.Store(fired)
	} else {
		d.at.Store(0)
	}
}

type swept interface{ sweep(now int64) }

// sweeper keeps a coarse clock and looks at every member on each tick. With no
// member it sleeps.
type sweeper struct {
	tick  time.Duration
	clock atomic.Int64 // monotonic, nanoseconds
	wall  atomic.Int64 // seconds since 1970, as the system's clock has it now
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
	s.look()
	go s.run()
	return s
}

// look reads the clocks.
func (s *sweeper) look() int64 {
	t := time.Now()
	now := int64(t.Sub(epoch)) + 1
	s.clock.Store(now)
	s.wall.Store(t.Unix())
	return now
}

// after is the moment d from now, never early.
func (s *sweeper) after(d time.Duration) int64 {
	return (s.clock.Load() + int64(d) + int64(s.tick)) &^ idleBit
}

func (s *sweeper) add(m swept) {
	s.mu.Lock()
	s.set[m] = struct{}{}
	if len(s.set) == 1 {
		s.look()
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
		now := s.look()
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

// renew gives the whole grace again, for the next message.
func (a *allowance) renew() { a.credit = a.grace }

func (a *allowance) used(waited int64, n int) {
	if a.rate > 0 {
		a.credit = min(a.grace, a.credit-waited+int64(n)*int64(time.Second)/a.rate)
	}
}
