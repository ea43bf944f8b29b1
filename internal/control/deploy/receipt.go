package deploy

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// ReceiptOptions of the receipts.
type ReceiptOptions struct {
	Log      receiptLog
	Logger   *slog.Logger
	Patience time.Duration // 0: Patience
}

// Receipts tell writers which gateways run what they wrote. One reader of the
// gateways' rows serves all who wait.
type Receipts struct {
	o   ReceiptOptions
	now func() time.Time

	mu      sync.Mutex
	view    view
	changed chan struct{} // closed when view has been replaced
	heads   []headAt      // oldest first, the first at least Patience old if there is one
}

type view struct {
	ok       bool
	gateways []apim.GatewayNode
}

type headAt struct {
	v  snapshot.Version
	at time.Time
}

// NewReceipts makes receipts; Run must run while they are waited for.
func NewReceipts(o ReceiptOptions) *Receipts {
	if o.Patience <= 0 {
		o.Patience = Patience
	}
	return &Receipts{o: o, now: time.Now, changed: make(chan struct{})}
}

// Run keeps the view of the gateways until ctx ends.
func (r *Receipts) Run(ctx context.Context) error {
	wake, cancel := r.o.Log.Wake()
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	failing := false
	for {
		if err := r.refresh(ctx); err != nil && ctx.Err() == nil {
			if !failing {
				r.o.Logger.ErrorContext(ctx, "gateways unknown", "err", err)
			}
			failing = true
		} else {
			failing = false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-tick.C:
		}
	}
}

func (r *Receipts) refresh(ctx context.Context) error {
	gws, err := r.o.Log.Gateways(ctx)
	if err != nil {
		return err
	}
	head, err := r.o.Log.Head(ctx)
	if err != nil {
		return err
	}
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view = view{ok: true, gateways: gws}
	for len(r.heads) > 1 && now.Sub(r.heads[1].at) >= r.o.Patience {
		r.heads = r.heads[1:]
	}
	if n := len(r.heads); n == 0 || r.heads[n-1].v != head {
		r.heads = append(r.heads, headAt{head, now})
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// look gives the present view, what must have been run to count as current, and
// a channel that closes with the next view.
func (r *Receipts) look() (view, snapshot.Version, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var floor snapshot.Version
	for now := r.now(); len(r.heads) > 1 && now.Sub(r.heads[1].at) >= r.o.Patience; {
		r.heads = r.heads[1:]
	}
	if len(r.heads) > 0 {
		floor = r.heads[0].v
	}
	return r.view, floor, r.changed
}

// Wait gives the receipt of committed changes: it waits until they have a
// version and every gateway that was alive and current runs it, but no longer
// than the patience. Gateways that did not answer in time are named, also when
// they fell silent meanwhile, and Complete is false. Changes that gateways need
// not know of make a receipt without a version. An error means that the log
// could not be read.
func (r *Receipts) Wait(ctx context.Context, changeIDs []int64) (snapshot.Receipt, error) {
	start := r.now()
	if len(changeIDs) == 0 {
		return snapshot.Receipt{Complete: true}, nil
	}
	timeout := time.NewTimer(r.o.Patience)
	defer timeout.Stop()
	wake, cancel := r.o.Log.Wake()
	defer cancel()
	first, floor, _ := r.look()
	expected := map[string]bool{} // gateways that were current when the wait began
	if first.ok {
		for _, g := range r.serving(first) {
			expected[g.ID] = current(g, floor)
		}
	}
	receipt := snapshot.Receipt{}
	given := false
	acked := map[string]snapshot.Ack{}
	for {
		now, floor, changed := r.look()
		if !given {
			v, all, err := r.o.Log.VersionsOf(ctx, changeIDs)
			if err != nil {
				return receipt, err
			}
			receipt.Version, given = v, all
			if given && v == (snapshot.Version{}) {
				return snapshot.Receipt{Complete: true, Elapsed: r.now().Sub(start)}, nil
			}
		}
		if !first.ok && now.ok { // the process has just started
			first = now
			for _, g := range r.serving(now) {
				expected[g.ID] = current(g, floor)
			}
		}
		waiting := !given || !now.ok
		for _, g := range r.asked(now, expected) {
			v, err := snapshot.ParseVersion(g.Version)
			if given && err == nil && v.Compare(receipt.Version) >= 0 {
				if _, ok := acked[g.ID]; !ok {
					acked[g.ID] = snapshot.Ack{Gateway: g.ID, Acked: true, After: r.now().Sub(start), Failed: g.Failed}
				}
				continue
			}
			if expected[g.ID] {
				waiting = true
			}
		}
		if !waiting {
			return r.finish(receipt, given, now, expected, acked, start), nil
		}
		var wakeIf <-chan struct{}
		if !given {
			wakeIf = wake
		}
		select {
		case <-ctx.Done():
			return r.finish(receipt, given, now, expected, acked, start), nil
		case <-timeout.C:
			now, _, _ := r.look()
			return r.finish(receipt, given, now, expected, acked, start), nil
		case <-changed:
		case <-wakeIf:
		}
	}
}

func (r *Receipts) finish(out snapshot.Receipt, given bool, now view, expected map[string]bool, acked map[string]snapshot.Ack, start time.Time) snapshot.Receipt {
	out.Complete = given && now.ok
	out.Elapsed = r.now().Sub(start)
	for _, g := range r.asked(now, expected) {
		a, ok := acked[g.ID]
		if !ok {
			// What it serves is older.
			a = snapshot.Ack{Gateway: g.ID, Failed: g.Failed}
			out.Complete = false
		}
		out.Gateways = append(out.Gateways, a)
	}
	return out
}

// serving are the gateways with a live lease that serve calls.
func (r *Receipts) serving(v view) []apim.GatewayNode {
	var out []apim.GatewayNode
	oldest := r.now().Add(-Lease).UnixMilli()
	for _, g := range v.gateways {
		if g.Ready && g.LastSeen >= oldest {
			out = append(out, g)
		}
	}
	return out
}

// asked are the gateways that a receipt speaks of: those that serve, and those
// that were expected to answer and fell silent. One that said farewell is neither.
func (r *Receipts) asked(v view, expected map[string]bool) []apim.GatewayNode {
	var out []apim.GatewayNode
	oldest := r.now().Add(-Lease).UnixMilli()
	for _, g := range v.gateways {
		if g.Ready && (g.LastSeen >= oldest || expected[g.ID]) {
			out = append(out, g)
		}
	}
	return out
}

// current reports whether a gateway keeps up: it runs what was the newest
// version a while ago. One that fell behind is not waited for.
func current(g apim.GatewayNode, floor snapshot.Version) bool {
	v, err := snapshot.ParseVersion(g.Version)
	return err == nil && v.Compare(floor) >= 0
}

// Counts says how an API does in an environment: how many gateways with a live
// lease there are, how many of them run the newest version, and how many of
// those could not compile the API.
type Counts struct {
	Live, Deployed, Failed int
}

// Status counts the gateways of an environment for an API.
func (r *Receipts) Status(ctx context.Context, api apim.APIID, env string) (Counts, error) {
	gws, err := r.o.Log.Gateways(ctx)
	if err != nil {
		return Counts{}, err
	}
	head, err := r.o.Log.Head(ctx)
	if err != nil {
		return Counts{}, err
	}
	var c Counts
	for _, g := range r.serving(view{gateways: gws}) {
		if !labelled(g, env) {
			continue
		}
		c.Live++
		switch v, err := snapshot.ParseVersion(g.Version); {
		case failedAPI(g, api):
			c.Failed++
		case err == nil && v.Compare(head) >= 0:
			c.Deployed++
		}
	}
	return c, nil
}
