package keymanager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// Tokens verified lately that are kept per tenant.
const (
	superCache  = 4096
	tenantCache = 256
)

// load reads the keys of a tenant again when force is set or they are older
// than keyReload.
func (r *keyring) load(ctx context.Context, t apim.TenantID, force bool) error {
	r.mu.Lock()
	g := r.rings[t]
	now := r.k.o.Now()
	if g != nil && !force && now.Sub(g.loaded) < keyReload {
		r.mu.Unlock()
		return nil
	}
	r.mu.Unlock()
	page, err := r.k.o.SigningKeys.List(ctx, apim.In(t), apim.Query{Sort: "created"})
	if err != nil {
		if g != nil && g.set.Len() > 0 && !force {
			return nil // go on with the keys we have; the next call tries again
		}
		return fmt.Errorf("load signing keys: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g = r.rings[t]; g == nil {
		g = &ring{}
	}
	had := map[apim.KeyID]*token.Signer{}
	for _, k := range g.keys {
		had[k.row.ID] = k.signer
	}
	var keys []ringKey
	var public []token.Key
	same := true
	for _, row := range page.Items {
		if r.gone(row, now) {
			continue
		}
		signer := had[row.ID]
		if signer == nil {
			same = false
			if signer, err = r.open(row); err != nil {
				return fmt.Errorf("load signing key %s: %w", row.ID, err)
			}
		}
		keys = append(keys, ringKey{row, signer})
		public = append(public, signer.Public())
	}
	set := g.set
	if !same || len(keys) != len(g.keys) || set == nil {
		if set, err = token.NewKeySet(public...); err != nil {
			return fmt.Errorf("load signing keys: %w", err)
		}
	}
	for _, k := range g.keys {
		delete(r.owner, string(k.row.ID))
	}
	for _, k := range keys {
		r.owner[string(k.row.ID)] = t
	}
	if g.verifier == nil {
		size := tenantCache
		if t == apim.SuperTenant {
			size = superCache
		}
		g.verifier = token.NewVerifier(token.Options{MaxLength: r.k.o.TokenMaxSize, CacheSize: size})
	}
	if set != g.set {
		g.verifier.SetIssuers([]*token.Issuer{{Name: r.k.o.Issuer, Keys: set}})
	}
	g.loaded, g.keys, g.set = now, keys, set
	r.rings[t] = g
	return nil
}

// gone reports whether no token can be of the key any more.
func (r *keyring) gone(row *apim.SigningKey, now time.Time) bool {
	return !row.Retired.IsZero() && now.Sub(row.Retired) > keepRetired
}

// newest is the key of a tenant that was made last, whether in use yet or not.
func (r *keyring) newest(t apim.TenantID) *ringKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.rings[t]
	if g == nil {
		return nil
	}
	var best *ringKey
	for i := range g.keys {
		if best == nil || g.keys[i].row.NotBefore.After(best.row.NotBefore) {
			best = &g.keys[i]
		}
	}
	return best
}

// signer is the key a tenant signs with now: the newest of its own that is in
// use already, or that of carbon.super. A tenant without any is given one,
// which it uses when all gateways have had the time to learn it.
func (r *keyring) signer(ctx context.Context, t apim.TenantID) (*token.Signer, error) {
	if t == "" {
		t = apim.SuperTenant
	}
	if err := r.load(ctx, t, false); err != nil {
		return nil, err
	}
	best, first := r.current(t)
	if best != nil {
		return best, nil
	}
	if t == apim.SuperTenant {
		return nil, errors.New("sign token: no signing key is in use")
	}
	if first {
		if err := r.k.firstKey(ctx, t, r.k.o.Now().Add(r.k.o.KeyLead)); err != nil {
			r.k.o.Log.WarnContext(ctx, "tenant has no signing key of its own yet", "tenant", t, "err", err)
		}
		r.mu.Lock()
		r.rings[t].making = false
		r.mu.Unlock()
	}
	return r.signer(ctx, apim.SuperTenant)
}

// current is the key in use; first tells the one caller who has to make the
// tenant's first key.
func (r *keyring) current(t apim.TenantID) (s *token.Signer, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, now := r.rings[t], r.k.o.Now()
	var best *ringKey
	for i := range g.keys {
		k := &g.keys[i]
		if !k.row.NotBefore.After(now) && (best == nil || k.row.NotBefore.After(best.row.NotBefore)) {
			best = k
		}
	}
	if best != nil {
		return best.signer, false
	}
	if len(g.keys) == 0 && !g.making {
		g.making, first = true, true
	}
	return nil, first
}

// public is the key set a tenant publishes: all its keys that sign, will sign,
// or have signed tokens that may still be valid, and those of carbon.super that
// signed for it before its own did.
func (r *keyring) public(ctx context.Context, t apim.TenantID) (*token.KeySet, error) {
	for _, of := range []apim.TenantID{t, apim.SuperTenant} {
		if err := r.load(ctx, of, false); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.rings[t]
	if t == apim.SuperTenant {
		return g.set, nil
	}
	var start time.Time
	for _, k := range g.keys {
		if start.IsZero() || k.row.NotBefore.Before(start) {
			start = k.row.NotBefore
		}
	}
	list := g.set.Keys()
	for _, k := range r.rings[apim.SuperTenant].keys {
		if start.IsZero() || k.row.NotBefore.Before(start) {
			list = append(list, k.signer.Public())
		}
	}
	return token.NewKeySet(list...)
}

// verify checks a token of ours at a moment, whichever tenant's key signed it. A key that
// another process made a moment ago is looked for in the store.
func (r *keyring) verify(ctx context.Context, raw string, at time.Time) (*token.Verified, error) {
	kid := token.KeyIDOf(raw)
	if kid == "" {
		return nil, token.ErrUnknownKey
	}
	r.mu.Lock()
	t, known := r.owner[kid]
	r.mu.Unlock()
	if !known {
		row, err := r.k.o.SigningKeys.Get(ctx, apim.Across(apim.Platform), apim.KeyID(kid))
		if errors.Is(err, &fault.Missing) || err == nil && r.gone(row, r.k.o.Now()) {
			return nil, token.ErrUnknownKey
		}
		if err != nil {
			return nil, fmt.Errorf("find signing key: %w: %w", errKeys, err)
		}
		t = row.Tenant
	}
	if err := r.load(ctx, t, !known); err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	r.mu.Lock()
	v := r.rings[t].verifier
	r.mu.Unlock()
	return v.Verify(raw, at)
}

// errKeys marks that keys could not be read, which is no fault of a token.
var errKeys = errors.New("signing keys are out of reach")

// algorithms lists what the key set's keys sign with, each once.
func algorithms(set *token.KeySet) []string {
	out := []string{}
	for _, key := range set.Keys() {
		if !slices.Contains(out, key.Alg) {
			out = append(out, key.Alg)
		}
	}
	return out
}
