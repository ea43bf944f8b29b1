// Package store is all SQL of the product: the nouns of package apim on SQLite
// or PostgreSQL, chosen by URL and alike in behaviour, which package storetest
// proves. Every write records, in its own transaction, a version of the
// document, a redacted audit row and a change row; the change rows are the
// change log from which the relay makes snapshots. Stores know no permissions
// and no lifecycle.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
)

// Options adjusts a store. The zero value is usable.
type Options struct {
	Log        *slog.Logger     // nil: discarded
	Version    string           // the binary's own version, named when a home is newer than it
	Readers    int              // connections that read on SQLite, of both kinds on PostgreSQL; 0: 4 and 16
	Wait       time.Duration    // longest wait for a turn to write; 0: 20 s
	Keep       time.Duration    // version rows older than this go, but for the newest KeepMin of a noun; 0: 180 days
	KeepMin    int              // 0: 20
	KeepAudits time.Duration    // audit rows older than this go; 0: 366 days
	Sweep      time.Duration    // period of the background sweep; 0: an hour; negative: none
	Now        func() time.Time // nil: time.Now

	schema string // of PostgreSQL, quoted, to keep the tables in; empty: as the URL says
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	if o.Wait == 0 {
		o.Wait = 20 * time.Second
	}
	if o.Keep == 0 {
		o.Keep = 180 * 24 * time.Hour
	}
	if o.KeepMin == 0 {
		o.KeepMin = 20
	}
	if o.KeepAudits == 0 {
		o.KeepAudits = 366 * 24 * time.Hour
	}
	if o.Sweep == 0 {
		o.Sweep = time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// DB is an open store. It is safe for concurrent use.
type DB struct {
	Tenants       *Table[apim.Tenant, apim.TenantID]
	TenantConfs   *Table[apim.TenantConf, apim.TenantID]
	Users         *Table[apim.User, apim.UserID]
	Roles         *Table[apim.Role, apim.RoleID]
	Clients       *Table[apim.Client, apim.ClientID]
	SigningKeys   *Table[apim.SigningKey, apim.KeyID]
	APIs          *Table[apim.API, apim.APIID]
	Revisions     *Table[apim.Revision, apim.RevisionID]
	Deployments   *Table[apim.Deployment, apim.DeploymentID]
	SharedScopes  *Table[apim.SharedScope, string]
	Applications  *Table[apim.Application, apim.AppID]
	KeyMappings   *Table[apim.KeyMapping, apim.KeyMappingID]
	Subscriptions *Table[apim.Subscription, apim.SubscriptionID]
	APIKeys       *Table[apim.APIKey, string]
	Policies      *Table[apim.ThrottlePolicy, string]
	Environments  *Table[apim.Environment, string]
	KeyManagers   *Table[apim.KeyManager, string]
	Blobs         *Blobs
	Tokens        *Tokens
	Ephemera      *Ephemera
	Log           *ChangeLog

	opt   Options
	dial  *dialect
	pool  *sql.DB // reads outside a transaction
	read  *stmts
	eng   engine
	wake  wakers
	stats counters

	cancel context.CancelFunc
	bg     sync.WaitGroup
	once   sync.Once
}

// engine is how a dialect runs a transaction that writes.
type engine interface {
	// run calls fn in a transaction and returns nil once it is durable. With
	// strict, reads of fn hold until the commit; fn may be called again.
	run(ctx context.Context, strict bool, fn func(context.Context, *tx) error) error
	healthy() error
	close() error
}

// Open opens the store of a URL, "sqlite:/path/file.db" or "postgres://...",
// and migrates it to this binary's schema. A store with a newer schema is
// refused. The context's values are kept for background work, its end is not.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	return open(ctx, url, o.withDefaults(), latestSchema)
}

func open(ctx context.Context, url string, o Options, schema int64) (*DB, error) {
	d := &DB{opt: o}
	bg, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.cancel = cancel
	var err error
	switch {
	case strings.HasPrefix(url, "sqlite:"):
		err = d.openSQLite(ctx, strings.TrimPrefix(url, "sqlite:"), schema)
	case strings.HasPrefix(url, "postgres://"), strings.HasPrefix(url, "postgresql://"):
		err = d.openPostgres(ctx, bg, url, schema)
	default:
		err = errors.New(`open store: the URL must start with "sqlite:" or "postgres://"`)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	d.nouns()
	d.Blobs, d.Tokens, d.Ephemera, d.Log = &Blobs{d}, &Tokens{d}, &Ephemera{d}, &ChangeLog{d}
	if schema == latestSchema {
		if err := d.begin(ctx); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	if o.Sweep > 0 {
		d.bg.Go(func() { d.sweeper(bg) })
	}
	return d, nil
}

// begin gives a new store its epoch and notes who writes it.
func (d *DB) begin(ctx context.Context) error {
	err := d.write(ctx, func(ctx context.Context, t *tx) error {
		_, err := t.exec(ctx, `INSERT INTO meta (id, epoch, seq, floor, written_by) VALUES (1, $1, 0, 0, $2)
			ON CONFLICT (id) DO UPDATE SET written_by = excluded.written_by`, d.opt.Now().Unix(), d.opt.Version)
		return err
	})
	if err != nil {
		return fmt.Errorf("start store: %w", err)
	}
	return nil
}

// Close waits for writes under way, then closes. It is safe to call twice.
func (d *DB) Close() error {
	var err error
	d.once.Do(func() {
		d.cancel()
		d.bg.Wait()
		err = errors.Join(d.eng.close(), d.read.close(), d.pool.Close())
	})
	return err
}

// Healthy is nil while the store can acknowledge writes. After a failed sync
// it stays an error until the process starts again: what is on the disk is
// then read back instead of being believed.
func (d *DB) Healthy() error { return d.eng.healthy() }

// Engine is "sqlite" or "postgres".
func (d *DB) Engine() string { return d.dial.name }

// Stats says what the store has done since it was opened.
type Stats struct {
	Engine       string
	Writes       int64 // logical transactions acknowledged
	Commits      int64 // commits that held them; fewer with group commit
	LargestGroup int64
	Failed       int64 // logical transactions refused or rolled back
	Retried      int64 // runs repeated after a conflict
	Waiting      int64 // writers waiting for their turn now
	ReadersBusy  int
	Bytes        int64 // of the database and its log; 0 where another server holds them
}

type counters struct{ writes, commits, largest, failed, retried, waiting atomic.Int64 }

// Stats reads the counters.
func (d *DB) Stats() Stats {
	s := Stats{
		Engine: d.dial.name, Writes: d.stats.writes.Load(), Commits: d.stats.commits.Load(),
		LargestGroup: d.stats.largest.Load(), Failed: d.stats.failed.Load(), Retried: d.stats.retried.Load(),
		Waiting: d.stats.waiting.Load(), ReadersBusy: d.pool.Stats().InUse,
	}
	if w, ok := d.eng.(*writer); ok {
		s.Bytes = w.bytes()
	}
	return s
}

func (d *DB) now() time.Time { return d.opt.Now().UTC().Truncate(time.Microsecond) }

// micros is how times are stored: Unix microseconds, 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
