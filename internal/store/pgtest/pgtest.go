// Package pgtest gives tests a PostgreSQL of their own: a private server on a
// free port of the loopback address, started once per test process from
// Debian's packages as an unprivileged user and ended with the process, or the
// server that CARDEA_TEST_POSTGRES names.
package pgtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

var server struct {
	once  sync.Once
	admin string // URL with the right to create databases
	skip  string
	err   error
}

// URL is a fresh, empty database, dropped when the test or the server ends. Without
// PostgreSQL the test is skipped, unless CARDEA_TEST_REQUIRE_POSTGRES is set.
func URL(t testing.TB) string {
	t.Helper()
	admin := Admin(t)
	name := "cardea_" + random()
	run(t, admin, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'")
	if os.Getenv("CARDEA_TEST_POSTGRES") != "" { // a private server goes as a whole
		t.Cleanup(func() { run(t, admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	}
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("parse CARDEA_TEST_POSTGRES: %v", err)
	}
	u.Path = "/" + name
	return u.String()
}

// Admin is the URL of the server's own database, as a superuser.
func Admin(t testing.TB) string {
	t.Helper()
	server.once.Do(func() {
		if server.admin = os.Getenv("CARDEA_TEST_POSTGRES"); server.admin != "" {
			return
		}
		bin := newestBin()
		if bin == "" {
			server.skip = "PostgreSQL is not installed"
			return
		}
		server.admin, server.err = start(bin)
	})
	switch {
	case server.err != nil:
		t.Fatalf("start PostgreSQL: %v", server.err)
	case server.skip != "" && os.Getenv("CARDEA_TEST_REQUIRE_POSTGRES") != "":
		t.Fatal(server.skip)
	case server.skip != "":
		t.Skip(server.skip)
	}
	return server.admin
}

func run(t testing.TB, admin, q string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		t.Errorf("connect to PostgreSQL: %v", err)
		return
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, q); err != nil {
		t.Errorf("%s: %v", strings.Fields(q)[0], err)
	}
}

func random() string {
	b := make([]byte, 6)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func adminURL(port int) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable", port)
}
