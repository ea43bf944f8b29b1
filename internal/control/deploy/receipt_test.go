package deploy_test

import (
	"context"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/deploy"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

func TestStalledGatewayIsNamedThenNoLongerWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	a, b := &gateway{}, &gateway{}
	w.start("gw-a", t.TempDir(), a)
	w.start("gw-b", t.TempDir(), b)
	eventually(t, "two gateways are ready", func() bool { return len(w.saveApp("warm-"+time.Now().String()).Gateways) == 2 })
	release := make(chan struct{})
	b.mu.Lock()
	b.stalled = release
	b.mu.Unlock()
	defer close(release)
	start := time.Now()
	r := w.saveApp("app1")
	if took := time.Since(start); took < deploy.Patience-100*time.Millisecond || took > deploy.Patience+time.Second {
		t.Errorf("waited %v for the stalled gateway", took)
	}
	if r.Complete || len(r.Gateways) != 2 || !r.Gateways[0].Acked || r.Gateways[1].Acked || r.Gateways[1].Gateway != "gw-b" {
		t.Errorf("receipt %+v", r)
	}
	if !a.has("app/app1") {
		t.Error("the stalled gateway holds the other one up")
	}
	// It is alive, but no longer current: named again, not waited for again.
	time.Sleep(200 * time.Millisecond)
	start = time.Now()
	r = w.saveApp("app2")
	if took := time.Since(start); took > time.Second {
		t.Errorf("waited %v for a gateway that is not current", took)
	}
	if r.Complete || len(r.Gateways) != 2 {
		t.Errorf("receipt %+v", r)
	}
}

// ack writes a gateway's row as another process would.
func (w *world) ack(id string, v snapshot.Version, seen time.Time, failed ...string) {
	w.t.Helper()
	must(w.t, w.db.Log.SaveGateway(context.Background(), apim.GatewayNode{
		ID: id, Labels: []string{"Default"}, Version: v.String(), Ready: true, Failed: failed, LastSeen: seen.UnixMilli(),
	}))
}

func TestReceiptLooksAtLiveGatewaysOnly(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	w.saveAll("warm")
	settle(w)
	head, err := w.db.Log.Head(t.Context())
	must(t, err)
	w.ack("dead", head, time.Now().Add(-deploy.Lease-time.Second))
	start := time.Now()
	r := w.saveApp("app1")
	if !r.Complete || len(r.Gateways) != 0 || time.Since(start) > time.Second {
		t.Errorf("without a live gateway: %+v after %v", r, time.Since(start))
	}
}

func TestReceiptNamesAGatewayThatFellSilentMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	w.saveAll("warm")
	settle(w)
	head, err := w.db.Log.Head(t.Context())
	must(t, err)
	// Its lease ends while the write waits for it.
	w.ack("stopped", head, time.Now().Add(-deploy.Lease+deploy.Patience/2))
	time.Sleep(50 * time.Millisecond) // the view of the gateways has it
	r := w.saveApp("app1")
	if r.Complete || len(r.Gateways) != 1 || r.Gateways[0].Acked || r.Gateways[0].Gateway != "stopped" {
		t.Errorf("receipt %+v, want the silent gateway named", r)
	}
}

func TestReceiptWaitsForNoGatewayThatSaidFarewell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	w.saveAll("warm")
	settle(w)
	head, err := w.db.Log.Head(t.Context())
	must(t, err)
	w.ack("leaving", head, time.Now())
	time.AfterFunc(200*time.Millisecond, func() {
		if err := w.db.Log.SaveGateway(context.Background(), apim.GatewayNode{ID: "leaving", Version: head.String(), LastSeen: time.Now().UnixMilli()}); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	if r := w.saveApp("app1"); !r.Complete || len(r.Gateways) != 0 || time.Since(start) > time.Second {
		t.Errorf("receipt %+v after %v", r, time.Since(start))
	}
}

func TestChangesThatGatewaysNeedNotKnowAreNotWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	a := w.deployAPI("pizza", "1.0", apim.Published, false)
	settle(w)
	// What the log says of the stopped gateway is enough: it runs all there is.
	head, err := w.db.Log.Head(t.Context())
	must(t, err)
	w.ack("stopped", head, time.Now())
	time.Sleep(50 * time.Millisecond)
	for _, c := range []struct {
		name  string
		write func(ctx context.Context) error
	}{
		{"a user", func(ctx context.Context) error {
			return w.db.Users.Create(ctx, tenant, &apim.User{Meta: apim.Meta{Tenant: apim.SuperTenant}, Name: "alice"})
		}},
		{"a revision", func(ctx context.Context) error {
			return w.db.Revisions.Create(ctx, tenant, &apim.Revision{Meta: a.Meta, ID: "r2", API: a.ID, Number: 2, Copy: *a})
		}},
		{"a working copy", func(ctx context.Context) error {
			work, err := w.db.APIs.Get(ctx, tenant, a.ID)
			if err != nil {
				return err
			}
			work.Description = "changed"
			return w.db.APIs.Update(ctx, tenant, work)
		}},
	} {
		start := time.Now()
		if r := w.write(c.write); !r.Complete || time.Since(start) > time.Second {
			t.Errorf("%s: receipt %+v after %v", c.name, r, time.Since(start))
		}
	}
	if r := w.saveApp("app1"); r.Complete {
		t.Errorf("an application: receipt %+v", r)
	}
}

func TestReceiptNamesItemsThatDidNotCompile(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{refuse: map[string]string{"app/bad": "no such thing"}}
	w.start("gw", t.TempDir(), g)
	eventually(t, "the gateway is ready", func() bool { return len(w.saveApp("warm-"+time.Now().String()).Gateways) == 1 })
	r := w.saveApp("bad")
	if !r.Complete || len(r.Gateways) != 1 || len(r.Gateways[0].Failed) != 1 || r.Gateways[0].Failed[0] != "app/bad: no such thing" {
		t.Errorf("receipt %+v", r)
	}
	must(t, w.db.Applications.Delete(t.Context(), tenant, "bad"))
	eventually(t, "the failure goes with its item", func() bool { return len(w.saveApp("x-" + time.Now().String()).Gateways[0].Failed) == 0 })
}

func TestReceiptWithoutARelayGivesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	start := time.Now()
	r := w.saveApp("app1")
	if took := time.Since(start); r.Complete || took < deploy.Patience-100*time.Millisecond || took > deploy.Patience+time.Second {
		t.Errorf("%+v after %v", r, took)
	}
	if r := w.write(func(context.Context) error { return nil }); !r.Complete {
		t.Errorf("a write without changes: %+v", r)
	}
}

func TestStatusCountsTheGatewaysOfAnEnvironment(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	w.saveAll("warm")
	settle(w)
	head, err := w.db.Log.Head(t.Context())
	must(t, err)
	w.ack("current", head, time.Now())
	w.ack("behind", snapshot.Version{Epoch: head.Epoch}, time.Now())
	w.ack("failed", head, time.Now(), "api/a1@Default: bad")
	w.ack("dead", head, time.Now().Add(-time.Minute))
	c, err := w.receipts.Status(t.Context(), "a1", "Default")
	if want := (deploy.Counts{Live: 3, Deployed: 1, Failed: 1}); err != nil || c != want {
		t.Errorf("%+v, %v, want %+v", c, err, want)
	}
	if c, err := w.receipts.Status(t.Context(), "a1", "Other"); err != nil || c != (deploy.Counts{}) {
		t.Errorf("another environment: %+v, %v", c, err)
	}
}
