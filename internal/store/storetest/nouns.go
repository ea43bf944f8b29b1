package storetest

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

func meta(v any) *apim.Meta { return v.(interface{ Base() *apim.Meta }).Base() }

// noun proves one table: create, read, update, delete, optimistic concurrency,
// and that another tenant sees and touches nothing of it.
func noun[T any, ID ~string](t *testing.T, db *store.DB, kind string, table *store.Table[T, ID], many bool, sample func(int) *T, id func(*T) ID, change func(*T)) {
	t.Run(kind, func(t *testing.T) {
		ctx, changes := apim.TrackChanges(as(t))
		v := sample(1)
		must(t, table.Create(ctx, inHome, v))
		m := meta(v)
		if m.Rev != 1 || m.Tenant != home || m.CreatedBy != "alice" || m.CreatedAt.IsZero() || id(v) == "" {
			t.Fatalf("after create: %+v, id %q", m, id(v))
		}
		got, err := table.Get(ctx, inHome, id(v))
		must(t, err)
		if !reflect.DeepEqual(got, v) {
			t.Fatalf("read back\n%+v, want\n%+v", got, v)
		}

		for name, s := range map[string]apim.Scope{"another tenant": inOther, "the zero scope": {}} {
			if _, err := table.Get(ctx, s, id(v)); err == nil {
				t.Errorf("%s can read", name)
			}
			if p, err := table.List(ctx, s, apim.Query{}); err == nil && (p.Total != 0 || len(p.Items) != 0) {
				t.Errorf("%s can list", name)
			}
			if n, err := table.Count(ctx, s, apim.Query{}); err == nil && n != 0 {
				t.Errorf("%s can count", name)
			}
			wantFault(t, table.Delete(ctx, s, id(v)), fault.Missing, "")
			theirs := *v
			wantFault(t, table.Update(ctx, s, &theirs), fault.Missing, "")
			meta(&theirs).Tenant = other
			wantFault(t, table.Update(ctx, s, &theirs), fault.Missing, "")
			foreign := sample(2)
			meta(foreign).Tenant = home
			wantFault(t, table.Create(ctx, s, foreign), fault.NotPermitted, "")
		}
		moved := *v
		meta(&moved).Tenant = other
		wantFault(t, table.Update(ctx, inHome, &moved), fault.Missing, "")

		stale, err := table.Get(ctx, inHome, id(v))
		must(t, err)
		change(v)
		must(t, table.Update(ctx, inHome, v))
		want(t, "rev", meta(v).Rev, 2)
		got, err = table.Get(ctx, all, id(v))
		must(t, err)
		if !reflect.DeepEqual(got, v) {
			t.Fatalf("read back after update\n%+v, want\n%+v", got, v)
		}
		change(stale)
		wantFault(t, table.Update(ctx, inHome, stale), fault.PreconditionBad, "")
		want(t, "rev of the refused value", meta(stale).Rev, 1)

		if many { // the same keys are free in another tenant
			twin := sample(3)
			must(t, table.Create(ctx, inOther, twin))
			n, err := table.Count(ctx, inHome, apim.Query{})
			must(t, err)
			want(t, "count here", n, 1)
			n, err = table.Count(ctx, all, apim.Query{})
			must(t, err)
			want(t, "count across", n, 2)
		}
		must(t, table.Delete(ctx, inHome, id(v)))
		_, err = table.Get(ctx, inHome, id(v))
		wantFault(t, err, fault.Missing, "")
		wantFault(t, table.Delete(ctx, inHome, id(v)), fault.Missing, "")
		wantFault(t, table.Update(ctx, inHome, v), fault.Missing, "")

		var ops []string
		pending, err := db.Log.Pending(ctx, 1000)
		must(t, err)
		for _, c := range pending {
			if c.Kind == kind && c.Object == string(id(v)) && c.Tenant == home {
				ops = append(ops, c.Op)
			}
		}
		want(t, "changes", ops, []string{"create", "update", "delete"})
		wantTracked := 3
		if many {
			wantTracked++
		}
		want(t, "tracked changes", len(changes.IDs()), wantTracked)
		p, err := db.Audits(ctx, inHome, apim.Where("kind", kind).And("object", string(id(v))))
		must(t, err)
		want(t, "audit rows", p.Total, 3)
	})
}

func uniqueKeys(t *testing.T, db *store.DB) {
	ctx := as(t)
	a := api(1)
	a.ID = "fixed"
	must(t, db.APIs.Create(ctx, inHome, a))
	cased := api(2)
	cased.Name = "PIZZA1"
	wantFault(t, db.APIs.Create(ctx, inHome, cased), fault.Exists, "name")
	sameContext := api(3)
	sameContext.ContextTemplate = a.ContextTemplate
	wantFault(t, db.APIs.Create(ctx, inHome, sameContext), fault.Exists, "context")
	sameID := api(4)
	sameID.ID = "fixed"
	wantFault(t, db.APIs.Create(ctx, inHome, sameID), fault.Exists, "id")
	next := api(1)
	next.Version = "2.0"
	must(t, db.APIs.Create(ctx, inHome, next))
	next.Version = "1.0"
	wantFault(t, db.APIs.Update(ctx, inHome, next), fault.Exists, "name")
	want(t, "rev after a refused update", next.Rev, 1)
	must(t, db.APIs.Create(ctx, inOther, api(1)))

	for name, write := range map[string]func() error{
		"name: users, ignoring case": func() error {
			return errors.Join(db.Users.Create(ctx, inHome, &apim.User{Name: "Bob"}), db.Users.Create(ctx, inHome, &apim.User{Name: "bOB"}))
		},
		"name: roles":        twice(func() error { return db.Roles.Create(ctx, inHome, &apim.Role{Name: "r"}) }),
		"name: clients":      twice(func() error { return db.Clients.Create(ctx, inHome, &apim.Client{Name: "c"}) }),
		"number: revisions":  twice(func() error { return db.Revisions.Create(ctx, inHome, &apim.Revision{API: "a", Number: 1}) }),
		"id: deployments":    twice(func() error { return db.Deployments.Create(ctx, inHome, &apim.Deployment{API: "a", Environment: "e"}) }),
		"name: scopes":       twice(func() error { return db.SharedScopes.Create(ctx, inHome, &apim.SharedScope{Name: "s"}) }),
		"name: applications": twice(func() error { return db.Applications.Create(ctx, inHome, &apim.Application{Name: "a", Owner: "o"}) }),
		"key_type: key mappings": twice(func() error {
			return db.KeyMappings.Create(ctx, inHome, &apim.KeyMapping{Application: "a", KeyManager: "k", KeyType: "SANDBOX"})
		}),
		"api: subscriptions": twice(func() error {
			return db.Subscriptions.Create(ctx, inHome, &apim.Subscription{Application: "a", API: "b"})
		}),
		"hash: API keys": twice(func() error { return db.APIKeys.Create(ctx, inHome, &apim.APIKey{Hash: "sha256:1"}) }),
		"name: policies": twice(func() error {
			return db.Policies.Create(ctx, inHome, &apim.ThrottlePolicy{Level: apim.SubLevel, Name: "p"})
		}),
		"name: environments": twice(func() error { return db.Environments.Create(ctx, inHome, &apim.Environment{Name: "e"}) }),
		"name: key managers": twice(func() error { return db.KeyManagers.Create(ctx, inHome, &apim.KeyManager{Name: "k"}) }),
	} {
		t.Run(name, func(t *testing.T) {
			var key string
			fmt.Sscanf(name, "%s", &key)
			wantFault(t, write(), fault.Exists, key[:len(key)-1])
		})
	}
	must(t, db.Applications.Create(ctx, inHome, &apim.Application{Name: "a", Owner: "another"}))
}

// twice must succeed and then fail.
func twice(create func() error) func() error {
	return func() error {
		if err := create(); err != nil {
			return fmt.Errorf("the first is refused too: %v", err)
		}
		return create()
	}
}

func updatesRace(t *testing.T, db *store.DB) {
	ctx := as(t)
	a := api(1)
	must(t, db.APIs.Create(ctx, inHome, a))
	const racers, rounds = 8, 5
	for round := range rounds {
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		read, err := db.APIs.Get(ctx, inHome, a.ID)
		must(t, err)
		for i := range racers {
			mine := *read
			mine.Description = fmt.Sprintf("by %d in round %d", i, round)
			wg.Go(func() {
				switch err := db.APIs.Update(ctx, inHome, &mine); {
				case err == nil:
					won.Add(1)
				case errors.Is(err, &fault.PreconditionBad):
					lost.Add(1)
				default:
					t.Errorf("racer: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != racers-1 {
			t.Fatalf("round %d: %d won and %d lost, want 1 and %d", round, won.Load(), lost.Load(), racers-1)
		}
	}
	got, err := db.APIs.Get(ctx, inHome, a.ID)
	must(t, err)
	want(t, "rev", got.Rev, rounds+1)
}
