package deploy

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// leaseName is the lease without which the log publishes nothing.
const leaseName = "relay"

// batch is how many changes get their versions in one transaction at most.
const batch = 256

// RelayOptions of a relay.
type RelayOptions struct {
	Holder string // unique among control processes
	Source Source
	Log    relayLog
	Box    *seal.Box
	Logger *slog.Logger
	TTL    time.Duration // of the lease; 0: Lease
}

// Relay gives committed changes their versions, in order, and translates them
// into snapshot items. Every control process runs one; the one that holds the
// lease works, the others wait for it to fall silent.
type Relay struct {
	o    RelayOptions
	log  *slog.Logger
	held atomic.Bool

	mu      sync.Mutex // one piece of work at a time
	leased  bool       // may have a lease to give back
	renewed time.Time
	idx     *index // nil until read, under the lease
	stalled bool
}

// NewRelay makes a relay; Run starts it.
func NewRelay(o RelayOptions) *Relay {
	if o.TTL <= 0 {
		o.TTL = Lease
	}
	return &Relay{o: o, log: o.Logger}
}

// Leading reports whether this relay holds the lease.
func (r *Relay) Leading() bool { return r.held.Load() }

// Run works until ctx ends, then gives the lease back.
func (r *Relay) Run(ctx context.Context) error {
	wake, cancel := r.o.Log.Wake()
	defer cancel()
	tick := time.NewTicker(r.o.TTL / 3)
	defer tick.Stop()
	defer r.release(ctx)
	for ctx.Err() == nil {
		again := r.work(ctx)
		if again {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-wake:
			if !r.held.Load() {
				// Only the passing of time brings the lease, or its release: not every
				// change is a reason to ask for it.
				if !sleepFor(ctx, 200*time.Millisecond) {
					return nil
				}
			}
		}
	}
	return nil
}

// work publishes what is pending. It reports whether there may be more.
func (r *Relay) work(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	more, err := r.step(ctx)
	switch {
	case err == nil:
		if r.stalled {
			r.log.InfoContext(ctx, "relay goes on")
		}
		r.stalled = false
		return more
	case ctx.Err() != nil:
		return false
	}
	// Whether the lease is lost or the store in trouble: nothing is known any more.
	r.lose()
	if !r.stalled {
		r.log.ErrorContext(ctx, "relay stalled", "holder", r.o.Holder, "err", err)
	}
	r.stalled = true
	return false
}

func (r *Relay) step(ctx context.Context) (more bool, err error) {
	held, err := r.lease(ctx)
	if err != nil || !held {
		return false, err
	}
	if r.idx == nil {
		idx, err := r.readIndex(ctx)
		if err != nil {
			return false, err
		}
		r.idx = idx
	}
	pending, err := r.o.Log.Pending(ctx, batch)
	if err != nil {
		return false, err
	}
	if len(pending) == batch {
		return true, r.publish(ctx, pending, nil)
	}
	if r.idx.revision != translation {
		return false, r.renew(ctx, pending)
	}
	if len(pending) == 0 {
		return false, nil
	}
	return false, r.publish(ctx, pending, nil)
}

// lease takes or renews the lease. While it is held it is renewed before a
// third of it has passed.
func (r *Relay) lease(ctx context.Context) (bool, error) {
	if r.held.Load() && time.Since(r.renewed) < r.o.TTL/4 {
		return true, nil
	}
	start := time.Now()
	held, err := r.o.Log.Lease(ctx, leaseName, r.o.Holder, r.o.TTL)
	if err != nil {
		return false, err
	}
	if !held {
		if r.held.Load() {
			r.log.WarnContext(ctx, "relay lost its lease", "holder", r.o.Holder)
		}
		r.lose()
		return false, nil
	}
	if !r.held.Load() {
		r.idx = nil // another may have published meanwhile
		r.log.DebugContext(ctx, "relay leads", "holder", r.o.Holder)
	}
	r.held.Store(true)
	r.leased, r.renewed = true, start
	return true, nil
}

func (r *Relay) lose() {
	r.held.Store(false)
	r.idx = nil
}

func (r *Relay) release(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.leased {
		return
	}
	r.lose()
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer stop()
	if err := r.o.Log.ReleaseLease(ctx, leaseName, r.o.Holder); err != nil {
		r.log.WarnContext(ctx, "lease of the relay not released", "err", err)
	}
}

// publish translates and publishes a batch, together with further items.
func (r *Relay) publish(ctx context.Context, pending []apim.Change, further []snapshot.Item) error {
	t := &translator{src: r.o.Source, box: r.o.Box, log: r.log, idx: r.idx}
	out := make([]apim.Versioned, 0, len(pending))
	done := make(map[string]int64, len(pending)) // units to the change they went with
	var all []snapshot.Item
	for _, c := range pending {
		v := apim.Versioned{Change: c}
		// The state of now includes every change of the batch, so each thing is
		// made once, with the first change that touched it.
		u := unit(c)
		if u != "" && done[u] != 0 {
			v.With = done[u]
		} else if u != "" {
			items, err := t.items(ctx, c)
			if err != nil {
				return err
			}
			v.Items = items
			all = append(all, items...)
			done[u] = c.ID
		}
		out = append(out, v)
	}
	further = append(further, r.idx.carry...)
	last := &out[len(out)-1]
	last.Items = append(last.Items, further...)
	all = append(all, further...)
	if _, err := r.o.Log.Publish(ctx, r.o.Holder, out); err != nil {
		return err
	}
	r.idx.carry = nil
	if err := r.idx.published(all); err != nil {
		return err
	}
	for _, c := range pending {
		if c.Kind == "apikey" && c.Op == "delete" {
			delete(r.idx.apiKeys, c.Object)
		}
	}
	return nil
}

// readIndex reads the published items of all environments.
func (r *Relay) readIndex(ctx context.Context) (*index, error) {
	idx := newIndex()
	err := r.eachItem(ctx, func(it snapshot.Item) error { return idx.published([]snapshot.Item{it}) })
	if err != nil {
		return nil, fmt.Errorf("read published items: %w", err)
	}
	return idx, nil
}

// eachItem calls fn with every published item of every environment there is.
func (r *Relay) eachItem(ctx context.Context, fn func(snapshot.Item) error) error {
	known := map[string]bool{controlEnv: true, "Default": true}
	for e, err := range each(ctx, r.o.Source.Environments, apim.Query{}) {
		if err != nil {
			return err
		}
		known[e.Name] = true
	}
	for d, err := range each(ctx, r.o.Source.Deployments, apim.Query{}) {
		if err != nil {
			return err
		}
		known[d.Environment] = true
	}
	envs := make([]string, 0, len(known))
	for e := range known {
		envs = append(envs, e)
	}
	after := snapshot.Version{}
	for {
		d, more, err := r.o.Log.Items(ctx, after, envs, 1000)
		if err != nil {
			return err
		}
		for _, it := range d.Items {
			if !it.Deleted && it.Body == nil && it.Size > 0 {
				if it.Body, err = r.o.Log.Body(ctx, it.Hash); missing(err) {
					continue // replaced meanwhile, by a relay that will soon take over
				} else if err != nil {
					return err
				}
			}
			if err := fn(it); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		after = d.Version
	}
}

func sleepFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
