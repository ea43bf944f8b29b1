package storetest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/store"
)

func item(t *testing.T, id, env string, body any) snapshot.Item {
	t.Helper()
	it, err := snapshot.Make(snapshot.Key{Kind: snapshot.KindAPI, ID: id, Env: env}, body)
	must(t, err)
	return it
}

func gone(id, env string) snapshot.Item {
	return snapshot.Item{Key: snapshot.Key{Kind: snapshot.KindAPI, ID: id, Env: env}, Deleted: true}
}

// relay holds the lease and publishes all pending changes, the i-th with the i-th items.
func relay(t *testing.T, db *store.DB, items ...[]snapshot.Item) snapshot.Version {
	t.Helper()
	ctx := as(t)
	held, err := db.Log.Lease(ctx, store.RelayLease, "me", time.Minute)
	must(t, err)
	want(t, "held", held, true)
	pending, err := db.Log.Pending(ctx, 100)
	must(t, err)
	var vs []store.Versioned
	for i, c := range pending {
		v := store.Versioned{Change: c}
		if i < len(items) {
			v.Items = items[i]
		}
		vs = append(vs, v)
	}
	v, err := db.Log.Publish(ctx, "me", vs)
	must(t, err)
	return v
}

func changeLog(t *testing.T, db *store.DB) {
	ctx, changes := apim.TrackChanges(as(t))
	start, err := db.Log.Head(ctx)
	must(t, err)
	want(t, "first sequence number", start.Seq, 0)
	must(t, db.Subscriptions.Create(ctx, inHome, &apim.Subscription{Application: "app", API: "api"}))
	must(t, db.Tokens.Revoke(ctx, &apim.Revocation{Tenant: home, JTI: "j", Expires: time.Now().Add(time.Hour)}))
	pending, err := db.Log.Pending(ctx, 100)
	must(t, err)
	if len(pending) != 2 || pending[0].Kind != "subscription" || pending[0].Parent != "app/api" || pending[0].Tenant != home ||
		pending[1].Kind != "revocation" || pending[1].Object != "jti/j" || pending[0].ID >= pending[1].ID {
		t.Fatalf("pending = %+v", pending)
	}
	one, err := db.Log.Pending(ctx, 1)
	must(t, err)
	want(t, "bounded", len(one), 1)
	_, everything, err := db.Log.VersionsOf(ctx, changes.IDs())
	must(t, err)
	want(t, "all versioned before the relay", everything, false)

	vs := []store.Versioned{{Change: pending[0], Items: []snapshot.Item{item(t, "first", "Default", 1)}}}
	_, err = db.Log.Publish(ctx, "me", vs)
	wantFault(t, err, fault.PreconditionBad, "")
	_, err = db.Log.Lease(ctx, store.RelayLease, "me", time.Minute)
	must(t, err)
	_, err = db.Log.Publish(ctx, "another", vs)
	wantFault(t, err, fault.PreconditionBad, "")
	v, err := db.Log.Publish(ctx, "me", vs)
	must(t, err)
	want(t, "version", v, snapshot.Version{Epoch: start.Epoch, Seq: 1})
	_, err = db.Log.Publish(ctx, "me", vs)
	wantFault(t, err, fault.PreconditionBad, "") // announced once
	got, everything, err := db.Log.VersionsOf(ctx, changes.IDs())
	must(t, err)
	want(t, "version so far", fmt.Sprint(got, everything), fmt.Sprint(v, false))
	v = relay(t, db)
	want(t, "version", v.Seq, 2)
	got, everything, err = db.Log.VersionsOf(ctx, changes.IDs())
	must(t, err)
	want(t, "version of all, the second being without items", fmt.Sprint(got, everything), fmt.Sprint(snapshot.Version{Epoch: v.Epoch, Seq: 1}, true))
	pending, err = db.Log.Pending(ctx, 100)
	must(t, err)
	want(t, "pending", len(pending), 0)

	raised, err := db.Log.RaiseEpoch(ctx)
	must(t, err)
	if raised.Epoch <= v.Epoch || raised.Seq != v.Seq {
		t.Errorf("raised from %v to %v", v, raised)
	}
	again, err := db.Log.RaiseEpoch(ctx)
	must(t, err)
	if again.Epoch <= raised.Epoch {
		t.Errorf("raised from %v to %v", raised, again)
	}
}

// effects: a receipt waits for the version at which a change is in effect at
// the gateways, which is an older one if its items said the same before.
func effects(t *testing.T, db *store.DB) {
	publish := func(name string, after uint64, items []snapshot.Item, second ...snapshot.Item) {
		t.Helper()
		ctx, changes := apim.TrackChanges(as(t))
		must(t, db.Roles.Create(ctx, inHome, &apim.Role{Name: name}))
		must(t, db.Roles.Create(ctx, inHome, &apim.Role{Name: name + "-second"}))
		_, err := db.Log.Lease(ctx, store.RelayLease, "me", time.Minute)
		must(t, err)
		pending, err := db.Log.Pending(ctx, 100)
		must(t, err)
		head, err := db.Log.Publish(ctx, "me", []store.Versioned{
			{Change: pending[0], Items: items}, {Change: pending[1], With: pending[0].ID, Items: second},
		})
		must(t, err)
		for i, id := range changes.IDs() {
			seq := after
			if i == 1 && len(second) > 0 {
				seq = head.Seq
			}
			got, all, err := db.Log.VersionsOf(ctx, []int64{id})
			must(t, err)
			if !all || got.Seq != seq {
				t.Errorf("%s: change %d is in effect at %v, want %d (all %v)", name, i+1, got, seq, all)
			}
		}
	}
	publish("nothing", 0, nil)                                                     // 1, 2
	publish("new", 3, []snapshot.Item{item(t, "a", "", 1)})                        // 3, 4
	publish("the same", 3, []snapshot.Item{item(t, "a", "", 1)})                   // 5, 6
	publish("another", 7, []snapshot.Item{item(t, "a", "", 2)})                    // 7, 8
	publish("never there", 0, []snapshot.Item{gone("b", "")})                      // 9, 10
	publish("deleted", 11, []snapshot.Item{gone("a", "")})                         // 11, 12
	publish("deleted already", 11, []snapshot.Item{gone("a", "")})                 // 13, 14
	publish("both", 15, []snapshot.Item{item(t, "a", "", 3)}, item(t, "c", "", 1)) // 15, 16
}

func items(t *testing.T, db *store.DB) {
	ctx := as(t)
	for i := range 3 {
		must(t, db.Roles.Create(ctx, inHome, &apim.Role{Name: fmt.Sprint(i)}))
	}
	big := make([]byte, snapshot.InlineLimit+1)
	for i := range big {
		big[i] = 'x'
	}
	bigItem := item(t, "big", "Default", string(big))
	v := relay(t, db, []snapshot.Item{item(t, "a", "Default", "a1"), item(t, "a", "EU", "a1")},
		[]snapshot.Item{item(t, "b", "Default", "b1"), item(t, "tenant-wide", "", 1)}, []snapshot.Item{bigItem})
	want(t, "seq", v.Seq, 3)
	keys := func(d snapshot.Delta) (out []string) {
		for _, it := range d.Items {
			s := fmt.Sprintf("%d:%s", it.Seq, it.ID)
			if it.Deleted {
				s += "-"
			}
			out = append(out, s)
		}
		return out
	}
	full, more, err := db.Log.Items(ctx, snapshot.Version{}, []string{"Default"}, 1)
	must(t, err)
	want(t, "full", fmt.Sprint(full.Full, more, full.Version == v, len(full.Items)), "true false true 4")
	for _, it := range full.Items {
		switch {
		case it.ID == "big" && (it.Body != nil || it.Size != bigItem.Size):
			t.Errorf("the big body travels inline")
		case it.ID != "big" && !it.Valid():
			t.Errorf("item %s is damaged", it.Key)
		case it.Env == "EU":
			t.Errorf("an item of another environment")
		}
	}
	body, err := db.Log.Body(ctx, bigItem.Hash)
	must(t, err)
	want(t, "body", string(body) == string(bigItem.Body), true)
	_, err = db.Log.Body(ctx, "nope")
	wantFault(t, err, fault.Missing, "")

	part, more, err := db.Log.Items(ctx, snapshot.Version{Epoch: v.Epoch}, []string{"Default", "EU"}, 1)
	must(t, err)
	want(t, "first version in whole", fmt.Sprint(keys(part), more, part.Version.Seq, part.Full), "[1:a 1:a] true 1 false")
	part, more, err = db.Log.Items(ctx, part.Version, []string{"Default", "EU"}, 100)
	must(t, err)
	want(t, "the rest", fmt.Sprint(len(part.Items), more, part.Version.Seq), "3 false 3")

	for i := range 3 {
		must(t, db.Roles.Create(ctx, inHome, &apim.Role{Name: fmt.Sprint("next", i)}))
	}
	head := relay(t, db, []snapshot.Item{gone("a", "Default"), gone("never", "Default")},
		[]snapshot.Item{item(t, "b", "Default", "b1")}, []snapshot.Item{item(t, "b", "Default", "b2")})
	part, _, err = db.Log.Items(ctx, v, []string{"Default"}, 100)
	must(t, err)
	want(t, "tombstone and new body; what is equal stays", keys(part), "[4:a- 6:b]")
	want(t, "version", part.Version, head)
	part, _, err = db.Log.Items(ctx, head, []string{"Default"}, 100)
	must(t, err)
	want(t, "nothing new", fmt.Sprint(keys(part), part.Full), "[] false")
	full, _, err = db.Log.Items(ctx, snapshot.Version{}, []string{"Default"}, 0)
	must(t, err)
	want(t, "full has no tombstones", len(full.Items), 3)
	_, err = db.Log.RaiseEpoch(ctx)
	must(t, err)
	full, _, err = db.Log.Items(ctx, head, []string{"Default"}, 0)
	must(t, err)
	want(t, "full after another epoch", full.Full, true)

	v, err = db.Log.Publish(ctx, "me", []store.Versioned{{Items: []snapshot.Item{item(t, "rebuilt", "", 1)}}})
	must(t, err)
	want(t, "seq of items that no change stands for", v.Seq, head.Seq+1)

	broken := item(t, "c", "", "c")
	broken.Body = []byte(`"d"`)
	if _, err := db.Log.Publish(ctx, "me", []store.Versioned{{Items: []snapshot.Item{broken}}}); err == nil {
		t.Error("a damaged item was published")
	}
}

func leases(t *testing.T, db *store.DB) {
	ctx := as(t)
	take := func(holder string, ttl time.Duration, wanted bool) {
		t.Helper()
		held, err := db.Log.Lease(ctx, "x", holder, ttl)
		must(t, err)
		want(t, holder+" holds", held, wanted)
	}
	take("a", time.Minute, true)
	take("b", time.Minute, false)
	take("a", -time.Millisecond, true) // renewed, and run out at once
	take("b", time.Minute, true)
	take("a", time.Minute, false)
	must(t, db.Log.ReleaseLease(ctx, "x", "a")) // not its own
	take("a", time.Minute, false)
	must(t, db.Log.ReleaseLease(ctx, "x", "b"))
	var held atomic.Int32
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			ok, err := db.Log.Lease(ctx, "x", fmt.Sprint(i), time.Minute)
			if err != nil {
				t.Errorf("lease: %v", err)
			}
			if ok {
				held.Add(1)
			}
		})
	}
	wg.Wait()
	want(t, "holders", held.Load(), 1)
}

func wake(t *testing.T, db *store.DB) {
	ctx := as(t)
	first, cancel := db.Log.Wake()
	second, _ := db.Log.Wake()
	heard := func(what string, c <-chan struct{}, wanted bool) {
		t.Helper()
		got := false
		select {
		case <-c:
			got = true
		case <-time.After(map[bool]time.Duration{true: 5 * time.Second, false: 150 * time.Millisecond}[wanted]):
		}
		want(t, what, got, wanted)
	}
	// A new listener is told once that something may have been missed.
	for drained := false; !drained; {
		select {
		case <-first:
		case <-second:
		case <-time.After(300 * time.Millisecond):
			drained = true
		}
	}
	must(t, db.Roles.Create(ctx, inHome, &apim.Role{Name: "r"}))
	heard("a change, first", first, true)
	heard("a change, second", second, true)
	time.Sleep(100 * time.Millisecond) // the notification of our own commit
	cancel()
	for _, c := range []<-chan struct{}{first, second} {
		select {
		case <-c:
		default:
		}
	}
	must(t, db.Log.SaveGateway(ctx, apim.GatewayNode{ID: "g", LastSeen: 1}))
	heard("an acknowledgement", second, true)
	heard("after cancel", first, false)
}

func gateways(t *testing.T, db *store.DB) {
	ctx := as(t)
	g := apim.GatewayNode{ID: "g1", Labels: []string{"Default"}, Version: "1.2", Ready: true, LastSeen: 100}
	must(t, db.Log.SaveGateway(ctx, g))
	must(t, db.Log.SaveGateway(ctx, apim.GatewayNode{ID: "g0", LastSeen: 7}))
	g.Version, g.LastSeen = "1.3", 200
	must(t, db.Log.SaveGateway(ctx, g))
	late := g
	late.Version, late.LastSeen = "1.2", 150
	must(t, db.Log.SaveGateway(ctx, late)) // overtaken on its way
	got, err := db.Log.Gateways(ctx)
	must(t, err)
	if len(got) != 2 || got[0].ID != "g0" || got[1].Version != "1.3" || got[1].Labels[0] != "Default" {
		t.Errorf("gateways = %+v", got)
	}

	now := time.Now()
	must(t, db.Log.AddJoinToken(ctx, "sha256:a", []string{"gateway", "traffic"}, now.Add(time.Minute)))
	must(t, db.Log.AddJoinToken(ctx, "sha256:late", nil, now.Add(-time.Minute)))
	waiting := func(wanted int) {
		t.Helper()
		n, err := db.Log.JoinTokens(ctx)
		must(t, err)
		want(t, "tokens that wait", n, wanted)
	}
	joined := func(wanted bool) {
		t.Helper()
		yes, err := db.Log.Joined(ctx)
		must(t, err)
		want(t, "a node has joined", yes, wanted)
	}
	waiting(1)
	_, err = db.Log.UseJoinToken(ctx, "sha256:late", now)
	wantFault(t, err, fault.Missing, "")
	joined(false)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if roles, err := db.Log.UseJoinToken(ctx, "sha256:a", now); err == nil {
				won.Add(1)
				want(t, "roles", roles, "[gateway traffic]")
			}
		})
	}
	wg.Wait()
	want(t, "uses of a token", won.Load(), 1)
	waiting(0)
	joined(true)
}

func members(t *testing.T, db *store.DB) {
	ctx := as(t)
	at := time.Now().Truncate(time.Second)
	for _, m := range []apim.Member{
		{ID: "m1", Node: "gw", Roles: []string{"gateway", "traffic"}, Joined: at},
		{ID: "m1", Node: "another", Joined: at}, // known already
		{ID: "m2", Node: "gw", Roles: []string{"gateway"}, Joined: at.Add(time.Second)},
		{ID: "m3", Node: "other", Roles: []string{"analytics"}, Joined: at},
	} {
		must(t, db.Log.AddMember(ctx, m))
	}
	must(t, db.Log.SaveGateway(ctx, apim.GatewayNode{ID: "gw", LastSeen: 1}))
	shows := func(wanted string) {
		t.Helper()
		list, err := db.Log.Members(ctx)
		must(t, err)
		var got []string
		for _, m := range list {
			got = append(got, fmt.Sprintf("%s %s %s %s", m.ID, m.Node, m.Roles, m.Joined.Sub(at)))
		}
		want(t, "members", got, wanted)
	}
	shows("[m1 gw [gateway traffic] 0s m2 gw [gateway] 1s m3 other [analytics] 0s]")
	must(t, db.Log.Withdraw(ctx, "gw"))
	shows("[m3 other [analytics] 0s]")
	ids, err := db.Log.Withdrawn(ctx)
	must(t, err)
	slices.Sort(ids)
	want(t, "withdrawn", ids, "[m1 m2]")
	must(t, db.Log.AddMember(ctx, apim.Member{ID: "m1", Node: "gw", Joined: at})) // its certificate is still about
	shows("[m3 other [analytics] 0s]")
	gws, err := db.Log.Gateways(ctx)
	must(t, err)
	want(t, "gateways", len(gws), 0)
	wantFault(t, db.Log.Withdraw(ctx, "gw"), fault.Missing, "")
	wantFault(t, db.Log.Withdraw(ctx, "never-joined"), fault.Missing, "")
	page, err := db.Audits(ctx, apim.In(apim.SuperTenant), apim.Where("kind", "node"))
	must(t, err)
	want(t, "audit rows", len(page.Items), 4) // three joined, one was withdrawn
}
