package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/deploy"
	"github.com/cardea-apim/cardea/internal/node"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/store"
)

var (
	quiet  = slog.New(slog.DiscardHandler)
	tenant = apim.In(apim.SuperTenant)
)

// changeLog is the store's change log, watched and disturbed by tests.
type changeLog struct {
	*store.ChangeLog
	mu      sync.Mutex
	publish func(cs []apim.Versioned) error // called before each; nil: nothing
	sent    [][]apim.Versioned
}

func (l *changeLog) Publish(ctx context.Context, holder string, cs []apim.Versioned) (snapshot.Version, error) {
	l.mu.Lock()
	before := l.publish
	l.sent = append(l.sent, cs)
	l.mu.Unlock()
	if before != nil {
		if err := before(cs); err != nil {
			return snapshot.Version{}, err
		}
	}
	return l.ChangeLog.Publish(ctx, holder, cs)
}

// items are the keys of all items published so far, in order.
func (l *changeLog) items() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, cs := range l.sent {
		for _, c := range cs {
			for _, it := range c.Items {
				s := it.Key.String()
				if it.Deleted {
					s = "-" + s
				}
				out = append(out, s)
			}
		}
	}
	return out
}

func (l *changeLog) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = nil
}

// world is a control process on a database of its own.
type world struct {
	t        testing.TB
	url      string
	db       *store.DB
	log      *changeLog
	box      *seal.Box
	receipts *deploy.Receipts
	feed     *deploy.Feed
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newWorld(t testing.TB) *world {
	t.Helper()
	box, err := seal.New(seal.NewMasterKey())
	must(t, err)
	return openWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "cardea.db"), box)
}

func openWorld(t testing.TB, url string, box *seal.Box) *world {
	t.Helper()
	db, err := store.Open(t.Context(), url, store.Options{Log: quiet, Sweep: -1})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, url: url, db: db, box: box, log: &changeLog{ChangeLog: db.Log}}
	w.receipts = deploy.NewReceipts(deploy.ReceiptOptions{Log: db.Log, Logger: quiet})
	w.feed = deploy.NewFeed(db.Log)
	w.background(w.receipts.Run)
	return w
}

func (w *world) source() deploy.Source {
	return deploy.Source{
		Tenants: w.db.Tenants, SigningKeys: w.db.SigningKeys, APIs: w.db.APIs, Revisions: w.db.Revisions, Deployments: w.db.Deployments,
		Applications: w.db.Applications, KeyMappings: w.db.KeyMappings, Subscriptions: w.db.Subscriptions, APIKeys: w.db.APIKeys,
		Policies: w.db.Policies, Environments: w.db.Environments, KeyManagers: w.db.KeyManagers, Revocations: w.db.Tokens,
	}
}

func (w *world) relay(holder string, ttl time.Duration) *deploy.Relay {
	return deploy.NewRelay(deploy.RelayOptions{Holder: holder, Source: w.source(), Log: w.log, Box: w.box, Logger: quiet, TTL: ttl})
}

// background runs fn until the test ends or the returned function is called.
func (w *world) background(fn func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := fn(ctx); err != nil {
			w.t.Errorf("background: %v", err)
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	w.t.Cleanup(stop)
	return stop
}

// gateway is one that compiles nothing.
type gateway struct {
	mu      sync.Mutex
	items   map[string]string
	version snapshot.Version
	full    int
	applied int
	stalled chan struct{} // not nil: Apply waits for it
	refuse  map[string]string
}

func (g *gateway) Apply(full bool, v snapshot.Version, items []snapshot.Item) (failed []string) {
	g.mu.Lock()
	stalled := g.stalled
	g.mu.Unlock()
	if stalled != nil {
		<-stalled
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if full || g.items == nil {
		g.items = map[string]string{}
	}
	if full {
		g.full++
	}
	g.applied++
	g.version = v
	for _, it := range items {
		k := it.Key.String()
		if cause := g.refuse[k]; cause != "" && !it.Deleted {
			failed = append(failed, k+": "+cause)
			continue
		}
		if it.Deleted {
			delete(g.items, k)
		} else {
			g.items[k] = string(it.Body)
		}
	}
	return failed
}

func (g *gateway) get(key string) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, ok := g.items[key]
	return b, ok
}

func (g *gateway) has(keys ...string) bool {
	for _, k := range keys {
		if _, ok := g.get(k); !ok {
			return false
		}
	}
	return true
}

func (g *gateway) api(t testing.TB, id string) snapshot.API {
	t.Helper()
	var a snapshot.API
	body, ok := g.get("api/" + id + "@Default")
	if !ok {
		t.Fatalf("api %s is not on the gateway", id)
	}
	must(t, json.Unmarshal([]byte(body), &a))
	return a
}

func (g *gateway) state() (v snapshot.Version, full int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.version, g.full
}

func (w *world) follower(id, dir string, g *gateway, feed node.Feed) *node.Follower {
	w.t.Helper()
	f, err := node.NewFollower(node.Options{
		Dir: dir, Node: apim.GatewayNode{ID: id, Labels: []string{"Default"}, Local: true}, KeyID: w.box.ID(),
		Feed: feed, Gateway: g, Log: quiet,
	})
	must(w.t, err)
	return f
}

// start runs a gateway of this process until stop.
func (w *world) start(id, dir string, g *gateway) (stop func()) {
	w.t.Helper()
	f := w.follower(id, dir, g, w.feed)
	f.Load(w.t.Context())
	return w.background(func(ctx context.Context) error {
		defer f.Close()
		return f.Run(ctx)
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(8 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// write runs fn and gives the receipt of its changes.
func (w *world) write(fn func(ctx context.Context) error) snapshot.Receipt {
	w.t.Helper()
	ctx, changes := apim.TrackChanges(w.t.Context())
	must(w.t, fn(ctx))
	r, err := w.receipts.Wait(ctx, changes.IDs())
	must(w.t, err)
	return r
}

func (w *world) app(name string) *apim.Application {
	return &apim.Application{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: apim.AppID(name), Name: name, Owner: "admin", Policy: "Unlimited", Status: "APPROVED"}
}

func (w *world) saveApp(name string) snapshot.Receipt {
	w.t.Helper()
	return w.write(func(ctx context.Context) error { return w.db.Applications.Create(ctx, tenant, w.app(name)) })
}

// deployAPI makes an API with a deployed revision.
func (w *world) deployAPI(name, version string, state apim.State, isDefault bool) *apim.API {
	w.t.Helper()
	ctx := w.t.Context()
	a := &apim.API{
		Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: apim.APIID(name + "-" + version), Name: name, Version: version,
		Context: "/" + name, ContextTemplate: "/" + name + "/{version}", State: state, Default: isDefault, Type: "HTTP",
		Endpoint:   json.RawMessage(`{"endpoint_type":"http","production_endpoints":{"url":"http://backend"}}`),
		Operations: []apim.Operation{{Target: "/*", Verb: "GET"}},
	}
	must(w.t, w.db.APIs.Create(ctx, tenant, a))
	rev := &apim.Revision{Meta: a.Meta, ID: apim.RevisionID(fmt.Sprint(a.ID, "-r1")), API: a.ID, Number: 1, Copy: *a}
	must(w.t, w.db.Revisions.Create(ctx, tenant, rev))
	must(w.t, w.db.Deployments.Create(ctx, tenant, &apim.Deployment{Meta: apim.Meta{Tenant: apim.SuperTenant}, API: a.ID, Revision: rev.ID, Environment: "Default"}))
	return a
}

func (w *world) setState(id apim.APIID, fn func(a *apim.API)) {
	w.t.Helper()
	a, err := w.db.APIs.Get(w.t.Context(), tenant, id)
	must(w.t, err)
	fn(a)
	must(w.t, w.db.APIs.Update(w.t.Context(), tenant, a))
}
