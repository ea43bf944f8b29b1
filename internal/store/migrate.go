package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// The schema is templated: the same statements serve both engines, with
// @text, @blob and @serial for the types that differ, and parts between
// "-- only sqlite" (or postgres) and "-- both" for the rest.
//
//go:embed migrations/*.sql
var migrationFiles embed.FS

// latestSchema is the newest migration.
const latestSchema = 7

// ErrNewer refuses a home whose schema this binary does not know.
var ErrNewer = errors.New("the data is newer than this binary")

// migrate brings the schema up to a version, one way. On PostgreSQL it holds a
// lock, so that two processes may start at once.
func migrate(ctx context.Context, dl *dialect, db *sql.DB, to int64, binary string) error {
	unlock, err := migrationLock(ctx, dl, db)
	if err != nil {
		return fmt.Errorf("migrate: %w", dl.fault(err))
	}
	defer unlock()
	p, err := provider(dl, db)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	have, err := p.GetDBVersion(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", dl.fault(err))
	}
	if have > latestSchema {
		return fmt.Errorf("%w: its schema is %d, written by cardea %s; this is cardea %s, which knows schemas up to %d: start the newer binary, or restore a backup made before the upgrade",
			ErrNewer, have, writtenBy(ctx, db), binary, latestSchema)
	}
	if have >= to {
		return nil
	}
	if _, err := p.UpTo(ctx, to); err != nil {
		return fmt.Errorf("migrate from schema %d to %d: %w", have, to, dl.fault(err))
	}
	return nil
}

// migrationLock takes a lock of the whole database. SQLite needs none: a home
// has one process.
func migrationLock(ctx context.Context, dl *dialect, db *sql.DB) (func(), error) {
	if dl != postgresDialect {
		return func() {}, nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	const key = 0x6361726465610001
	if _, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", int64(key)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		// The lock ends with the connection at the latest.
		_, _ = conn.ExecContext(end, "SELECT pg_advisory_unlock($1)", int64(key))
		_ = conn.Close()
	}, nil
}

func writtenBy(ctx context.Context, db *sql.DB) string {
	var by string
	if err := db.QueryRowContext(ctx, "SELECT written_by FROM meta WHERE id = 1").Scan(&by); err != nil {
		return "of unknown version"
	}
	return by
}

// provider lists the migrations as goose wants them.
func provider(dl *dialect, db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	var list []*goose.Migration
	for _, f := range files {
		name := strings.TrimPrefix(f, "migrations/")
		digits, _, _ := strings.Cut(name, "_")
		version, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		text, err := migrationFiles.ReadFile(f)
		if err != nil {
			return nil, err
		}
		list = append(list, goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
			for _, q := range dl.statements(string(text)) {
				if _, err := tx.ExecContext(ctx, q); err != nil {
					return fmt.Errorf("%s: %.60s: %w", name, q, err)
				}
			}
			return nil
		}}, nil))
	}
	return goose.NewProvider(dl.goose, db, nil, goose.WithGoMigrations(list...), goose.WithDisableGlobalRegistry(true))
}

// statements renders a migration for the dialect. A statement ends with a line
// that ends in ";" and is followed by an empty line or another top-level one.
func (dl *dialect) statements(text string) []string {
	var out []string
	var b strings.Builder
	skip := false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if only, ok := strings.CutPrefix(trimmed, "-- only "); ok {
			skip = only != dl.name
			continue
		}
		if trimmed == "-- both" {
			skip = false
			continue
		}
		if skip || trimmed == "" || strings.HasPrefix(trimmed, "--") {
			continue
		}
		b.WriteString(line)
		// Indented lines are inside a statement, as in the body of a trigger.
		if strings.HasSuffix(trimmed, ";") && !strings.HasPrefix(line, " ") {
			out = append(out, dl.types.Replace(strings.TrimSuffix(strings.TrimSpace(b.String()), ";")))
			b.Reset()
		}
	}
	return out
}
