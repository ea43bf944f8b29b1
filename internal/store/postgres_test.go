package store_test

import (
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

func TestProcessesOnOnePostgres(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	dbs := make([]*store.DB, 3)
	var wg sync.WaitGroup
	for i := range dbs { // all migrate at once
		wg.Go(func() {
			db, err := store.Open(t.Context(), url, store.Options{Sweep: -1, Readers: 4})
			if err != nil {
				t.Errorf("open %d: %v", i, err)
				return
			}
			dbs[i] = db
			t.Cleanup(func() { db.Close() })
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	wake, cancel := dbs[1].Log.Wake()
	defer cancel()
	for quiet := false; !quiet; { // it says once that it listens
		select {
		case <-wake:
		case <-time.After(300 * time.Millisecond):
			quiet = true
		}
	}
	must(t, dbs[0].APIs.Create(t.Context(), home, pizza(1)))
	select {
	case <-wake:
	case <-time.After(5 * time.Second):
		t.Fatal("a commit of another process was not heard of")
	}
	pending, err := dbs[1].Log.Pending(t.Context(), 10)
	must(t, err)
	if len(pending) != 1 {
		t.Errorf("%d pending changes seen by the other process, want 1", len(pending))
	}
	for i, want := range []bool{true, false, false} {
		held, err := dbs[i].Log.Lease(t.Context(), store.RelayLease, string(rune('a'+i)), time.Minute)
		must(t, err)
		if held != want {
			t.Errorf("process %d holds the lease: %v, want %v", i, held, want)
		}
	}
}
