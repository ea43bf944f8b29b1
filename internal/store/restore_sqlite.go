package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// sqliteSuccessor is the file, path.restore, that becomes the one at its path.
type sqliteSuccessor string

func (s sqliteSuccessor) file() string { return string(s) + ".restore" }

// sidecars are the files SQLite keeps beside a database in use.
var sidecars = []string{"-wal", "-shm", "-journal"}

func (s sqliteSuccessor) discard(context.Context) error {
	for _, tail := range append([]string{""}, sidecars...) {
		if err := os.Remove(s.file() + tail); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s sqliteSuccessor) open(ctx context.Context, o Options, schema int64) (*DB, error) {
	return open(ctx, "sqlite:"+s.file(), o, schema)
}

// adopt renames the file over its predecessor, which nobody may have open: its
// write-ahead log would be taken for the new one's.
func (s sqliteSuccessor) adopt(ctx context.Context, o Options) (v snapshot.Version, err error) {
	if _, err := os.Stat(s.file()); errors.Is(err, fs.ErrNotExist) {
		return v, ErrNotPrepared
	} else if err != nil {
		return v, err
	}
	past, release, err := s.seize(ctx)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, release()) }()
	if v, err = s.settle(ctx, past, o); err != nil {
		return v, err
	}
	if err := s.own(); err != nil {
		return v, err
	}
	if err := os.Rename(s.file(), string(s)); err != nil {
		return v, err
	}
	return v, syncDir(filepath.Dir(string(s)))
}

// seize takes the present database for itself, with its log written back and
// gone, and reads what lives on of it. One that is missing or damaged has
// nothing to give and is in nobody's use.
func (s sqliteSuccessor) seize(ctx context.Context) (f former, release func() error, err error) {
	none := func() error { return nil }
	if _, err := os.Stat(string(s)); errors.Is(err, fs.ErrNotExist) {
		return f, none, s.removeSidecars()
	} else if err != nil {
		return f, nil, err
	}
	db, conn, err := exclusive(ctx, string(s))
	if err == nil {
		f, err = formerOf(ctx, conn)
	}
	if err == nil {
		err = leaveWAL(ctx, conn)
	}
	release = func() error { return errors.Join(conn.Close(), db.Close()) }
	if err == nil {
		return f, release, nil
	}
	if conn != nil {
		err = errors.Join(err, release())
	}
	const busy, corrupt, notADatabase = 5, 11, 26
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch e.Code() & 0xff {
		case busy:
			return f, nil, fmt.Errorf("%w: %s", ErrInUse, string(s))
		case corrupt, notADatabase:
			return former{}, none, s.removeSidecars()
		}
	}
	return f, nil, fmt.Errorf("read the present database: %w", err)
}

func (s sqliteSuccessor) removeSidecars() error {
	for _, tail := range sidecars {
		if err := os.Remove(string(s) + tail); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// exclusive opens a database so that nobody else has it open.
func exclusive(ctx context.Context, path string) (*sql.DB, *sql.Conn, error) {
	q := url.Values{"_pragma": {"busy_timeout(5000)", "locking_mode(EXCLUSIVE)", "synchronous(FULL)"}}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(1)
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	// With the lock of a writer the locking mode takes hold; it stays after the commit.
	_, err = conn.ExecContext(ctx, "BEGIN EXCLUSIVE")
	if err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	return db, conn, err
}

// leaveWAL writes the log back into the file and ends the use of one.
func leaveWAL(ctx context.Context, conn *sql.Conn) error {
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode=DELETE").Scan(&mode); err != nil {
		return err
	}
	if mode != "delete" {
		return fmt.Errorf("%w: its log could not be closed", ErrInUse)
	}
	return nil
}

// formerOf reads what lives on of a database, which may be empty.
func formerOf(ctx context.Context, conn *sql.Conn) (f former, err error) {
	has := func(table string) (n int, err error) {
		err = conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1", table).Scan(&n)
		return n, err
	}
	n, err := has("meta")
	if err == nil && n > 0 {
		err = conn.QueryRowContext(ctx, "SELECT COALESCE(max(epoch), 0) FROM meta").Scan(&f.epoch)
	}
	if err != nil {
		return f, err
	}
	if n, err = has("shared"); err == nil && n > 0 {
		err = conn.QueryRowContext(ctx, "SELECT count(*) > 0 FROM shared WHERE name = $1", sharedJoined).Scan(&f.joined)
	}
	if err != nil {
		return f, err
	}
	if n, err = has("members"); err != nil || n == 0 {
		return f, err
	}
	rows, err := conn.QueryContext(ctx, "SELECT id, node, roles, joined, withdrawn FROM members")
	if err != nil {
		return f, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, node, roles string
		var joined, withdrawn int64
		if err := rows.Scan(&id, &node, &roles, &joined, &withdrawn); err != nil {
			return f, err
		}
		f.members = append(f.members, []any{id, node, roles, joined, withdrawn})
	}
	return f, rows.Err()
}

// settle gives the successor its epoch and makes it one file, safe on the disk.
func (s sqliteSuccessor) settle(ctx context.Context, past former, o Options) (v snapshot.Version, err error) {
	db, conn, err := exclusive(ctx, s.file())
	if err != nil {
		if conn != nil {
			err = errors.Join(err, conn.Close(), db.Close())
		}
		return v, err
	}
	defer func() { err = errors.Join(err, conn.Close(), db.Close()) }()
	var epoch, seq int64
	if err := conn.QueryRowContext(ctx, "SELECT epoch, seq FROM meta WHERE id = 1").Scan(&epoch, &seq); err != nil {
		return v, err
	}
	epoch = nextEpoch(epoch, past.epoch, o.Now().Unix())
	if _, err := conn.ExecContext(ctx, "UPDATE meta SET epoch = $1 WHERE id = 1", epoch); err != nil {
		return v, err
	}
	if past.joined {
		if _, err := conn.ExecContext(ctx, "INSERT INTO shared (name, value) VALUES ($1, 'yes') ON CONFLICT (name) DO NOTHING", sharedJoined); err != nil {
			return v, err
		}
	}
	for _, m := range past.members {
		if _, err := conn.ExecContext(ctx, `INSERT INTO members (id, node, roles, joined, withdrawn) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (id) DO UPDATE SET withdrawn = max(members.withdrawn, excluded.withdrawn)`, m...); err != nil {
			return v, err
		}
	}
	if err := leaveWAL(ctx, conn); err != nil {
		return v, err
	}
	f, err := os.Open(s.file())
	if err != nil {
		return v, err
	}
	return snapshot.Version{Epoch: uint64(epoch), Seq: uint64(seq)}, errors.Join(f.Sync(), f.Close())
}

// own gives the file to whom its predecessor, or the folder, belongs, when root
// restores for a server that is not.
func (s sqliteSuccessor) own() error {
	st, err := os.Stat(string(s))
	if errors.Is(err, fs.ErrNotExist) {
		st, err = os.Stat(filepath.Dir(string(s)))
	}
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		return os.Chown(s.file(), int(sys.Uid), int(sys.Gid))
	}
	return nil
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(at.Sync(), at.Close())
}
