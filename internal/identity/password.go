package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"

	"github.com/cardea-apim/cardea/internal/apim"
)

// Hashing is the cost of an argon2id hash (RFC 9106). Hashes keep their own
// cost, so that it can be raised without locking anybody out.
type Hashing struct {
	Memory  uint32 // KiB
	Time    uint32 // passes
	Threads uint8
}

var defaultHashing = Hashing{Memory: 19 << 10, Time: 2, Threads: 1}

const (
	saltLen     = 16
	hashLen     = 32
	maxPassword = 1024    // bytes; longer ones are refused before hashing
	maxMemory   = 1 << 20 // KiB; a stored hash may not ask for more
)

// hasher makes and checks password hashes, a bounded number at a time: each
// takes tens of milliseconds and megabytes.
type hasher struct {
	cost  Hashing
	slots chan struct{}
	dummy apim.Digest // checked for users that do not exist, so that they take as long
}

func newHasher(cost Hashing, parallel int) *hasher {
	if cost == (Hashing{}) {
		cost = defaultHashing
	}
	h := &hasher{cost: cost, slots: make(chan struct{}, max(1, parallel))}
	salt := make([]byte, saltLen)
	rand.Read(salt)
	key := make([]byte, hashLen)
	rand.Read(key)
	h.dummy = encodeHash(cost, salt, key)
	return h
}

func (h *hasher) acquire(ctx context.Context) error {
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *hasher) release() { <-h.slots }

// hash makes the stored form of a password.
func (h *hasher) hash(ctx context.Context, password string) (apim.Digest, error) {
	if err := h.acquire(ctx); err != nil {
		return "", fmt.Errorf("hash password: %w", err)
	}
	defer h.release()
	salt := make([]byte, saltLen)
	rand.Read(salt)
	key := argon2.IDKey([]byte(password), salt, h.cost.Time, h.cost.Memory, h.cost.Threads, hashLen)
	return encodeHash(h.cost, salt, key), nil
}

// matches compares in constant time. The caller holds a slot.
func (h *hasher) matches(stored apim.Digest, password string) bool {
	cost, salt, want, err := decodeHash(stored)
	if err != nil {
		// A damaged or foreign hash matches nothing, and takes as long to say so.
		cost, salt, want, _ = decodeHash(h.dummy)
		argon2.IDKey([]byte(password), salt, cost.Time, cost.Memory, cost.Threads, uint32(len(want)))
		return false
	}
	got := argon2.IDKey([]byte(password), salt, cost.Time, cost.Memory, cost.Threads, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}

// encodeHash writes argon2id:v=19$m=..,t=..,p=..$salt$hash.
func encodeHash(c Hashing, salt, key []byte) apim.Digest {
	enc := base64.RawStdEncoding
	return apim.Digest(fmt.Sprintf("argon2id:v=%d$m=%d,t=%d,p=%d$%s$%s",
		argon2.Version, c.Memory, c.Time, c.Threads, enc.EncodeToString(salt), enc.EncodeToString(key)))
}

func decodeHash(d apim.Digest) (c Hashing, salt, key []byte, err error) {
	bad := errors.New("not an argon2id hash")
	rest, ok := strings.CutPrefix(string(d), "argon2id:v="+strconv.Itoa(argon2.Version)+"$")
	if !ok {
		return c, nil, nil, bad
	}
	f := strings.Split(rest, "$")
	if len(f) != 3 {
		return c, nil, nil, bad
	}
	if _, err := fmt.Sscanf(f[0], "m=%d,t=%d,p=%d", &c.Memory, &c.Time, &c.Threads); err != nil {
		return c, nil, nil, bad
	}
	if c.Memory == 0 || c.Memory > maxMemory || c.Time == 0 || c.Time > 64 || c.Threads == 0 {
		return c, nil, nil, bad
	}
	enc := base64.RawStdEncoding.Strict()
	if salt, err = enc.DecodeString(f[1]); err != nil || len(salt) < 8 {
		return c, nil, nil, bad
	}
	if key, err = enc.DecodeString(f[2]); err != nil || len(key) < 16 || len(key) > 128 {
		return c, nil, nil, bad
	}
	return c, salt, key, nil
}

// proofs remembers for a moment that a password was right, so that a client
// that sends Basic credentials with every call is hashed once. Entries are
// HMACs under a key of this process over the stored hash and the password: a
// new password makes them worthless, and they tell nothing by themselves.
type proofs struct {
	key  [32]byte
	mu   sync.Mutex
	good map[[32]byte]time.Time // until
}

const (
	proofLife = time.Minute
	maxProofs = 10_000
)

func newProofs() *proofs {
	p := &proofs{good: map[[32]byte]time.Time{}}
	rand.Read(p.key[:])
	return p
}

func (p *proofs) mac(u *apim.User, password string) [32]byte {
	m := hmac.New(sha256.New, p.key[:])
	for _, s := range []string{string(u.ID), string(u.Password), password} {
		fmt.Fprintf(m, "%d:", len(s))
		m.Write([]byte(s))
	}
	return [32]byte(m.Sum(nil))
}

func (p *proofs) has(mac [32]byte, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.good[mac]
	return ok && now.Before(until)
}

func (p *proofs) add(mac [32]byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.good) >= maxProofs {
		for k, until := range p.good {
			if !now.Before(until) {
				delete(p.good, k)
			}
		}
		if len(p.good) >= maxProofs {
			clear(p.good)
		}
	}
	p.good[mac] = now.Add(proofLife)
}
