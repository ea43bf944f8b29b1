package deploy_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/deploy"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

func TestChangeReachesTwoGatewaysAndTheReceiptNamesThem(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	a, b := &gateway{}, &gateway{}
	w.start("gw-a", t.TempDir(), a)
	w.start("gw-b", t.TempDir(), b)
	eventually(t, "two gateways are ready", func() bool { return len(w.saveApp("warm-"+time.Now().String()).Gateways) == 2 })
	var took []time.Duration
	for i := range 20 {
		name := "app" + string(rune('a'+i))
		r := w.saveApp(name)
		if !r.Complete || len(r.Gateways) != 2 || !r.Gateways[0].Acked || !r.Gateways[1].Acked {
			t.Fatalf("receipt %+v", r)
		}
		if !a.has("app/"+name) || !b.has("app/"+name) {
			t.Fatal("the receipt came before the item")
		}
		took = append(took, r.Elapsed)
	}
	// Half of them: a busy machine may be slow once, a wake-up that does not come
	// is a second each time.
	slices.Sort(took)
	if took[10] > 400*time.Millisecond {
		t.Errorf("receipts took %v", took)
	}
}

func TestAChangeTranslatesOnlyWhatItTouches(t *testing.T) {
	w := newWorld(t)
	relay := w.relay("c1", 0)
	w.deployAPI("pizza", "1.0", apim.Published, false)
	w.saveAll("app1", "app2")
	stop := w.background(relay.Run)
	settle(w)
	w.log.forget()
	must(t, w.db.Subscriptions.Create(t.Context(), tenant, &apim.Subscription{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "s1", Application: "app1", API: "pizza-1.0", Policy: "Gold", State: "UNBLOCKED"}))
	settle(w)
	if got := w.log.items(); !slices.Equal(got, []string{"sub/app1/pizza-1.0"}) {
		t.Errorf("a subscription makes %v", got)
	}
	w.log.forget()
	must(t, w.db.Users.Create(t.Context(), tenant, &apim.User{Meta: apim.Meta{Tenant: apim.SuperTenant}, Name: "alice"}))
	settle(w)
	if got := w.log.items(); len(got) != 0 {
		t.Errorf("a user makes %v", got)
	}
	w.log.forget()
	must(t, w.db.Subscriptions.Delete(t.Context(), tenant, "s1"))
	settle(w)
	if got := w.log.items(); !slices.Equal(got, []string{"-sub/app1/pizza-1.0"}) {
		t.Errorf("its end makes %v", got)
	}
	stop()
}

// saveAll creates applications without waiting for receipts.
func (w *world) saveAll(names ...string) {
	w.t.Helper()
	for _, n := range names {
		must(w.t, w.db.Applications.Create(w.t.Context(), tenant, w.app(n)))
	}
}

// settle waits until nothing is pending.
func settle(w *world) {
	w.t.Helper()
	eventually(w.t, "every change has its version", func() bool {
		p, err := w.db.Log.Pending(context.Background(), 1)
		must(w.t, err)
		return len(p) == 0
	})
}

func TestLifecycleOnTheGateway(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	w.deployAPI("pizza", "1.0", apim.Created, false)
	eventually(t, "the API arrives", func() bool { return g.has("api/pizza-1.0@Default") })
	if a := g.api(t, "pizza-1.0"); a.State != "CREATED" || a.Context != "/pizza/1.0" || a.RevisionNo != 1 || len(a.Production) != 1 {
		t.Errorf("api %+v", a)
	}
	w.setState("pizza-1.0", func(a *apim.API) { a.State = apim.Blocked })
	eventually(t, "the API is blocked", func() bool { return g.api(t, "pizza-1.0").State == "BLOCKED" })
	// What the working copy says beyond state and default waits for a new revision.
	w.setState("pizza-1.0", func(a *apim.API) { a.State = apim.Published; a.Operations = nil })
	eventually(t, "the API is published", func() bool { return g.api(t, "pizza-1.0").State == "PUBLISHED" })
	if n := len(g.api(t, "pizza-1.0").Operations); n != 1 {
		t.Errorf("%d operations after an edit of the working copy", n)
	}
	w.setState("pizza-1.0", func(a *apim.API) { a.State = apim.Retired })
	eventually(t, "a retired API is gone", func() bool { return !g.has("api/pizza-1.0@Default") })
	w.setState("pizza-1.0", func(a *apim.API) { a.State = apim.Published })
	eventually(t, "it is back", func() bool { return g.has("api/pizza-1.0@Default") })
	must(t, w.db.Deployments.Delete(t.Context(), tenant, "pizza-1.0/Default"))
	eventually(t, "an undeployed API is gone", func() bool { return !g.has("api/pizza-1.0@Default") })
}

func TestDefaultVersionFollowsTheFlagOncePublished(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	holds := func(id string) bool { return g.has("api/"+id+"@Default") && g.api(t, id).Default }
	w.deployAPI("pizza", "1", apim.Published, true)
	eventually(t, "version 1 is the default", func() bool { return holds("pizza-1") })
	if c := g.api(t, "pizza-1").DefaultContext; c != "/pizza" {
		t.Errorf("default path %q", c)
	}
	w.setState("pizza-1", func(a *apim.API) { a.Default = false })
	w.deployAPI("pizza", "2", apim.Created, true)
	settle(w)
	eventually(t, "version 2 is there", func() bool { return g.has("api/pizza-2@Default") })
	if holds("pizza-2") {
		t.Error("an unpublished version has the default path")
	}
	w.setState("pizza-2", func(a *apim.API) { a.State = apim.Published })
	eventually(t, "version 2 is the default and version 1 is not", func() bool { return holds("pizza-2") && !holds("pizza-1") })
	w.setState("pizza-2", func(a *apim.API) { a.Default = false })
	eventually(t, "nobody is", func() bool { return !holds("pizza-2") && !holds("pizza-1") })
}

func TestRegeneratedAPIKeyStopsWorkingUnderItsFormerHash(t *testing.T) {
	w := newWorld(t)
	stop := w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	k := &apim.APIKey{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "k1", Name: "n", API: "a", Hash: "sha256:aaaa", Owner: "admin"}
	must(t, w.db.APIKeys.Create(t.Context(), tenant, k))
	eventually(t, "the key arrives", func() bool { return g.has("apikey/aaaa") })
	stop() // the next relay knows the former hash only from the log
	k.Hash = "sha256:bbbb"
	must(t, w.db.APIKeys.Update(t.Context(), tenant, k))
	w.background(w.relay("c2", 0).Run)
	eventually(t, "only the new key works", func() bool { return g.has("apikey/bbbb") && !g.has("apikey/aaaa") })
	must(t, w.db.APIKeys.Delete(t.Context(), tenant, "k1"))
	eventually(t, "no key works", func() bool { return !g.has("apikey/bbbb") })
}

func TestRemappedConsumerKey(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	m := &apim.KeyMapping{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "m1", Application: "app1", KeyManager: "km", KeyType: "PRODUCTION", ConsumerKey: "ck1", State: "COMPLETED"}
	must(t, w.db.KeyMappings.Create(t.Context(), tenant, m))
	eventually(t, "the mapping arrives", func() bool { return g.has("key/km/ck1") })
	m.ConsumerKey = "ck2"
	must(t, w.db.KeyMappings.Update(t.Context(), tenant, m))
	eventually(t, "only the new key is mapped", func() bool { return g.has("key/km/ck2") && !g.has("key/km/ck1") })
	m2 := *m
	m2.ID, m2.Application, m2.ConsumerKey = "m2", "app2", "ck1"
	must(t, w.db.KeyMappings.Create(t.Context(), tenant, &m2))
	must(t, w.db.KeyMappings.Delete(t.Context(), tenant, "m1"))
	eventually(t, "the first key is another application's", func() bool { return g.has("key/km/ck1") && !g.has("key/km/ck2") })
}

func TestRevocationsComeAndGo(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	now := time.Now()
	must(t, w.db.Tokens.Revoke(t.Context(), &apim.Revocation{Tenant: apim.SuperTenant, JTI: "j1", Expires: now.Add(time.Hour)}))
	eventually(t, "the revocation arrives", func() bool { return g.has("revoked/jti/j1") })
	_, err := w.db.Tokens.Prune(t.Context(), now.Add(2*time.Hour))
	must(t, err)
	eventually(t, "it is forgotten with the token's end", func() bool { return !g.has("revoked/jti/j1") })
}

func TestOneBadNounDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	w.deployAPI("good", "1", apim.Published, false)
	eventually(t, "the good one arrives", func() bool { return g.has("api/good-1@Default") })
	a := w.deployAPI("bad", "1", apim.Published, false)
	rev := &apim.Revision{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "bad-r2", API: a.ID, Number: 2, Copy: *a}
	rev.Copy.Endpoint = []byte(`{"endpoint_type":"http","production_endpoints":{"url":"http://x","config":{"factor":"much"}}}`)
	eventually(t, "the bad one's first revision arrives", func() bool { return g.has("api/bad-1@Default") })
	must(t, w.db.Revisions.Create(t.Context(), tenant, rev))
	d, err := w.db.Deployments.Get(t.Context(), tenant, "bad-1/Default")
	must(t, err)
	d.Revision = "bad-r2"
	must(t, w.db.Deployments.Update(t.Context(), tenant, d))
	w.saveAll("after")
	eventually(t, "later changes arrive", func() bool { return g.has("app/after") })
	if n := g.api(t, "bad-1").RevisionNo; n != 1 {
		t.Errorf("the bad API runs revision %d, want the last good one", n)
	}
}

func TestChangesCommittedWhileNoRelayRunsAreTranslatedLater(t *testing.T) {
	w := newWorld(t)
	w.saveAll("before")
	// Killed between commit and relay: nothing has a version yet.
	crash := errors.New("killed")
	w.log.publish = func([]apim.Versioned) error { return crash }
	relay := w.relay("c1", 300*time.Millisecond)
	stop := w.background(relay.Run)
	eventually(t, "the relay tries", func() bool { return len(w.log.items()) > 0 })
	stop()
	if v, err := w.db.Log.Head(t.Context()); err != nil || v.Seq != 0 {
		t.Fatalf("head %v, %v", v, err)
	}
	w.log.mu.Lock()
	w.log.publish = nil
	w.log.mu.Unlock()
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	w.background(w.relay("c1 after its restart", 300*time.Millisecond).Run)
	eventually(t, "the change arrives", func() bool { return g.has("app/before") })
}

func TestLeaseTakeover(t *testing.T) {
	w := newWorld(t)
	// Of two relays one works; it falls silent without giving its lease back.
	frozen := make(chan struct{})
	w2 := openWorld(t, w.url, w.box)
	w.log.publish = func([]apim.Versioned) error { <-frozen; return nil }
	first := w.relay("c1", 300*time.Millisecond)
	w.background(first.Run)
	t.Cleanup(func() { close(frozen) })
	eventually(t, "the first leads", first.Leading)
	second := w2.relay("c2", 300*time.Millisecond)
	w2.background(second.Run)
	w.saveAll("app1")
	eventually(t, "the second takes over", second.Leading)
	eventually(t, "the second publishes", func() bool {
		v, all, err := w2.db.Log.VersionsOf(context.Background(), []int64{1})
		return err == nil && all && v.Seq > 0
	})
	g := &gateway{}
	w2.start("gw", t.TempDir(), g)
	eventually(t, "the change arrives", func() bool { return g.has("app/app1") })
}

func TestReleasedLeaseIsTakenAtOnce(t *testing.T) {
	w := newWorld(t)
	first, second := w.relay("c1", 0), w.relay("c2", 0)
	stop := w.background(first.Run)
	eventually(t, "the first leads", first.Leading)
	w.background(second.Run)
	w.saveAll("app1")
	settle(w)
	if second.Leading() {
		t.Fatal("both lead")
	}
	stop()
	start := time.Now()
	eventually(t, "the second leads", second.Leading)
	if d := time.Since(start); d > deploy.Lease/2 {
		t.Errorf("takeover after an orderly end took %v", d)
	}
}

func TestRaisedEpochResynchronises(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	w.saveAll("app1", "app2")
	eventually(t, "the applications arrive", func() bool { return g.has("app/app1", "app/app2") })
	_, before := g.state()
	v, err := w.db.Log.RaiseEpoch(t.Context())
	must(t, err)
	eventually(t, "the gateway runs the new epoch by a full snapshot", func() bool {
		got, full := g.state()
		return got.Epoch == v.Epoch && full == before+1
	})
	if !g.has("app/app1", "app/app2") {
		t.Error("items are missing after the resynchronisation")
	}
	if r := w.saveApp("app3"); !r.Complete || r.Version.Epoch != v.Epoch || !g.has("app/app3") {
		t.Errorf("receipt %+v", r)
	}
}

func TestRebuildIsIdempotentAndHealsTheLog(t *testing.T) {
	w := newWorld(t)
	relay := w.relay("c1", 0)
	stop := w.background(relay.Run)
	w.deployAPI("pizza", "1", apim.Published, true)
	w.saveAll("app1")
	settle(w)
	must(t, w.db.Policies.Create(t.Context(), tenant, &apim.ThrottlePolicy{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "p", Level: apim.SubLevel, Name: "Gold"}))
	settle(w)
	w.log.forget()
	must(t, relay.Rebuild(t.Context()))
	must(t, relay.Rebuild(t.Context()))
	if got := w.log.items(); len(got) != 0 {
		t.Errorf("a rebuild without need makes %v", got)
	}
	stop()
	// Somebody's mistake: an item that nothing stands for, and one too few.
	ok, err := w.db.Log.Lease(t.Context(), "relay", "saboteur", time.Minute)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	w.saveAll("carrier")
	pending, err := w.db.Log.Pending(t.Context(), 10)
	must(t, err)
	ghost, err := snapshot.Make(snapshot.Key{Kind: snapshot.KindApplication, ID: "ghost"}, "boo")
	must(t, err)
	_, err = w.log.Publish(t.Context(), "saboteur", []apim.Versioned{{Change: pending[0], Items: []snapshot.Item{
		ghost, {Key: snapshot.Key{Kind: snapshot.KindApplication, ID: "app1"}, Deleted: true},
	}}})
	must(t, err)
	must(t, w.db.Log.ReleaseLease(t.Context(), "relay", "saboteur"))
	w.log.forget()
	again := w.relay("c2", 0)
	must(t, again.Rebuild(t.Context()))
	got := w.log.items()
	slices.Sort(got)
	if strings.Join(got, " ") != "-app/ghost app/app1 app/carrier" {
		t.Errorf("the rebuild makes %v", got)
	}
	if err := w.relay("c3", 0).Rebuild(t.Context()); !errors.Is(err, deploy.ErrNotLeading) {
		t.Errorf("a rebuild beside the leader: %v", err)
	}
}
