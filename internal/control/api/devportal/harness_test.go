package devportal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/api/devportal"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/control/subscribe"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

// clients is a key manager that keeps clients in the store and secrets in clear.
type clients struct {
	db    *store.DB
	clear map[string]string // secret id to text
	n     int
}

func (k *clients) secret(desc string) apim.Secret {
	k.n++
	id := fmt.Sprintf("sec-%d", k.n)
	k.clear[id] = fmt.Sprintf("clear-%d", k.n)
	return apim.Secret{ID: id, Description: desc, CreatedAt: time.Now().Add(time.Duration(k.n) * time.Second)}
}

func (k *clients) CreateClient(ctx context.Context, s apim.Scope, c *apim.Client) (string, error) {
	sec := k.secret("")
	c.Secrets = []apim.Secret{sec}
	if c.ID == "" {
		c.ID = apim.ClientID(fmt.Sprintf("ck-%d", k.n))
	}
	return k.clear[sec.ID], k.db.Clients.Create(ctx, s, c)
}

func (k *clients) Client(ctx context.Context, s apim.Scope, id apim.ClientID) (*apim.Client, error) {
	return k.db.Clients.Get(ctx, s, id)
}

func (k *clients) UpdateClient(ctx context.Context, s apim.Scope, c *apim.Client) error {
	return k.db.Clients.Update(ctx, s, c)
}

func (k *clients) DeleteClient(ctx context.Context, s apim.Scope, id apim.ClientID) error {
	return k.db.Clients.Delete(ctx, s, id)
}

func (k *clients) Secret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error) {
	c, err := k.db.Clients.Get(ctx, s, id)
	if err != nil {
		return "", err
	}
	return k.clear[c.Secrets[len(c.Secrets)-1].ID], nil
}

func (k *clients) CheckSecret(ctx context.Context, s apim.Scope, id apim.ClientID, secret string) (bool, error) {
	c, err := k.db.Clients.Get(ctx, s, id)
	if err != nil {
		return false, err
	}
	for _, x := range c.Secrets {
		if k.clear[x.ID] == secret {
			return true, nil
		}
	}
	return false, nil
}

func (k *clients) change(ctx context.Context, s apim.Scope, id apim.ClientID, fn func(*apim.Client)) error {
	c, err := k.db.Clients.Get(ctx, s, id)
	if err != nil {
		return err
	}
	fn(c)
	return k.db.Clients.Update(ctx, s, c)
}

func (k *clients) RegenerateSecret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error) {
	sec := k.secret("")
	return k.clear[sec.ID], k.change(ctx, s, id, func(c *apim.Client) { c.Secrets = []apim.Secret{sec} })
}

func (k *clients) AddSecret(ctx context.Context, s apim.Scope, id apim.ClientID, desc string, _ time.Duration) (apim.Secret, string, error) {
	sec := k.secret(desc)
	return sec, k.clear[sec.ID], k.change(ctx, s, id, func(c *apim.Client) { c.Secrets = append(c.Secrets, sec) })
}

func (k *clients) RevokeSecret(ctx context.Context, s apim.Scope, id apim.ClientID, secret string) error {
	return k.change(ctx, s, id, func(c *apim.Client) {
		var kept []apim.Secret
		for _, x := range c.Secrets {
			if x.ID != secret {
				kept = append(kept, x)
			}
		}
		c.Secrets = kept
	})
}

func (k *clients) Token(_ context.Context, _ apim.Scope, id apim.ClientID, scopes []string, _ time.Duration) (subscribe.Token, error) {
	return subscribe.Token{Access: "token-of-" + string(id), Scopes: scopes, Validity: time.Hour}, nil
}

func (k *clients) Revoke(context.Context, apim.Scope, apim.ClientID, string) error { return nil }

type passwords struct{}

func (passwords) ChangePassword(_ context.Context, _ *apim.Actor, current, _ string) error {
	if current != "old" {
		return fault.PasswordCurrent.With("wrong")
	}
	return nil
}

type confs struct{ db *store.DB }

func (c confs) Conf(ctx context.Context, t apim.TenantID) (string, error) {
	row, err := c.db.TenantConfs.Get(ctx, apim.In(t), t)
	if err != nil {
		return "", err
	}
	return row.JSON, nil
}

func (c confs) SetConf(context.Context, apim.TenantID, string) error { return errors.New("not here") }

type sealer struct{}

func (sealer) Seal(b []byte) string { return "sealed:v1:" + string(b) }

// world is a surface over a store of its own, with two tenants, three users
// and one API of each state and visibility.
type world struct {
	t   *testing.T
	db  *store.DB
	svc *subscribe.Service
	h   http.Handler
	km  *clients
}

var actors = map[string]*apim.Actor{}

func actor(user string, t apim.TenantID, roles ...string) *apim.Actor {
	return &apim.Actor{
		User: user, UserID: apim.UserID("id-" + user), Tenant: t, Roles: roles,
		Scopes: []string{"apim:subscribe", "apim:app_manage", "apim:sub_manage", "apim:api_key", "apim:store_settings"},
	}
}

func init() {
	for _, a := range []*apim.Actor{
		actor("alice", apim.SuperTenant, "Internal/subscriber"),
		actor("bob", apim.SuperTenant, "Internal/subscriber", "partner"),
		actor("carol", apim.SuperTenant, "Internal/creator"),
		actor("zoe@other.org", "other.org", "Internal/subscriber"),
	} {
		actors[a.User] = a
	}
	weak := actor("weak", apim.SuperTenant)
	weak.Scopes = nil
	actors["weak"] = weak
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := apim.WithActor(t.Context(), &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true})
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range []apim.TenantID{apim.SuperTenant, "other.org"} {
		must(db.Tenants.Create(ctx, apim.In(d), &apim.Tenant{Meta: apim.Meta{Tenant: d}, Domain: d, Number: int64(i), Active: true}))
		must(db.TenantConfs.Create(ctx, apim.In(d), &apim.TenantConf{Meta: apim.Meta{Tenant: d}, ID: d, JSON: `{}`}))
	}
	for _, a := range actors {
		must(db.Users.Create(ctx, a.Scope(), &apim.User{Meta: apim.Meta{Tenant: a.Tenant}, ID: a.UserID, Name: strings.TrimSuffix(a.User, "@other.org"), Roles: a.Roles}))
	}
	w := &world{t: t, db: db, km: &clients{db: db, clear: map[string]string{}}}
	w.svc, err = subscribe.New(subscribe.Options{
		InTx: db.InTx, APIs: db.APIs, Deployments: db.Deployments, Environments: db.Environments, Policies: db.Policies,
		KeyManagers: db.KeyManagers, TenantConfs: db.TenantConfs, Tenants: db.Tenants, Users: db.Users, Applications: db.Applications,
		KeyMappings: db.KeyMappings, Subscriptions: db.Subscriptions, APIKeys: db.APIKeys, Blobs: db.Blobs, Clients: w.km,
		Passwords: passwords{}, Unlimited: true,
	})
	must(err)
	g, err := govern.New(govern.Options{
		InTx: db.InTx, Tenants: db.Tenants, Users: db.Users, APIs: db.APIs, Deployments: db.Deployments, Policies: db.Policies,
		Environments: db.Environments, KeyManagers: db.KeyManagers, Applications: db.Applications, Subscriptions: db.Subscriptions,
		KeyMappings: db.KeyMappings, Confs: confs{db}, Remover: w.svc, Clients: w.km, Seal: sealer{}, Host: "localhost", GatewayHost: "localhost",
		Ports: govern.Ports{Management: 9443, HTTP: 8280, HTTPS: 8243, WS: 9099, WSS: 8099}, Unlimited: true,
	})
	must(err)
	must(g.Bootstrap(ctx))
	must(g.Bootstrap(ctx)) // every start runs it again
	w.h, err = devportal.New(devportal.Options{
		Service: w.svc, Anonymous: true, PasswordChange: true,
		Authenticate: func(_ context.Context, r *http.Request) (*apim.Actor, error) {
			a := actors[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
			if a == nil {
				return nil, &fault.NotAuthorized
			}
			return a, nil
		},
	})
	must(err)
	return w
}

// api stores an API named after its id.
func (w *world) api(id string, change func(*apim.API)) *apim.API {
	w.t.Helper()
	a := &apim.API{
		Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: apim.APIID(id), Name: id, Context: "/" + id, ContextTemplate: "/" + id + "/{version}",
		Version: "1.0", Provider: "carol", Type: "HTTP", State: apim.Published, Visibility: "PUBLIC", Transports: []string{"http", "https"},
		Plans: []string{"Gold", "Bronze"},
	}
	if change != nil {
		change(a)
	}
	ctx := apim.WithActor(w.t.Context(), actors["carol"])
	if err := w.db.APIs.Create(ctx, apim.In(a.Tenant), a); err != nil {
		w.t.Fatal(err)
	}
	return a
}

type object = map[string]any

// call sends a request as a user ("" is nobody) and returns the decoded body
// after checking the status.
func (w *world) call(user string, want int, method, path, body string, headers ...string) object {
	w.t.Helper()
	r := httptest.NewRequest(method, devportal.Base+path, strings.NewReader(body))
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+user)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	b, err := io.ReadAll(rec.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	if rec.Code != want {
		w.t.Fatalf("%s %s as %q: status %d, want %d: %s", method, path, user, rec.Code, want, b)
	}
	var out object
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '[' {
		var l []any
		if err := json.Unmarshal(b, &l); err != nil {
			w.t.Fatal(err)
		}
		return object{"": l}
	}
	if json.Unmarshal(b, &out) != nil {
		out = object{"": string(b)}
	}
	return out
}

func (w *world) refused(user string, status, code int, method, path, body string, headers ...string) {
	w.t.Helper()
	got := w.call(user, status, method, path, body, headers...)
	if fmt.Sprint(got["code"]) != fmt.Sprint(code) {
		w.t.Fatalf("%s %s: code %v, want %d: %v", method, path, got["code"], code, got)
	}
}

func names(list object, member string) string {
	var out []string
	items, _ := list["list"].([]any)
	for _, it := range items {
		out = append(out, fmt.Sprint(it.(object)[member]))
	}
	return strings.Join(out, " ")
}

// app makes an application and returns its id.
func (w *world) app(user, name string) string {
	w.t.Helper()
	return w.call(user, 201, "POST", "/applications", `{"name":"`+name+`","throttlingPolicy":"Unlimited"}`)["applicationId"].(string)
}
