package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Database is where the state lives. URL may hold a password, so it is a secret.
type Database struct {
	URL            Secret
	Postgres       bool
	MaxConnections int           // 0: the engine's default
	AcquireTimeout time.Duration // longest wait for a turn or a connection; 0: the engine's default
}

// pgOptions are the JDBC options of PostgreSQL that have a counterpart.
var pgOptions = map[string]string{
	"sslmode": "sslmode", "sslrootcert": "sslrootcert", "currentSchema": "search_path",
	"connectTimeout": "connect_timeout", "ApplicationName": "application_name",
}

var unsupportedEngines = []string{"mysql", "mariadb", "oracle", "sqlserver", "mssql", "db2"}

// database derives the one database from our key or from the original's.
func (l *loader) database(v Values) (d Database) {
	d = Database{AcquireTimeout: max(v.Duration("database.apim_db.pool_options.maxWait", 0), 0)}
	defer func() { d.MaxConnections = l.connections(v, d.Postgres) }()
	if u := v.String("cardea.database.url", ""); u != "" {
		d.URL, d.Postgres = Secret(u), strings.HasPrefix(u, "postgres")
		if !d.Postgres && !strings.HasPrefix(u, "sqlite:") {
			l.fail(l.where["cardea.database.url"], "cardea.database.url: want sqlite:/path/file.db or postgres://user:password@host/name")
		}
		return d
	}
	main, where := l.jdbc(v, "database.apim_db")
	shared, sharedAt := l.jdbc(v, "database.shared_db")
	if main == "" && strings.HasPrefix(shared, "postgres") {
		main = shared
	}
	if strings.HasPrefix(main, "postgres") && strings.HasPrefix(shared, "postgres") && main != shared {
		l.fail(sharedAt, "database.shared_db: everything is kept in one database; give it the same URL as database.apim_db (%s) or remove it", where)
	}
	d.Postgres = strings.HasPrefix(main, "postgres")
	if !d.Postgres {
		main = "sqlite:" + filepath.Join(l.src.Home, "cardea.db")
	}
	d.URL = Secret(main)
	return d
}

// connections is the size of the pool. The original's key speaks of its own
// embedded database where PostgreSQL is not used, so it has no force there.
func (l *loader) connections(v Values, postgres bool) int {
	key, older := "cardea.database.max_connections", "database.apim_db.pool_options.maxActive"
	n := v.Int(key, 0)
	if !v.Has(key) && postgres {
		key, n = older, v.Int(older, 50)
	}
	if n < 0 || n > 10_000 || (n == 0 && v.Has(key)) {
		l.fail(l.at(key), "%s: want 1 to 10000", key)
	}
	return n
}

// jdbc reads one database table as a URL of ours; "" means the embedded file.
func (l *loader) jdbc(v Values, table string) (u, where string) {
	typ := strings.ToLower(v.String(table+".type", ""))
	raw := v.String(table+".url", "")
	where = l.where[table+".url"]
	if where == "" {
		where = l.where[table+".type"]
	}
	engine := typ
	if rest, ok := strings.CutPrefix(raw, "jdbc:"); ok {
		engine, _, _ = strings.Cut(rest, ":")
	} else if raw != "" {
		engine, _, _ = strings.Cut(raw, ":")
	}
	switch {
	case slices.Contains(unsupportedEngines, engine):
		l.fail(where, "%s: %s is not supported; use PostgreSQL (jdbc:postgresql://host/name) or the embedded database (remove the section), and move your APIs with the import of their archives", table, engine)
		return "", where
	case engine == "" || engine == "h2":
		return "", where
	case engine == "postgre" || engine == "postgresql" || engine == "postgres":
		pg, err := postgresURL(v, table, raw)
		if err != nil {
			l.fail(where, "%s: %v", table, err)
		}
		return pg, where
	}
	l.fail(where, "%s: unknown database type %q", table, engine)
	return "", where
}

func postgresURL(v Values, table, raw string) (string, error) {
	out := url.URL{Scheme: "postgres"}
	q := url.Values{}
	if raw == "" {
		out.Host = net.JoinHostPort(v.String(table+".hostname", "localhost"), strconv.Itoa(v.Int(table+".port", 5432)))
		out.Path = "/" + v.String(table+".name", "")
	} else {
		in, err := url.Parse(strings.TrimPrefix(raw, "jdbc:"))
		if err != nil {
			return "", fmt.Errorf("the url is malformed")
		}
		out.Host, out.Path, out.User = in.Host, in.Path, in.User
		for opt, vals := range in.Query() {
			switch to, ok := pgOptions[opt]; {
			case ok:
				q.Set(to, vals[0])
			case opt == "ssl":
				if vals[0] == "true" {
					q.Set("sslmode", "verify-full")
				}
			default:
				return "", fmt.Errorf("option %q of the url is not understood", opt)
			}
		}
	}
	if user := v.String(table+".username", ""); user != "" {
		out.User = url.UserPassword(user, v.String(table+".password", ""))
	}
	out.RawQuery = q.Encode()
	return out.String(), nil
}
