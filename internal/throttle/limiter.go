package throttle

import (
	"sync/atomic"
	"time"
)

// LongWindow is the shortest window that is kept in the Backing.
const LongWindow = time.Hour

// DefaultMax is the default bound of counters held at once (about 150 bytes each).
const DefaultMax = 1 << 20

// Options of New. The zero value counts in memory only.
type Options struct {
	Max     int     // counters held at once; 0: DefaultMax
	Backing Backing // keeps windows of LongWindow and more; nil: none
	Track   bool    // collect changes for Changes; without it they are not noted
}

// Stats says what a Limiter holds and what it had to give up.
type Stats struct {
	Counters int    // held now
	Evicted  uint64 // live counters dropped because Max was reached
	Unbacked uint64 // times the Backing failed and a long window was counted in memory only
}

// Limiter holds counters and decides. All methods may be called concurrently.
type Limiter struct {
	o        Options
	offset   atomic.Int64 // nanoseconds added to the caller's clock
	serial   atomic.Uint64
	evicted  atomic.Uint64
	unbacked atomic.Uint64
	dirty    atomic.Pointer[entry]
	resets   resets
	shards   [shardCount]shard
}

// New makes a limiter and loads what the Backing kept.
func New(o Options) *Limiter {
	if o.Max <= 0 {
		o.Max = DefaultMax
	}
	l := &Limiter{o: o}
	for i := range l.shards {
		l.shards[i].init()
	}
	if o.Backing != nil {
		o.Backing.Each(l.adopt)
	}
	return l
}

// SetOffset corrects the caller's clock: d is added to every time passed in, so
// that windows follow the clock of the traffic role.
func (l *Limiter) SetOffset(d time.Duration) { l.offset.Store(int64(d)) }

// Offset is the correction in force.
func (l *Limiter) Offset() time.Duration { return time.Duration(l.offset.Load()) }

func (l *Limiter) nanos(now time.Time) int64 { return now.UnixNano() + l.offset.Load() }

// maxChecks is how many checks of one call are decided without allocating.
const maxChecks = 12

// Admit decides a call against its limits, in the order given: the first limit
// that is used up refuses it, and then nothing is counted anywhere. The counters
// of a call are changed together, so of any number of concurrent callers exactly
// as many pass as the limits allow, and none is refused for a place that another
// refused call held for a moment.
func (l *Limiter) Admit(now time.Time, checks []Check) Decision {
	nanos := l.nanos(now)
	var room [maxChecks]held
	hold := l.lock(checks, nanos, room[:0])
	d := decide(checks, hold, nanos)
	if d.Allowed {
		for i := range checks {
			if e := hold[i].e; e != nil && !checks[i].Kind.after() {
				l.add(e, &checks[i], 1)
			}
		}
	}
	unlock(hold)
	return d
}

// Charge adds n of a kind that is known only after the call (bytes, tokens) to
// those of the checks that are measured in it. The call it belongs to has been
// served; the next one may be refused.
func (l *Limiter) Charge(now time.Time, checks []Check, kind Kind, n int64) {
	if n <= 0 {
		return
	}
	nanos := l.nanos(now)
	for i := range checks {
		c := &checks[i]
		if c.Kind != kind || c.Limit <= 0 || c.Window <= 0 {
			continue
		}
		e := l.acquire(c.Counter(), c.Local, nanos)
		l.add(e, c, n)
		e.mu.Unlock()
	}
}

// Peek is the decision Admit would take, without counting.
func (l *Limiter) Peek(now time.Time, checks []Check) Decision {
	nanos := l.nanos(now)
	var room [maxChecks]held
	hold := l.lock(checks, nanos, room[:0])
	d := decide(checks, hold, nanos)
	unlock(hold)
	return d
}

// held is the counter of a check. Two checks may share one; own marks the place
// that holds its lock.
type held struct {
	e   *entry
	own bool
}

// lock finds the counter of every check and locks them in one global order
// (their serial numbers), whatever the order of the checks. It starts again when
// a counter was dropped between being found and being locked.
func (l *Limiter) lock(checks []Check, nanos int64, hold []held) []held {
	for {
		hold = hold[:0]
		for i := range checks {
			if checks[i].Limit <= 0 || checks[i].Window <= 0 {
				hold = append(hold, held{})
				continue
			}
			hold = append(hold, held{e: l.find(checks[i].Counter(), checks[i].Local, nanos)})
		}
		if lockAll(hold) {
			for i := range hold {
				if hold[i].own {
					l.roll(hold[i].e, nanos)
				}
			}
			return hold
		}
		unlock(hold)
	}
}

// lockAll reports whether all counters are alive.
func lockAll(hold []held) bool {
	ok := true
	var last uint64
	for {
		at := -1
		for i := range hold {
			if e := hold[i].e; e != nil && e.serial > last && (at < 0 || e.serial < hold[at].e.serial) {
				at = i
			}
		}
		if at < 0 {
			return ok
		}
		e := hold[at].e
		e.mu.Lock()
		hold[at].own = true
		ok = ok && !e.dead
		last = e.serial
	}
}

// unlock releases in reverse.
func unlock(hold []held) {
	for i := len(hold) - 1; i >= 0; i-- {
		if hold[i].own {
			hold[i].e.mu.Unlock()
			hold[i].own = false
		}
	}
}

// decide reads locked counters.
func decide(checks []Check, hold []held, nanos int64) Decision {
	d := Decision{Allowed: true}
	near := -1.0
	for i := range checks {
		e, c := hold[i].e, &checks[i]
		if e == nil {
			continue
		}
		total := e.used + e.remote
		for j := range i { // an earlier check of this call takes a place on the same counter
			if hold[j].e == e && !checks[j].Kind.after() {
				total++
			}
		}
		over := total >= c.Limit
		refused := e.until > nanos
		if over || refused {
			if !c.Soft {
				return Decision{
					Remote: e.used < c.Limit, Level: c.Level, Kind: c.Kind, Policy: c.Policy,
					Limit: c.Limit, Window: c.Window, Reset: e.reset(nanos, refused && !over),
				}
			}
			d.Marked = true
		}
		after := total
		if !c.Kind.after() {
			after++
		}
		if share := float64(after) / float64(c.Limit); share > near {
			near = share
			d.Level, d.Kind, d.Policy, d.Limit, d.Window = c.Level, c.Kind, c.Policy, c.Limit, c.Window
			d.Remaining, d.Reset = max(0, c.Limit-after), e.reset(nanos, false)
		}
	}
	return d
}
