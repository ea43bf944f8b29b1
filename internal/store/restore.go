package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// RestoreOption adjusts Restore, Prepare and Adopt.
type RestoreOption func(*restore)

type restore struct {
	force bool
	opt   Options
}

// Force replaces whatever the target holds.
func Force() RestoreOption { return func(r *restore) { r.force = true } }

// With gives the options the target is opened with.
func With(o Options) RestoreOption { return func(r *restore) { r.opt = o } }

func restoring(opts []RestoreOption) *restore {
	r := &restore{}
	for _, o := range opts {
		o(r)
	}
	r.opt = r.opt.withDefaults()
	r.opt.Sweep = -1
	return r
}

// ErrNotPrepared is what Adopt says where Prepare has made nothing.
var ErrNotPrepared = errors.New("there is no prepared restore")

// ErrInUse refuses to replace a store that another process has open.
var ErrInUse = errors.New("another process has the database open")

// successor is a database beside the one in use, made to take its place.
type successor interface {
	// discard removes it, or what is left of it.
	discard(ctx context.Context) error
	// open opens it, making it if need be.
	open(ctx context.Context, o Options, schema int64) (*DB, error)
	// adopt puts it, as a whole or not at all, in the place of the one in use.
	adopt(ctx context.Context, o Options) (snapshot.Version, error)
}

func successorOf(url string) (successor, error) {
	switch {
	case strings.HasPrefix(url, "sqlite:"):
		return sqliteSuccessor(strings.TrimPrefix(url, "sqlite:")), nil
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		return pgSuccessor{url}, nil
	}
	return nil, errors.New(`the URL must start with "sqlite:" or "postgres://"`)
}

// Restore fills the store of a URL from a backup made on either engine and
// raises the epoch, so that every gateway resynchronises. It is Prepare and
// Adopt in one: whatever fails, the target is as it was. A store that is not
// empty is refused (fault.Exists) unless forced.
func Restore(ctx context.Context, url string, r io.Reader, opts ...RestoreOption) error {
	rs := restoring(opts)
	if !rs.force {
		if err := rs.refuseUsed(ctx, url); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	if err := Prepare(ctx, url, r, opts...); err != nil {
		return err
	}
	_, err := Adopt(ctx, url, opts...)
	if err != nil {
		err = errors.Join(err, Discard(context.WithoutCancel(ctx), url))
	}
	return err
}

func (rs *restore) refuseUsed(ctx context.Context, url string) error {
	d, err := Open(ctx, url, rs.opt)
	if err != nil {
		return err
	}
	empty, err := d.empty(ctx)
	if err == nil && !empty {
		err = errNotEmpty
	}
	return errors.Join(err, d.Close())
}

// Prepare makes a whole database out of a backup beside the store of a URL,
// which may go on serving meanwhile, and brings it to this binary's schema. The
// backup is proven by the way: a damaged one (ErrNoBackup) or one of a newer
// schema (ErrNewer) leaves nothing behind. What an earlier Prepare made is
// replaced.
func Prepare(ctx context.Context, url string, r io.Reader, opts ...RestoreOption) (err error) {
	rs := restoring(opts)
	next, err := successorOf(url)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	b, err := readBackup(r)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer b.z.Close()
	if err := b.known(rs.opt.Version); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if err := next.discard(ctx); err != nil {
		return fmt.Errorf("restore: clear what an earlier one left: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("restore: %w", err), next.discard(context.WithoutCancel(ctx)))
		}
	}()
	d, err := next.open(ctx, rs.opt, b.header.Schema)
	if err != nil {
		return err
	}
	if err := errors.Join(d.fill(ctx, b), d.Close()); err != nil {
		return err
	}
	if d, err = next.open(ctx, rs.opt, latestSchema); err != nil {
		return err
	}
	return errors.Join(d.write(ctx, func(ctx context.Context, x *tx) error {
		after, err := json.Marshal(map[string]any{"made": b.header.At.UTC(), "schema": b.header.Schema, "writtenBy": b.header.Binary})
		if err != nil {
			return err
		}
		// What happened since the backup is gone: this row says that something is.
		return audit(ctx, x, apim.SuperTenant, "installation", b.header.Engine, "restore", nil, after)
	}), d.Close())
}

// Adopt puts what Prepare made in the place of the store, with an epoch above
// both theirs, and returns the version it begins with. It is atomic, also
// against a crash, and quick whatever the size. No process may have the store
// open: ErrInUse. Where nothing is prepared: ErrNotPrepared.
func Adopt(ctx context.Context, url string, opts ...RestoreOption) (snapshot.Version, error) {
	next, err := successorOf(url)
	if err != nil {
		return snapshot.Version{}, fmt.Errorf("restore: %w", err)
	}
	v, err := next.adopt(ctx, restoring(opts).opt)
	if err != nil {
		return snapshot.Version{}, fmt.Errorf("restore: %w", err)
	}
	return v, nil
}

// Discard removes what Prepare made.
func Discard(ctx context.Context, url string) error {
	next, err := successorOf(url)
	if err == nil {
		err = next.discard(ctx)
	}
	if err != nil {
		return fmt.Errorf("discard restore: %w", err)
	}
	return nil
}

// Check reads a backup to its end and tells whether a binary of this version
// could restore it, without using it: ErrNoBackup, ErrNewer.
func Check(r io.Reader, version string) error {
	b, err := readBackup(r)
	if err != nil {
		return err
	}
	defer b.z.Close()
	if err := b.known(version); err != nil {
		return err
	}
	return b.each(func(t backupTable) error {
		if !slices.Contains(savedTables, t.Table) {
			return fmt.Errorf("%w: unknown table %.40q", ErrNoBackup, t.Table)
		}
		return nil
	}, func([]any) error { return nil })
}

// known refuses a schema that this binary does not know.
func (b *backupReader) known(version string) error {
	switch n := b.header.Schema; {
	case n > latestSchema:
		return fmt.Errorf("%w: the backup has schema %d, written by cardea %s; this is cardea %s, which knows schemas up to %d",
			ErrNewer, n, b.header.Binary, version, latestSchema)
	case n < 1:
		return fmt.Errorf("%w: it names schema %d", ErrNoBackup, n)
	}
	return nil
}

// nextEpoch is above the epochs of a backup and of the store it replaces.
// Epochs are Unix seconds, or one more than the last: so two restores of one
// backup never share an epoch.
func nextEpoch(restored, former, now int64) int64 {
	if last := max(restored, former); last >= now {
		return last + 1
	}
	return now
}

// former is what of the replaced store lives on: its epoch, and which nodes have
// joined and been withdrawn, which no restore undoes.
type former struct {
	epoch   int64
	joined  bool
	members [][]any // id, node, roles, joined, withdrawn
}

// fill loads a backup in one transaction.
func (d *DB) fill(outer context.Context, b *backupReader) error {
	return d.write(outer, func(ctx context.Context, x *tx) error {
		var insert, table string
		var width int
		if _, err := x.exec(ctx, "DELETE FROM meta"); err != nil { // the row of a new store
			return err
		}
		err := b.each(func(t backupTable) error {
			if !slices.Contains(savedTables, t.Table) {
				return fmt.Errorf("%w: unknown table %.40q", ErrNoBackup, t.Table)
			}
			known, err := d.columns(ctx, t.Table)
			if err != nil {
				return err
			}
			marks := make([]string, len(t.Columns))
			names := make([]string, len(t.Columns))
			for i, c := range t.Columns {
				if !slices.Contains(known, c) {
					return fmt.Errorf("%w: table %s has no column %.40q", ErrNoBackup, t.Table, c)
				}
				names[i], marks[i] = `"`+c+`"`, fmt.Sprintf("$%d", i+1)
			}
			table, width = t.Table, len(t.Columns)
			insert = "INSERT INTO " + table + " (" + strings.Join(names, ", ") + ") VALUES (" + strings.Join(marks, ", ") + ")"
			return nil
		}, func(vals []any) error {
			if err := outer.Err(); err != nil {
				return err
			}
			if insert == "" || len(vals) != width {
				return fmt.Errorf("%w: a row of %s has %d values instead of %d", ErrNoBackup, table, len(vals), width)
			}
			if _, err := x.exec(ctx, insert, vals...); err != nil {
				return fmt.Errorf("fill %s: %w", table, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		var one int
		if err := d.one(ctx, "SELECT 1 FROM meta WHERE id = 1", nil, &one); err != nil {
			return fmt.Errorf("%w: it has no version: %w", ErrNoBackup, err)
		}
		if d.dial != postgresDialect {
			return nil // SQLite remembers the highest id by itself
		}
		for _, t := range serialTables {
			_, err := x.exec(ctx, "SELECT setval(pg_get_serial_sequence('"+t+"', 'id'), COALESCE((SELECT max(id) FROM "+t+"), 0) + 1, false)")
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *DB) columns(ctx context.Context, table string) ([]string, error) {
	rows, err := d.query(ctx, "SELECT * FROM "+table+" LIMIT 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	return cols, rows.Close()
}
