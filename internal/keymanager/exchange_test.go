package keymanager_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
	"golang.org/x/oauth2/jwt"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
	"github.com/cardea-apim/cardea/internal/token"
)

const (
	bearerGrant   = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
	jwtType       = "urn:ietf:params:oauth:token-type:jwt"
)

// trusting makes carbon.super trust https://idp with the key, under the alias
// "cardea", and map its claim grps to groups.
func trusting(t testing.TB, k assertionKey) func(*keymanager.Options) {
	set, err := token.ParseJWKS([]byte(k.jwks))
	if err != nil {
		t.Fatal(err)
	}
	return func(o *keymanager.Options) {
		o.Trusted = func(_ context.Context, t apim.TenantID, issuer, _ string) (*keymanager.Trusted, error) {
			if issuer == "https://broken" {
				return nil, errors.New("database is away")
			}
			if issuer != "https://idp" || t != apim.SuperTenant {
				return nil, nil
			}
			return &keymanager.Trusted{Keys: set, Alias: "cardea", Claims: map[string]string{"grps": "groups", "role": "aut", "x": "iss"}}, nil
		}
	}
}

func (w *world) exchanger(change func(*apim.Client)) (*apim.Client, string) {
	return w.client("admin", func(c *apim.Client) {
		c.Grants = []string{bearerGrant, exchangeGrant}
		if change != nil {
			change(c)
		}
	})
}

func subjectDoc(w *world, change map[string]any) string {
	now := w.clock.now().Unix()
	m := map[string]any{"iss": "https://idp", "sub": "erika", "aud": "cardea", "iat": now, "exp": now + 600}
	for name, v := range change {
		if v == nil {
			delete(m, name)
			continue
		}
		m[name] = v
	}
	return asJSON(w.t, m)
}

func (w *world) exchange(c *apim.Client, secret, subject string, more ...string) reply {
	return w.token(c, secret, append([]string{"grant_type", exchangeGrant, "subject_token", subject, "subject_token_type", jwtType}, more...)...)
}

func TestTokenExchange(t *testing.T) {
	k := newAssertionKey(t)
	for _, kind := range []string{"JWT", "OAUTH"} {
		w := newWorld(t, trusting(t, k))
		c, secret := w.exchanger(func(c *apim.Client) { c.TokenType = kind })
		subject := k.sign(subjectDoc(w, map[string]any{"grps": []string{"a", "b"}, "role": "APPLICATION", "x": "https://evil", "other": 1}))
		a := w.exchange(c, secret, subject, "scope", "orders:read orders:write openid free")
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		m := a.json(t)
		if m["issued_token_type"] != "urn:ietf:params:oauth:token-type:access_token" || m["token_type"] != "Bearer" || m["scope"] != "orders:read free" || m["refresh_token"] != nil || m["id_token"] != nil {
			t.Errorf("%s: %v", kind, m)
		}
		raw := m["access_token"].(string)
		if kind == "JWT" {
			_, body := claimsOf(t, raw)
			for _, want := range []string{`"sub":"erika"`, `"groups":["a","b"]`, `"aut":"APPLICATION_USER"`, `"iss":"https://localhost:9443/oauth2/token"`, `"is_federated":true`} {
				if !strings.Contains(body, want) {
					t.Errorf("no %s in %s", want, body)
				}
			}
			if strings.Contains(body, "other") || strings.Contains(body, "evil") {
				t.Errorf("unmapped claims: %s", body)
			}
		}
		if d := w.introspect(raw).json(t); d["active"] != true || d["username"] != "erika" {
			t.Errorf("%s: introspection %v", kind, d)
		}
		if _, err := w.call("Bearer " + raw); err == nil {
			t.Errorf("%s: somebody without an account calls the management APIs", kind)
		}
		// A subject token may be exchanged again.
		if a := w.exchange(c, secret, subject); a.status != 200 {
			t.Errorf("again: %d %s", a.status, a.body)
		}
	}
}

func TestForeignTokensThatAreRefused(t *testing.T) {
	k, wrong := newAssertionKey(t), newAssertionKey(t)
	w := newWorld(t, trusting(t, k))
	c, secret := w.exchanger(nil)
	now := w.clock.now().Unix()
	good := k.sign(subjectDoc(w, nil))
	parts := strings.Split(good, ".")
	own := w.granted(c0(w))["access_token"].(string)
	for name, raw := range map[string]string{
		"untrusted issuer": k.sign(subjectDoc(w, map[string]any{"iss": "https://other"})),
		"our own":          own,
		"no issuer":        k.sign(subjectDoc(w, map[string]any{"iss": nil})),
		"another key":      wrong.sign(subjectDoc(w, nil)),
		"changed payload":  parts[0] + "." + strings.Split(k.sign(subjectDoc(w, map[string]any{"sub": "admin"})), ".")[1] + "." + parts[2],
		"expired":          k.sign(subjectDoc(w, map[string]any{"exp": now})),
		"without end":      k.sign(subjectDoc(w, map[string]any{"exp": nil})),
		"not yet":          k.sign(subjectDoc(w, map[string]any{"nbf": now + 60})),
		"too old":          k.sign(subjectDoc(w, map[string]any{"iat": now - 3601})),
		"from the future":  k.sign(subjectDoc(w, map[string]any{"iat": now + 3600, "exp": now + 7200})),
		"another audience": k.sign(subjectDoc(w, map[string]any{"aud": "somebody"})),
		"no audience":      k.sign(subjectDoc(w, map[string]any{"aud": nil})),
		"no subject":       k.sign(subjectDoc(w, map[string]any{"sub": nil})),
		"bound to a key":   k.sign(subjectDoc(w, map[string]any{"cnf": map[string]string{"jkt": "x"}})),
		"refresh token":    k.sign(subjectDoc(w, map[string]any{"token_type": "refresh_token"})),
		"no JWT":           "opaque", "empty": "", "unsigned": "eyJhbGciOiJub25lIn0." + parts[1] + ".AA",
	} {
		if a := w.exchange(c, secret, raw); a.status != http.StatusBadRequest || a.json(t)["error"] != "invalid_request" {
			t.Errorf("exchange of %s: %d %s", name, a.status, a.body)
		}
		a := w.token(c, secret, "grant_type", bearerGrant, "assertion", raw)
		if code := a.json(t)["error"]; a.status != http.StatusBadRequest || code != "invalid_grant" && raw != "" {
			t.Errorf("bearer of %s: %d %s", name, a.status, a.body)
		}
	}
	for name, form := range map[string][]string{
		"no subject type":        {"grant_type", exchangeGrant, "subject_token", good},
		"another subject type":   {"grant_type", exchangeGrant, "subject_token", good, "subject_token_type", "urn:ietf:params:oauth:token-type:saml2"},
		"another requested type": {"grant_type", exchangeGrant, "subject_token", good, "subject_token_type", jwtType, "requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"},
		"delegation":             {"grant_type", exchangeGrant, "subject_token", good, "subject_token_type", jwtType, "actor_token", good, "actor_token_type", jwtType},
		"a target":               {"grant_type", exchangeGrant, "subject_token", good, "subject_token_type", jwtType, "resource", "https://r"},
	} {
		if a := w.token(c, secret, form...); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := w.exchange(c, secret, k.sign(subjectDoc(w, map[string]any{"iss": "https://broken"}))); a.status != http.StatusInternalServerError {
		t.Errorf("storage away: %d %s", a.status, a.body)
	}
	other, otherSecret := w.client("admin", nil)
	if a := w.exchange(other, otherSecret, good); a.status != http.StatusBadRequest || a.json(t)["error"] != "unauthorized_client" {
		t.Errorf("client without the grant: %d %s", a.status, a.body)
	}
	open, _ := w.exchanger(func(c *apim.Client) { c.Public = true })
	form := "grant_type=" + exchangeGrant + "&client_id=" + string(open.ID) + "&subject_token=" + good + "&subject_token_type=" + jwtType
	if a := w.do("POST", "/oauth2/token", form); a.status != http.StatusUnauthorized {
		t.Errorf("public client: %d %s", a.status, a.body)
	}
}

// c0 makes a client that may ask for itself.
func c0(w *world) (*apim.Client, string, string, string) {
	c, secret := w.client("admin", nil)
	return c, secret, "grant_type", "client_credentials"
}

func TestExchangeIsOffWithoutIssuersOrByConfiguration(t *testing.T) {
	k := newAssertionKey(t)
	for name, change := range map[string]func(*keymanager.Options){
		"nobody is trusted": func(*keymanager.Options) {},
		"switched off":      func(o *keymanager.Options) { trusting(t, k)(o); o.RefusedGrants = []string{exchangeGrant, bearerGrant} },
	} {
		w := newWorld(t, change)
		c, secret := w.exchanger(nil)
		if a := w.exchange(c, secret, k.sign(subjectDoc(w, nil))); a.status != http.StatusBadRequest || a.json(t)["error"] != "unsupported_grant_type" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if d := w.do("GET", "/.well-known/openid-configuration", ""); strings.Contains(d.body, exchangeGrant) || strings.Contains(d.body, bearerGrant) {
			t.Errorf("%s: discovery lists it", name)
		}
	}
	w := newWorld(t, trusting(t, k))
	if d := w.do("GET", "/.well-known/openid-configuration", ""); !strings.Contains(d.body, exchangeGrant) || !strings.Contains(d.body, bearerGrant) {
		t.Error("discovery does not list it")
	}
}

func TestOfRacingBearerAssertionsOneWins(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "db") },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			k := newAssertionKey(t)
			w := newWorldOn(t, url(t), trusting(t, k))
			c, secret := w.exchanger(nil)
			raw := k.sign(subjectDoc(w, map[string]any{"jti": "once"}))
			var won, refused atomic.Int64
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					switch a := w.token(c, secret, "grant_type", bearerGrant, "assertion", raw); a.status {
					case 200:
						won.Add(1)
					case 400:
						refused.Add(1)
					default:
						t.Errorf("%d %s", a.status, a.body)
					}
				})
			}
			all.Wait()
			if won.Load() != 1 || refused.Load() != 19 {
				t.Errorf("%d won, %d were refused", won.Load(), refused.Load())
			}
		})
	}
}

// TestExchangeWithForeignClients drives both grants with golang.org/x/oauth2.
func TestExchangeWithForeignClients(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set, err := token.NewKeySet(token.Key{ID: "k", Alg: "RS256", Public: key.Public()})
	if err != nil {
		t.Fatal(err)
	}
	es := newAssertionKey(t)
	w := newWorld(t, func(o *keymanager.Options) {
		trusting(t, es)(o)
		inner := o.Trusted
		o.Trusted = func(ctx context.Context, t apim.TenantID, issuer, kid string) (*keymanager.Trusted, error) {
			if issuer == "robot@idp" {
				return &keymanager.Trusted{Keys: set, Alias: "the-robots-audience"}, nil
			}
			return inner(ctx, t, issuer, kid)
		}
		o.Now = nil // that client takes its time from the system
	})
	c, secret := w.exchanger(nil)
	server := httptest.NewServer(w.h)
	defer server.Close()
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Transport: withBasic{string(c.ID), secret}})
	robot := jwt.Config{
		Email: "robot@idp", Subject: "robot", PrivateKeyID: "k", TokenURL: server.URL + "/oauth2/token", Audience: "the-robots-audience", Scopes: []string{"free"},
		PrivateKey: pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
	}
	got, err := robot.TokenSource(ctx).Token()
	if err != nil || got.AccessToken == "" || !got.Valid() {
		t.Errorf("JWT bearer: %v %v", got, err)
	}
}

// withBasic adds client credentials to requests.
type withBasic struct{ id, secret string }

func (b withBasic) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.SetBasicAuth(b.id, b.secret)
	return http.DefaultTransport.RoundTrip(r)
}

func TestTokenExchangeWithAForeignClient(t *testing.T) {
	k := newAssertionKey(t)
	w := newWorld(t, trusting(t, k))
	c, secret := w.exchanger(nil)
	server := httptest.NewServer(w.h)
	defer server.Close()
	conf := clientcredentials.Config{
		ClientID: string(c.ID), ClientSecret: secret, TokenURL: server.URL + "/oauth2/token", Scopes: []string{"free"},
		EndpointParams: map[string][]string{"grant_type": {exchangeGrant}, "subject_token": {k.sign(subjectDoc(w, nil))}, "subject_token_type": {jwtType}},
	}
	got, err := conf.Token(t.Context())
	if err != nil || got.Extra("issued_token_type") != "urn:ietf:params:oauth:token-type:access_token" {
		t.Errorf("%v %v", got, err)
	}
}
