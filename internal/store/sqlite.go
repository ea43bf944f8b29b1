package store

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver
)

// openSQLite opens a file for one writing connection and a few reading ones.
func (d *DB) openSQLite(ctx context.Context, path string, schema int64) error {
	if path == "" {
		return fmt.Errorf("open store: sqlite: needs a file")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if err := createFile(path); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	d.dial = sqliteDialect
	w, err := sql.Open("sqlite", sqliteDSN(path, false))
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	w.SetMaxOpenConns(1)
	if err := migrate(ctx, d.dial, w, schema, d.opt.Version); err != nil {
		w.Close()
		return err
	}
	readers := d.opt.Readers
	if readers == 0 {
		readers = 4
	}
	if d.pool, err = sql.Open("sqlite", sqliteDSN(path, true)); err != nil {
		w.Close()
		return fmt.Errorf("open store %s: %w", path, err)
	}
	d.pool.SetMaxOpenConns(readers)
	d.pool.SetMaxIdleConns(readers)
	d.pool.SetConnMaxIdleTime(time.Minute)
	d.read = &stmts{on: d.pool}
	if d.eng, err = newWriter(ctx, d, w, path); err != nil {
		w.Close()
		d.pool.Close()
		return err
	}
	return nil
}

// sqliteDSN asks for a write-ahead log synced at every commit.
func sqliteDSN(path string, read bool) string {
	q := url.Values{"_pragma": {
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(ON)",
		"journal_size_limit(67108864)", "temp_store(MEMORY)", "cache_size(-8000)",
	}}
	if read {
		q.Add("_pragma", "query_only(1)")
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// createFile makes the file, readable only by its owner, and its name durable.
func createFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer at.Close()
	return at.Sync()
}
