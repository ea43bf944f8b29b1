package throttle

import "time"

// State is one counter in one window, as it is saved and restored.
type State struct {
	Counter
	Number int64 // of the window
	Gen    int64 // moment of the latest reset within the window, Unix nanoseconds; 0: none
	Used   int64
}

// Slot is the place of one counter in a Backing. Set and Free are called under
// the counter's lock.
type Slot interface {
	Set(used int64)
	Free()
}

// Backing keeps counters of long windows beyond the process. What Set wrote must
// survive a kill of the process right after it returned.
type Backing interface {
	// Each calls fn with everything kept, once, at start.
	Each(fn func(State, Slot))
	// Acquire makes a place that holds the state.
	Acquire(State) (Slot, error)
}

// adopt takes over what the Backing kept. Of two windows of one counter the
// newer wins, of two generations the newer, of two counts the larger: a kill
// between the writing of a new place and the freeing of the old leaves both.
func (l *Limiter) adopt(st State, slot Slot) {
	if st.Window <= 0 {
		slot.Free()
		return
	}
	e := l.find(st.Counter, false, 0)
	e.mu.Lock()
	defer e.mu.Unlock()
	older := st.Number < e.window ||
		st.Number == e.window && (st.Gen < e.gen || st.Gen == e.gen && st.Used <= e.used)
	if e.window != never && older {
		slot.Free()
		return
	}
	e.release()
	e.window, e.gen, e.used, e.slot = st.Number, st.Gen, st.Used, slot
	l.note(e)
}

// Restore puts saved counters back, for replay and simulation.
func (l *Limiter) Restore(states []State) {
	for _, st := range states {
		if st.Window <= 0 {
			continue
		}
		e := l.find(st.Counter, false, 0)
		e.mu.Lock()
		if !e.dead && st.Number >= e.window {
			e.release()
			e.window, e.gen, e.used = st.Number, st.Gen, st.Used
			l.back(e)
			l.note(e)
		}
		e.mu.Unlock()
	}
}

// Snapshot is a copy of every counter whose window has not ended at now.
func (l *Limiter) Snapshot(now time.Time) []State {
	var out []State
	l.live(now, func(e *entry) {
		out = append(out, State{Counter: e.id, Number: e.window, Gen: e.gen, Used: e.used})
	})
	return out
}

func (l *Limiter) live(now time.Time, fn func(*entry)) {
	nanos := l.nanos(now)
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		s.each(func(e *entry) bool {
			e.mu.Lock()
			if e.window != never && e.end() > nanos {
				fn(e)
			}
			e.mu.Unlock()
			return true
		})
		s.mu.Unlock()
	}
}

// Sweep drops counters of past windows. Its owner calls it every few seconds.
func (l *Limiter) Sweep(now time.Time) int {
	nanos, n := l.nanos(now), 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += l.sweep(s, nanos, int64(10*time.Second))
		s.mu.Unlock()
	}
	l.resets.forget(nanos - int64(resetsKept))
	return n
}

// Stats is the state of the limiter itself.
func (l *Limiter) Stats() Stats {
	st := Stats{Evicted: l.evicted.Load(), Unbacked: l.unbacked.Load()}
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		st.Counters += s.count
		s.mu.Unlock()
	}
	return st
}

// Reset clears what was counted under a key in the window that holds at, in
// every kind and length of window, here and (by exchange) everywhere. It may be
// repeated: the same moment, or an earlier one, is ignored, and so is a moment
// in a window that is over.
func (l *Limiter) Reset(now time.Time, key Key, at time.Time) {
	nanos := l.nanos(now)
	if at.UnixNano() <= 0 {
		return
	}
	l.resets.note(key, at.UnixNano())
	s := l.shard(&key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for e := s.bucket(&key).Load(); e != nil; e = e.next.Load() {
		if e.id.Key != key {
			continue
		}
		e.mu.Lock()
		if !e.dead {
			l.roll(e, nanos)
			if gen := at.UnixNano(); gen > e.gen && gen >= e.start() {
				l.reset(e, gen)
				l.note(e)
			}
		}
		e.mu.Unlock()
	}
}

func (l *Limiter) reset(e *entry, gen int64) {
	e.release()
	e.used, e.remote, e.until, e.gen = 0, 0, 0, gen
	e.prevWindow, e.prevUsed = never, 0
	l.back(e)
}

// Change is what was counted here on one counter, in total, since the window (or
// its latest reset) began. Totals instead of differences make a lost or repeated
// message harmless.
type Change struct {
	State
	Limit int64 // of the latest check
}

// Changes appends the counters that changed since the last call. Only limiters
// with Track collect them; counters of Local checks are never among them.
func (l *Limiter) Changes(buf []Change) []Change {
	e := l.dirty.Swap(nil)
	for e != nil {
		e.mu.Lock()
		next := e.nextDirty
		e.dirty, e.nextDirty = false, nil
		if e.window != never {
			buf = append(buf, e.change())
		}
		e.mu.Unlock()
		e = next
	}
	return buf
}

// All is every counter that Changes could report, changed or not.
func (l *Limiter) All(now time.Time) []Change {
	var out []Change
	l.live(now, func(e *entry) {
		if !e.local {
			out = append(out, e.change())
		}
	})
	return out
}

func (e *entry) change() Change {
	return Change{State: State{Counter: e.id, Number: e.window, Gen: e.gen, Used: e.used}, Limit: e.limit}
}

// AddRemote merges what all other nodes counted in window number of c. Counts of
// a past window, or from before the latest reset, are ignored; a newer reset than
// the one known here is carried out.
func (l *Limiter) AddRemote(now time.Time, c Counter, number, gen, others int64) {
	if c.Window <= 0 {
		return
	}
	nanos := l.nanos(now)
	if number*int64(c.Window)-nanos > int64(jitter) {
		return // a window of a future that is not near: not our clock
	}
	e := l.acquire(c, false, nanos)
	defer e.mu.Unlock()
	if number > e.window {
		l.enter(e, number)
	}
	if number < e.window || gen < e.gen {
		return
	}
	if gen > e.gen {
		l.reset(e, gen)
		l.note(e)
	}
	e.remote = max(e.remote, others)
}

// Refuse makes every check on c fail until a moment (at most the end of the
// window the traffic role means), whatever is counted here.
func (l *Limiter) Refuse(now time.Time, c Counter, gen int64, until time.Time) {
	if c.Window <= 0 {
		return
	}
	nanos := l.nanos(now)
	t := until.UnixNano()
	if t <= nanos || t-nanos > int64(c.Window)+int64(jitter) {
		return
	}
	e := l.acquire(c, false, nanos)
	defer e.mu.Unlock()
	if gen < e.gen {
		return
	}
	e.until = max(e.until, t)
}
