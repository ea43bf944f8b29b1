package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

func TestAFailedSyncEndsAcknowledging(t *testing.T) {
	t.Parallel()
	url := sqliteURL(t)
	db := opened(t, url, store.Options{Sweep: -1})
	ctx := t.Context()
	must(t, db.APIs.Create(ctx, home, pizza(1)))
	must(t, db.Healthy())
	store.FailSync(db)
	a := pizza(2)
	if err := db.APIs.Create(ctx, home, a); !errors.Is(err, store.ErrSync) {
		t.Fatalf("create = %v, want the failed sync", err)
	}
	if a.Rev != 0 {
		t.Errorf("the value says it was stored: rev %d", a.Rev)
	}
	if db.Healthy() == nil {
		t.Error("healthy after a failed sync")
	}
	if err := db.APIs.Create(ctx, home, pizza(3)); !errors.Is(err, &fault.Busy) {
		t.Errorf("later create = %v, want a refusal", err)
	}
	if _, err := db.APIs.List(ctx, home, apim.Query{}); err != nil {
		t.Errorf("reading ended too: %v", err)
	}
	must(t, db.Close())
	again := opened(t, url, store.Options{Sweep: -1})
	defer again.Close()
	must(t, again.Healthy())
	n, err := again.APIs.Count(ctx, home, apim.Query{})
	must(t, err)
	if n != 1 {
		t.Errorf("%d APIs after the restart, want the acknowledged one", n)
	}
}

func TestAFullDiskRefusesWritesAndKeepsReading(t *testing.T) {
	t.Parallel()
	db := opened(t, sqliteURL(t), store.Options{Sweep: -1})
	defer db.Close()
	ctx := t.Context()
	must(t, db.APIs.Create(ctx, home, pizza(1)))
	must(t, store.Pragma(ctx, db, "PRAGMA max_page_count = 200"))
	var err error
	for i := 2; err == nil && i < 2000; i++ {
		err = db.APIs.Create(ctx, home, pizza(i))
	}
	if !errors.Is(err, &fault.DiskFull) {
		t.Fatalf("create on a full disk = %v, want %d", err, fault.DiskFull.Code)
	}
	must(t, db.Healthy()) // room may come back
	if _, err := db.APIs.First(ctx, home, apim.Where("name", "Pizza00001")); err != nil {
		t.Errorf("read on a full disk: %v", err)
	}
	must(t, store.Pragma(ctx, db, "PRAGMA max_page_count = 100000"))
	must(t, db.APIs.Create(ctx, home, pizza(5000)))
}

func TestAuditsAreAppendOnly(t *testing.T) {
	t.Parallel()
	pgtest.Admin(t)
	for name, url := range map[string]string{"sqlite": sqliteURL(t), "postgres": pgtest.URL(t)} {
		db := opened(t, url, store.Options{Sweep: -1})
		must(t, db.APIs.Create(t.Context(), home, pizza(1)))
		for _, q := range []string{"DELETE FROM audits", "UPDATE audits SET who = 'nobody'"} {
			if err := store.Exec(t.Context(), db, q); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: %s = %v, want a refusal", name, q, err)
			}
		}
		must(t, db.Close())
	}
}

func TestAuditsEndWithTheirTime(t *testing.T) {
	t.Parallel()
	pgtest.Admin(t)
	for name, url := range map[string]string{"sqlite": sqliteURL(t), "postgres": pgtest.URL(t)} {
		t.Run(name, func(t *testing.T) {
			var ahead atomic.Int64
			db := opened(t, url, store.Options{
				Sweep: -1, KeepAudits: 30 * 24 * time.Hour,
				Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
			})
			defer db.Close()
			ctx := t.Context()
			kept := func(when string, want int) {
				t.Helper()
				p, err := db.Audits(ctx, apim.Across(apim.Platform), apim.Query{Limit: 1})
				must(t, err)
				if p.Total != want {
					t.Errorf("%s: %d audit rows, want %d", when, p.Total, want)
				}
			}
			for i := range 450 { // more than two batches
				must(t, db.Audit(ctx, home, "login", fmt.Sprint(i), "failed", nil, nil))
			}
			ahead.Store(int64(20 * 24 * time.Hour))
			must(t, db.Audit(ctx, home, "login", "later", "failed", nil, nil))
			must(t, db.Sweep(ctx))
			kept("before their time", 451)
			ahead.Store(int64(31 * 24 * time.Hour))
			must(t, db.Sweep(ctx))
			kept("after the time of the first", 1)
			// What retention may do, nobody else may: neither now nor to what is due.
			ahead.Store(int64(60 * 24 * time.Hour))
			for _, q := range []string{"DELETE FROM audits", "UPDATE audits SET who = 'nobody'"} {
				if err := store.Exec(ctx, db, q); err == nil || !strings.Contains(err.Error(), "append-only") {
					t.Errorf("%s after a sweep = %v, want a refusal", q, err)
				}
			}
			// Nor what is not due yet, even on retention's own path.
			early := fmt.Sprintf("INSERT INTO audit_sweep (cutoff) VALUES (%d)", time.Now().UnixMicro())
			if err := store.Exec(ctx, db, early); err != nil {
				t.Fatal(err)
			}
			if err := store.Exec(ctx, db, "DELETE FROM audits"); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("delete of a row after the cutoff = %v, want a refusal", err)
			}
			must(t, db.Sweep(ctx))
			kept("after the time of the last", 0)
		})
	}
}

func TestGroupCommitSharesSyncs(t *testing.T) {
	t.Parallel()
	db := opened(t, sqliteURL(t), store.Options{Sweep: -1})
	defer db.Close()
	before := db.Stats()
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for j := range 10 {
				if err := db.APIs.Create(t.Context(), home, pizza(i*100+j)); err != nil {
					t.Errorf("create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s := db.Stats()
	if writes, commits := s.Writes-before.Writes, s.Commits-before.Commits; writes != 640 || commits > writes/2 {
		t.Errorf("%d writes took %d commits, want 640 and far fewer", writes, commits)
	}
	if s.Bytes == 0 || s.Waiting != 0 {
		t.Errorf("stats = %+v", s)
	}
}

func TestAFailureSparesTheOthersOfItsGroup(t *testing.T) {
	t.Parallel()
	db := opened(t, sqliteURL(t), store.Options{Sweep: -1})
	defer db.Close()
	var wg sync.WaitGroup
	var created, refused atomic.Int32
	for i := range 40 {
		wg.Go(func() {
			switch err := db.APIs.Create(t.Context(), home, pizza(i/2)); {
			case err == nil:
				created.Add(1)
			case errors.Is(err, &fault.Exists):
				refused.Add(1)
			default:
				t.Errorf("create: %v", err)
			}
		})
	}
	wg.Wait()
	if created.Load() != 20 || refused.Load() != 20 {
		t.Errorf("%d created and %d refused, want 20 and 20", created.Load(), refused.Load())
	}
	n, err := db.APIs.Count(t.Context(), home, apim.Query{})
	must(t, err)
	if n != 20 {
		t.Errorf("%d APIs stored, want 20", n)
	}
}

func TestAWriteBehindItsOwnTransactionIsNotForEver(t *testing.T) {
	t.Parallel()
	db := opened(t, sqliteURL(t), store.Options{Sweep: -1, Wait: 50 * time.Millisecond})
	defer db.Close()
	outer := t.Context()
	err := db.InTx(outer, func(context.Context) error { return db.APIs.Create(outer, home, pizza(1)) })
	if !errors.Is(err, &fault.Busy) {
		t.Errorf("error = %v, want %d", err, fault.Busy.Code)
	}
}

func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	db := opened(t, sqliteURL(t), store.Options{Sweep: -1})
	defer db.Close()
	ctx := t.Context()
	ref, err := db.Blobs.Put(ctx, []byte("definition"))
	must(t, err)
	must(t, store.Exec(ctx, db, "UPDATE blobs SET data = CAST(X'00' || 'dEfinition' AS BLOB) WHERE hash = '"+string(ref)+"'"))
	if _, err := db.Blobs.Get(ctx, ref); err == nil || !strings.Contains(err.Error(), string(ref[:12])) {
		t.Errorf("reading a flipped blob = %v, want an error that names it", err)
	}
}

func TestTheFileIsPrivate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "cardea.db")
	must(t, opened(t, "sqlite:"+path, store.Options{Sweep: -1}).Close())
	fi, err := os.Stat(path)
	must(t, err)
	if fi.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v, want 0600", fi.Mode())
	}
}

func TestBadURLsAreRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "mysql://x", "sqlite:", "postgres://127.0.0.1:1/x?connect_timeout=1"} {
		if db, err := store.Open(t.Context(), url, store.Options{}); err == nil {
			db.Close()
			t.Errorf("opened %q", url)
		}
	}
}

func TestRetention(t *testing.T) {
	t.Parallel()
	pgtest.Admin(t)
	for name, url := range map[string]string{"sqlite": sqliteURL(t), "postgres": pgtest.URL(t)} {
		t.Run(name, func(t *testing.T) {
			var ahead atomic.Int64
			db := opened(t, url, store.Options{
				Sweep: -1, Keep: 24 * time.Hour, KeepMin: 3,
				Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
			})
			defer db.Close()
			ctx := t.Context()
			first, err := db.Blobs.Put(ctx, []byte("the first definition"))
			must(t, err)
			loose, err := db.Blobs.Put(ctx, []byte("never used"))
			must(t, err)
			a := pizza(1)
			a.Definition = first
			must(t, db.APIs.Create(ctx, home, a))
			for i := range 250 { // more than one batch
				a.Definition, a.Description = "", fmt.Sprint(i)
				must(t, db.APIs.Update(ctx, home, a))
			}
			ahead.Store(int64(2 * time.Hour))
			must(t, db.Sweep(ctx))
			if _, err := db.Blobs.Get(ctx, loose); !errors.Is(err, &fault.Missing) {
				t.Errorf("a loose blob after its grace = %v", err)
			}
			if _, err := db.Blobs.Get(ctx, first); err != nil {
				t.Errorf("a blob that a version holds: %v", err)
			}
			ahead.Store(int64(26 * time.Hour))
			must(t, db.Sweep(ctx))
			v, err := db.Versions(ctx, home, "api", string(a.ID))
			must(t, err)
			if len(v) != 3 || v[0].Rev != 251 {
				t.Errorf("%d versions kept, want the newest 3", len(v))
			}
			if _, err := db.Blobs.Get(ctx, first); err != nil {
				t.Errorf("a blob within its second grace: %v", err)
			}
			ahead.Store(int64(28 * time.Hour))
			must(t, db.Sweep(ctx))
			if _, err := db.Blobs.Get(ctx, first); !errors.Is(err, &fault.Missing) {
				t.Errorf("a blob nobody holds any more = %v", err)
			}
			if _, err := db.Blobs.Get(ctx, v[2].Doc); err != nil {
				t.Errorf("the document of a kept version: %v", err)
			}
			must(t, db.APIs.Delete(ctx, home, a.ID))
			must(t, db.APIs.Create(ctx, home, a)) // the same content again
			if _, err := db.APIs.Get(ctx, home, a.ID); err != nil {
				t.Errorf("after delete and create: %v", err)
			}
		})
	}
}

func TestTombstonesEndWithAFullDelta(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	db := opened(t, sqliteURL(t), store.Options{Sweep: -1, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }})
	defer db.Close()
	ctx := t.Context()
	filled(t, db)
	was, err := db.Log.Head(ctx)
	must(t, err)
	pending, err := db.Log.Pending(ctx, 1)
	must(t, err)
	d, _, err := db.Log.Items(ctx, was, []string{"Default"}, 1)
	must(t, err)
	full, _, err := db.Log.Items(ctx, d.Version, []string{"Default"}, 1)
	must(t, err)
	if full.Full {
		t.Fatal("full without need")
	}
	all, _, err := db.Log.Items(ctx, zero, []string{"Default"}, 1)
	must(t, err)
	gone := all.Items[0]
	gone.Deleted, gone.Body = true, nil
	_, err = db.Log.Publish(ctx, "me", []store.Versioned{{Change: pending[0], Items: append(all.Items[:0:0], gone)}})
	must(t, err)
	ahead.Store(int64(8 * 24 * time.Hour))
	must(t, db.Sweep(ctx))
	d, _, err = db.Log.Items(ctx, was, []string{"Default"}, 1)
	must(t, err)
	if !d.Full || len(d.Items) != 0 {
		t.Errorf("delta from before a pruned tombstone = %+v, want full and empty", d)
	}
	_, everything, err := db.Log.VersionsOf(ctx, []int64{1, 2})
	must(t, err)
	if !everything {
		t.Error("pruned changes count as pending")
	}
}
