package publisher_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/api/publisher"
	"github.com/cardea-apim/cardea/internal/control/publish"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest/fetch"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/store"
)

// world is the surface over a real database.
type world struct {
	t   *testing.T
	h   http.Handler
	db  *store.DB
	svc *publish.Service
}

type receipts struct{}

func (receipts) Wait(context.Context, []int64) (snapshot.Receipt, error) {
	return snapshot.Receipt{
		Version: snapshot.Version{Epoch: 1, Seq: 2}, Complete: true,
		Gateways: []snapshot.Ack{{Gateway: "gw-1", Acked: true}, {Gateway: "gw-2", Acked: true}},
	}, nil
}

var actors = map[string]*apim.Actor{
	"admin": {User: "admin", Tenant: apim.SuperTenant, Roles: []string{"admin", "Internal/creator"}, Scopes: []string{
		"apim:api_view", "apim:api_create", "apim:api_manage", "apim:api_publish", "apim:api_delete", "apim:shared_scope_manage",
		"apim:subscription_view", "apim:subscription_manage", "apim:publisher_settings", "apim:api_generate_key",
	}},
	"creator": {User: "creator", Tenant: apim.SuperTenant, Roles: []string{"Internal/creator"}, Scopes: []string{"apim:api_view", "apim:api_create"}},
	"nobody":  {User: "nobody", Tenant: apim.SuperTenant, Scopes: []string{"default"}},
	"tenant": {User: "admin@t.com", Tenant: "t.com", Roles: []string{"admin"}, Scopes: []string{
		"apim:api_view", "apim:api_create", "apim:api_manage", "apim:api_delete",
	}},
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "x.db"), store.Options{Sweep: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ctx = apim.WithActor(ctx, &apim.Actor{User: "system", System: true})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tn := range []apim.TenantID{apim.SuperTenant, "t.com"} {
		sc, m := apim.In(tn), apim.Meta{Tenant: tn}
		for _, n := range []string{"admin", "Internal/creator", "eaters"} {
			r := &apim.Role{Meta: m, Name: n}
			if n == "admin" {
				r.Permissions = []string{"/permission"}
			}
			must(db.Roles.Create(ctx, sc, r))
		}
		for _, n := range []string{"Unlimited", "Gold", "Silver", "DefaultSubscriptionless"} {
			must(db.Policies.Create(ctx, sc, &apim.ThrottlePolicy{
				Meta: m, Level: apim.SubLevel, Name: n, StopOnQuota: true, BillingPlan: "FREE",
				Limit: apim.Limit{Type: "REQUESTCOUNTLIMIT", Count: 5000, TimeUnit: "min", UnitTime: 1},
			}))
		}
		must(db.Policies.Create(ctx, sc, &apim.ThrottlePolicy{Meta: m, Level: apim.SubLevel, Name: "Unauthenticated", Hidden: true}))
		must(db.Policies.Create(ctx, sc, &apim.ThrottlePolicy{
			Meta: m, Level: apim.SubLevel, Name: "AsyncGold",
			Limit: apim.Limit{Type: "EVENTCOUNTLIMIT", Count: 50000, TimeUnit: "days", UnitTime: 1},
		}))
		for _, n := range []string{"Unlimited", "10KPerMin"} {
			must(db.Policies.Create(ctx, sc, &apim.ThrottlePolicy{Meta: m, Level: apim.APILevel, Name: n}))
		}
	}
	must(db.Environments.Create(ctx, apim.In(apim.SuperTenant), &apim.Environment{
		Meta: apim.Meta{Tenant: apim.SuperTenant}, Name: "Default", Type: "hybrid",
		VHosts: []apim.VHost{{Host: "localhost", HTTPSPort: 8243}, {Host: "gw.example.com", HTTPSPort: 443}},
	}))
	must(db.KeyManagers.Create(ctx, apim.In(apim.SuperTenant), &apim.KeyManager{Meta: apim.Meta{Tenant: apim.SuperTenant}, Name: apim.ResidentKM, Type: "default", Enabled: true}))
	box, err := seal.New(seal.NewMasterKey())
	must(err)
	log := slog.New(slog.DiscardHandler)
	svc := publish.New(publish.Options{
		InTx: db.InTx, APIs: db.APIs, Revisions: db.Revisions, Deployments: db.Deployments, Scopes: db.SharedScopes,
		Subscriptions: db.Subscriptions, APIKeys: db.APIKeys, Applications: db.Applications, Policies: db.Policies,
		Environments: db.Environments, KeyManagers: db.KeyManagers, Roles: db.Roles, TenantConfs: db.TenantConfs,
		Blobs: db.Blobs, Seal: box, Fetch: fetch.New(fetch.Options{Loopback: true}), Log: log,
	})
	h, err := publisher.New(publisher.Options{
		Service: svc, Receipts: receipts{}, Log: log,
		Authenticate: func(_ context.Context, r *http.Request) (*apim.Actor, error) {
			if a := actors[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]; a != nil {
				return a, nil
			}
			return nil, &fault.NotAuthorized
		},
		InternalKey: func(context.Context, *apim.API) (string, time.Duration, error) { return "key", time.Minute, nil },
	})
	must(err)
	return &world{t, h, db, svc}
}

type answer struct {
	Status int
	Header http.Header
	Body   []byte
	JSON   map[string]any
}

func (w *world) as(user, method, path string, body any, header ...string) answer {
	w.t.Helper()
	var b io.Reader
	ct := ""
	switch v := body.(type) {
	case nil:
	case string:
		b, ct = strings.NewReader(v), "application/json"
	case *form:
		b, ct = &v.buf, v.w.FormDataContentType()
		_ = v.w.Close()
	default:
		j, err := json.Marshal(v)
		if err != nil {
			w.t.Fatal(err)
		}
		b, ct = bytes.NewReader(j), "application/json"
	}
	r := httptest.NewRequestWithContext(w.t.Context(), method, "http://x"+publisher.Base+path, b)
	if ct != "" {
		r.Header.Set("Content-Type", ct)
	}
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+user)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	a := answer{Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes()}
	_ = json.Unmarshal(a.Body, &a.JSON)
	return a
}

func (w *world) do(method, path string, body any, want int, header ...string) answer {
	w.t.Helper()
	a := w.as("admin", method, path, body, header...)
	if a.Status != want {
		w.t.Fatalf("%s %s: got %d, want %d: %s", method, path, a.Status, want, a.Body)
	}
	return a
}

func (w *world) refused(method, path string, body any, status int, code float64) answer {
	w.t.Helper()
	a := w.do(method, path, body, status)
	if a.JSON["code"] != code {
		w.t.Fatalf("%s %s: got code %v, want %v: %s", method, path, a.JSON["code"], code, a.Body)
	}
	for _, m := range []string{"message", "description", "moreInfo", "error"} {
		if _, ok := a.JSON[m]; !ok {
			w.t.Fatalf("%s %s: no %s in %s", method, path, m, a.Body)
		}
	}
	return a
}

func (a answer) id() string { s, _ := a.JSON["id"].(string); return s }

type form struct {
	buf bytes.Buffer
	w   *multipart.Writer
}

// newForm makes a multipart body of name, value pairs; @name is a file.
func newForm(pairs ...string) *form {
	f := &form{}
	f.w = multipart.NewWriter(&f.buf)
	for i := 0; i < len(pairs); i += 2 {
		var p io.Writer
		if name, ok := strings.CutPrefix(pairs[i], "@"); ok {
			p, _ = f.w.CreateFormFile(name, "upload.bin")
		} else {
			p, _ = f.w.CreateFormField(pairs[i])
		}
		_, _ = io.WriteString(p, pairs[i+1])
	}
	return f
}

func pizza(name, ctx, version string, more map[string]any) map[string]any {
	m := map[string]any{"name": name, "context": ctx, "version": version}
	for k, v := range more {
		m[k] = v
	}
	return m
}

const openapi3 = `{
  "openapi": "3.0.3",
  "info": {"title": "Menu", "version": "1.0.0"},
  "servers": [{"url": "https://api.example.com/v1"}, {"url": "/relative"}],
  "x-number": 1.10,
  "paths": {
    "/menu": {"get": {"summary": "Old", "x-throttling-tier": "10KPerMin", "responses": {"200": {"description": "ok"}}}},
    "/order/{id}": {"put": {"parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}], "responses": {"200": {"description": "ok"}}}}
  }
}
`

func zipped(t *testing.T, name, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	f, err := z.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(f, content)
	_ = z.Close()
	return b.String()
}
