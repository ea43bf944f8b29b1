package app

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// restoreDir is the folder of a home by which a command hands a backup to the
// process that serves: the backup, and a state that both write, each in its
// turn. Whatever the state says holds across a crash.
type restoreDir string

// restoreIn is the one of a home.
func restoreIn(home string) restoreDir { return restoreDir(filepath.Join(home, "restore")) }

// restorePhase is how far a restore has come.
type restorePhase string

// Phases, in their order. From offered on, the next start applies the restore
// if the process that serves does not come to it.
const (
	restoreOffered  restorePhase = "offered"  // by the command: the backup is whole
	restorePrepared restorePhase = "prepared" // by the server: its database is made, beside the old one
	restoreApplied  restorePhase = "applied"  // the new database is in its place
	restoreServing  restorePhase = "serving"  // and served
	restoreFailed   restorePhase = "failed"   // the old database is in its place
)

// restoreState is what restore/state.json holds.
type restoreState struct {
	ID       string        `json:"id"`
	Phase    restorePhase  `json:"phase"`
	Asked    time.Time     `json:"asked"`
	Made     time.Time     `json:"made"`               // when the backup was made
	Attempts int           `json:"attempts,omitempty"` // starts that began to apply it
	Version  string        `json:"version,omitempty"`  // of the change log, once applied
	Pause    time.Duration `json:"pauseNanos,omitempty"`
	Error    string        `json:"error,omitempty"`
}

// open reports whether the restore has yet to be applied.
func (s *restoreState) open() bool {
	return s.Phase == restoreOffered || s.Phase == restorePrepared
}

func (d restoreDir) file() string   { return filepath.Join(string(d), "state.json") }
func (d restoreDir) backup() string { return filepath.Join(string(d), "backup") }

// errNoState tells that the state cannot be understood.
var errNoState = errors.New("the state of the restore cannot be read")

// read gives the state, or nil where there is none.
func (d restoreDir) read() (*restoreState, error) {
	b, err := os.ReadFile(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var s restoreState
	if err := json.Unmarshal(b, &s); err != nil || s.ID == "" {
		return nil, errors.Join(errNoState, err)
	}
	return &s, nil
}

// write replaces the state for good.
func (d restoreDir) write(s *restoreState) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(d.file(), append(b, '\n'), 0o600); err != nil {
		return err
	}
	return errors.Join(d.own(d.file()), syncDir(string(d)))
}

// finish writes the last state of a backup, which is not needed any more.
func (d restoreDir) finish(s *restoreState) error {
	if err := d.write(s); err != nil {
		return err
	}
	if err := os.Remove(d.backup()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// own gives a file to whom the home belongs, when root calls a command for a
// server that is not.
func (d restoreDir) own(name string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	st, err := os.Stat(filepath.Dir(string(d)))
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return os.Chown(name, int(sys.Uid), int(sys.Gid))
	}
	return nil
}
