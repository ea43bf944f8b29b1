package app

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/store"
)

// RestoreOptions of Restore.
type RestoreOptions struct {
	Version string        // of this binary
	Timeout time.Duration // how long to wait for a serving process; 0: five minutes
	Served  func()        // called once the backup is handed to a serving process; may be nil
}

// Restored tells what a restore led to.
type Restored struct {
	Made    time.Time     // when the backup was made
	Version string        // of the change log, epoch.seq
	Served  bool          // a process was serving from the home, and serves again
	Pause   time.Duration // for which that process was not ready
}

// Restore replaces the database of a home by the one of a backup. On a home
// without a master key the keys come from the backup; otherwise they must be
// the same, or what was sealed could not be read. A process that serves from
// the home takes the backup over by itself: it makes the new database beside
// the old one, drains, and starts again in place.
func Restore(ctx context.Context, cfg *config.Config, r io.Reader, o RestoreOptions) (_ Restored, err error) {
	h, err := openHome(cfg.Home)
	if _, served := errors.AsType[*errHeld](err); served {
		return restoreServed(ctx, cfg, r, o)
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return restoreStopped(ctx, cfg, r, o)
}

// restoreStopped works on a home that nobody serves from.
func restoreStopped(ctx context.Context, cfg *config.Config, r io.Reader, o RestoreOptions) (_ Restored, err error) {
	dir, err := holdOff(ctx, cfg.Home, unix.LOCK_EX)
	if err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	opts := store.With(store.Options{Version: o.Version})
	a, err := prepareRestore(ctx, cfg, r, opts)
	if err != nil {
		return Restored{}, err
	}
	url := cfg.Database.URL.Reveal()
	var v snapshot.Version
	if err = restoreFiles(cfg, a.files); err == nil {
		v, err = store.Adopt(ctx, url, opts)
	}
	if err != nil {
		return Restored{}, errors.Join(err, store.Discard(context.WithoutCancel(ctx), url))
	}
	// One that was handed to a process which ended before it came to it is overtaken.
	if err := os.RemoveAll(string(restoreIn(cfg.Home))); err != nil {
		return Restored{}, fmt.Errorf("restored, but an earlier restore could not be withdrawn: %w", err)
	}
	return Restored{Made: a.man.Made, Version: v.String()}, nil
}

// archive is a backup being read, up to its database.
type archive struct {
	man   manifest
	files map[string][]byte // relative to the home
	zip   *gzip.Reader
	tar   *tar.Reader
}

// Read reads the database.
func (a *archive) Read(p []byte) (int, error) { return a.tar.Read(p) }

// end proves, after the database, that the backup is whole.
func (a *archive) end() error {
	_, err := io.Copy(io.Discard, a.tar)
	if err == nil {
		var h *tar.Header
		if h, err = a.tar.Next(); err == nil {
			return fmt.Errorf("read backup: unexpected file %q", h.Name)
		}
	}
	if errors.Is(err, io.EOF) {
		_, err = io.Copy(io.Discard, a.zip) // its checksum
	}
	if err != nil {
		return fmt.Errorf("read backup: it is damaged or cut off: %w", err)
	}
	return nil
}

// openArchive reads a backup up to its database.
func openArchive(home string, r io.Reader) (*archive, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("read backup: it is not a backup: %w", err)
	}
	a := &archive{files: map[string][]byte{}, zip: zip, tar: tar.NewReader(zip)}
	if a.man, err = readManifest(a.tar); err != nil {
		return nil, err
	}
	allowed, err := homeFiles(home)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	for {
		h, err := a.tar.Next()
		if err != nil {
			return nil, fmt.Errorf("read backup: no database in it: %w", err)
		}
		if h.Name == databaseName {
			return a, nil
		}
		name, err := filepath.Rel("home", filepath.FromSlash(h.Name))
		if err != nil || !slices.Contains(allowed, name) || h.Size > maxBackupFile || len(a.files) > maxBackupFiles {
			return nil, fmt.Errorf("read backup: unexpected file %q", h.Name)
		}
		if a.files[name], err = io.ReadAll(a.tar); err != nil {
			return nil, fmt.Errorf("read backup: %w", err)
		}
	}
}

func readManifest(t *tar.Reader) (manifest, error) {
	var m manifest
	h, err := t.Next()
	if err != nil {
		return m, fmt.Errorf("read backup: it has no manifest: %w", err)
	}
	if h.Name != manifestName {
		return m, fmt.Errorf("read backup: it begins with %q, not with a manifest", h.Name)
	}
	if err := json.NewDecoder(io.LimitReader(t, maxBackupFile)).Decode(&m); err != nil {
		return m, fmt.Errorf("read backup: manifest: %w", err)
	}
	if m.Format != backupFormat {
		return m, fmt.Errorf("read backup: its format is %d, this binary reads %d; use a newer one", m.Format, backupFormat)
	}
	return m, nil
}

// checkArchive reads a backup to its end without using it.
func checkArchive(home string, r io.Reader, version string) (manifest, error) {
	a, err := openArchive(home, r)
	if err != nil {
		return manifest{}, err
	}
	if err := store.Check(a, version); err != nil {
		return manifest{}, fmt.Errorf("read backup: %w", err)
	}
	return a.man, a.end()
}

// prepareRestore makes the database of a backup beside the one of the home. An
// error leaves nothing behind.
func prepareRestore(ctx context.Context, cfg *config.Config, r io.Reader, opts store.RestoreOption) (*archive, error) {
	a, err := openArchive(cfg.Home, r)
	if err != nil {
		return nil, err
	}
	if err := sameKey(cfg, a.man); err != nil {
		return nil, err
	}
	url := cfg.Database.URL.Reveal()
	if err := store.Prepare(ctx, url, a, opts); err != nil {
		return nil, err
	}
	if err := a.end(); err != nil {
		return nil, errors.Join(err, store.Discard(context.WithoutCancel(ctx), url))
	}
	return a, nil
}

// hasKey reports whether there is a master key of the home to compare with.
func hasKey(cfg *config.Config) bool {
	_, err := os.Stat(seal.KeyFile(cfg.Home))
	return err == nil || cfg.MasterKey != ""
}

// sameKey refuses a backup whose secrets the home could not read.
func sameKey(cfg *config.Config, man manifest) error {
	if !hasKey(cfg) {
		return nil
	}
	box, err := openBox(cfg)
	if err != nil {
		return err
	}
	if box.ID() != man.Key {
		return fmt.Errorf("restore: this home has another master key (%s) than the backup (%s); restore into an empty home", box.ID(), man.Key)
	}
	return nil
}

// restoreFiles puts the keys in place where there are none.
func restoreFiles(cfg *config.Config, files map[string][]byte) error {
	for name, b := range files {
		target := filepath.Join(cfg.Home, name)
		if _, err := os.Stat(target); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if err := writeFile(target, b, 0o600); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
	}
	return nil
}
