package deploy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// translation counts the ways in which this code has translated nouns. Raise it
// when an item's content changes for an unchanged noun: the first relay of the
// new code then makes all items anew.
const translation = 2

// ErrNotLeading says that another control process holds the relay's lease.
var ErrNotLeading = errors.New("another control process holds the relay's lease")

// Rebuild makes all items anew from the nouns and publishes those that differ,
// and the end of those that nothing stands for any more. Doing it twice
// publishes nothing the second time. ErrNotLeading when the lease is elsewhere.
func (r *Relay) Rebuild(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, err := r.lease(ctx)
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	if !held {
		return fmt.Errorf("rebuild: %w", ErrNotLeading)
	}
	if r.idx, err = r.readIndex(ctx); err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	differ, err := r.differing(ctx)
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	return r.publishAlone(ctx, differ)
}

// renew makes the items of a log that another translation filled, or none. The
// few of a first start travel with the changes that made them necessary.
func (r *Relay) renew(ctx context.Context, pending []apim.Change) error {
	differ, err := r.differing(ctx)
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	if len(pending) == 0 {
		if len(differ) == 1 && differ[0].Key == noteKey {
			r.idx.carry, r.idx.revision = differ, translation // not worth a version of its own
			return nil
		}
		return r.publishAlone(ctx, differ)
	}
	if len(differ) <= 4*batch {
		return r.publish(ctx, pending, differ)
	}
	if err := r.publish(ctx, pending, nil); err != nil {
		return err
	}
	return r.publishAlone(ctx, differ)
}

// publishAlone publishes items that no change stands for.
func (r *Relay) publishAlone(ctx context.Context, items []snapshot.Item) error {
	for rest := items; len(rest) > 0; {
		n := min(len(rest), 2*batch)
		if held, err := r.lease(ctx); err != nil || !held {
			return fmt.Errorf("rebuild: %w", errors.Join(ErrNotLeading, err))
		}
		v := apim.Versioned{Change: apim.Change{Kind: "rebuild", Op: "update"}, Items: rest[:n]}
		if _, err := r.o.Log.Publish(ctx, r.o.Holder, []apim.Versioned{v}); err != nil {
			return fmt.Errorf("rebuild: %w", err)
		}
		if err := r.idx.published(rest[:n]); err != nil {
			return fmt.Errorf("rebuild: %w", err)
		}
		rest = rest[n:]
	}
	return nil
}

// differing makes everything anew and gives what differs from the published
// items. The caller holds mu and the lease.
func (r *Relay) differing(ctx context.Context) ([]snapshot.Item, error) {
	start := time.Now()
	was := map[snapshot.Key]string{}
	if err := r.eachItem(ctx, func(it snapshot.Item) error {
		if !it.Deleted {
			was[it.Key] = it.Hash
		}
		return nil
	}); err != nil {
		return nil, err
	}
	t := &translator{src: r.o.Source, box: r.o.Box, log: r.log, idx: r.idx}
	var differ []snapshot.Item
	seen := map[snapshot.Key]bool{}
	take := func(it snapshot.Item) {
		if it.Deleted || seen[it.Key] {
			return
		}
		seen[it.Key] = true
		if was[it.Key] != it.Hash {
			differ = append(differ, it)
		}
	}
	failed := map[string]bool{} // items whose noun is bad stay as they are
	if err := t.all(ctx, take, func(k snapshot.Key) { failed[string(k.Kind)+"/"+k.ID] = true }); err != nil {
		return nil, err
	}
	for k := range was {
		if k != noteKey && !seen[k] && !failed[string(k.Kind)+"/"+k.ID] {
			differ = append(differ, gone(k))
		}
	}
	// The note comes last: a rebuild that was cut short is done again.
	mark, err := snapshot.Make(noteKey, note{Revision: translation})
	if err != nil {
		return nil, err
	}
	take(mark)
	level := slog.LevelInfo
	if len(was) == 0 {
		level = slog.LevelDebug // a first start, and no news
	}
	r.log.Log(ctx, level, "snapshot rebuilt", "items", len(seen), "changed", len(differ), "took", time.Since(start))
	return differ, nil
}

// all makes every item there should be. bad names nouns that cannot be translated.
func (t *translator) all(ctx context.Context, take func(snapshot.Item), bad func(snapshot.Key)) error {
	put := func(it snapshot.Item, err error) error {
		switch {
		case errors.Is(err, errUntranslatable):
			t.log.ErrorContext(ctx, "gateways keep the former state", "err", err)
			return nil
		case err != nil:
			return err
		}
		take(it)
		return nil
	}
	apis := map[apim.APIID]bool{}
	for d, err := range each(ctx, t.src.Deployments, apim.Query{}) {
		if err != nil {
			return err
		}
		if apis[d.API] {
			continue
		}
		apis[d.API] = true
		items, err := t.api(ctx, d.API, "")
		if err != nil {
			return err
		}
		if len(items) == 0 {
			bad(snapshot.Key{Kind: snapshot.KindAPI, ID: string(d.API)})
		}
		for _, it := range items {
			take(it)
		}
	}
	for k, err := range each(ctx, t.src.KeyManagers, apim.Query{}) {
		if err == nil {
			it, kerr := t.keyManagerItem(ctx, k)
			if errors.Is(kerr, errUntranslatable) {
				bad(kmKey(k.ID))
			}
			err = put(it, kerr)
		}
		if err != nil {
			return err
		}
	}
	for p, err := range each(ctx, t.src.Policies, apim.Query{}) {
		if err == nil {
			it, perr := policyItem(p)
			if kind, ok := policyKind(p.Level); ok && errors.Is(perr, errUntranslatable) {
				bad(policyKey(kind, p.Tenant, p.Name))
			}
			err = put(it, perr)
		}
		if err != nil {
			return err
		}
	}
	revoked, err := t.src.Revocations.Revocations(ctx, time.Now())
	if err != nil {
		return err
	}
	for _, v := range revoked {
		if err := put(revocationItem(v)); err != nil {
			return err
		}
	}
	return errors.Join(
		every(ctx, t.src.Tenants, tenantItem, put),
		every(ctx, t.src.Environments, environmentItem, put),
		every(ctx, t.src.Applications, applicationItem, put),
		every(ctx, t.src.KeyMappings, keyMappingItem, put),
		every(ctx, t.src.Subscriptions, subscriptionItem, put),
		every(ctx, t.src.APIKeys, apiKeyItem, put),
	)
}

func every[T any, ID ~string](ctx context.Context, r Reader[T, ID], item func(*T) (snapshot.Item, error), put func(snapshot.Item, error) error) error {
	for v, err := range each(ctx, r, apim.Query{}) {
		if err == nil {
			err = put(item(v))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
