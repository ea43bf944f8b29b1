// Package analytics keeps what gateways report: counters as roll-ups by minute,
// hour and day, raw calls for a while, and the details behind refusals. It has an
// SQLite file and a writer of its own, bounded by age and size, and answers
// questions about traffic, errors and latency, one tenant at a time. Counters are
// exact: a batch that arrives twice, or out of order, counts once.
package analytics

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/usage"
)

//go:embed schema.sql
var schema string

//go:embed trend.sql
var trendSchema string

// migrations bring a file from the version of their index to the next one.
var migrations = []string{schema, trendSchema}

// queryConns are the connections that questions are answered on.
const queryConns = 4

// Options of Open. Zero values mean the defaults in brackets.
type Options struct {
	Log         *slog.Logger     // [slog.Default]
	Now         func() time.Time // [time.Now]
	DecisionKey []byte           // with which gateways seal decision ids; needed by Explain

	KeepCalls     time.Duration // raw calls [7 days]
	MaxCalls      int           // raw calls held at once [2,000,000]
	KeepDecisions time.Duration // details of refusals [30 days]
	MaxDecisions  int           // [500,000]
	KeepMinutes   time.Duration // roll-ups by minute [2 days]
	KeepHours     time.Duration // by hour [60 days]
	KeepDays      time.Duration // by day [2 years]
	MaxBytes      int64         // of the file; raw calls go first [4 GiB]
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	const day = 24 * time.Hour
	for p, v := range map[*time.Duration]time.Duration{
		&o.KeepCalls: 7 * day, &o.KeepDecisions: 30 * day, &o.KeepMinutes: 2 * day, &o.KeepHours: 60 * day, &o.KeepDays: 731 * day,
	} {
		if *p <= 0 {
			*p = v
		}
	}
	if o.MaxCalls <= 0 {
		o.MaxCalls = 2_000_000
	}
	if o.MaxDecisions <= 0 {
		o.MaxDecisions = 500_000
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 4 << 30
	}
}

// DB is the analytics store. All methods may be called concurrently.
type DB struct {
	o      Options
	write  *sql.DB // one connection, used by the writer goroutine only
	read   *sql.DB
	jobs   chan *job
	quit   chan struct{}
	done   chan struct{}
	closer sync.Once

	dims map[usage.CounterKey]int64 // the writer's; Minute is 0

	batches, repeated, foreign, dropped atomic.Uint64
	bytes                               atomic.Int64
	failed                              atomic.Pointer[error]
}

// Stats says what a DB did since it was opened.
type Stats struct {
	Batches  uint64 // stored
	Repeated uint64 // known already, ignored
	Refused  uint64 // sent by another gateway than their own
	Dropped  uint64 // raw calls that gateways dropped before sending
	Bytes    int64  // in use in the file
}

// Open opens or makes the file dir/analytics.db and starts its writer.
func Open(dir string, o Options) (*DB, error) {
	o.defaults()
	if err := register(); err != nil {
		return nil, fmt.Errorf("open analytics: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open analytics: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(dir, "analytics.db"))
	if err != nil {
		return nil, fmt.Errorf("open analytics: %w", err)
	}
	// Who called what is for the owner of the home only.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = errors.Join(f.Chmod(0o600), f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("open analytics: %w", err)
	}
	d := &DB{
		o: o, jobs: make(chan *job, 64), quit: make(chan struct{}), done: make(chan struct{}),
		dims: map[usage.CounterKey]int64{},
	}
	// auto_vacuum comes first: it only takes effect on an empty file.
	if d.write, err = connect(path, 1, "auto_vacuum(INCREMENTAL)", "journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)", "cache_size(-16000)", "temp_store(MEMORY)"); err != nil {
		return nil, err
	}
	if err := d.migrate(); err != nil {
		return nil, errors.Join(fmt.Errorf("open analytics %s: %w", path, err), d.write.Close())
	}
	if d.read, err = connect(path, queryConns, "query_only(1)", "busy_timeout(10000)", "cache_size(-8000)", "mmap_size(268435456)"); err != nil {
		return nil, errors.Join(err, d.write.Close())
	}
	go d.run()
	return d, nil
}

func connect(path string, conns int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open analytics: %w", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func (d *DB) migrate() error {
	var v int
	if err := d.write.QueryRow("PRAGMA user_version").Scan(&v); err != nil {
		return err
	}
	newest := len(migrations)
	switch {
	case v == newest:
		return nil
	case v < 0 || v > newest:
		return fmt.Errorf("the file has schema %d, this version knows %d: it was written by a newer version", v, newest)
	case v > 0:
		d.o.Log.Info("analytics is brought to a newer schema, which takes seconds per million rows", "from", v, "to", newest)
	}
	tx, err := d.write.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, m := range migrations[v:] {
		if _, err := tx.Exec(m); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(fmt.Sprintf("PRAGMA user_version = %d", newest)); err != nil {
		return err
	}
	return tx.Commit()
}

// Close ends the writer after what it has accepted and closes the file.
func (d *DB) Close() error {
	var err error
	d.closer.Do(func() {
		close(d.quit)
		<-d.done
		err = errors.Join(d.read.Close(), d.write.Close())
	})
	return err
}

// Stats says what was done so far.
func (d *DB) Stats() Stats {
	return Stats{Batches: d.batches.Load(), Repeated: d.repeated.Load(), Refused: d.foreign.Load(), Dropped: d.dropped.Load(), Bytes: d.bytes.Load()}
}

// Health is the latest failure to write, nil when the latest write succeeded.
func (d *DB) Health() error {
	if p := d.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Ping checks that the file can be read.
func (d *DB) Ping(ctx context.Context) error { return d.read.PingContext(ctx) }
