package token

import (
	"hash/maphash"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

const (
	defaultCacheSize = 32768
	ways             = 8 // slots a token may lie in: one cache line of pointers
)

// cache remembers verified tokens without locks: a table of atomic pointers,
// eight slots per hash. The hash covers the whole token under a key that is
// random per process, and a hit compares the whole token too, so that neither
// a chosen collision nor a token that shares header, claims or signature with
// a good one can be taken for it.
type cache struct {
	seed  maphash.Seed
	mask  uint64
	slots []atomic.Pointer[entry]
}

type entry struct {
	raw        string
	candidates []*Issuer // all issuers of that name when it was verified
	token      *Verified
	until      time.Time // zero: never expires
	again      time.Time // when it is verified anew; zero: never
}

func newCache(size int) *cache {
	if size == 0 {
		size = defaultCacheSize
	}
	sets := max(1, (size+ways-1)/ways)
	sets = 1 << bits.Len(uint(sets-1))
	return &cache{seed: maphash.MakeSeed(), mask: uint64(sets - 1), slots: make([]atomic.Pointer[entry], sets*ways)}
}

func (c *cache) hash(raw string) uint64 { return maphash.String(c.seed, raw) }

func (c *cache) set(hash uint64) []atomic.Pointer[entry] {
	i := (hash & c.mask) * ways
	return c.slots[i : i+ways]
}

func (c *cache) get(hash uint64, raw string) *entry {
	for i := range c.set(hash) {
		if e := c.set(hash)[i].Load(); e != nil && e.raw == raw {
			return e
		}
	}
	return nil
}

// put stores e in place of an older form of the same token, a free or expired
// slot, or failing that the slot that other bits of the hash name.
func (c *cache) put(hash uint64, e *entry, now time.Time) {
	set := c.set(hash)
	at := -1
	for i := range set {
		old := set[i].Load()
		if old != nil && old.raw == e.raw {
			at = i
			break
		}
		if at < 0 && (old == nil || (!old.until.IsZero() && now.After(old.until))) {
			at = i
		}
	}
	if at < 0 {
		at = int(hash >> 61)
	}
	set[at].Store(e)
}

// fresh reports whether the entry need not be verified again yet.
func (e *entry) fresh(now time.Time) bool { return e.again.IsZero() || now.Before(e.again) }

// current reports whether the issuers of that name are still the very same.
func (e *entry) current(s *issuerSet) bool {
	return slices.Equal(e.candidates, s.byName[e.token.Issuer])
}
