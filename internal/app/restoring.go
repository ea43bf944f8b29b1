package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/store"
)

// errAgain ends Run when the process is to start again in place.
var errAgain = errors.New("start again")

// Serve runs a process until ctx ends or a part fails, and starts it again in
// place, without giving the home away, each time a restore asks for it.
func Serve(ctx context.Context, cfg *config.Config, o Options) (err error) {
	h, err := openHome(cfg.Home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	var left time.Time
	for {
		a, err := newOn(ctx, cfg, o, h)
		if err != nil {
			return err
		}
		a.left = left
		err = a.Run(ctx)
		if !errors.Is(err, errAgain) {
			return err
		}
		if many, ok := err.(interface{ Unwrap() []error }); ok && len(many.Unwrap()) > 1 {
			a.log.Warn("starting again, but not everything was given back", "err", err)
		}
		if ctx.Err() != nil {
			return nil // the next start applies it
		}
		left, h.fresh = a.left, false
	}
}

const (
	// restoreLook is how often the folder is looked at: no signal, no port and
	// no credential is needed to ask for a restore, only the right to write into
	// the home.
	restoreLook = 250 * time.Millisecond
	// restoreAttempts is how many starts may begin to apply a restore: one that
	// kills its process each time must not do so for ever.
	restoreAttempts = 3
)

// applyRestore puts the database of a restore that was asked for in its place,
// before the database is opened. One that fails leaves the old database, and
// the process starts on it.
func (a *App) applyRestore(ctx context.Context) error {
	d := restoreIn(a.home.dir)
	s, err := d.read()
	if errors.Is(err, errNoState) {
		a.log.ErrorContext(ctx, "restore set aside", "file", d.file(), "err", err)
		return os.Rename(d.file(), d.file()+".bad")
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if s == nil || !s.open() {
		return nil
	}
	began := time.Now()
	v, err := a.adoptRestore(ctx, d, s)
	if ctx.Err() != nil {
		return ctx.Err() // it was told to stop: again at the next start
	}
	if err != nil {
		a.failRestore(ctx, d, s, err)
		return nil
	}
	a.log.InfoContext(ctx, "restored", "made", s.Made, "version", v.String(), "after", time.Since(began).Round(time.Millisecond))
	s.Phase, s.Version = restoreApplied, v.String()
	return d.finish(s)
}

func (a *App) adoptRestore(ctx context.Context, d restoreDir, s *restoreState) (v snapshot.Version, err error) {
	if err := a.mayRestore(); err != nil {
		return v, err
	}
	if s.Attempts >= restoreAttempts {
		return v, fmt.Errorf("given up after %d starts that did not come to its end", s.Attempts)
	}
	s.Attempts++
	if err := d.write(s); err != nil {
		return v, err
	}
	dir, err := holdOff(ctx, a.home.dir, unix.LOCK_EX)
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	url, opts := a.cfg.Database.URL.Reveal(), store.With(storeOptions(a))
	if s.Phase == restorePrepared {
		if v, err = store.Adopt(ctx, url, opts); !errors.Is(err, store.ErrNotPrepared) {
			return v, err
		}
	}
	// Whatever lies there may be of another one, or of this one cut off.
	if err := a.prepareSpooled(ctx, d); err != nil {
		return v, err
	}
	return store.Adopt(ctx, url, opts)
}

// mayRestore refuses where there is no database to replace.
func (a *App) mayRestore() error {
	if !a.cfg.Has(config.Control) && !a.cfg.Has(config.Identity) {
		return errors.New("this node has no database: restore on a node with the control role, and this one follows")
	}
	return nil
}

func (a *App) prepareSpooled(ctx context.Context, d restoreDir) (err error) {
	f, err := os.Open(d.backup())
	if err != nil {
		return fmt.Errorf("read backup: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = prepareRestore(ctx, a.cfg, f, store.With(storeOptions(a)))
	return err
}

// failRestore says why, for the log and for who waits, and clears up.
func (a *App) failRestore(ctx context.Context, d restoreDir, s *restoreState, cause error) {
	a.log.ErrorContext(ctx, "not restored, going on with the database as it was", "err", cause)
	a.refused = s.ID // should the disk not take the state, at least no loop
	s.Phase, s.Error = restoreFailed, cause.Error()
	err := d.finish(s)
	if err != nil { // without the backup a later start cannot apply it either
		err = errors.Join(err, os.Remove(d.backup()))
	}
	if a.mayRestore() == nil {
		err = errors.Join(err, store.Discard(context.WithoutCancel(ctx), a.cfg.Database.URL.Reveal()))
	}
	if err != nil {
		a.log.ErrorContext(ctx, "restore not cleared up", "err", err)
	}
}

// wireRestore looks for a backup to restore while the process serves.
func (a *App) wireRestore(context.Context) error {
	a.background(func(ctx context.Context) error {
		a.watchRestore(ctx)
		return nil
	})
	return nil
}

func (a *App) watchRestore(ctx context.Context) {
	d := restoreIn(a.home.dir)
	var seen time.Time
	for pause := restoreLook; ctx.Err() == nil; sleep(ctx, pause) {
		st, err := os.Stat(d.file())
		if err != nil || st.ModTime().Equal(seen) {
			pause = restoreLook
			continue
		}
		s, err := d.read()
		if err != nil || s == nil {
			continue // being written, or by somebody else: again soon
		}
		switch {
		case s.Phase == restoreApplied:
			if pause = 10 * time.Millisecond; !a.serves(ctx, s.Version) {
				continue
			}
			s.Phase = restoreServing
			if !a.left.IsZero() {
				s.Pause = time.Since(a.left)
			}
			if err := d.write(s); err != nil {
				a.log.ErrorContext(ctx, "restore not reported", "err", err)
			}
			a.log.InfoContext(ctx, "serving the restored state", "pause", s.Pause.Round(time.Millisecond))
		case s.Phase == restoreOffered && s.ID != a.refused:
			err := a.takeRestore(ctx, d, s)
			if ctx.Err() != nil {
				return // the next start comes to it
			}
			if err == nil {
				a.again <- struct{}{}
				return
			}
			a.failRestore(ctx, d, s, err)
		}
		seen = st.ModTime()
	}
}

// takeRestore makes the database of an offered backup beside the one in use,
// so that little is left to do while nothing is served.
func (a *App) takeRestore(ctx context.Context, d restoreDir, s *restoreState) error {
	if err := a.mayRestore(); err != nil {
		return err
	}
	n, err := a.db.Others(ctx)
	if err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("other processes use this database too (%d): first stop the other nodes with the control or identity role, and backups under way", n)
	}
	a.log.InfoContext(ctx, "preparing a restore", "made", s.Made)
	began := time.Now()
	if err := a.prepareSpooled(ctx, d); err != nil {
		return err
	}
	s.Phase = restorePrepared
	if err := d.write(s); err != nil {
		return err
	}
	a.log.InfoContext(ctx, "restore prepared, starting again", "after", time.Since(began).Round(time.Millisecond))
	return nil
}

// serves reports whether this process, its own gateway included, serves the
// version a restore began with or a later one.
func (a *App) serves(ctx context.Context, version string) bool {
	if !a.Ready() {
		return false
	}
	want, err := snapshot.ParseVersion(version)
	if err != nil || a.gateway == nil || a.db == nil {
		return true
	}
	list, err := a.db.Log.Gateways(ctx)
	if err != nil {
		return false
	}
	for _, g := range list {
		if g.ID == a.name {
			at, err := snapshot.ParseVersion(g.Version)
			return err == nil && at.Compare(want) >= 0
		}
	}
	return false
}
