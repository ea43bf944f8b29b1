package pgtest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestEachDatabaseIsFreshAndSynced(t *testing.T) {
	ctx := context.Background()
	first, second := URL(t), URL(t)
	for _, url := range []string{first, second} {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "CREATE TABLE only_once (id int)"); err != nil {
			t.Errorf("the database is not fresh: %v", err)
		}
		var fsync string
		if err := conn.QueryRow(ctx, "SHOW fsync").Scan(&fsync); err != nil || fsync != "on" {
			t.Errorf("fsync = %q, %v; want on", fsync, err)
		}
	}
}
