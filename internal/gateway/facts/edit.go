package facts

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// Editor makes the next state out of items.
type Editor struct {
	old          *Facts
	apps         *Edit[string, *snapshot.Application]
	keys         *Edit[Consumer, *snapshot.KeyMapping]
	subs         *Edit[Pair, *snapshot.Subscription]
	apiKeys      *Edit[[sha256.Size]byte, *Key]
	appPolicies  *Edit[Named, *Policy]
	subPolicies  *Edit[Named, *Policy]
	apiPolicies  *Edit[Named, *Policy]
	revokedIDs   *Edit[string, time.Time]
	revoked      *Edit[string, snapshot.Revocation]
	managers     map[string]*KeyManager
	tenants      map[string]bool
	environments map[string]string
	vhosts       map[string][]string

	// Issuers tells that key managers came, went or changed.
	Issuers bool
}

// Change begins the next state. With full it begins empty, but key managers
// that come back unchanged keep their identity.
func (f *Facts) Change(full bool) *Editor {
	base := *f
	if full {
		base = Facts{}
	}
	return &Editor{
		old:  f,
		apps: Begin(base.Applications), keys: Begin(base.Keys), subs: Begin(base.Subscriptions), apiKeys: Begin(base.APIKeys),
		appPolicies: Begin(base.AppPolicies), subPolicies: Begin(base.SubPolicies), apiPolicies: Begin(base.APIPolicies),
		revokedIDs: Begin(base.RevokedIDs), revoked: Begin(base.RevokedBefore),
		managers: orEmpty(maps.Clone(base.KeyManagers)), tenants: orEmpty(maps.Clone(base.Tenants)),
		environments: orEmpty(maps.Clone(base.Environments)), vhosts: orEmpty(maps.Clone(base.VHosts)),
		Issuers: full,
	}
}

func orEmpty[K comparable, V any](m map[K]V) map[K]V {
	if m == nil {
		return map[K]V{}
	}
	return m
}

// Done is the next state.
func (e *Editor) Done() *Facts {
	return &Facts{
		Applications: e.apps.Done(), Keys: e.keys.Done(), Subscriptions: e.subs.Done(), APIKeys: e.apiKeys.Done(),
		AppPolicies: e.appPolicies.Done(), SubPolicies: e.subPolicies.Done(), APIPolicies: e.apiPolicies.Done(),
		RevokedIDs: e.revokedIDs.Done(), RevokedBefore: e.revoked.Done(),
		KeyManagers: e.managers, Tenants: e.tenants, Environments: e.environments, VHosts: e.vhosts,
		Foreign: special(e.managers),
	}
}

// Apply takes one item. Kinds it does not know are ignored, as a newer control
// plane may have some. After an error the fact is as it was before, except
// that of a revocation nothing was before.
func (e *Editor) Apply(it *snapshot.Item) error {
	switch it.Kind {
	case snapshot.KindApplication:
		return put(e.apps, it.ID, it, func(v *snapshot.Application) (*snapshot.Application, error) { return v, nil })
	case snapshot.KindKey:
		km, key, ok := strings.Cut(it.ID, "/")
		if !ok {
			return errors.New("id is not key manager/consumer key")
		}
		return put(e.keys, Consumer{km, key}, it, func(v *snapshot.KeyMapping) (*snapshot.KeyMapping, error) { return v, nil })
	case snapshot.KindSubscription:
		app, api, ok := strings.Cut(it.ID, "/")
		if !ok {
			return errors.New("id is not application/API")
		}
		return put(e.subs, Pair{app, api}, it, func(v *snapshot.Subscription) (*snapshot.Subscription, error) { return v, nil })
	case snapshot.KindAPIKey:
		var sum [sha256.Size]byte
		if n, err := hex.Decode(sum[:], []byte(it.ID[:min(len(it.ID), 2*len(sum))])); err != nil || n != len(sum) || len(it.ID) != 2*n {
			return errors.New("id is not the SHA-256 of a key")
		}
		return put(e.apiKeys, sum, it, newKey)
	case snapshot.KindAppPolicy:
		return e.policy(e.appPolicies, it)
	case snapshot.KindSubPolicy:
		return e.policy(e.subPolicies, it)
	case snapshot.KindAPIPolicy:
		return e.policy(e.apiPolicies, it)
	case snapshot.KindKeyManager:
		return e.manager(it)
	case snapshot.KindRevocation:
		return e.revocation(it)
	case snapshot.KindTenant:
		if it.Deleted {
			delete(e.tenants, it.ID)
			return nil
		}
		var t snapshot.Tenant
		if err := json.Unmarshal(it.Body, &t); err != nil {
			return err
		}
		e.tenants[it.ID] = t.Active
	case snapshot.KindEnvironment:
		if it.Deleted {
			delete(e.environments, it.ID)
			delete(e.vhosts, it.ID)
			return nil
		}
		var v snapshot.Environment
		if err := json.Unmarshal(it.Body, &v); err != nil {
			return err
		}
		e.environments[it.ID] = v.Type
		hosts := make([]string, len(v.VHosts))
		for i, h := range v.VHosts {
			hosts[i] = strings.ToLower(h)
		}
		e.vhosts[it.ID] = hosts
	}
	return nil
}

func put[K comparable, B, V any](to *Edit[K, V], key K, it *snapshot.Item, make func(*B) (V, error)) error {
	if it.Deleted {
		to.Delete(key)
		return nil
	}
	body := new(B)
	if err := json.Unmarshal(it.Body, body); err != nil {
		return err
	}
	v, err := make(body)
	if err != nil {
		return err
	}
	to.Set(key, v)
	return nil
}

func newKey(v *snapshot.APIKey) (*Key, error) {
	k := &Key{APIKey: *v, Referers: v.Referers}
	for _, s := range v.IPs {
		p, err := ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		k.Prefixes = append(k.Prefixes, p)
	}
	return k, nil
}

// ParsePrefix reads an address or a CIDR.
func ParsePrefix(s string) (netip.Prefix, error) {
	s = strings.TrimSpace(s)
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func (e *Editor) policy(to *Edit[Named, *Policy], it *snapshot.Item) error {
	tenant, name, ok := strings.Cut(it.ID, "/")
	if !ok {
		return errors.New("id is not tenant/name")
	}
	return put(to, Named{tenant, name}, it, newPolicy)
}

func newPolicy(v *snapshot.Policy) (*Policy, error) {
	p := &Policy{Policy: *v}
	for i, g := range v.Groups {
		out := Group{Limit: g.Limit}
		for _, c := range g.Conditions {
			pc, err := newCondition(c)
			if err != nil {
				return nil, fmt.Errorf("condition group %d: %w", i+1, err)
			}
			out.Conditions = append(out.Conditions, pc)
		}
		p.Groups = append(p.Groups, out)
	}
	return p, nil
}

// Condition is one test of a call.
type Condition struct {
	Type     string // IP, IPRANGE, HEADER, QUERY, CLAIM
	Name     string
	From, To netip.Addr
	Prefix   netip.Prefix
	Value    *regexp.Regexp
	Invert   bool
}

func newCondition(c snapshot.Condition) (Condition, error) {
	out := Condition{Type: c.Type, Name: c.Name, Invert: c.Invert}
	var err error
	switch c.Type {
	case "IP":
		out.Prefix, err = ParsePrefix(c.Value)
	case "IPRANGE":
		if out.From, err = netip.ParseAddr(c.Value); err == nil {
			out.To, err = netip.ParseAddr(c.To)
		}
		out.From, out.To = out.From.Unmap(), out.To.Unmap()
	case "HEADER", "QUERY", "CLAIM":
		out.Value, err = regexp.Compile(c.Value)
	default:
		err = fmt.Errorf("unknown type %q", c.Type)
	}
	return out, err
}

// Address reports whether an IP condition holds for a; ok is false for other types.
func (c *Condition) Address(a netip.Addr) (match, ok bool) {
	switch c.Type {
	case "IP":
		match = c.Prefix.Contains(a)
	case "IPRANGE":
		match = a.BitLen() == c.From.BitLen() && a.Compare(c.From) >= 0 && a.Compare(c.To) <= 0
	default:
		return false, false
	}
	return match != c.Invert, true
}

func (e *Editor) manager(it *snapshot.Item) error {
	e.Issuers = true
	if it.Deleted {
		delete(e.managers, it.ID)
		return nil
	}
	var v snapshot.KeyManager
	if err := json.Unmarshal(it.Body, &v); err != nil {
		return err
	}
	if v.ID == "" {
		v.ID = it.ID
	}
	if old := e.old.KeyManagers[it.ID]; old != nil && old.Hash == it.Hash && it.Hash != "" {
		e.managers[it.ID] = old
		return nil
	}
	m := &KeyManager{KeyManager: v, Hash: it.Hash}
	var keys *token.KeySet
	if len(v.JWKS) > 0 {
		set, err := token.ParseJWKS(v.JWKS)
		if err != nil {
			return err
		}
		keys = set
	} else if old := e.old.KeyManagers[it.ID]; old != nil && old.JWKSURL == v.JWKSURL {
		keys = old.Issuer.Keys // fetched before; the fetcher looks again
	}
	var err error
	if m.Rules, err = newRules(v.Rules); err != nil {
		return err
	}
	m.Issuer = m.issuer(keys)
	e.managers[it.ID] = m
	return nil
}

func (m *KeyManager) issuer(keys *token.KeySet) *token.Issuer {
	return &token.Issuer{Name: m.KeyManager.Issuer, Keys: keys, Tag: m}
}

// WithKeys is m with a key set that was fetched.
func (m *KeyManager) WithKeys(keys *token.KeySet) *KeyManager {
	c := *m
	c.Issuer = c.issuer(keys)
	return &c
}

// WithManager is a state in which m replaces the key manager of its id.
func (f *Facts) WithManager(m *KeyManager) *Facts {
	next := *f
	next.KeyManagers = orEmpty(maps.Clone(f.KeyManagers))
	next.KeyManagers[m.ID] = m
	next.Foreign = special(next.KeyManagers)
	return &next
}

func (e *Editor) revocation(it *snapshot.Item) error {
	kind, id, ok := strings.Cut(it.ID, "/")
	if !ok {
		return errors.New("id is not jti/… or sub/…")
	}
	if it.Deleted {
		if kind == "jti" {
			e.revokedIDs.Delete(id)
		} else {
			e.revoked.Delete(id)
		}
		return nil
	}
	var r snapshot.Revocation
	if err := json.Unmarshal(it.Body, &r); err != nil {
		return err
	}
	switch {
	case kind == "jti":
		e.revokedIDs.Set(id, r.Expires)
	case r.NotBefore.IsZero():
		return errors.New("revocation of an entity without a time")
	default:
		e.revoked.Set(id, r)
	}
	return nil
}

// Issuers lists what a token.Verifier must know.
func (f *Facts) Issuers() []*token.Issuer {
	var list []*token.Issuer
	for _, m := range f.KeyManagers {
		if m.Enabled {
			list = append(list, m.Issuer)
		}
	}
	return list
}

// Revoked reports whether a token was revoked, by its id or together with
// others of its entities that were issued before a moment.
func (f *Facts) Revoked(c *token.Claims, entities ...string) bool {
	if c.ID != "" {
		if _, ok := f.RevokedIDs.Get(c.ID); ok {
			return true
		}
	}
	if f.RevokedBefore.Len() == 0 {
		return false
	}
	for _, id := range entities {
		if id == "" {
			continue
		}
		if r, ok := f.RevokedBefore.Get(id); ok && c.IssuedAt.Before(r.NotBefore) {
			return true
		}
	}
	return false
}
