package store_test

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

func TestOfRacingAdditionsOneIsTheFirst(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "db") },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			db, err := store.Open(t.Context(), url(t), store.Options{Sweep: -1})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			e := &apim.Ephemeral{Kind: "k", Hash: "h", Created: time.Now(), Expires: time.Now().Add(time.Hour), Doc: []byte("{}")}
			var first atomic.Int64
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					added, err := db.Ephemera.Add(t.Context(), e)
					if err != nil {
						t.Error(err)
					}
					if added {
						first.Add(1)
					}
				})
			}
			all.Wait()
			if first.Load() != 1 {
				t.Errorf("%d were the first", first.Load())
			}
			if _, err := db.Ephemera.Add(t.Context(), &apim.Ephemeral{Kind: "k"}); err == nil {
				t.Error("a row without a hash is added")
			}
		})
	}
}
