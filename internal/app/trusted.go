package app

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/rest/fetch"
	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/token"
)

const (
	trustedKept  = 10 * time.Minute // a key set is believed
	trustedAgain = 30 * time.Second // at the earliest, for an unknown key id
	trustedMax   = 1000             // key sets kept
	trustedSize  = 1 << 20          // bytes of a key set
)

// trusted finds the issuers whose tokens a tenant takes in exchange: its
// enabled key managers of the token types EXCHANGED and BOTH, and global ones.
type trusted struct {
	managers *store.Table[apim.KeyManager, string]
	fetch    *fetch.Client
	asking   singleflight.Group
	mu       sync.Mutex
	sets     map[string]fetched // by URL
}

type fetched struct {
	set *token.KeySet
	at  time.Time
}

func newTrusted(db *store.DB, out *fetch.Client) *trusted {
	return &trusted{managers: db.KeyManagers, fetch: out, sets: map[string]fetched{}}
}

// issuer finds a trusted issuer; nil when there is none.
func (t *trusted) issuer(ctx context.Context, tenant apim.TenantID, name, kid string) (*keymanager.Trusted, error) {
	for _, owner := range []apim.TenantID{tenant, apim.SuperTenant} {
		page, err := t.managers.List(ctx, apim.In(owner), apim.Query{Sort: "name"})
		if err != nil {
			return nil, fmt.Errorf("find trusted issuer: %w", err)
		}
		for _, m := range page.Items {
			if !m.Enabled || m.Issuer != name || m.Name == apim.ResidentKM || owner != tenant && !m.Global ||
				!slices.Contains([]string{"EXCHANGED", "BOTH"}, m.TokenType) {
				continue
			}
			return t.of(ctx, m, kid)
		}
		if tenant == apim.SuperTenant {
			break
		}
	}
	return nil, nil
}

func (t *trusted) of(ctx context.Context, m *apim.KeyManager, kid string) (*keymanager.Trusted, error) {
	x, err := m.Foreign()
	if err != nil {
		return nil, err
	}
	var extra struct {
		Alias string `json:"alias"`
	}
	if len(m.Extra) > 0 {
		if err := json.Unmarshal(m.Extra, &extra); err != nil {
			return nil, fmt.Errorf("read key manager %s: %w", m.Name, err)
		}
	}
	out := &keymanager.Trusted{Alias: extra.Alias, Claims: map[string]string{}}
	for _, c := range x.Claims {
		out.Claims[c.Remote] = c.Local
	}
	if out.Keys, err = t.keys(ctx, m, kid); err != nil {
		return nil, fmt.Errorf("keys of key manager %s: %w", m.Name, err)
	}
	return out, nil
}

// keys are those of a pinned certificate, or of a key set that is fetched.
func (t *trusted) keys(ctx context.Context, m *apim.KeyManager, kid string) (*token.KeySet, error) {
	var c struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	if len(m.Certificates) > 0 {
		if err := json.Unmarshal(m.Certificates, &c); err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
	}
	switch {
	case strings.EqualFold(c.Type, "PEM") && c.Value != "":
		text := []byte(c.Value)
		if !strings.Contains(c.Value, "-----BEGIN") { // portals send it in base64
			raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(c.Value))
			if err != nil {
				return nil, errors.New("read certificates: neither PEM nor base64 of it")
			}
			text = raw
		}
		key, err := token.ParsePEM(text, "")
		if err != nil {
			return nil, err
		}
		key.ID = kid // a pinned key is the key whatever it is called
		return token.NewKeySet(key)
	case strings.EqualFold(c.Type, "JWKS") && c.Value != "":
		return t.at(ctx, c.Value, kid)
	case m.JWKSURL != "":
		return t.at(ctx, m.JWKSURL, kid)
	}
	return token.NewKeySet()
}

// at is the key set of an address, fetched again for a key id it does not have.
func (t *trusted) at(ctx context.Context, url, kid string) (*token.KeySet, error) {
	t.mu.Lock()
	f, ok := t.sets[url]
	t.mu.Unlock()
	age := time.Since(f.at)
	has := ok && slices.ContainsFunc(f.set.Keys(), func(k token.Key) bool { return k.ID == kid })
	if ok && (has && age < trustedKept || age < trustedAgain) {
		return f.set, nil
	}
	v, err, _ := t.asking.Do(url, func() (any, error) {
		doc, err := t.fetch.Get(context.WithoutCancel(ctx), url, trustedSize)
		if err != nil {
			return nil, err
		}
		set, err := token.ParseJWKS(doc)
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if len(t.sets) >= trustedMax {
			clear(t.sets)
		}
		t.sets[url] = fetched{set, time.Now()}
		return set, nil
	})
	if err != nil {
		if ok && has {
			return f.set, nil // an issuer that is away for a while
		}
		return nil, err
	}
	return v.(*token.KeySet), nil
}
