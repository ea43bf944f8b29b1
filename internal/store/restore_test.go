package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/store"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

// saved is a backup of a store with one API in it, and its id.
func saved(t *testing.T) (file []byte, id apim.APIID) {
	t.Helper()
	src := opened(t, sqliteURL(t), store.Options{Sweep: -1})
	defer src.Close()
	a := filled(t, src)
	var b bytes.Buffer
	must(t, src.Backup(t.Context(), &b))
	return b.Bytes(), a.ID
}

func eachEngine(t *testing.T, fn func(t *testing.T, url string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, sqliteURL(t))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		fn(t, pgtest.URL(t))
	})
}

// A store serves on while its successor is made, and keeps what it holds until
// the successor takes its place.
func TestPrepareLeavesTheStoreAlone(t *testing.T) {
	eachEngine(t, func(t *testing.T, url string) {
		ctx := t.Context()
		file, id := saved(t)
		db := opened(t, url, store.Options{Sweep: -1})
		must(t, db.APIs.Create(ctx, home, pizza(7)))
		must(t, db.Log.AddJoinToken(ctx, "sha256:x", []string{"gateway"}, time.Now().Add(time.Hour)))
		_, err := db.Log.UseJoinToken(ctx, "sha256:x", time.Now())
		must(t, err)
		before, err := db.Log.Head(ctx)
		must(t, err)
		if _, err := store.Adopt(ctx, url); !errors.Is(err, store.ErrNotPrepared) {
			t.Fatalf("adopt nothing = %v", err)
		}
		must(t, store.Prepare(ctx, url, bytes.NewReader(file)))
		must(t, store.Prepare(ctx, url, bytes.NewReader(file))) // again, as after a crash
		must(t, db.APIs.Create(ctx, home, pizza(8)))
		if n, err := db.Others(ctx); err != nil || n != 0 {
			t.Errorf("others = %d, %v", n, err)
		}
		other := opened(t, url, store.Options{Sweep: -1})
		if n, err := db.Others(ctx); err != nil || (n != 1 && db.Engine() == "postgres") {
			t.Errorf("with another process: others = %d, %v", n, err)
		}
		must(t, other.Close())
		must(t, db.Close())

		v, err := store.Adopt(ctx, url)
		must(t, err)
		if v.Epoch <= before.Epoch {
			t.Errorf("epoch %d after %d", v.Epoch, before.Epoch)
		}
		if _, err := store.Adopt(ctx, url); !errors.Is(err, store.ErrNotPrepared) {
			t.Errorf("adopt twice = %v", err)
		}
		db = opened(t, url, store.Options{Sweep: -1})
		defer db.Close()
		if now, err := db.Log.Head(ctx); err != nil || now != v {
			t.Errorf("head %v, %v; want %v", now, err, v)
		}
		if _, err := db.APIs.Get(ctx, home, id); err != nil {
			t.Errorf("what was backed up: %v", err)
		}
		if n, err := db.APIs.Count(ctx, home, apim.Query{}); err != nil || n != 1 {
			t.Errorf("%d APIs, %v; want the one of the backup", n, err)
		}
		if yes, err := db.Log.Joined(ctx); err != nil || !yes {
			t.Errorf("it is forgotten that nodes have joined: %v", err)
		}
	})
}

func TestAdoptRefusesAStoreInUse(t *testing.T) {
	eachEngine(t, func(t *testing.T, url string) {
		ctx := t.Context()
		file, _ := saved(t)
		db := opened(t, url, store.Options{Sweep: -1})
		defer db.Close()
		must(t, db.APIs.Create(ctx, home, pizza(7)))
		must(t, store.Prepare(ctx, url, bytes.NewReader(file)))
		if _, err := store.Adopt(ctx, url); !errors.Is(err, store.ErrInUse) {
			t.Fatalf("adopt = %v", err)
		}
		if n, err := db.APIs.Count(ctx, home, apim.Where("name", "Pizza00007")); err != nil || n != 1 {
			t.Errorf("the store is touched: %d, %v", n, err)
		}
		must(t, store.Discard(ctx, url))
		must(t, store.Discard(ctx, url))
		must(t, db.APIs.Create(ctx, home, pizza(8)))
	})
}

func TestADamagedDatabaseCanBeReplaced(t *testing.T) {
	t.Parallel()
	file, id := saved(t)
	url := sqliteURL(t)
	path := strings.TrimPrefix(url, "sqlite:")
	must(t, os.WriteFile(path, bytes.Repeat([]byte("not a database "), 1000), 0o600))
	must(t, os.WriteFile(path+"-wal", []byte("of another one"), 0o600))
	must(t, store.Restore(t.Context(), url, bytes.NewReader(file), store.Force()))
	db := opened(t, url, store.Options{Sweep: -1})
	defer db.Close()
	if _, err := db.APIs.Get(t.Context(), home, id); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(path + ".restore*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	file, _ := saved(t)
	must(t, store.Check(bytes.NewReader(file), "1.2.3"))
	newer := bytes.Replace(file, []byte(`"schema":`), []byte(`"schema":99`), 1)
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"cut": {file[:len(file)-10], store.ErrNoBackup}, "garbage": {[]byte("x"), store.ErrNoBackup}, "newer": {newer, store.ErrNewer},
	} {
		if err := store.Check(bytes.NewReader(c.file), "1.2.3"); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
