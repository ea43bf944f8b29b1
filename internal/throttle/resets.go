package throttle

import (
	"sync"
	"sync/atomic"
	"time"
)

// resetsKept is how long a reset is remembered for counters that do not exist
// yet: longer than the longest usual window.
const resetsKept = 400 * 24 * time.Hour

// resets remembers the latest reset of each key. Nearly every limiter has none,
// which costs a counter that begins a window one atomic read.
type resets struct {
	n  atomic.Int64
	mu sync.Mutex
	at map[Key]int64 // Unix nanoseconds
}

func (r *resets) note(k Key, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[Key]int64{}
	}
	r.at[k] = max(r.at[k], at)
	r.n.Store(int64(len(r.at)))
}

// of is the moment of the latest reset of k; 0 if there was none.
func (r *resets) of(k Key) int64 {
	if r.n.Load() == 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[k]
}

// forget drops resets before a moment.
func (r *resets) forget(before int64) {
	if r.n.Load() == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, at := range r.at {
		if at < before {
			delete(r.at, k)
		}
	}
	r.n.Store(int64(len(r.at)))
}
