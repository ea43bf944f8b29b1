package store_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

func TestTheFirstToShareDecides(t *testing.T) {
	t.Parallel()
	pgtest.Admin(t)
	for name, url := range map[string]string{"sqlite": sqliteURL(t), "postgres": pgtest.URL(t)} {
		t.Run(name, func(t *testing.T) {
			db := opened(t, url, store.Options{Sweep: -1})
			defer db.Close()
			var wg sync.WaitGroup
			agreed := make([]string, 8)
			for i := range agreed {
				wg.Go(func() {
					v, err := db.Share(t.Context(), "ca", fmt.Sprint("of ", i))
					if err != nil {
						t.Error(err)
					}
					agreed[i] = v
				})
			}
			wg.Wait()
			for _, v := range agreed {
				if v == "" || v != agreed[0] {
					t.Fatalf("they agreed on %q", agreed)
				}
			}
			if v, err := db.Share(t.Context(), "other", "x"); err != nil || v != "x" {
				t.Errorf("another name: %q, %v", v, err)
			}
			var file bytes.Buffer
			must(t, db.Backup(t.Context(), &file))
			to := sqliteURL(t)
			must(t, store.Restore(t.Context(), to, &file))
			restored := opened(t, to, store.Options{Sweep: -1})
			defer restored.Close()
			if v, err := restored.Share(t.Context(), "ca", "new"); err != nil || v != agreed[0] {
				t.Errorf("after a restore: %q, %v", v, err)
			}
		})
	}
}
