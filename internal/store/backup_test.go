package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

var home = apim.In(apim.SuperTenant)

var zero snapshot.Version

func pizza(i int) *apim.API {
	return &apim.API{
		Name: fmt.Sprintf("Pizza%05d", i), Version: "1.0", Context: fmt.Sprintf("/pizza%d", i),
		ContextTemplate: fmt.Sprintf("/pizza%d/{version}", i), Provider: "alice", Type: "HTTP", State: apim.Published,
		Tags: []string{"food", fmt.Sprint("t", i%10)}, Description: "Orders pizza, and brings it warm. Number " + fmt.Sprint(i),
	}
}

// filled has something in every corner a backup must carry.
func filled(t *testing.T, db *store.DB) *apim.API {
	t.Helper()
	ctx := apim.WithActor(t.Context(), &apim.Actor{User: "alice"})
	ref, err := db.Blobs.Put(ctx, bytes.Repeat([]byte("openapi: 3.0.1\x00\xff\n"), 1000))
	must(t, err)
	a := pizza(1)
	a.Definition, a.Thumbnail = ref, ref
	a.Description = "\u2028 é 😀 <b>"
	must(t, db.APIs.Create(ctx, home, a))
	a.State = apim.Deprecated
	must(t, db.APIs.Update(ctx, home, a))
	must(t, db.Tokens.PutRefresh(ctx, &apim.RefreshToken{Hash: "sha256:r", Family: "f", Scopes: []string{"a", "b"}, Expires: time.Now().Add(time.Hour)}))
	must(t, db.Tokens.Revoke(ctx, &apim.Revocation{JTI: "j", Expires: time.Now().Add(time.Hour)}))
	_, err = db.Log.Lease(ctx, store.RelayLease, "me", time.Minute)
	must(t, err)
	pending, err := db.Log.Pending(ctx, 1)
	must(t, err)
	it, err := snapshot.Make(snapshot.Key{Kind: snapshot.KindAPI, ID: string(a.ID), Env: "Default"}, "body")
	must(t, err)
	_, err = db.Log.Publish(ctx, "me", []store.Versioned{{Change: pending[0], Items: []snapshot.Item{it}}})
	must(t, err)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRestoreOnEitherEngine(t *testing.T) {
	t.Parallel()
	pgtest.Admin(t)
	urls := map[string]func(testing.TB) string{"sqlite": sqliteURL, "postgres": pgtest.URL}
	for from, fromURL := range urls {
		for to, toURL := range urls {
			t.Run(from+" to "+to, func(t *testing.T) {
				t.Parallel()
				ctx := t.Context()
				src := opened(t, fromURL(t), store.Options{Sweep: -1})
				defer src.Close()
				a := filled(t, src)
				var file bytes.Buffer
				must(t, src.Backup(ctx, &file))
				before, err := src.Log.Head(ctx)
				must(t, err)

				url := toURL(t)
				must(t, store.Restore(ctx, url, bytes.NewReader(file.Bytes())))
				err = store.Restore(ctx, url, bytes.NewReader(file.Bytes()))
				if !errors.Is(err, &fault.Exists) {
					t.Fatalf("restore over data = %v, want a refusal", err)
				}
				first := head(t, url)
				must(t, store.Restore(ctx, url, bytes.NewReader(file.Bytes()), store.Force()))

				db := opened(t, url, store.Options{Sweep: -1})
				defer db.Close()
				after, err := db.Log.Head(ctx)
				must(t, err)
				if first.Epoch <= before.Epoch || after.Epoch <= first.Epoch || after.Seq != before.Seq {
					t.Errorf("heads: backed up %v, restored %v, again %v; want growing epochs", before, first, after)
				}
				got, err := db.APIs.Get(ctx, home, a.ID)
				must(t, err)
				if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", a) {
					t.Errorf("restored\n%+v, want\n%+v", got, a)
				}
				def, err := db.Blobs.Get(ctx, a.Definition)
				must(t, err)
				if len(def) != 17000 {
					t.Errorf("definition has %d bytes", len(def))
				}
				versions, err := db.Versions(ctx, home, "api", string(a.ID))
				must(t, err)
				audits, err := db.Audits(ctx, home, apim.Where("object", string(a.ID)))
				must(t, err)
				pending, err := db.Log.Pending(ctx, 10)
				must(t, err)
				d, _, err := db.Log.Items(ctx, before, []string{"Default"}, 10)
				must(t, err)
				revoked, err := db.Tokens.Revoked(ctx, "j", nil, time.Now())
				must(t, err)
				counts := fmt.Sprint(len(versions), audits.Total, len(pending), len(d.Items), d.Full, revoked)
				if counts != "2 2 2 1 true true" {
					t.Errorf("versions, audits, pending, items, full, revoked = %s", counts)
				}
				a.State = apim.Retired
				must(t, db.APIs.Update(ctx, home, a)) // ids go on after the restored ones
				must(t, db.APIs.Create(ctx, home, pizza(2)))
			})
		}
	}
}

func head(t *testing.T, url string) snapshot.Version {
	t.Helper()
	db := opened(t, url, store.Options{Sweep: -1})
	defer db.Close()
	v, err := db.Log.Head(t.Context())
	must(t, err)
	return v
}

func TestBackupWhileServingIsOneMoment(t *testing.T) {
	t.Parallel()
	db := opened(t, sqliteURL(t), store.Options{Sweep: -1})
	defer db.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_ = db.InTx(ctx, func(ctx context.Context) error { // always two at once
				if err := db.APIs.Create(ctx, home, pizza(2*i)); err != nil {
					return err
				}
				return db.APIs.Create(ctx, home, pizza(2*i+1))
			})
		}
	})
	for db.Stats().Writes < 20 {
		time.Sleep(time.Millisecond)
	}
	var file bytes.Buffer
	must(t, db.Backup(t.Context(), &file))
	cancel()
	wg.Wait()
	url := sqliteURL(t)
	must(t, store.Restore(t.Context(), url, &file))
	restored := opened(t, url, store.Options{Sweep: -1})
	defer restored.Close()
	n, err := restored.APIs.Count(t.Context(), home, apim.Query{})
	must(t, err)
	if n < 20 || n%2 != 0 {
		t.Errorf("%d APIs restored, want an even number of at least 20", n)
	}
}

func TestDamagedBackupsTouchNothing(t *testing.T) {
	t.Parallel()
	src := opened(t, sqliteURL(t), store.Options{Sweep: -1})
	defer src.Close()
	filled(t, src)
	var file bytes.Buffer
	must(t, src.Backup(t.Context(), &file))
	good := file.Bytes()
	url := sqliteURL(t)
	target := opened(t, url, store.Options{Sweep: -1})
	must(t, target.APIs.Create(t.Context(), home, pizza(9)))
	must(t, target.Close())
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 0x10
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"empty":           {nil, store.ErrNoBackup},
		"something else":  {[]byte("PK\x03\x04 no backup"), store.ErrNoBackup},
		"cut off":         {good[:len(good)-20], store.ErrNoBackup},
		"only a header":   {good[:bytes.IndexByte(good[20:], '\n')+21], store.ErrNoBackup},
		"a flipped bit":   {flipped, store.ErrNoBackup},
		"of a newer home": {bytes.Replace(good, []byte(`"schema":`), []byte(`"schema":99`), 1), store.ErrNewer},
	} {
		t.Run(name, func(t *testing.T) {
			err := store.Restore(t.Context(), url, bytes.NewReader(c.file), store.Force())
			if !errors.Is(err, c.want) {
				t.Errorf("restore = %v, want %v", err, c.want)
			}
			db := opened(t, url, store.Options{Sweep: -1})
			defer db.Close()
			n, err := db.APIs.Count(t.Context(), home, apim.Where("name", "Pizza00009"))
			must(t, err)
			if n != 1 {
				t.Error("the target was touched")
			}
		})
	}
}

func TestANewerHomeIsRefusedByName(t *testing.T) {
	t.Parallel()
	pgtest.Admin(t)
	for name, url := range map[string]string{"sqlite": sqliteURL(t), "postgres": pgtest.URL(t)} {
		t.Run(name, func(t *testing.T) {
			db := opened(t, url, store.Options{Sweep: -1, Version: "9.9.9"})
			must(t, store.PretendSchema(t.Context(), db, 999))
			must(t, db.Close())
			_, err := store.Open(t.Context(), url, store.Options{Version: "1.2.3"})
			if !errors.Is(err, store.ErrNewer) {
				t.Fatalf("open = %v", err)
			}
			for _, part := range []string{"999", "9.9.9", "1.2.3", fmt.Sprintf("up to %d:", store.LatestSchema)} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not name %s", err, part)
				}
			}
		})
	}
}
