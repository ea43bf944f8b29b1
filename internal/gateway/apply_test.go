package gateway

import (
	"fmt"
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

func TestAPIThatDoesNotCompileKeepsItsLastGoodFlow(t *testing.T) {
	w := pizzeria(t, nil)
	broken := pizza()
	broken.Operations = append(broken.Operations, snapshot.Operation{Target: "/x/{", Verb: "GET"})
	other := pizza()
	other.ID, other.Context = "api-2", "/other/1.0"
	unknown := broken
	unknown.ID, unknown.Context = "api-3", "/third/1.0"
	sealed := pizza()
	sealed.ID, sealed.Context, sealed.Production[0].Sealed = "api-4", "/fourth/1.0", "sealed:x"
	failed := w.g.Apply(false, snapshot.Version{Epoch: 1, Seq: 9}, []snapshot.Item{w.api(broken), w.api(other), w.api(unknown), w.api(sealed)})
	if len(failed) != 3 || !strings.HasPrefix(failed[0], "api/api-1@Default: ") {
		t.Errorf("failed: %v", failed)
	}
	for path, want := range map[string]int{"/pizza/1.0/open": 200, "/other/1.0/open": 200, "/third/1.0/open": 404, "/fourth/1.0/open": 404} {
		if got := w.get(path).Code; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	if w.g.Version().Seq != 9 || !w.g.Ready() {
		t.Errorf("version %v, ready %v", w.g.Version(), w.g.Ready())
	}
	// Also over a resynchronisation.
	failed = w.g.Apply(true, snapshot.Version{Epoch: 2, Seq: 1}, append(w.base(), w.api(broken)))
	if len(failed) != 1 || w.get("/pizza/1.0/open").Code != 200 || w.get("/other/1.0/open").Code != 404 {
		t.Errorf("after a full snapshot: failed %v, %d and %d", failed, w.get("/pizza/1.0/open").Code, w.get("/other/1.0/open").Code)
	}
}

func TestBadItemsOfOtherKindsAreNamed(t *testing.T) {
	w := pizzeria(t, nil)
	bad := func(k snapshot.Kind, id, body string) snapshot.Item {
		return snapshot.Item{Key: snapshot.Key{Kind: k, ID: id}, Body: []byte(body), Hash: "x", Size: len(body)}
	}
	items := []snapshot.Item{
		bad(snapshot.KindApplication, "app-1", "{"), bad(snapshot.KindKey, "noslash", "{}"), bad(snapshot.KindSubscription, "noslash", "{}"),
		bad(snapshot.KindAPIPolicy, tenant+"/2PerMin", `{"groups":[{"conditions":[{"type":"IP","value":"x"}]}]}`),
		bad(snapshot.KindKeyManager, "km-1", `{"jwks":{"keys":3}}`), bad(snapshot.KindAPIKey, "h", `{"ips":["nonsense"]}`),
		bad(snapshot.KindRevocation, "sub/x", "{}"), bad(snapshot.KindAPI, "api-1", ""),
	}
	items[len(items)-1].Env, items[len(items)-1].Body = "Default", nil
	failed := w.g.Apply(false, snapshot.Version{Epoch: 1, Seq: 2}, items)
	if len(failed) != len(items) {
		t.Errorf("%d named of %d: %v", len(failed), len(items), failed)
	}
	if rec := w.get("/pizza/1.0/menu", bearerOf(w.token())); rec.Code != 200 {
		t.Errorf("what was good does not serve any more: %d %s", rec.Code, rec.Body)
	}
}

func TestChangesActWithoutANewToken(t *testing.T) {
	w := pizzeria(t, nil)
	auth := bearerOf(w.token())
	del := func(k snapshot.Kind, id string) snapshot.Item {
		return snapshot.Item{Key: snapshot.Key{Kind: k, ID: id}, Deleted: true}
	}
	blocked := pizza()
	blocked.State = "BLOCKED"
	base := map[string]snapshot.Item{}
	for _, it := range w.base() {
		base[it.Key.String()] = it
	}
	for _, c := range []struct {
		name         string
		change, back snapshot.Item
		status       int
	}{
		{"unsubscribed", del(snapshot.KindSubscription, "app-1/api-1"), base["sub/app-1/api-1"], 403},
		{"key removed", del(snapshot.KindKey, "km-1/key-1"), base["key/km-1/key-1"], 403},
		{"application removed", del(snapshot.KindApplication, "app-1"), base["app/app-1"], 403},
		{"key manager removed", del(snapshot.KindKeyManager, "km-1"), base["km/km-1"], 401},
		{"token revoked", item(t, snapshot.KindRevocation, "jti/jti-1", "", snapshot.Revocation{JTI: "jti-1"}), del(snapshot.KindRevocation, "jti/jti-1"), 401},
		{"API blocked", w.api(blocked), w.api(pizza()), 503},
		{"API undeployed", snapshot.Item{Key: snapshot.Key{Kind: snapshot.KindAPI, ID: "api-1", Env: "Default"}, Deleted: true}, w.api(pizza()), 404},
	} {
		if got := w.get("/pizza/1.0/menu", auth).Code; got != 200 {
			t.Fatalf("before %s: %d", c.name, got)
		}
		w.apply(false, c.change)
		if got := w.get("/pizza/1.0/menu", auth).Code; got != c.status {
			t.Errorf("%s: %d, want %d", c.name, got, c.status)
		}
		w.apply(false, c.back)
		if got := w.get("/pizza/1.0/menu", auth).Code; got != 200 {
			t.Errorf("after %s was taken back: %d", c.name, got)
		}
	}
}

func TestDefaultVersionFollowsItsFlag(t *testing.T) {
	w := newWorld(t)
	version := func(v string, def bool) snapshot.Item {
		a := pizza()
		a.ID, a.Version, a.Context, a.Default, a.DefaultContext = "api-"+v, v, "/pizza/"+v, def, "/pizza"
		a.Production[0].URL = "http://v" + v
		return w.api(a)
	}
	w.apply(true, append(w.base(), version("1", true), version("2", false))...)
	served := func() string {
		rec := w.get("/pizza/open")
		if rec.Code != 200 {
			return fmt.Sprint(rec.Code)
		}
		return backendSaw(t, rec).Host
	}
	if got := served(); got != "v1" {
		t.Errorf("served by %s, want v1", got)
	}
	w.apply(false, version("2", true), version("1", false))
	if got := served(); got != "v2" {
		t.Errorf("served by %s, want v2", got)
	}
	w.apply(false, version("2", false))
	if got := served(); got != "404" {
		t.Errorf("without a default: %s, want 404", got)
	}
	if got := backendSaw(t, w.get("/pizza/2/open")).Host; got != "v2" {
		t.Errorf("own context served by %s", got)
	}
}

func TestOnlyTheGatewaysEnvironmentsAreServed(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Environments = []string{"EU"} })
	us, eu := w.api(pizza()), w.api(pizza())
	us.Env, eu.Env = "US", "EU"
	w.apply(true, append(w.base(), us)...)
	if got := w.get("/pizza/1.0/open").Code; got != 404 {
		t.Errorf("API of another environment: %d", got)
	}
	w.apply(false, eu)
	if got := w.get("/pizza/1.0/open").Code; got != 200 {
		t.Errorf("API of its own environment: %d", got)
	}
}

// No call fails while other APIs, and its own, are deployed again and again.
func TestApplyUnderTraffic(t *testing.T) {
	w := pizzeria(t, func(a *snapshot.API) { a.Default, a.DefaultContext = true, "/pizza" })
	auth := bearerOf(w.token())
	var stop atomic.Bool
	var served atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				for _, path := range []string{"/pizza/1.0/menu", "/pizza/menu"} {
					if rec := w.get(path, auth); rec.Code != 200 {
						t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
						stop.Store(true)
					}
				}
				served.Add(2)
			}
		})
	}
	for i := range 300 {
		own := pizza()
		own.Default, own.DefaultContext, own.RevisionNo = true, "/pizza", i
		other := pizza()
		other.ID, other.Context = fmt.Sprintf("other-%d", i%20), fmt.Sprintf("/pizza/%d", i%20)
		items := []snapshot.Item{w.api(other)}
		switch i % 5 {
		case 0:
			items = append(items, w.api(own))
		case 1:
			items = append(items, w.resident())
		case 2:
			items = []snapshot.Item{{Key: snapshot.Key{Kind: snapshot.KindAPI, ID: fmt.Sprintf("other-%d", (i+7)%20), Env: "Default"}, Deleted: true}}
		case 3:
			w.apply(true, append(w.base(), w.api(own), w.api(other))...)
			continue
		}
		w.apply(false, items...)
	}
	stop.Store(true)
	wg.Wait()
	if served.Load() == 0 {
		t.Error("nothing was served meanwhile")
	}
}

func TestKeySetIsFetched(t *testing.T) {
	w := newWorld(t)
	set, err := token.NewKeySet(w.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	jwks := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		rw.Write(set.JWKS())
	}))
	t.Cleanup(jwks.Close)
	foreign := item(t, snapshot.KindKeyManager, "km-1", "", snapshot.KeyManager{
		ID: "km-1", Tenant: tenant, Name: "Okta", Enabled: true, Issuer: issuer, JWKSURL: jwks.URL, ConsumerKeyClaim: "client_id",
	})
	w.apply(true, append(append(w.base(), w.api(pizza())), foreign)...)
	auth := bearerOf(w.token(func(c *token.Claims) { c.Type, c.AuthorizedParty = token.TypeID, "" }))
	var code int
	for range 200 {
		if code = w.get("/pizza/1.0/menu", auth).Code; code == 200 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if code != 200 {
		t.Fatalf("status %d after %d fetches", code, asked.Load())
	}
	// A snapshot that does not change it neither forgets the keys nor asks again.
	w.apply(false, foreign)
	if code := w.get("/pizza/1.0/menu", auth).Code; code != 200 || asked.Load() != 1 {
		t.Errorf("after a repeated item: %d, asked %d times", code, asked.Load())
	}
}

func TestReportsAreExactUnderLoad(t *testing.T) {
	w := pizzeria(t, nil)
	auth := bearerOf(w.token())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				w.get("/pizza/1.0/menu", auth)
				w.get("/pizza/1.0/menu")
				w.get("/none")
				w.do("POST", "/pizza/1.0/open", "hello")
			}
		})
	}
	wg.Wait()
	counts := map[string]int{}
	for _, r := range w.records.list {
		counts[fmt.Sprintf("%s %s %s %d %d %d", r.Source.API, r.Verb, r.Operation, r.Status, r.Code, r.BytesIn)]++
	}
	want := map[string]int{"api-1 GET /menu 200 0 0": 400, "api-1 GET /menu 401 900902 0": 400, "   404 404 0": 400, "api-1 POST /open 200 0 5": 400}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", counts, want)
	}
}

func TestRootContext(t *testing.T) {
	w := pizzeria(t, func(a *snapshot.API) { a.Context = "/" })
	if saw := backendSaw(t, w.get("/open")); saw.Target != "/base/open" {
		t.Errorf("backend saw %s", saw.Target)
	}
}
