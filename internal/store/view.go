package store

import (
	"context"
	"database/sql"
	"fmt"
)

// view runs fn in a transaction that only reads and sees one moment; inside a
// transaction it joins. On SQLite it does not hold up the writer.
func (d *DB) view(ctx context.Context, fn func(ctx context.Context) error) error {
	if d.txFrom(ctx) != nil {
		return fn(ctx)
	}
	opts := &sql.TxOptions{ReadOnly: true}
	if d.dial == postgresDialect {
		opts.Isolation = sql.LevelRepeatableRead
	}
	t, err := d.pool.BeginTx(ctx, opts)
	if err != nil {
		return d.dial.fault(fmt.Errorf("begin: %w", err))
	}
	defer t.Rollback() // it only read
	return fn(context.WithValue(ctx, txKey{d}, &tx{q: t, d: d}))
}
