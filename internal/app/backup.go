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
	"time"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/seal"
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
