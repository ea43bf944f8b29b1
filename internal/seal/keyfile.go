package seal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// KeyFile is where a home keeps its master key, as hex digits.
func KeyFile(home string) string { return filepath.Join(home, "keys", "master.key") }

// Load gives the box of a home. A key from the configuration (64 hex digits)
// wins and must agree with a key file that exists already, because what was
// sealed would be lost otherwise. Without either, a key is made and written.
func Load(home, configured string) (*Box, error) {
	file := KeyFile(home)
	stored, err := os.ReadFile(file)
	switch {
	case err == nil:
		master, err := ParseKey(string(stored))
		if err != nil {
			return nil, fmt.Errorf("read master key %s: %w", file, err)
		}
		box, err := New(master)
		if err != nil {
			return nil, err
		}
		if configured == "" {
			return box, nil
		}
		given, err := ParseKey(configured)
		if err != nil {
			return nil, fmt.Errorf("read encryption.key: %w", err)
		}
		other, err := New(given)
		if err != nil {
			return nil, err
		}
		if other.ID() != box.ID() {
			return nil, fmt.Errorf("encryption.key (fingerprint %s) differs from the key of this home (%s, fingerprint %s): what was sealed could not be read: %w",
				other.ID(), file, box.ID(), ErrOtherKey)
		}
		return box, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read master key: %w", err)
	}
	if configured != "" {
		given, err := ParseKey(configured)
		if err != nil {
			return nil, fmt.Errorf("read encryption.key: %w", err)
		}
		return New(given) // stays where it was given: never written to the home
	}
	master := NewMasterKey()
	if err := Save(home, master); err != nil {
		return nil, err
	}
	return New(master)
}

// ParseKey reads 64 hex digits.
func ParseKey(s string) ([]byte, error) {
	k, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil || len(k) != MasterSize {
		return nil, fmt.Errorf("a master key is %d hex digits", 2*MasterSize)
	}
	return k, nil
}

// Save writes the master key of a home, readable by its owner only. It refuses
// to replace another key.
func Save(home string, master []byte) error {
	file := KeyFile(home)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("save master key: %w", err)
	}
	text := hex.EncodeToString(master) + "\n"
	if old, err := os.ReadFile(file); err == nil {
		if string(old) == text {
			return nil
		}
		return fmt.Errorf("save master key: %s holds another key: %w", file, ErrOtherKey)
	}
	f, err := os.CreateTemp(filepath.Dir(file), "master-*")
	if err != nil {
		return fmt.Errorf("save master key: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close())
	if err == nil {
		// A link fails when the file exists, so that of two starting processes one wins.
		err = os.Link(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("save master key: %w", err)
	}
	return syncDir(filepath.Dir(file))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// Master is the master key itself, which a control node hands to a node that
// joins.
func (b *Box) Master() []byte { return append([]byte(nil), b.master...) }
