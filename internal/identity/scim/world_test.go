package scim_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/identity/scim"
	"github.com/cardea-apim/cardea/internal/store"
)

// world is two tenants, shop.example and the platform's own, behind a server.
type world struct {
	t   *testing.T
	dir *identity.Directory
	srv *scim.Server
}

type doc = map[string]any

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "db"), store.Options{Sweep: -1})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	w := &world{t: t}
	w.dir, err = identity.New(identity.Options{
		Tenants: db.Tenants, Confs: db.TenantConfs, Users: db.Users, Roles: db.Roles, Tokens: db.Tokens,
		InTx: db.InTx, Hashing: identity.Hashing{Memory: 64, Time: 1, Threads: 1},
	})
	must(t, err)
	must(t, w.dir.Bootstrap(t.Context(), identity.BootstrapOptions{AdminPassword: "admin"}))
	_, err = w.dir.CreateTenant(t.Context(), identity.NewTenant{Domain: "shop.example", Admin: "sam", Password: "sam", Email: "sam@shop.example"})
	must(t, err)
	w.srv, err = scim.New(scim.Options{Directory: w.dir, Authenticate: w.authenticate, URL: "https://localhost:9443"})
	must(t, err)
	return w
}

// authenticate takes Basic credentials; a scope in the header Token makes the
// caller come with a token of those scopes.
func (w *world) authenticate(ctx context.Context, r *http.Request) (*apim.Actor, error) {
	name, password, ok := r.BasicAuth()
	if !ok {
		return nil, &fault.NotAuthorized
	}
	u, err := w.dir.Authenticate(ctx, name, apim.SuperTenant, password, "")
	if err != nil {
		return nil, err
	}
	a := &apim.Actor{User: u.Name, UserID: u.ID, Tenant: u.Tenant, Roles: w.dir.RolesOf(u)}
	if scopes := r.Header.Get("Token"); scopes != "" {
		a.Client, a.Scopes = "client", strings.Fields(scopes)
	}
	return a, nil
}

// as sends a request of user:password, or user:password:scopes of a token.
func (w *world) as(who, method, path, body string) (int, doc) {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	c := strings.SplitN(who, ":", 3)
	if len(c) > 1 {
		r.SetBasicAuth(c[0], c[1])
	}
	if len(c) > 2 {
		r.Header.Set("Token", c[2])
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/scim+json")
	}
	rec := httptest.NewRecorder()
	w.srv.ServeHTTP(rec, r)
	b, _ := io.ReadAll(rec.Body)
	out := doc{}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &out); err != nil {
			w.t.Fatalf("%s %s: %s is not JSON", method, path, b)
		}
	}
	return rec.Code, out
}

const admin, shop = "admin:admin", "sam@shop.example:sam"

// ok is as, for requests of the administrator that must be answered with status.
func (w *world) ok(status int, method, path, body string) doc {
	w.t.Helper()
	code, d := w.as(admin, method, path, body)
	if code != status {
		w.t.Fatalf("%s %s: %d %v, want %d", method, path, code, d, status)
	}
	return d
}

// user makes a user and gives its id.
func (w *world) user(name string) string {
	w.t.Helper()
	return w.ok(201, "POST", "/scim2/Users", `{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User"],"userName":"`+name+`","password":"margherita",
		"name":{"givenName":"Anna","familyName":"Nowak"},"emails":[{"value":"`+name+`@example.org","type":"work","primary":true},{"value":"home@example.org","type":"home"}],
		"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":{"department":"Ovens","manager":{"value":"26118915"}}}`)["id"].(string)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// at walks a document.
func at(d any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := d.(doc)
			d = m[p]
		case int:
			l, _ := d.([]any)
			if p >= len(l) {
				return nil
			}
			d = l[p]
		}
	}
	return d
}
