package http1

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Signal is a context that ends when a client's connection does. There is one
// per connection, and it costs a request nothing: a client call finds it with
// Value and hooks itself in without allocating.
type Signal struct {
	ended atomic.Bool
	slot  atomic.Pointer[upstream]
	mu    sync.Mutex
	done  chan struct{}
	hooks map[*hook]struct{}
}

type hook struct{ f func() }

type signalKey struct{}

// Deadline implements context.Context; there is none.
func (s *Signal) Deadline() (time.Time, bool) { return time.Time{}, false }

// Err is context.Canceled after the connection's end.
func (s *Signal) Err() error {
	if s.ended.Load() {
		return context.Canceled
	}
	return nil
}

// Value gives the signal itself to this package.
func (s *Signal) Value(key any) any {
	if _, ok := key.(signalKey); ok {
		return s
	}
	return nil
}

// Done is closed at the connection's end.
func (s *Signal) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.ended.Load() {
			close(s.done)
		}
	}
	return s.done
}

// AfterFunc has f called in its own goroutine at the connection's end; package
// context uses it for contexts derived from this one.
func (s *Signal) AfterFunc(f func()) (stop func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended.Load() {
		go f()
		return func() bool { return false }
	}
	h := &hook{f}
	if s.hooks == nil {
		s.hooks = make(map[*hook]struct{})
	}
	s.hooks[h] = struct{}{}
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, ok := s.hooks[h]
		delete(s.hooks, h)
		return ok
	}
}

// fire ends the context.
func (s *Signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended.CompareAndSwap(false, true) {
		return
	}
	if u := s.slot.Swap(nil); u != nil {
		u.abort()
	}
	if s.done != nil {
		close(s.done)
	}
	for h := range s.hooks {
		go h.f()
	}
	s.hooks = nil
}

// attach has u aborted at the end. taken is false if another call holds the
// place; alive is false if the end has come.
func (s *Signal) attach(u *upstream) (taken, alive bool) {
	if !s.slot.CompareAndSwap(nil, u) {
		return false, true
	}
	if s.ended.Load() {
		s.slot.CompareAndSwap(u, nil)
		return true, false
	}
	return true, true
}

// detach reports whether u was left alone. If not it may be aborted at any
// moment and must not be used again.
func (s *Signal) detach(u *upstream) bool { return s.slot.CompareAndSwap(u, nil) }

// signalOf is the signal that decides when ctx ends, if it is one alone.
func signalOf(ctx context.Context) *Signal {
	if s, ok := ctx.(*Signal); ok {
		return s
	}
	s, ok := ctx.Value(signalKey{}).(*Signal)
	if !ok || ctx.Done() != s.Done() {
		return nil
	}
	return s
}
