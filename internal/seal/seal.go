// Package seal encrypts the secrets that the product needs in clear again:
// endpoint passwords, client secrets, private keys. One 32-byte master key,
// from the home directory, the configuration or the join of a node, is the root
// of every other key.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// MasterSize is the length of a master key in bytes.
const MasterSize = 32

// Prefix starts every sealed text; audits recognise secrets by it.
const Prefix = "sealed:"

const version = "v1"

// ErrOtherKey says that a text was sealed under another master key.
var ErrOtherKey = errors.New("sealed under another master key")

// ErrDamaged says that a text is not a sealed one, or was changed since.
var ErrDamaged = errors.New("sealed text is damaged")

// Box seals and opens under one master key. It is safe for concurrent use.
type Box struct {
	master []byte
	aead   cipher.AEAD
	siv    []byte
	id     string
}

// NewMasterKey makes a random master key.
func NewMasterKey() []byte {
	k := make([]byte, MasterSize)
	rand.Read(k) // never fails: crypto/rand aborts the process instead
	return k
}

// New makes the box of a master key of MasterSize bytes.
func New(master []byte) (*Box, error) {
	if len(master) != MasterSize {
		return nil, fmt.Errorf("use master key: %d bytes, want %d", len(master), MasterSize)
	}
	b := &Box{master: append([]byte(nil), master...)}
	block, err := aes.NewCipher(b.Key("seal/" + version))
	if err != nil {
		return nil, fmt.Errorf("use master key: %w", err)
	}
	if b.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("use master key: %w", err)
	}
	b.siv = b.Key("siv/" + version)
	b.id = hex.EncodeToString(b.Key("fingerprint")[:8])
	return b, nil
}

// ID is the fingerprint of the master key: 16 hex digits that say nothing about
// the key itself.
func (b *Box) ID() string { return b.id }

// Key derives a 32-byte key for a purpose. Keys of different purposes are
// independent of one another and of what Seal uses.
func (b *Box) Key(purpose string) []byte {
	k, err := hkdf.Key(sha256.New, b.master, nil, "cardea/"+purpose, 32)
	if err != nil {
		panic("seal: derive key: " + err.Error()) // only for lengths past 255 hashes
	}
	return k
}

// Seal encrypts under a random nonce: the same plaintext gives another text
// each time.
func (b *Box) Seal(plain []byte) string {
	nonce := make([]byte, b.aead.NonceSize())
	rand.Read(nonce)
	return b.seal(nonce, plain)
}

// SealStable encrypts under a nonce made of the plaintext: the same plaintext
// gives the same text, so that a document with secrets inside keeps its hash
// while nothing changes. It shows whether two secrets are equal.
func (b *Box) SealStable(plain []byte) string {
	mac := hmac.New(sha256.New, b.siv)
	mac.Write(plain)
	return b.seal(mac.Sum(nil)[:b.aead.NonceSize()], plain)
}

func (b *Box) seal(nonce, plain []byte) string {
	out := b.aead.Seal(nonce, nonce, plain, []byte(b.id))
	return Prefix + version + ":" + b.id + ":" + base64.RawURLEncoding.EncodeToString(out)
}

// Open decrypts what Seal or SealStable made. The error is ErrOtherKey for a
// text of another master key and ErrDamaged for anything else that is wrong.
func (b *Box) Open(s string) ([]byte, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 4 || parts[0]+":" != Prefix || parts[1] != version {
		return nil, fmt.Errorf("open sealed text: %w", ErrDamaged)
	}
	if parts[2] != b.id {
		return nil, fmt.Errorf("open text sealed by key %.16s with key %s: %w", parts[2], b.id, ErrOtherKey)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[3])
	if err != nil || len(raw) < b.aead.NonceSize() {
		return nil, fmt.Errorf("open sealed text: %w", ErrDamaged)
	}
	n := b.aead.NonceSize()
	plain, err := b.aead.Open(nil, raw[:n], raw[n:], []byte(b.id))
	if err != nil {
		return nil, fmt.Errorf("open sealed text: %w", ErrDamaged)
	}
	return plain, nil
}

// IsSealed reports whether s has the form of a sealed text.
func IsSealed(s string) bool { return strings.HasPrefix(s, Prefix) }
