package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

var errChanged = errors.New("changed my mind")

func transactions(t *testing.T, db *store.DB) {
	ctx, changes := apim.TrackChanges(as(t))
	t.Run("an error rolls everything back", func(t *testing.T) {
		a := api(1)
		err := db.InTx(ctx, func(ctx context.Context) error {
			must(t, db.APIs.Create(ctx, inHome, a))
			must(t, db.InTx(ctx, func(ctx context.Context) error { // joins
				a.State = apim.Published
				return db.APIs.Update(ctx, inHome, a)
			}))
			got, err := db.APIs.Get(ctx, inHome, a.ID)
			must(t, err)
			want(t, "rev seen inside", got.Rev, 2)
			if _, err := db.APIs.Get(context.WithoutCancel(as(t)), inHome, a.ID); !errors.Is(err, &fault.Missing) {
				t.Errorf("seen from outside: %v", err)
			}
			return errChanged
		})
		if !errors.Is(err, errChanged) {
			t.Fatalf("error = %v", err)
		}
		want(t, "rev of the caller's value", a.Rev, 0)
		n, err := db.APIs.Count(ctx, inHome, apim.Query{})
		must(t, err)
		want(t, "APIs", n, 0)
		want(t, "tracked changes", len(changes.IDs()), 0)
	})
	t.Run("a refused write inside leaves nothing, and the rest goes on", func(t *testing.T) {
		must(t, db.InTx(ctx, func(ctx context.Context) error {
			must(t, db.APIs.Create(ctx, inHome, api(1)))
			again := api(1)
			wantFault(t, db.APIs.Create(ctx, inHome, again), fault.Exists, "name")
			want(t, "rev of the refused value", again.Rev, 0)
			lost := api(2)
			lost.Definition = apim.BlobRef(strings.Repeat("0", 64))
			if err := db.APIs.Create(ctx, inHome, lost); err == nil {
				t.Error("an API with an unknown document was created")
			}
			return db.APIs.Create(ctx, inHome, api(3))
		}))
		p, err := db.APIs.List(ctx, inHome, apim.Query{Sort: "name"})
		must(t, err)
		want(t, "APIs", names(p), "Pizza1 Pizza3")
		want(t, "tracked changes", len(changes.IDs()), 2)
	})
	t.Run("a panic rolls back and goes on", func(t *testing.T) {
		func() {
			defer func() { want(t, "panic", recover(), "oops") }()
			_ = db.InTx(ctx, func(ctx context.Context) error {
				must(t, db.APIs.Create(ctx, inHome, api(7)))
				panic("oops")
			})
		}()
		n, err := db.APIs.Count(ctx, inHome, apim.Where("name", "Pizza7"))
		must(t, err)
		want(t, "APIs", n, 0)
		must(t, db.APIs.Create(ctx, inHome, api(8)))
	})
}

// history proves that version, audit and change rows come and go with the write.
func history(t *testing.T, db *store.DB) {
	ctx := as(t)
	a := api(1)
	must(t, db.APIs.Create(ctx, inHome, a))
	a.State = apim.Published
	must(t, db.APIs.Update(ctx, inHome, a))
	err := db.InTx(ctx, func(ctx context.Context) error {
		a.Description = "never"
		must(t, db.APIs.Update(ctx, inHome, a))
		return errChanged
	})
	want(t, "error", err, errChanged)
	v, err := db.Versions(ctx, inHome, "api", string(a.ID))
	must(t, err)
	if len(v) != 2 || v[0].Rev != 2 || v[1].Rev != 1 || v[1].Who != "alice" || v[1].Action != "create" {
		t.Fatalf("versions = %+v", v)
	}
	doc, err := db.Blobs.Get(ctx, v[1].Doc)
	must(t, err)
	var first apim.API
	must(t, json.Unmarshal(doc, &first))
	want(t, "state in the first version", first.State, apim.Created)
	v, err = db.Versions(ctx, inOther, "api", string(a.ID))
	must(t, err)
	want(t, "versions seen by another tenant", len(v), 0)

	p, err := db.Audits(ctx, inHome, apim.Where("object", string(a.ID)))
	must(t, err)
	want(t, "audit rows", p.Total, 2)
	u := p.Items[0]
	if u.Action != "update" || u.Who != "alice" || u.Addr != "192.0.2.7" || u.Kind != "api" || u.At.IsZero() {
		t.Errorf("audit = %+v", u)
	}
	want(t, "before", string(u.Before), `{"State":"CREATED"}`)
	want(t, "after", string(u.After), `{"State":"PUBLISHED"}`)
	p, err = db.Audits(ctx, inOther, apim.Query{})
	must(t, err)
	want(t, "audit rows seen by another tenant", p.Total, 0)
	pending, err := db.Log.Pending(ctx, 100)
	must(t, err)
	want(t, "changes", len(pending), 2)
}

func redaction(t *testing.T, db *store.DB) {
	ctx := as(t)
	secret := "s3cr3t-value"
	u := &apim.User{Name: "bob", Password: apim.Digest("argon2id:" + secret)}
	must(t, db.Users.Create(ctx, inHome, u))
	u.Password = apim.Digest(`argon2id:other "quoted" ` + secret)
	must(t, db.Users.Update(ctx, inHome, u))
	a := api(1)
	a.Endpoint = json.RawMessage(`{"password":"sealed:v1:` + secret + `"}`)
	must(t, db.APIs.Create(ctx, inHome, a))
	must(t, db.APIKeys.Create(ctx, inHome, &apim.APIKey{Hash: apim.Digest("sha256:" + secret)}))
	must(t, db.TenantConfs.Create(ctx, inHome, &apim.TenantConf{JSON: `{"key": "sealed:v1:` + secret + `", "more": 1}`}))
	must(t, db.Audit(ctx, inHome, "session", "bob", "refused", nil, map[string]string{"tried": "sha256:" + secret}))
	must(t, db.Users.Delete(ctx, inHome, u.ID))
	p, err := db.Audits(ctx, inHome, apim.Query{})
	must(t, err)
	want(t, "audit rows", p.Total, 7)
	for _, row := range p.Items {
		text := string(row.Before) + string(row.After)
		if strings.Contains(text, secret) {
			t.Errorf("%s %s shows the secret: %s", row.Action, row.Kind, text)
		}
		if !strings.Contains(text, "********") {
			t.Errorf("%s %s does not show that there was a secret: %s", row.Action, row.Kind, text)
		}
		for _, part := range []json.RawMessage{row.Before, row.After} {
			if part != nil && !json.Valid(part) {
				t.Errorf("%s %s is no JSON: %s", row.Action, row.Kind, part)
			}
		}
	}
}

func manyWriters(t *testing.T, db *store.DB) {
	ctx := as(t)
	const writers, each = 16, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := db.Applications.Create(ctx, inHome, &apim.Application{Name: fmt.Sprint(i), Owner: fmt.Sprint(w)}); err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	n, err := db.Applications.Count(ctx, inHome, apim.Query{})
	must(t, err)
	want(t, "applications", n, writers*each)
	pending, err := db.Log.Pending(ctx, 1000)
	must(t, err)
	want(t, "changes", len(pending), writers*each)
	want(t, "acknowledged", db.Stats().Writes >= writers*each, true)
}

// conflicts counts and then adds, in transactions that would both see room.
func conflicts(t *testing.T, db *store.DB) {
	ctx := as(t)
	const limit, racers = 5, 12
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			err := db.InTx(ctx, func(ctx context.Context) error {
				n, err := db.Revisions.Count(ctx, inHome, apim.Where("api", "a"))
				if err != nil {
					return err
				}
				if n >= limit {
					return fault.RevisionsFull.With("")
				}
				return db.Revisions.Create(ctx, inHome, &apim.Revision{API: "a", Number: i})
			})
			if err != nil && !errors.Is(err, &fault.RevisionsFull) {
				t.Errorf("racer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	n, err := db.Revisions.Count(ctx, inHome, apim.Query{})
	must(t, err)
	want(t, "revisions", n, limit)
}

func cancelled(t *testing.T, db *store.DB) {
	ctx, cancel := context.WithCancel(as(t))
	cancel()
	if err := db.APIs.Create(ctx, inHome, api(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("create = %v", err)
	}
	ctx, cancel = context.WithCancel(as(t))
	err := db.InTx(ctx, func(ctx context.Context) error {
		must(t, db.APIs.Create(ctx, inHome, api(1)))
		cancel()
		return db.APIs.Create(ctx, inHome, api(2))
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("transaction = %v", err)
	}
	n, err := db.APIs.Count(as(t), inHome, apim.Query{})
	must(t, err)
	want(t, "APIs", n, 0)
	must(t, db.APIs.Create(as(t), inHome, api(3)))
	// One that waits for its turn leaves the queue.
	busy, free := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		must(t, db.InTx(as(t), func(context.Context) error { close(busy); <-free; return nil }))
	})
	<-busy
	ctx, cancel = context.WithTimeout(as(t), 20*time.Millisecond)
	defer cancel()
	if err := db.APIs.Create(ctx, inHome, api(4)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting create = %v", err)
	}
	close(free)
	wg.Wait()
}

func backupInTx(t *testing.T, db *store.DB) {
	must(t, db.InTx(as(t), func(ctx context.Context) error {
		if err := db.Backup(ctx, io.Discard); err == nil {
			t.Error("a backup inside a transaction was allowed")
		}
		return nil
	}))
}
