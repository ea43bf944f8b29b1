package keymanager_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/token"
)

// clock is a time that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// plain is a sealer that only marks, which is enough to see what is sealed.
type plain struct{}

func (plain) Seal(b []byte) string { return "sealed:" + base64.StdEncoding.EncodeToString(b) }
func (plain) Open(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.TrimPrefix(s, "sealed:"))
}

// world is a key manager over a real store, with the super tenant, tenant
// t1.com, and users that hold one role each.
type world struct {
	t     testing.TB
	clock *clock
	db    *store.DB
	dir   *identity.Directory
	km    *keymanager.KeyManager
	h     http.Handler
	ctx   context.Context
	addr  string // of the client
}

func newWorld(t testing.TB, change ...func(*keymanager.Options)) *world {
	t.Helper()
	return newWorldOn(t, "sqlite:"+filepath.Join(t.TempDir(), "db"), change...)
}

// newWorldOn is a world over the store of a URL.
func newWorldOn(t testing.TB, database string, change ...func(*keymanager.Options)) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), clock: &clock{at: time.Unix(1_800_000_000, 0).UTC()}, addr: "127.0.0.1:5000"}
	var err error
	w.db, err = store.Open(w.ctx, database, store.Options{Sweep: -1, Now: w.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	w.dir, err = identity.New(identity.Options{
		Tenants: w.db.Tenants, Confs: w.db.TenantConfs, Users: w.db.Users, Roles: w.db.Roles, Tokens: w.db.Tokens,
		InTx: w.db.InTx, Hashing: identity.Hashing{Memory: 64, Time: 1, Threads: 1}, Now: w.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.must(w.dir.Bootstrap(w.ctx, identity.BootstrapOptions{AdminPassword: "admin"}))
	o := keymanager.Options{
		Clients: w.db.Clients, SigningKeys: w.db.SigningKeys, Tokens: w.db.Tokens, Ephemera: w.db.Ephemera, Directory: w.dir, Sealer: plain{},
		InTx: w.db.InTx, URL: "https://localhost:9443", Algorithm: "ES256", Now: w.clock.now,
		APIScopes: func(_ context.Context, t apim.TenantID, scope string) ([]string, bool, error) {
			switch scope {
			case "orders:write":
				return []string{"Internal/publisher"}, true, nil
			case "orders:read":
				return nil, true, nil
			}
			return nil, false, nil
		},
	}
	for _, c := range change {
		c(&o)
	}
	if w.km, err = keymanager.New(o); err != nil {
		t.Fatal(err)
	}
	w.must(w.km.EnsureKeys(w.ctx))
	w.h = w.km.Handler()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) user(tenant apim.TenantID, name string, roles ...string) *apim.User {
	w.t.Helper()
	u, err := w.dir.CreateUser(w.ctx, tenant, identity.NewUser{Name: name, Password: "password", Roles: roles})
	w.must(err)
	return u
}

// client creates an OAuth client of the owner and returns its secret.
func (w *world) client(owner string, change func(*apim.Client)) (*apim.Client, string) {
	w.t.Helper()
	c := &apim.Client{
		Name: "c-" + token.NewSecret(), Owner: owner, TokenType: "JWT", Origin: "application",
		Grants: []string{"client_credentials", "password", "refresh_token"},
	}
	if change != nil {
		change(c)
	}
	secret, err := w.km.CreateClient(w.ctx, apim.In(apim.SuperTenant), c)
	w.must(err)
	return c, secret
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (a reply) json(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(a.body), &m); err != nil {
		t.Fatalf("answer is not JSON: %q", a.body)
	}
	return m
}

// do sends a request; body is a form unless the header says otherwise.
func (w *world) do(method, target, body string, header ...string) reply {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.ctx, method, target, strings.NewReader(body))
	r.RemoteAddr = w.addr
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	b, err := io.ReadAll(rec.Result().Body)
	w.must(err)
	return reply{rec.Code, rec.Result().Header, string(b)}
}

func basicOf(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// token posts a form to the token endpoint with the client's Basic credentials.
func (w *world) token(c *apim.Client, secret string, form ...string) reply {
	w.t.Helper()
	v := url.Values{}
	for i := 0; i < len(form); i += 2 {
		v.Add(form[i], form[i+1])
	}
	return w.do("POST", "/oauth2/token", v.Encode(), "Authorization", basicOf(string(c.ID), secret))
}

// granted is token that must succeed.
func (w *world) granted(c *apim.Client, secret string, form ...string) map[string]any {
	w.t.Helper()
	a := w.token(c, secret, form...)
	if a.status != http.StatusOK {
		w.t.Fatalf("token: %d %s", a.status, a.body)
	}
	return a.json(w.t)
}

func claimsOf(t testing.TB, raw string) (head, body string) {
	t.Helper()
	p := strings.Split(raw, ".")
	if len(p) != 3 {
		t.Fatalf("not a JWT: %q", raw)
	}
	h, err1 := base64.RawURLEncoding.DecodeString(p[0])
	b, err2 := base64.RawURLEncoding.DecodeString(p[1])
	if err1 != nil || err2 != nil {
		t.Fatalf("not a JWT: %q", raw)
	}
	return string(h), string(b)
}

// call asks who the bearer is.
func (w *world) call(auth string) (*apim.Actor, error) {
	r := httptest.NewRequestWithContext(w.ctx, "GET", "/api/am/publisher/v4/apis", nil)
	r.RemoteAddr = w.addr
	if auth != "" {
		r.Header.Set("Authorization", auth)
	}
	return w.km.Authenticate(w.ctx, r)
}
