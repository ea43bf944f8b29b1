package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// RestoreOption adjusts Restore.
type RestoreOption func(*restore)

type restore struct {
	force bool
	opt   Options
}

// Force replaces whatever the target holds.
func Force() RestoreOption { return func(r *restore) { r.force = true } }

// With gives the options the target is opened with.
func With(o Options) RestoreOption { return func(r *restore) { r.opt = o } }

// Restore fills the store of a URL from a backup made on either engine and
// raises the epoch, so that every gateway resynchronises. The backup is read
// and proven whole before the target is touched. A store that is not empty is
// refused (fault.Exists) unless forced; so is a backup of a newer schema
// (ErrNewer). An older backup is migrated. No other process may have the
// target open.
func Restore(ctx context.Context, url string, r io.Reader, opts ...RestoreOption) error {
	var rs restore
	for _, o := range opts {
		o(&rs)
	}
	rs.opt = rs.opt.withDefaults()
	rs.opt.Sweep = -1
	spool, err := os.CreateTemp("", "cardea-restore-")
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer os.Remove(spool.Name())
	defer spool.Close()
	if _, err := io.Copy(spool, r); err != nil {
		return fmt.Errorf("restore: read the backup: %w", err)
	}
	header, err := prove(spool)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if header.Schema > latestSchema {
		return fmt.Errorf("restore: %w: the backup has schema %d, written by cardea %s; this is cardea %s, which knows schemas up to %d",
			ErrNewer, header.Schema, header.Binary, rs.opt.Version, latestSchema)
	}
	epoch, err := rs.clear(ctx, url, header.Schema)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	d, err := open(ctx, url, rs.opt, header.Schema)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	err = d.fill(ctx, spool)
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if d, err = Open(ctx, url, rs.opt); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	err = d.write(ctx, func(ctx context.Context, x *tx) error {
		if _, err := x.exec(ctx, "UPDATE meta SET epoch = $1 WHERE id = 1 AND epoch < $2", epoch, epoch); err != nil {
			return err
		}
		after, err := json.Marshal(map[string]any{"made": header.At.UTC(), "schema": header.Schema, "writtenBy": header.Binary})
		if err != nil {
			return err
		}
		// What happened since the backup is gone: this row says that something is.
		if err := audit(ctx, x, apim.SuperTenant, "installation", header.Engine, "restore", nil, after); err != nil {
			return err
		}
		_, err = d.Log.RaiseEpoch(ctx)
		return err
	})
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

// prove reads a backup to its end without using it.
func prove(spool *os.File) (backupHeader, error) {
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return backupHeader{}, err
	}
	b, err := readBackup(spool)
	if err != nil {
		return backupHeader{}, err
	}
	err = b.each(func(t backupTable) error {
		if !slices.Contains(savedTables, t.Table) {
			return fmt.Errorf("%w: unknown table %.40q", ErrNoBackup, t.Table)
		}
		return nil
	}, func([]any) error { return nil })
	return b.header, err
}

// clear makes the target empty, with a schema not newer than the backup's, and
// returns the epoch it had.
func (rs *restore) clear(ctx context.Context, url string, schema int64) (epoch int64, err error) {
	d, err := Open(ctx, url, rs.opt)
	if err != nil {
		return 0, err
	}
	head, err := d.Log.Head(ctx)
	if err != nil {
		return 0, errors.Join(err, d.Close())
	}
	empty, err := d.empty(ctx)
	if err == nil && !empty && !rs.force {
		err = errNotEmpty
	}
	if err == nil && (!empty || schema != latestSchema) {
		err = d.drop(ctx)
	}
	return int64(head.Epoch), errors.Join(err, d.Close())
}

// drop removes the whole schema, so that it can be made anew as of the backup.
func (d *DB) drop(ctx context.Context) error {
	return d.write(ctx, func(ctx context.Context, x *tx) error {
		for _, t := range append(slices.Clone(savedTables), "audit_sweep", "leases", "gateways", "join_tokens", "goose_db_version") {
			if _, err := x.exec(ctx, "DROP TABLE IF EXISTS "+t); err != nil {
				return fmt.Errorf("empty %s: %w", t, err)
			}
		}
		if d.dial == postgresDialect {
			if _, err := x.exec(ctx, "DROP FUNCTION IF EXISTS cardea_append_only"); err != nil {
				return err
			}
		}
		return nil
	})
}

// fill loads a backup in one transaction.
func (d *DB) fill(ctx context.Context, spool *os.File) error {
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return err
	}
	b, err := readBackup(spool)
	if err != nil {
		return err
	}
	return d.write(ctx, func(ctx context.Context, x *tx) error {
		var insert, table string
		var width int
		if _, err := x.exec(ctx, "DELETE FROM meta"); err != nil { // the row of a new store
			return err
		}
		err := b.each(func(t backupTable) error {
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
