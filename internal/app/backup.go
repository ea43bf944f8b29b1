package app

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/store"
)

// A backup is a gzipped tar: manifest.json, the small files of the home that
// nothing else can replace, and the database last.
const (
	backupFormat   = 1
	manifestName   = "manifest.json"
	databaseName   = "database"
	maxBackupFile  = 1 << 20
	maxBackupFiles = 100
)

type manifest struct {
	Format  int       `json:"format"`
	Made    time.Time `json:"made"`
	Key     string    `json:"key"` // fingerprint of the master key
	Version string    `json:"version,omitempty"`
}

// homeFiles are kept in a backup, relative to the home.
func homeFiles(home string) ([]string, error) {
	rel := func(p string) (string, error) { return filepath.Rel(home, p) }
	key, err := rel(seal.KeyFile(home))
	if err != nil {
		return nil, err
	}
	files := []string{"node-id", key}
	dir, err := rel(pki.Dir(home))
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"ca.pem", "ca.key", "server.pem", "server.key"} {
		files = append(files, filepath.Join(dir, name))
	}
	return files, nil
}

// Backup writes everything a node owns but its analytics, while it may be serving.
func Backup(ctx context.Context, cfg *config.Config, w io.Writer) (err error) {
	box, err := openBox(cfg)
	if err != nil {
		return err
	}
	db, err := openBeside(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	spool, err := os.CreateTemp("", "cardea-backup-*")
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	buffered := bufio.NewWriterSize(spool, 1<<20)
	if err := db.Backup(ctx, buffered); err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	if err := buffered.Flush(); err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	size, err := spool.Seek(0, io.SeekCurrent)
	if err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	zip := gzip.NewWriter(w)
	t := tar.NewWriter(zip)
	man, err := json.Marshal(manifest{Format: backupFormat, Made: time.Now().UTC(), Key: box.ID()})
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	if err := addFile(t, manifestName, int64(len(man)), bytes.NewReader(man)); err != nil {
		return err
	}
	files, err := homeFiles(cfg.Home)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(cfg.Home, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // for example a master key given by the configuration
		}
		if err != nil {
			return fmt.Errorf("back up: %w", err)
		}
		if err := addFile(t, "home/"+filepath.ToSlash(name), int64(len(b)), bytes.NewReader(b)); err != nil {
			return err
		}
	}
	if err := addFile(t, databaseName, size, spool); err != nil {
		return err
	}
	if err := errors.Join(t.Close(), zip.Close()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

func addFile(t *tar.Writer, name string, size int64, r io.Reader) error {
	err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: time.Now(), Format: tar.FormatPAX})
	if err == nil {
		_, err = io.Copy(t, r)
	}
	if err != nil {
		return fmt.Errorf("write backup: %s: %w", name, err)
	}
	return nil
}

// Restore replaces the database of a home by the one of a backup. On a home
// without a master key the keys come from the backup; otherwise they must be
// the same, or what was sealed could not be read. The home must not be serving.
func Restore(ctx context.Context, cfg *config.Config, r io.Reader) (err error) {
	held, err := openHome(cfg.Home)
	if err != nil {
		return fmt.Errorf("restore: stop the server first: %w", err)
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	zip, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("read backup: it is not a backup: %w", err)
	}
	t := tar.NewReader(zip)
	man, err := readManifest(t)
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	allowed, err := homeFiles(cfg.Home)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for {
		h, err := t.Next()
		if err != nil {
			return fmt.Errorf("read backup: no database in it: %w", err)
		}
		if h.Name == databaseName {
			break
		}
		name, err := filepath.Rel("home", filepath.FromSlash(h.Name))
		if err != nil || !slices.Contains(allowed, name) || h.Size > maxBackupFile || len(files) > maxBackupFiles {
			return fmt.Errorf("read backup: unexpected file %q", h.Name)
		}
		if files[name], err = io.ReadAll(t); err != nil {
			return fmt.Errorf("read backup: %w", err)
		}
	}
	if err := restoreFiles(cfg, man, files); err != nil {
		return err
	}
	if err := store.Restore(ctx, cfg.Database.URL.Reveal(), t, store.Force()); err != nil {
		return fmt.Errorf("restore database: %w", err)
	}
	// Whatever follows the database is not ours to judge, but a cut file is.
	if _, err := io.Copy(io.Discard, t); err != nil {
		return fmt.Errorf("read backup: %w", err)
	}
	return nil
}

func readManifest(t *tar.Reader) (manifest, error) {
	var m manifest
	h, err := t.Next()
	if err != nil || h.Name != manifestName {
		return m, fmt.Errorf("read backup: it has no manifest: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(t, maxBackupFile)).Decode(&m); err != nil {
		return m, fmt.Errorf("read backup: manifest: %w", err)
	}
	if m.Format != backupFormat {
		return m, fmt.Errorf("read backup: its format is %d, this binary reads %d; use a newer one", m.Format, backupFormat)
	}
	return m, nil
}

// restoreFiles puts the keys in place where there are none.
func restoreFiles(cfg *config.Config, man manifest, files map[string][]byte) error {
	_, statErr := os.Stat(seal.KeyFile(cfg.Home))
	if statErr == nil || cfg.MasterKey != "" {
		box, err := openBox(cfg)
		if err != nil {
			return err
		}
		if box.ID() != man.Key {
			return fmt.Errorf("restore: this home has another master key (%s) than the backup (%s); restore into an empty home", box.ID(), man.Key)
		}
	}
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
