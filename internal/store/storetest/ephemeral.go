package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

func ephemeral(kind, hash, subject, client string) *apim.Ephemeral {
	at := time.Now().UTC().Truncate(time.Microsecond)
	return &apim.Ephemeral{
		Kind: kind, Hash: apim.Digest(hash), Tenant: home, Subject: subject, Client: client,
		Created: at, Expires: at.Add(time.Hour), Doc: []byte(`{"n":0}`),
	}
}

func ephemera(t *testing.T, db *store.DB) {
	ctx := as(t)
	e := db.Ephemera
	one := ephemeral("code", "sha256:1", "u1", "c1")
	must(t, e.Put(ctx, one))
	got, err := e.Get(ctx, "code", "sha256:1")
	must(t, err)
	if !reflect.DeepEqual(got, one) {
		t.Errorf("read back %+v, want %+v", got, one)
	}
	one.Subject = "u2"
	must(t, e.Put(ctx, one))
	got, err = e.Get(ctx, "code", "sha256:1")
	must(t, err)
	want(t, "subject after the second put", got.Subject, "u2")
	_, err = e.Get(ctx, "session", "sha256:1")
	wantFault(t, err, fault.Missing, "")
	wantFault(t, e.Put(ctx, &apim.Ephemeral{Kind: "code"}), fault.BadRequest, "")

	late := ephemeral("code", "sha256:late", "u1", "c1")
	late.Expires = time.Now().Add(-time.Second)
	must(t, e.Put(ctx, late))
	_, err = e.Get(ctx, "code", "sha256:late")
	wantFault(t, err, fault.Missing, "")
	_, _, err = e.Use(ctx, "code", "sha256:late", time.Now())
	wantFault(t, err, fault.Missing, "")
	wantFault(t, e.Change(ctx, "code", "sha256:late", func(*apim.Ephemeral) error { return nil }), fault.Missing, "")

	for i := range 3 {
		must(t, e.Put(ctx, ephemeral("session", fmt.Sprint("sha256:s", i), "u1", fmt.Sprint("c", i%2))))
	}
	list, err := e.List(ctx, "session", home, "u1", 2)
	must(t, err)
	want(t, "listed", len(list), 2)
	list, err = e.List(ctx, "session", other, "u1", 2)
	must(t, err)
	want(t, "listed of another tenant", len(list), 0)
	for _, c := range []struct {
		tenant          apim.TenantID
		subject, client string
		n               int
	}{{other, "u1", "", 0}, {home, "u1", "c1", 1}, {home, "", "c0", 2}} {
		n, err := e.DeleteOf(ctx, "session", c.tenant, c.subject, c.client)
		must(t, err)
		want(t, fmt.Sprint("deleted of ", c), n, c.n)
	}
	_, err = e.DeleteOf(ctx, "session", home, "", "")
	wantFault(t, err, fault.BadRequest, "")

	forever := ephemeral("consent", "u1 c1", "u1", "c1")
	forever.Expires = time.Time{}
	must(t, e.Put(ctx, forever))
	n, err := e.Prune(ctx, time.Now().Add(2*time.Hour), 1)
	must(t, err)
	want(t, "pruned at the limit", n, 1)
	n, err = e.Prune(ctx, time.Now().Add(2*time.Hour), 100)
	must(t, err)
	want(t, "pruned", n, 1)
	_, err = e.Get(ctx, "consent", "u1 c1")
	must(t, err)
	must(t, e.Delete(ctx, "consent", "u1 c1"))
	must(t, e.Delete(ctx, "consent", "u1 c1"))
	_, err = e.Get(ctx, "consent", "u1 c1")
	wantFault(t, err, fault.Missing, "")
}

// ephemeraRace redeems one row twenty times at once, together with a write that
// belongs to the redemption, and counts with twenty others.
func ephemeraRace(t *testing.T, db *store.DB) {
	ctx := as(t)
	must(t, db.Ephemera.Put(ctx, ephemeral("code", "sha256:1", "u1", "c1")))
	must(t, db.Ephemera.Put(ctx, ephemeral("state", "sha256:n", "", "")))
	var won atomic.Int32
	var wg sync.WaitGroup
	at := time.Now().UTC().Truncate(time.Microsecond)
	for i := range 20 {
		wg.Go(func() {
			var e *apim.Ephemeral
			var first bool
			err := db.InTx(ctx, func(ctx context.Context) (err error) {
				if e, first, err = db.Ephemera.Use(ctx, "code", "sha256:1", at); err != nil || !first {
					return err
				}
				return db.Ephemera.Change(ctx, "code", "sha256:1", func(e *apim.Ephemeral) error {
					e.Doc = []byte(`{"winner":` + strconv.Itoa(i) + `}`)
					return nil
				})
			})
			switch {
			case err != nil:
				t.Errorf("racer: %v", err)
			case first:
				won.Add(1)
			case !e.Used.Equal(at) || string(e.Doc) == `{"n":0}`:
				t.Errorf("a loser sees %v %s", e.Used, e.Doc)
			}
		})
		wg.Go(func() {
			err := db.Ephemera.Change(ctx, "state", "sha256:n", func(e *apim.Ephemeral) error {
				n, err := strconv.Atoi(string(e.Doc[5 : len(e.Doc)-1]))
				e.Doc = []byte(`{"n":` + strconv.Itoa(n+1) + `}`)
				return err
			})
			if err != nil {
				t.Errorf("counter: %v", err)
			}
		})
	}
	wg.Wait()
	want(t, "winners", won.Load(), 1)
	got, err := db.Ephemera.Get(ctx, "state", "sha256:n")
	must(t, err)
	want(t, "count", string(got.Doc), `{"n":20}`)
	refused := errors.New("no")
	err = db.Ephemera.Change(ctx, "state", "sha256:n", func(e *apim.Ephemeral) error { e.Doc = nil; return refused })
	if !errors.Is(err, refused) {
		t.Errorf("change: %v", err)
	}
	got, err = db.Ephemera.Get(ctx, "state", "sha256:n")
	must(t, err)
	want(t, "count after a refused change", string(got.Doc), `{"n":20}`)
}
