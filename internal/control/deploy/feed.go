package deploy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

const (
	heartbeat = time.Second // of a stream without news
	page      = 500         // items of one delta
	pageBytes = 4 << 20     // of bodies in one delta
)

// Feed is what gateways follow. Those of this process call it directly, the
// others through Server; both leave the same rows.
type Feed struct {
	log feedLog
	now func() time.Time
}

// NewFeed makes the feed of the log.
func NewFeed(log feedLog) *Feed { return &Feed{log: log, now: time.Now} }

// Follow hands the gateway every delta after a version, in order, until ctx
// ends or fn fails. A full snapshot comes in several deltas. Without news fn
// gets an empty delta every second.
func (f *Feed) Follow(ctx context.Context, gw apim.GatewayNode, after snapshot.Version, fn func(snapshot.Delta) error) error {
	wake, cancel := f.log.Wake()
	defer cancel()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	first := true
	for {
		d, more, err := f.log.Items(ctx, after, gw.Labels, page)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("follow: %w", err)
		}
		if first || d.Full || len(d.Items) > 0 || d.Version != after {
			if err := f.send(ctx, d, fn); err != nil {
				return err
			}
			after, first = d.Version, false
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-tick.C:
			if err := fn(snapshot.Delta{Version: after}); err != nil {
				return err
			}
		}
	}
}

// send cuts a full snapshot into pieces of bounded size, which belong together.
// Any other delta is a page of the log already, and never half of a version.
func (f *Feed) send(ctx context.Context, d snapshot.Delta, fn func(snapshot.Delta) error) error {
	items, full := d.Items, d.Full
	for {
		n, bytes := 0, 0
		for n < len(items) && n < page && bytes < pageBytes {
			bytes += len(items[n].Body)
			n++
		}
		if !d.Full {
			n = len(items) // a page of the log, and never half of a version
		}
		out := snapshot.Delta{Version: d.Version, Full: full, Items: items[:n]}
		items, full = items[n:], false
		out.More = d.Full && len(items) > 0
		if err := fn(out); err != nil {
			return err
		}
		if len(items) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// Ack records what a gateway runs, and that it is alive now.
func (f *Feed) Ack(ctx context.Context, gw apim.GatewayNode) error {
	gw.LastSeen = f.now().UnixMilli()
	return f.log.SaveGateway(ctx, gw)
}

// Body gives a body by its hash.
func (f *Feed) Body(ctx context.Context, hash string) ([]byte, error) {
	return f.log.Body(ctx, hash)
}

func labelled(g apim.GatewayNode, env string) bool { return slices.Contains(g.Labels, env) }

// failedAPI reports whether the gateway named the API among what does not compile.
func failedAPI(g apim.GatewayNode, api apim.APIID) bool {
	name := snapshot.Key{Kind: snapshot.KindAPI, ID: string(api)}.String()
	return slices.ContainsFunc(g.Failed, func(line string) bool {
		rest, ok := strings.CutPrefix(line, name)
		return ok && (rest == "" || rest[0] == ':' || rest[0] == '@')
	})
}
