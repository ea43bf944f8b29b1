package store

import "sync"

// wakers are the followers of the change log in this process.
type wakers struct {
	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

func (w *wakers) subscribe() (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subs == nil {
		w.subs = map[chan struct{}]struct{}{}
	}
	w.subs[c] = struct{}{}
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.subs, c)
	}
}

// signal wakes all; one that has a signal waiting needs no second.
func (w *wakers) signal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
