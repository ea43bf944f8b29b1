package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Share returns what the processes of this database agreed on under a name. The
// first to ask decides: its value is stored. Secrets must come sealed.
func (d *DB) Share(ctx context.Context, name, value string) (agreed string, err error) {
	const get = "SELECT value FROM shared WHERE name = $1"
	err = d.one(ctx, get, []any{name}, &agreed)
	if err == nil {
		return agreed, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read shared %s: %w", name, err)
	}
	err = d.write(ctx, func(ctx context.Context, x *tx) error {
		if _, err := x.exec(ctx, "INSERT INTO shared (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING", name, value); err != nil {
			return err
		}
		return d.one(ctx, get, []any{name}, &agreed)
	})
	if err != nil {
		return "", fmt.Errorf("share %s: %w", name, err)
	}
	return agreed, nil
}
