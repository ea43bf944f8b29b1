package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/config"
)

// restoreServed hands a backup to the process that serves from the home, and
// waits until it serves the restored state. The backup is proven whole first.
func restoreServed(ctx context.Context, cfg *config.Config, r io.Reader, o RestoreOptions) (_ Restored, err error) {
	d := restoreIn(cfg.Home)
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	if err := d.own(string(d)); err != nil {
		return Restored{}, fmt.Errorf("restore: %w", err)
	}
	s, err := d.offer(cfg, r, o.Version)
	if err != nil {
		return Restored{}, err
	}
	if o.Served != nil {
		o.Served()
	}
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Minute
	}
	return d.await(ctx, cfg.Home, s.ID, o.Timeout)
}

// offer puts a proven backup and then the state into the folder. One restore at
// a time: two would only undo each other.
func (d restoreDir) offer(cfg *config.Config, r io.Reader, version string) (_ *restoreState, err error) {
	lock, err := os.Open(string(d))
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.New("restore: another restore into this home is under way")
	}
	if old, err := d.read(); err == nil && old != nil && old.open() {
		return nil, fmt.Errorf("restore: the restore asked for at %s is still under way; remove %s to withdraw one that the server does not take up",
			old.Asked.Local().Format(time.DateTime), d.file())
	} else if err != nil && !errors.Is(err, errNoState) {
		return nil, fmt.Errorf("restore: %w", err)
	}
	man, err := d.spool(cfg, r, version)
	if err != nil {
		return nil, err
	}
	s := &restoreState{ID: strings.ToLower(rand.Text()), Phase: restoreOffered, Asked: time.Now().UTC(), Made: man.Made}
	if err := d.write(s); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return s, nil
}

// spool copies a backup into the folder and reads the copy to its end.
func (d restoreDir) spool(cfg *config.Config, r io.Reader, version string) (man manifest, err error) {
	left, err := filepath.Glob(filepath.Join(string(d), ".spool-*"))
	if err != nil {
		return man, fmt.Errorf("restore: %w", err)
	}
	for _, name := range left { // by a command that was killed
		if err := os.Remove(name); err != nil {
			return man, fmt.Errorf("restore: %w", err)
		}
	}
	f, err := os.CreateTemp(string(d), ".spool-*")
	if err != nil {
		return man, fmt.Errorf("restore: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, r)
	if err = errors.Join(err, f.Sync()); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return man, errors.Join(fmt.Errorf("restore: copy backup into %s: %w", filepath.Clean(string(d)), err), f.Close())
	}
	man, err = checkArchive(cfg.Home, f, version)
	if err == nil {
		err = sameKey(cfg, man) // a key that only the server was given is compared there
	}
	if err = errors.Join(err, d.own(f.Name()), f.Close()); err != nil {
		return man, err
	}
	if err := os.Rename(f.Name(), d.backup()); err != nil {
		return man, fmt.Errorf("restore: %w", err)
	}
	return man, nil
}

// await watches the state until the server has come to an end with it.
func (d restoreDir) await(ctx context.Context, home, id string, limit time.Duration) (Restored, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	lastLook := time.Now()
	for {
		s, err := d.read()
		if err != nil {
			return Restored{}, fmt.Errorf("restore: %w", err)
		}
		if s == nil || s.ID != id {
			return Restored{}, errors.New("restore: it was withdrawn, or replaced by another one")
		}
		switch s.Phase {
		case restoreServing:
			return Restored{Made: s.Made, Version: s.Version, Served: true, Pause: s.Pause}, nil
		case restoreFailed:
			return Restored{}, fmt.Errorf("not restored, the server goes on with what it had: %s", s.Error)
		}
		if time.Since(lastLook) > time.Second {
			if lastLook = time.Now(); !homeHeld(home) {
				if s.open() {
					return Restored{}, errors.New("the server has ended meanwhile: the backup is restored at its next start")
				}
				return Restored{}, errors.New("restored, but the server has ended meanwhile: see its log")
			}
		}
		if sleep(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return Restored{}, fmt.Errorf("not waiting any longer; the server goes on with the restore, which is %s: see its log", s.Phase)
		}
	}
}
