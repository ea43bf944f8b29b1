package keymanager_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-apim/cardea/internal/apim"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

type assertionKey struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	jwks string
}

func newAssertionKey(t testing.TB) assertionKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jose.JSONWebKey{Key: key.Public(), KeyID: "mine", Algorithm: "ES256", Use: "sig"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return assertionKey{t, key, `{"keys":[` + string(doc) + `]}`}
}

// sign makes a JWS with a library that is not ours.
func (a assertionKey) sign(body string) string {
	a.t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: a.key, KeyID: "mine"}}, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	j, err := s.Sign([]byte(body))
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := j.CompactSerialize()
	if err != nil {
		a.t.Fatal(err)
	}
	return raw
}

func (w *world) keyClient(k assertionKey) (*apim.Client, string) {
	return w.client("admin", func(c *apim.Client) {
		c.Attributes = map[string]string{"token_endpoint_auth_method": "private_key_jwt", "jwks": k.jwks}
	})
}

func (w *world) asserted(raw string, more ...string) reply {
	v := url.Values{"grant_type": {"client_credentials"}, "client_assertion_type": {assertionType}, "client_assertion": {raw}}
	for i := 0; i < len(more); i += 2 {
		v.Set(more[i], more[i+1])
	}
	return w.do("POST", "/oauth2/token", v.Encode())
}

func claimsDoc(w *world, c *apim.Client, jti string, change map[string]any) string {
	now := w.clock.now().Unix()
	m := map[string]any{
		"iss": string(c.ID), "sub": string(c.ID), "aud": "https://localhost:9443/oauth2/token",
		"jti": jti, "iat": now, "exp": now + 60,
	}
	for name, v := range change {
		if v == nil {
			delete(m, name)
			continue
		}
		m[name] = v
	}
	return asJSON(w.t, m)
}

func TestClientsMayProveThemselvesByAKey(t *testing.T) {
	w := newWorld(t)
	k := newAssertionKey(t)
	c, secret := w.keyClient(k)
	raw := k.sign(claimsDoc(w, c, "1", nil))
	if a := w.asserted(raw); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := w.asserted(raw); a.status != http.StatusUnauthorized {
		t.Errorf("replayed: %d %s", a.status, a.body)
	}
	if a := w.asserted(k.sign(claimsDoc(w, c, "2", nil)), "client_id", string(c.ID)); a.status != 200 {
		t.Errorf("with its id: %d %s", a.status, a.body)
	}
	if a := w.token(c, secret, "grant_type", "client_credentials"); a.status != http.StatusUnauthorized {
		t.Errorf("its secret still works: %d %s", a.status, a.body)
	}
}

func TestClientAssertionsThatProveNothing(t *testing.T) {
	w := newWorld(t)
	k, wrong := newAssertionKey(t), newAssertionKey(t)
	c, _ := w.keyClient(k)
	other, _ := w.client("admin", nil)
	now := w.clock.now().Unix()
	for name, raw := range map[string]string{
		"another key":        wrong.sign(claimsDoc(w, c, "a", nil)),
		"another issuer":     k.sign(claimsDoc(w, c, "b", map[string]any{"iss": string(other.ID)})),
		"another subject":    k.sign(claimsDoc(w, c, "c", map[string]any{"sub": string(other.ID)})),
		"unknown client":     k.sign(claimsDoc(w, c, "d", map[string]any{"sub": "nobody", "iss": "nobody"})),
		"another audience":   k.sign(claimsDoc(w, c, "e", map[string]any{"aud": "https://evil.example/token"})),
		"no audience":        k.sign(claimsDoc(w, c, "f", map[string]any{"aud": nil})),
		"no id":              k.sign(claimsDoc(w, c, "", map[string]any{"jti": nil})),
		"no end":             k.sign(claimsDoc(w, c, "g", map[string]any{"exp": nil})),
		"expired":            k.sign(claimsDoc(w, c, "h", map[string]any{"exp": now - 1})),
		"not yet":            k.sign(claimsDoc(w, c, "i", map[string]any{"nbf": now + 60})),
		"too long a life":    k.sign(claimsDoc(w, c, "j", map[string]any{"exp": now + 86400})),
		"duplicate member":   k.sign(`{"iss":"` + string(c.ID) + `","sub":"` + string(c.ID) + `","sub":"x"}`),
		"no JWT":             "x",
		"empty":              "",
		"unsigned":           "eyJhbGciOiJub25lIn0." + "e30" + ".",
		"client without key": k.sign(claimsDoc(w, other, "k", nil)),
	} {
		w.addr = "192.0.2." + string(rune('1'+len(name)%9)) + ":1" // guessing is slowed by address
		a := w.asserted(raw)
		if a.status != http.StatusUnauthorized || a.json(t)["error"] != "invalid_client" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	good := k.sign(claimsDoc(w, c, "z", nil))
	if a := w.asserted(good, "client_secret", "x"); a.status != http.StatusBadRequest {
		t.Errorf("two methods: %d %s", a.status, a.body)
	}
	if a := w.asserted(good, "client_id", string(other.ID)); a.status != http.StatusUnauthorized {
		t.Errorf("another client_id: %d %s", a.status, a.body)
	}
	if a := w.asserted(good, "client_assertion_type", "urn:x"); a.status != http.StatusUnauthorized {
		t.Errorf("another type: %d %s", a.status, a.body)
	}
}

func TestOfRacingAssertionsOneWins(t *testing.T) {
	w := newWorld(t)
	k := newAssertionKey(t)
	c, _ := w.keyClient(k)
	raw := k.sign(claimsDoc(w, c, "race", nil))
	var won atomic.Int64
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if w.asserted(raw).status == 200 {
				won.Add(1)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of 20 were let in", won.Load())
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
