package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

func box(t *testing.T) *Box {
	t.Helper()
	b, err := New(NewMasterKey())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenGivesBackWhatWasSealed(t *testing.T) {
	b := box(t)
	for _, plain := range []string{"", "secret", strings.Repeat("x", 1<<16)} {
		for name, seal := range map[string]func([]byte) string{"random": b.Seal, "stable": b.SealStable} {
			s := seal([]byte(plain))
			if !strings.HasPrefix(s, "sealed:v1:") || !IsSealed(s) {
				t.Fatalf("%s: sealed text starts with %.20q", name, s)
			}
			if plain != "" && strings.Contains(s, plain) {
				t.Fatalf("%s: plaintext shows", name)
			}
			got, err := b.Open(s)
			if err != nil || string(got) != plain {
				t.Fatalf("%s: Open = %.20q, %v", name, got, err)
			}
		}
	}
}

func TestNonces(t *testing.T) {
	b := box(t)
	if first, second := b.Seal([]byte("a")), b.Seal([]byte("a")); first == second {
		t.Error("Seal repeats itself")
	}
	if first, second := b.SealStable([]byte("a")), b.SealStable([]byte("a")); first != second {
		t.Error("SealStable does not repeat itself")
	}
	if b.SealStable([]byte("a")) == b.SealStable([]byte("b")) {
		t.Error("two plaintexts give one text")
	}
}

func TestOpenRefuses(t *testing.T) {
	b, other := box(t), box(t)
	good := b.Seal([]byte("secret"))
	flipped := []byte(good)
	flipped[len(flipped)-3] ^= 1
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"a text of another key":       {other.Seal([]byte("secret")), ErrOtherKey},
		"a changed text":              {string(flipped), ErrDamaged},
		"a truncated text":            {good[:len(good)-8], ErrDamaged},
		"no text":                     {"", ErrDamaged},
		"plain text":                  {"secret", ErrDamaged},
		"another version":             {strings.Replace(good, ":v1:", ":v9:", 1), ErrDamaged},
		"another key's id, own bytes": {strings.Replace(good, b.ID(), other.ID(), 1), ErrOtherKey},
	} {
		if _, err := b.Open(c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestKeysDependOnPurposeAndMaster(t *testing.T) {
	master := NewMasterKey()
	a, _ := New(master)
	b, _ := New(master)
	if !bytes.Equal(a.Key("x"), b.Key("x")) || a.ID() != b.ID() {
		t.Error("the same master key gives other keys")
	}
	if bytes.Equal(a.Key("x"), a.Key("y")) || len(a.Key("x")) != 32 {
		t.Error("purposes share a key")
	}
	if _, err := New(master[:31]); err == nil {
		t.Error("a short master key is accepted")
	}
}

func TestHomeKeepsItsKey(t *testing.T) {
	home := t.TempDir()
	a, err := Load(home, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Load(home, "")
	if err != nil || a.ID() != b.ID() {
		t.Fatalf("second start has key %v, %v, want %s", b, err, a.ID())
	}
	st, err := os.Stat(KeyFile(home))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", st.Mode(), err)
	}
	if _, err := Load(home, hex.EncodeToString(a.Master())); err != nil {
		t.Errorf("the same key by configuration: %v", err)
	}
	if _, err := Load(home, hex.EncodeToString(NewMasterKey())); !errors.Is(err, ErrOtherKey) {
		t.Errorf("another key by configuration: %v", err)
	}
	if err := Save(home, NewMasterKey()); !errors.Is(err, ErrOtherKey) {
		t.Errorf("replacing the key: %v", err)
	}
}

func TestConfiguredKeyIsNotWritten(t *testing.T) {
	home := t.TempDir()
	if _, err := Load(home, hex.EncodeToString(NewMasterKey())); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(KeyFile(home)); !os.IsNotExist(err) {
		t.Errorf("key file exists: %v", err)
	}
	for _, bad := range []string{"zz", strings.Repeat("0", 62), strings.Repeat("g", 64)} {
		if _, err := Load(home, bad); err == nil {
			t.Errorf("key %q is accepted", bad)
		}
	}
}
