package keymanager_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/keymanager"
)

// tenant makes t1.com with its administrator, and a client of it.
func (w *world) tenant() (*apim.Client, string) {
	w.t.Helper()
	_, err := w.dir.CreateTenant(w.ctx, identity.NewTenant{Domain: "t1.com", Admin: "admin", Password: "password", Email: "a@t1.com", FirstName: "A", LastName: "B"})
	w.must(err)
	c := &apim.Client{Name: "tenant client", Owner: "admin", TokenType: "JWT", Origin: "application", Grants: []string{"client_credentials"}}
	secret, err := w.km.CreateClient(w.ctx, apim.In("t1.com"), c)
	w.must(err)
	return c, secret
}

func (w *world) head(c *apim.Client, secret string) (raw, head string) {
	w.t.Helper()
	raw = w.granted(c, secret, "grant_type", "client_credentials")["access_token"].(string)
	head, _ = claimsOf(w.t, raw)
	return raw, head
}

func TestTenantsSignWithKeysOfTheirOwn(t *testing.T) {
	w := newWorld(t)
	c, secret := w.tenant()
	super, superSecret := w.client("admin", nil)
	_, shared := w.head(super, superSecret)
	old, first := w.head(c, secret)
	if first != shared {
		t.Errorf("a key signs before anybody can know it: %s", first)
	}
	w.clock.add(10 * time.Minute)
	raw, own := w.head(c, secret)
	if own == shared {
		t.Error("the tenant's tokens are signed with the key of carbon.super")
	}
	if _, still := w.head(super, superSecret); still != shared {
		t.Error("carbon.super signs with another key")
	}
	for _, tok := range []string{old, raw} {
		if _, err := w.call("Bearer " + tok); err != nil {
			t.Errorf("a token of the tenant: %v", err)
		}
		kid := strings.Split(strings.SplitN(mustHead(t, tok), `"kid":"`, 2)[1], `"`)[0]
		if set := w.do("GET", "/t/t1.com/oauth2/jwks", ""); !strings.Contains(set.body, kid) {
			t.Errorf("the tenant does not publish %s", kid)
		}
	}
	if set := w.do("GET", "/oauth2/jwks", ""); strings.Count(set.body, `"kid"`) != 1 {
		t.Errorf("carbon.super publishes keys of others: %s", set.body)
	}
}

func mustHead(t *testing.T, raw string) string {
	t.Helper()
	head, _ := claimsOf(t, raw)
	return head
}

func TestANewTenantSignsWithItsOwnKeyAtOnce(t *testing.T) {
	w := newWorld(t)
	c, secret := w.tenant()
	w.must(w.km.EnsureTenantKeys(w.ctx, "t1.com"))
	w.must(w.km.EnsureTenantKeys(w.ctx, "t1.com"))
	super, superSecret := w.client("admin", nil)
	_, shared := w.head(super, superSecret)
	if _, own := w.head(c, secret); own == shared {
		t.Error("the tenant's key is not used")
	}
	page, err := w.db.SigningKeys.List(w.ctx, apim.In("t1.com"), apim.Query{})
	w.must(err)
	if len(page.Items) != 1 {
		t.Errorf("%d keys were made", len(page.Items))
	}
}

func TestAlgorithmsAreChosenPerTenant(t *testing.T) {
	w := newWorld(t)
	c, secret := w.tenant()
	w.must(w.km.EnsureTenantKeys(w.ctx, "t1.com"))
	var tokens []string
	for _, alg := range []string{"EdDSA", "PS256", "RS256", "ES256"} {
		_, err := w.km.RotateTenantKey(w.ctx, "t1.com", alg)
		w.must(err)
		w.clock.add(10 * time.Minute)
		raw, head := w.head(c, secret)
		if !strings.Contains(head, `"alg":"`+alg+`"`) {
			t.Errorf("want %s: %s", alg, head)
		}
		tokens = append(tokens, raw)
	}
	for _, raw := range tokens {
		if _, err := w.call("Bearer " + raw); err != nil {
			t.Errorf("%s: %v", mustHead(t, raw), err)
		}
	}
	for _, alg := range []string{"none", "HS256", "rs256"} {
		if _, err := w.km.RotateTenantKey(w.ctx, "t1.com", alg); err == nil {
			t.Errorf("%s is taken", alg)
		}
	}
	if d := w.do("GET", "/t/t1.com/.well-known/openid-configuration", "").json(t); len(d["id_token_signing_alg_values_supported"].([]any)) != 4 {
		t.Errorf("discovery: %v", d["id_token_signing_alg_values_supported"])
	}
}

func TestAnotherProcessesKeyIsKnownAtOnce(t *testing.T) {
	w := newWorld(t)
	var o keymanager.Options
	other := newWorld(t, func(given *keymanager.Options) {
		given.Clients, given.SigningKeys, given.Tokens, given.Ephemera = w.db.Clients, w.db.SigningKeys, w.db.Tokens, w.db.Ephemera
		given.Directory, given.InTx, given.Now = w.dir, w.db.InTx, w.clock.now
		o = *given
	})
	c, secret := w.client("admin", nil)
	w.head(c, secret)
	o.KeyLead = time.Nanosecond
	_, err := other.km.RotateTenantKey(w.ctx, apim.SuperTenant, "EdDSA")
	w.must(err)
	w.clock.add(20 * time.Minute)
	raw, _ := w.head(c, secret)
	if _, err := other.call("Bearer " + raw); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
}
