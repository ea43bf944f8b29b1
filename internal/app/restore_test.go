package app

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
)

// homeWithBackup is a home that was served, and a backup of it.
func homeWithBackup(t *testing.T) (*config.Config, []byte) {
	t.Helper()
	c := load(t, t.TempDir(), nil)
	firstStart(t, c)
	var b bytes.Buffer
	if err := Backup(t.Context(), c, &b); err != nil {
		t.Fatal(err)
	}
	return c, b.Bytes()
}

// pending leaves a restore as a process that was killed would.
func pending(t *testing.T, c *config.Config, backup []byte, s restoreState) restoreDir {
	t.Helper()
	d := restoreIn(c.Home)
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.backup(), backup, 0o600); err != nil {
		t.Fatal(err)
	}
	s.ID = "one"
	if err := d.write(&s); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAStartAppliesAPendingRestoreOnceOrNotAtAll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		state restoreState
		spoil bool
		want  restorePhase
		says  string
	}{
		"offered":                        {restoreState{Phase: restoreOffered}, false, restoreApplied, ""},
		"prepared, its database lost":    {restoreState{Phase: restorePrepared}, false, restoreApplied, ""},
		"the backup is damaged":          {restoreState{Phase: restoreOffered}, true, restoreFailed, "not a usable backup"},
		"tried too often":                {restoreState{Phase: restorePrepared, Attempts: restoreAttempts}, false, restoreFailed, "given up"},
		"failed before, and not retried": {restoreState{Phase: restoreFailed, Error: "x"}, false, restoreFailed, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, backup := homeWithBackup(t)
			// A user of later than the backup tells which database is in place.
			if _, err := ResetPassword(t.Context(), cfg, "admin", "of-later"); err != nil {
				t.Fatal(err)
			}
			if c.spoil {
				backup = backup[:len(backup)/2]
			}
			d := pending(t, cfg, backup, c.state)
			for range 2 {
				firstStart(t, cfg)
				s, err := d.read()
				if err != nil || s == nil || (s.Phase != c.want && (c.want != restoreApplied || s.Phase != restoreServing)) || !strings.Contains(s.Error, c.says) {
					t.Fatalf("state %+v, %v; want %s %q", s, err, c.want, c.says)
				}
				if c.want == restoreApplied && s.Attempts != c.state.Attempts+1 {
					t.Errorf("%d attempts", s.Attempts)
				}
			}
			a, err := New(t.Context(), cfg, Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			_, authErr := a.people.directory.Authenticate(t.Context(), "admin", apim.SuperTenant, "of-later", "127.0.0.1")
			if err := a.close(); err != nil {
				t.Fatal(err)
			}
			if kept := authErr == nil; kept != (c.want == restoreFailed) {
				t.Errorf("the database is the one of later: %t (%v)", kept, authErr)
			}
			if c.state.Phase == restoreFailed {
				return
			}
			for _, left := range []string{d.backup(), filepath.Join(cfg.Home, "cardea.db.restore")} {
				if _, err := os.Stat(left); err == nil {
					t.Errorf("%s is left", left)
				}
			}
		})
	}
}

func TestAnUnreadableStateIsSetAside(t *testing.T) {
	t.Parallel()
	cfg, backup := homeWithBackup(t)
	d := pending(t, cfg, backup, restoreState{Phase: restoreOffered})
	if err := os.WriteFile(d.file(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	firstStart(t, cfg)
	if s, err := d.read(); s != nil || err != nil {
		t.Errorf("state %+v, %v", s, err)
	}
}

func TestARestoreWithTheServerStoppedOvertakesAPendingOne(t *testing.T) {
	t.Parallel()
	cfg, backup := homeWithBackup(t)
	d := pending(t, cfg, []byte("not this one"), restoreState{Phase: restoreOffered})
	done, err := Restore(t.Context(), cfg, bytes.NewReader(backup), RestoreOptions{})
	if err != nil || done.Served || done.Version == "" {
		t.Fatalf("restored %+v, %v", done, err)
	}
	if s, err := d.read(); s != nil || err != nil {
		t.Errorf("state %+v, %v", s, err)
	}
	firstStart(t, cfg)
}

func TestACommandBesideHoldsOffARestore(t *testing.T) {
	t.Parallel()
	cfg, backup := homeWithBackup(t)
	db, err := openBeside(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if dir, err := holdOff(ctx, cfg.Home, unix.LOCK_EX); err == nil || !strings.Contains(err.Error(), "another command") {
		t.Errorf("held off: %v, %v", dir, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), cfg, bytes.NewReader(backup), RestoreOptions{}); err != nil {
		t.Error(err)
	}
}

func TestOneRestoreAtATime(t *testing.T) {
	t.Parallel()
	cfg, backup := homeWithBackup(t)
	d := pending(t, cfg, backup, restoreState{Phase: restorePrepared})
	if _, err := d.offer(cfg, bytes.NewReader(backup), "x"); err == nil || !strings.Contains(err.Error(), "still under way") {
		t.Errorf("offered beside another one: %v", err)
	}
	if err := d.finish(&restoreState{ID: "one", Phase: restoreServing}); err != nil {
		t.Fatal(err)
	}
	s, err := d.offer(cfg, bytes.NewReader(backup), "x")
	if err != nil || s.Phase != restoreOffered {
		t.Errorf("offered %+v, %v", s, err)
	}
}

func TestWaitingForARestoreEnds(t *testing.T) {
	t.Parallel()
	cfg, backup := homeWithBackup(t)
	for name, c := range map[string]struct {
		state restoreState
		says  string
	}{
		"nobody serves":          {restoreState{Phase: restoreOffered}, "at its next start"},
		"nobody serves any more": {restoreState{Phase: restoreApplied}, "restored, but"},
		"it failed":              {restoreState{Phase: restoreFailed, Error: "no room"}, "no room"},
	} {
		d := pending(t, cfg, backup, c.state)
		if _, err := d.await(t.Context(), cfg.Home, "one", time.Minute); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := d.await(t.Context(), cfg.Home, "other", time.Minute); err == nil || !strings.Contains(err.Error(), "withdrawn") {
			t.Errorf("%s: another one: %v", name, err)
		}
	}
	h, err := openHome(cfg.Home)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	d := pending(t, cfg, backup, restoreState{Phase: restoreOffered})
	if _, err := d.await(t.Context(), cfg.Home, "one", 1500*time.Millisecond); err == nil || !strings.Contains(err.Error(), "not waiting any longer") {
		t.Errorf("the limit: %v", err)
	}
	if _, err := d.await(t.Context(), cfg.Home, "one", time.Nanosecond); err == nil {
		t.Error("no time to wait, and no error")
	}
}
