package store

import (
	"context"
	"errors"
)

// PretendSchema records a schema this binary does not know.
func PretendSchema(ctx context.Context, d *DB, version int) error {
	return d.write(ctx, func(ctx context.Context, x *tx) error {
		if d.dial == sqliteDialect {
			_, err := x.exec(ctx, "INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, 1)", version)
			return err
		}
		_, err := x.exec(ctx, "INSERT INTO goose_db_version (version_id, is_applied) VALUES ($1, true)", version)
		return err
	})
}

// ErrSync is what FailSync makes commits fail with.
var ErrSync = errors.New("fsync: input/output error")

// FailSync makes the next commits fail as after a failed sync.
func FailSync(d *DB) {
	d.eng.(*writer).commit = func(context.Context) error { return ErrSync }
}

// Exec runs SQL on the writing side.
func Exec(ctx context.Context, d *DB, q string) error {
	return d.write(ctx, func(ctx context.Context, x *tx) error {
		_, err := x.exec(ctx, q)
		return err
	})
}

// Pragma runs a statement on SQLite's writing connection outside of a transaction.
func Pragma(ctx context.Context, d *DB, q string) error {
	_, err := d.eng.(*writer).conn.ExecContext(ctx, q)
	return err
}

// LatestSchema is the newest migration.
const LatestSchema = latestSchema
