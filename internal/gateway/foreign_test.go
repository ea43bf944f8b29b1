package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

const elsewhereIssuer = "https://elsewhere.example"

// TestForeignTokens has a key manager of others decide, in every way it can.
func TestForeignTokens(t *testing.T) {
	var asked atomic.Int64
	var said atomic.Value // what it answers; empty: 500
	said.Store("")
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if user, password, _ := r.BasicAuth(); user != "gw" || password != "s%2Fecret" || r.FormValue("token") == "" {
			t.Errorf("asked as %s, %s about %q", user, password, r.FormValue("token"))
		}
		doc, ok := said.Load().(string)
		if !ok || doc == "" {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(rw, doc)
	}))
	t.Cleanup(server.Close)
	const active = `{"active":true,"token_type":"Bearer","client_id":"there","sub":"carol","scope":"default"}`
	jwt := func(c *token.Claims) {
		c.Issuer, c.AuthorizedParty, c.ClientID, c.Type = elsewhereIssuer, "there", "there", "JWT"
	}
	lookUp := &snapshot.Introspection{URL: server.URL, User: "gw", Sealed: "s/ecret", Client: true}
	type km = snapshot.KeyManager
	for _, c := range []struct {
		name   string
		km     func(*km)
		api    func(*snapshot.API)
		token  string // empty: a JWT
		keys   bool   // it knows the key of the JWT
		said   string
		status int
		rule   string
		asks   bool
	}{
		{name: "an opaque token", km: func(k *km) { k.Introspection = lookUp }, token: "opaque", said: active, status: 200, asks: true},
		{name: "one that it does not know", km: func(k *km) { k.Introspection = lookUp }, token: "opaque", said: `{"active":false}`, status: 401, rule: "token-inactive", asks: true},
		{name: "one that has ended", km: func(k *km) { k.Introspection = lookUp }, token: "opaque", said: strings.Replace(active, "{", `{"exp":99,`, 1), status: 401, rule: "token-inactive", asks: true},
		{name: "a refresh token", km: func(k *km) { k.Introspection = lookUp }, token: "opaque", said: strings.Replace(active, "Bearer", "refresh_token", 1), status: 401, rule: "token-inactive", asks: true},
		{name: "a client of no application", km: func(k *km) { k.Introspection = lookUp }, token: "opaque", said: strings.Replace(active, "there", "nobody", 1), status: 403, rule: "consumer-key", asks: true},
		{name: "it is away", km: func(k *km) { k.Introspection = lookUp }, token: "opaque", said: "", status: 401, rule: "key-manager-away", asks: true},
		{name: "it talks nonsense", km: func(k *km) { k.Introspection = lookUp }, token: "opaque", said: "<html>", status: 401, rule: "key-manager-away", asks: true},
		{name: "it looks nothing up", token: "opaque", status: 401, rule: "token-opaque"},
		{name: "it is off", km: func(k *km) { k.Introspection, k.Enabled = lookUp, false }, token: "opaque", status: 401, rule: "token-opaque"},
		{name: "it is of another tenant", km: func(k *km) { k.Introspection, k.Tenant = lookUp, "shop.com" }, token: "opaque", status: 401, rule: "token-opaque"},
		{name: "the API does not accept it", km: func(k *km) { k.Introspection = lookUp }, api: func(a *snapshot.API) { a.KeyManagers = []string{"Resident Key Manager"} }, token: "opaque", status: 401, rule: "token-opaque"},
		{name: "no rule takes the token", km: func(k *km) {
			k.Introspection, k.Rules = lookUp, []snapshot.TokenRule{{Match: "x.*"}, {Claims: map[string]string{"iss": ".*"}}}
		}, token: "opaque", status: 401, rule: "token-opaque"},
		{name: "a rule takes it", km: func(k *km) {
			k.Introspection, k.Rules = lookUp, []snapshot.TokenRule{{Match: "x.*"}, {Match: "opa(q|c)ue"}}
		}, token: "opaque", said: active, status: 200, asks: true},
		{name: "a rule matches the whole token", km: func(k *km) { k.Introspection, k.Rules = lookUp, []snapshot.TokenRule{{Match: "opa|x"}} }, token: "opaque", status: 401, rule: "token-opaque"},
		{name: "a metadata address", km: func(k *km) { k.Introspection = &snapshot.Introspection{URL: "http://169.254.169.254/"} }, token: "opaque", status: 401, rule: "key-manager-away"},

		{name: "a JWT", keys: true, status: 200},
		{name: "a JWT is not looked up", keys: true, km: func(k *km) { k.Introspection = lookUp }, status: 200},
		{name: "a JWT with an unknown key is not looked up either", km: func(k *km) { k.Introspection = lookUp }, status: 401, rule: "token-key"},
		{name: "a JWT that is confirmed", keys: true, km: func(k *km) { k.Introspection, k.Online = lookUp, true }, said: active, status: 200, asks: true},
		{name: "a JWT that is revoked there", keys: true, km: func(k *km) { k.Introspection, k.Online = lookUp, true }, said: `{"active":false}`, status: 401, rule: "token-inactive", asks: true},
		{name: "a JWT whose keys only they know", km: func(k *km) { k.Introspection, k.Online = lookUp, true }, said: active, status: 200, asks: true},
		{name: "a JWT that nobody can confirm", keys: true, km: func(k *km) { k.Online = true }, status: 401, rule: "key-manager-away"},
		{name: "a JWT for exchange only", keys: true, km: func(k *km) { k.Exchanged = true }, status: 500, rule: "exchange-only"},
		{name: "a JWT for exchange only, unsigned by it", km: func(k *km) { k.Exchanged = true }, status: 500, rule: "exchange-only"},
		{name: "the client is named by the audience", keys: true, km: func(k *km) { k.ConsumerKeyClaim = "aud" }, status: 403, rule: "consumer-key"},
		{name: "a rule of claims", keys: true, km: func(k *km) {
			k.Rules = []snapshot.TokenRule{{Claims: map[string]string{"sub": "ali.e", "scope": "default"}}}
		}, status: 200},
		{name: "a rule of claims that do not match", keys: true, km: func(k *km) {
			k.Rules = []snapshot.TokenRule{{Claims: map[string]string{"sub": "ali", "scope": "default"}}}
		}, status: 401, rule: "key-manager"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, func(o *Options) { o.Box, o.TokenCacheTTL = plainBox{}, time.Minute })
			k := km{ID: "km-2", Tenant: tenant, Name: "Elsewhere", Enabled: true, Issuer: elsewhereIssuer, ConsumerKeyClaim: "client_id"}
			if c.keys {
				set, err := token.NewKeySet(w.signer.Public())
				if err != nil {
					t.Fatal(err)
				}
				k.JWKS = set.JWKS()
			}
			if c.km != nil {
				c.km(&k)
			}
			a := pizza()
			if c.api != nil {
				c.api(&a)
			}
			w.apply(true, append(w.base(), w.api(a), item(t, snapshot.KindKeyManager, "km-2", "", k),
				item(t, snapshot.KindKey, "km-2/there", "", snapshot.KeyMapping{ConsumerKey: "there", KeyManager: "km-2", Application: "app-1", KeyType: "PRODUCTION"}))...)
			said.Store(c.said)
			raw := c.token
			if raw == "" {
				raw = w.token(jwt)
			}
			asked.Store(0)
			for range 3 {
				if got := w.get("/pizza/1.0/menu", bearerOf(raw)); got.Code != c.status {
					t.Fatalf("status %d %s, want %d", got.Code, got.Body, c.status)
				}
			}
			if d := w.records.last().Decision; c.rule != "" && (d == nil || d.Rule != c.rule) {
				t.Errorf("decision %+v, want rule %s", d, c.rule)
			}
			n := asked.Load()
			if away := c.rule == "key-manager-away"; c.asks != (n > 0) || !away && n > 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// plainBox opens what was never sealed.
type plainBox struct{}

func (plainBox) Open(s string) ([]byte, error) { return []byte(s), nil }

// TestRotatedKeysAreFetched: the first token with a new key opens, also of
// many at once, and strange keys do not make the gateway ask for ever.
func TestRotatedKeysAreFetched(t *testing.T) {
	w := newWorld(t)
	good := w.signer.Public()
	old := good
	old.ID = "former"
	var asked atomic.Int64
	jwks := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		k := good
		if asked.Add(1) == 1 {
			k = old
		}
		set, err := token.NewKeySet(k)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = rw.Write(set.JWKS())
	}))
	t.Cleanup(jwks.Close)
	w.apply(true, append(w.base(), w.api(pizza()), item(t, snapshot.KindKeyManager, "km-1", "", snapshot.KeyManager{
		ID: "km-1", Tenant: tenant, Name: "Elsewhere", Enabled: true, Issuer: issuer, JWKSURL: jwks.URL, ConsumerKeyClaim: "client_id",
	}))...)
	for deadline := time.Now().Add(10 * time.Second); asked.Load() == 0 || w.g.tables.Load().facts.KeyManagers["km-1"].Issuer.Keys == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the keys were never fetched")
		}
	}
	raw := w.token(func(c *token.Claims) { c.Type = "JWT" })
	if code := w.get("/pizza/1.0/menu", bearerOf(raw)).Code; code != 401 {
		t.Errorf("within ten seconds of a fetch: %d", code)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	w.g.keys.mu.Lock()
	clear(w.g.keys.lately) // ten seconds later
	w.g.keys.mu.Unlock()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := w.get("/pizza/1.0/menu", bearerOf(raw)); got.Code != 200 {
				t.Errorf("with the new key: %d %s", got.Code, got.Body)
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}
