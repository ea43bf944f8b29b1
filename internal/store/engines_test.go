package store_test

import (
	"path/filepath"
	"testing"

	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
	"github.com/cardea-apim/cardea/internal/store/storetest"
)

func sqliteURL(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "cardea.db") }

func opened(t testing.TB, url string, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) *store.DB { return opened(t, sqliteURL(t), store.Options{Sweep: -1}) })
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	pgtest.Admin(t)
	storetest.Run(t, func(t *testing.T) *store.DB { return opened(t, pgtest.URL(t), store.Options{Sweep: -1}) })
}
