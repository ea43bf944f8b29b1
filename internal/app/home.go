package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// home is the directory a node owns. Holding it means holding its lock, so
// that two processes never write the same files.
type home struct {
	dir   string
	lock  *os.File
	fresh bool // nothing was there before
}

// openHome creates the directory when it is missing and takes its lock.
func openHome(dir string) (*home, error) {
	h := &home{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create home: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open home: %w", err)
	}
	if err := takeLock(f); err != nil {
		owner, _ := os.ReadFile(f.Name()) // only to name the owner
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &errHeld{dir, strings.TrimSpace(string(owner))}
		}
		return nil, fmt.Errorf("lock home: %w", err)
	}
	if err := f.Truncate(0); err != nil {
		return nil, fmt.Errorf("lock home: %w", err)
	}
	if _, err := fmt.Fprintf(f, "pid %d\n", os.Getpid()); err != nil {
		return nil, fmt.Errorf("lock home: %w", err)
	}
	h.lock = f
	_, err = os.Stat(h.path("node-id"))
	h.fresh = errors.Is(err, fs.ErrNotExist)
	return h, nil
}

// takeLock locks the file for this process alone. It asks more than once: a
// command may look for a moment whether the home is held.
func takeLock(f *os.File) (err error) {
	for range 3 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// errHeld tells that another process serves from a home.
type errHeld struct{ dir, owner string }

func (e *errHeld) Error() string {
	return fmt.Sprintf("home %s is in use by another process (%s); give this one its own --home", e.dir, e.owner)
}

// homeHeld reports whether some process holds the home.
func homeHeld(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close() // and with it a lock
	return errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
}

// path is a file below home.
func (h *home) path(elem ...string) string {
	return filepath.Join(append([]string{h.dir}, elem...)...)
}

// Close gives the lock back.
func (h *home) Close() error { return h.lock.Close() }

// node is the stable name of this node: the configured one, or the one of the
// first start.
func (h *home) node(configured string) (string, error) {
	file := h.path("node-id")
	stored, err := os.ReadFile(file)
	switch {
	case err == nil && configured == "":
		return strings.TrimSpace(string(stored)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read node name: %w", err)
	}
	name := configured
	if name == "" {
		if name, err = newNodeName(); err != nil {
			return "", err
		}
	}
	if err := writeFile(file, []byte(name+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write node name: %w", err)
	}
	return name, nil
}

// writeFile replaces a file as a whole: after a crash it is the old or the new one.
func writeFile(name string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
