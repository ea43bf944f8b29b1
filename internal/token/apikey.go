package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// APIKeyLen is the length of an API key: base64url of 32 random bytes.
const APIKeyLen = 43

// NewAPIKey makes an API key of 256 random bits.
func NewAPIKey() string { return b64(random(32)) }

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// NewSecret makes a client id or client secret: 28 letters and digits, about
// 166 random bits.
func NewSecret() string {
	out := make([]byte, 0, 28)
	for len(out) < cap(out) {
		for _, b := range random(40) {
			// 248 is the largest multiple of 62 in a byte; the rest would favour
			// the first letters.
			if b < 248 && len(out) < cap(out) {
				out = append(out, alphabet[b%62])
			}
		}
	}
	return string(out)
}

// Sum is the SHA-256 of a high-entropy secret. It does not allocate.
func Sum(secret string) [sha256.Size]byte {
	var room [512]byte
	return sha256.Sum256(append(room[:0], secret...))
}

// Hash is the hexadecimal SHA-256 of a high-entropy secret, as snapshots key it.
func Hash(secret string) string {
	sum := Sum(secret)
	return hex.EncodeToString(sum[:])
}

// Digest is Hash in the form the store keeps: "sha256:" and hex.
func Digest(secret string) string { return "sha256:" + Hash(secret) }

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: the program aborts without a random source
	return b
}
