package throttle

import (
	"encoding/binary"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shardCount = 64
	// jitter is how far a clock may step back before a newer window is given up.
	jitter = 2 * time.Second
	never  = math.MinInt64
)

// entry is one counter. Everything below mu is guarded by it.
type entry struct {
	id     Counter
	serial uint64
	next   atomic.Pointer[entry] // in its chain
	local  bool

	mu         sync.Mutex
	dead       bool // dropped from the table
	dirty      bool // on the limiter's list of changes
	window     int64
	used       int64 // counted here
	remote     int64 // counted by all other nodes, as far as known
	limit      int64 // of the latest check, for the traffic role
	until      int64 // refused until then by decision of the traffic role, Unix nanoseconds
	gen        int64 // moment of the latest reset within the window, Unix nanoseconds
	prevWindow int64 // the window before, in case the clock goes back to it
	prevUsed   int64
	slot       Slot
	nextDirty  *entry
}

func (e *entry) start() int64 { return e.window * int64(e.id.Window) }
func (e *entry) end() int64   { return (e.window + 1) * int64(e.id.Window) }

// reset is when the next call may pass.
func (e *entry) reset(nanos int64, byDecision bool) time.Time {
	if byDecision && e.until > nanos {
		return time.Unix(0, e.until).UTC()
	}
	return time.Unix(0, e.end()).UTC()
}

// shard is a hash table whose readers take no lock. A reader that races with a
// change may miss an entry; it then looks again under the lock.
type shard struct {
	mu      sync.Mutex // of writers
	buckets atomic.Pointer[[]atomic.Pointer[entry]]
	count   int
}

func (s *shard) init() {
	b := make([]atomic.Pointer[entry], 16)
	s.buckets.Store(&b)
}

func (s *shard) bucket(k *Key) *atomic.Pointer[entry] {
	b := *s.buckets.Load()
	return &b[binary.LittleEndian.Uint64(k[8:])&uint64(len(b)-1)]
}

func (s *shard) get(c *Counter) *entry {
	for e := s.bucket(&c.Key).Load(); e != nil; e = e.next.Load() {
		if e.id == *c {
			return e
		}
	}
	return nil
}

// put needs mu.
func (s *shard) put(e *entry) {
	if b := *s.buckets.Load(); s.count >= len(b) {
		s.grow(b)
	}
	head := s.bucket(&e.id.Key)
	e.next.Store(head.Load())
	head.Store(e)
	s.count++
}

// grow needs mu.
func (s *shard) grow(old []atomic.Pointer[entry]) {
	wide := make([]atomic.Pointer[entry], 2*len(old))
	mask := uint64(len(wide) - 1)
	for i := range old {
		for e := old[i].Load(); e != nil; {
			next := e.next.Load()
			head := &wide[binary.LittleEndian.Uint64(e.id.Key[8:])&mask]
			e.next.Store(head.Load())
			head.Store(e)
			e = next
		}
	}
	s.buckets.Store(&wide)
}

// drop needs mu and the entry's own lock.
func (s *shard) drop(e *entry) {
	at := s.bucket(&e.id.Key)
	for at.Load() != nil {
		if at.Load() == e {
			at.Store(e.next.Load())
			s.count--
			break
		}
		at = &at.Load().next
	}
	e.dead = true
	e.release()
}

// each calls fn for every entry; it needs mu. fn may drop the entry it is given.
func (s *shard) each(fn func(*entry) bool) {
	b := *s.buckets.Load()
	for i := range b {
		for e := b[i].Load(); e != nil; {
			next := e.next.Load()
			if !fn(e) {
				return
			}
			e = next
		}
	}
}

func (e *entry) release() {
	if e.slot != nil {
		e.slot.Free()
		e.slot = nil
	}
}

func (l *Limiter) shard(k *Key) *shard { return &l.shards[k[0]%shardCount] }

// find gives the counter, making it if it is new.
func (l *Limiter) find(c Counter, local bool, nanos int64) *entry {
	s := l.shard(&c.Key)
	if e := s.get(&c); e != nil {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.get(&c); e != nil {
		return e
	}
	if s.count >= max(1, l.o.Max/shardCount) {
		l.evict(s, nanos)
	}
	e := &entry{id: c, serial: l.serial.Add(1), local: local, window: never, prevWindow: never}
	s.put(e)
	return e
}

// acquire is find, locked and in the window of now.
func (l *Limiter) acquire(c Counter, local bool, nanos int64) *entry {
	for {
		e := l.find(c, local, nanos)
		e.mu.Lock()
		if !e.dead {
			l.roll(e, nanos)
			return e
		}
		e.mu.Unlock()
	}
}

// roll brings a locked entry to the window of now. A newer window starts from
// nothing. An older one, which only a clock set back can bring, is never a fresh
// quota: within the jitter the entry stays in the newer window, beyond it the
// entry goes back and takes its counts along.
func (l *Limiter) roll(e *entry, nanos int64) {
	w := number(nanos, int64(e.id.Window))
	switch {
	case w == e.window:
		return
	case w > e.window:
		l.enter(e, w)
	case e.start()-nanos <= int64(jitter):
		return
	default:
		used := e.used
		if w == e.prevWindow {
			used += e.prevUsed
		}
		remote := e.remote
		e.release()
		e.window, e.used, e.remote, e.gen = w, used, remote, 0
		e.until = min(e.until, e.end())
		e.prevWindow, e.prevUsed = never, 0
		l.back(e)
		l.note(e)
	}
}

// enter starts a newer window.
func (l *Limiter) enter(e *entry, w int64) {
	e.release()
	e.prevWindow, e.prevUsed = e.window, e.used
	e.window, e.used, e.remote, e.gen = w, 0, 0, 0
	// What is counted from here on was counted after the reset, and says so: read
	// back after a restart it is not taken for what the reset meant.
	if gen := l.resets.of(e.id.Key); gen >= e.start() {
		e.gen = gen
	}
	l.back(e)
}

// back gives a long window its place in the Backing.
func (l *Limiter) back(e *entry) {
	if l.o.Backing == nil || e.id.Window < LongWindow {
		return
	}
	slot, err := l.o.Backing.Acquire(State{Counter: e.id, Number: e.window, Gen: e.gen, Used: e.used})
	if err != nil {
		// The Backing has told its owner; counting goes on in memory.
		l.unbacked.Add(1)
		return
	}
	e.slot = slot
}

// add counts n on a locked entry.
func (l *Limiter) add(e *entry, c *Check, n int64) {
	if e.used > math.MaxInt64/4-n {
		n = 0
	}
	e.used += n
	e.limit = c.Limit
	if e.slot != nil {
		e.slot.Set(e.used)
	}
	l.note(e)
}

// note puts a locked entry on the list of changes.
func (l *Limiter) note(e *entry) {
	if !l.o.Track || e.local || e.dirty {
		return
	}
	e.dirty = true
	for {
		head := l.dirty.Load()
		e.nextDirty = head
		if l.dirty.CompareAndSwap(head, e) {
			return
		}
	}
}

// evict makes room in a full shard: first whatever belongs to past windows,
// otherwise the least used of a few, preferring those that are not kept in the
// Backing. It needs the shard's lock.
func (l *Limiter) evict(s *shard, nanos int64) {
	if l.sweep(s, nanos, 0) > 0 {
		return
	}
	var victim *entry
	seen := 0
	s.each(func(e *entry) bool {
		seen++
		if victim == nil || e.rank() < victim.rank() {
			victim = e
		}
		return seen < 16
	})
	if victim != nil {
		victim.mu.Lock()
		s.drop(victim)
		victim.mu.Unlock()
		l.evicted.Add(1)
	}
}

// rank orders entries by how much is lost with them.
func (e *entry) rank() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.slot != nil {
		return math.MaxInt64/2 + e.used
	}
	return e.used
}

// sweep drops the entries of windows that ended at least grace ago.
func (l *Limiter) sweep(s *shard, nanos, grace int64) int {
	n := 0
	s.each(func(e *entry) bool {
		e.mu.Lock()
		if e.window != never && e.end()+min(grace, int64(e.id.Window)) <= nanos && e.until <= nanos {
			s.drop(e)
			n++
		}
		e.mu.Unlock()
		return true
	})
	return n
}
