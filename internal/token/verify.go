package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the algorithms below
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Why a token is refused. Verify wraps one of these; the text around it says
// more and is meant for decision records, not for the caller of an API.
var (
	ErrTooLong    = errors.New("token is too long")
	ErrMalformed  = errors.New("token is malformed")
	ErrIssuer     = errors.New("token is from an unknown issuer")
	ErrUnknownKey = errors.New("token is signed with an unknown key") // a fresh key set may know it
	ErrAlgorithm  = errors.New("token uses another algorithm than its key")
	ErrSignature  = errors.New("token signature is wrong")
	ErrExpired    = errors.New("token has expired")
	ErrNotYet     = errors.New("token is not valid yet")
	ErrAudience   = errors.New("token is for another audience")
	ErrType       = errors.New("token is of the wrong type")
)

// Issuer is one whose tokens are accepted. Several may share a name (tenants
// with the same identity provider): a token is then valid for each whose keys
// and rules it satisfies. Fields must not change after SetIssuers.
type Issuer struct {
	Name     string   // value of iss
	Keys     *KeySet  // nil or empty: every token is ErrUnknownKey
	Audience []string // when not empty, aud must hold one of these
	Types    []string // when not empty, the header's typ must be one of these, ignoring case
	NoExpiry bool     // accept tokens without exp, which otherwise count as expired
	Tag      any      // the caller's own
}

// Options of a Verifier. The zero value means the defaults.
type Options struct {
	Skew      time.Duration // tolerance for exp and nbf; default 0, at most 5 min
	MaxLength int           // bytes of a token; default DefaultMaxLength
	CacheSize int           // verified tokens kept; default 16384, rounded up to a power of two; negative: none
	CacheTTL  time.Duration // after it a token is verified anew; 0: at its end
}

// MaxSkew is the largest tolerance a verifier accepts.
const MaxSkew = 5 * time.Minute

// DefaultMaxLength is the longest token that is looked at, in bytes: enough for
// every scope of the management APIs and a few hundred of one's own.
const DefaultMaxLength = 16 << 10

// Verified is a token that passed, with every issuer it passed for. It is
// shared by all calls that carry the token and must not be changed.
type Verified struct {
	Claims
	Issuers []*Issuer // at least one
}

// Verifier checks JWTs of a changing set of issuers. Verify may run on any
// number of goroutines while SetIssuers swaps the set; it takes no lock.
type Verifier struct {
	skew      time.Duration
	maxLength int
	set       atomic.Pointer[issuerSet]
	cache     *cache
	cacheTTL  time.Duration
}

type issuerSet struct{ byName map[string][]*Issuer }

// NewVerifier makes a verifier that knows no issuer yet.
func NewVerifier(o Options) *Verifier {
	v := &Verifier{skew: min(max(o.Skew, 0), MaxSkew), maxLength: o.MaxLength, cacheTTL: o.CacheTTL}
	if v.maxLength <= 0 {
		v.maxLength = DefaultMaxLength
	}
	if o.CacheSize >= 0 {
		v.cache = newCache(o.CacheSize)
	}
	v.set.Store(&issuerSet{})
	return v
}

// SetIssuers replaces the set. Cached tokens stay valid only for issuers whose
// *Issuer is unchanged, so keep the pointers of those that did not change.
func (v *Verifier) SetIssuers(list []*Issuer) {
	s := &issuerSet{byName: make(map[string][]*Issuer, len(list))}
	for _, i := range list {
		s.byName[i.Name] = append(s.byName[i.Name], i)
	}
	v.set.Store(s)
}

// Verify checks raw at now: shape, issuer, key, algorithm, signature, exp, nbf,
// type and audience. Revocation, subscriptions and scopes are the caller's.
// A token seen before costs a hash of all its bytes and no allocation. raw may
// alias a buffer that is used again after the call.
func (v *Verifier) Verify(raw string, now time.Time) (*Verified, error) {
	if len(raw) > v.maxLength {
		return nil, ErrTooLong
	}
	set := v.set.Load()
	var hash uint64
	if v.cache != nil {
		hash = v.cache.hash(raw)
		if e := v.cache.get(hash, raw); e != nil && e.current(set) && e.fresh(now) {
			return e.token, v.inTime(&e.token.Claims, now)
		}
	}
	t, candidates, err := v.verify(raw, set, now)
	if err != nil {
		return nil, err
	}
	if v.cache != nil {
		e := &entry{raw: strings.Clone(raw), candidates: candidates, token: t, until: v.deadline(&t.Claims)}
		if v.cacheTTL > 0 {
			e.again = now.Add(v.cacheTTL)
		}
		v.cache.put(hash, e, now)
	}
	return t, nil
}

// verify does the whole work.
func (v *Verifier) verify(raw string, set *issuerSet, now time.Time) (*Verified, []*Issuer, error) {
	p, err := split(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c, err := parseClaims(p.payload)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c.Type, c.KeyID = p.header.typ, p.header.kid
	candidates := set.byName[c.Issuer]
	if c.Issuer == "" || len(candidates) == 0 {
		return nil, nil, ErrIssuer
	}
	t := &Verified{Claims: *c}
	var refused error
	for _, i := range candidates {
		if err := check(i, &p, c); err != nil {
			refused = worse(refused, err)
			continue
		}
		t.Issuers = append(t.Issuers, i)
	}
	if len(t.Issuers) == 0 {
		return nil, nil, refused
	}
	if err := v.inTime(c, now); err != nil {
		return nil, nil, err
	}
	return t, candidates, nil
}

// worse keeps the error that got further, which tells more.
func worse(a, b error) error {
	if a == nil || errors.Is(a, ErrUnknownKey) {
		return b
	}
	return a
}

func check(i *Issuer, p *parts, c *Claims) error {
	k := i.Keys.find(p.header.kid)
	if k == nil {
		return ErrUnknownKey
	}
	if k.Alg != p.header.alg {
		return ErrAlgorithm
	}
	if !verifySignature(k, p.signed, p.sig) {
		return ErrSignature
	}
	if c.Expires.IsZero() && !i.NoExpiry {
		return ErrExpired
	}
	if len(i.Types) > 0 && !slices.ContainsFunc(i.Types, func(t string) bool { return equalFold(t, p.header.typ) }) {
		return ErrType
	}
	if len(i.Audience) > 0 && !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(i.Audience, a) }) {
		return ErrAudience
	}
	return nil
}

// inTime checks exp and nbf; the moment exp itself is already too late.
func (v *Verifier) inTime(c *Claims, now time.Time) error {
	if !c.Expires.IsZero() && !now.Before(c.Expires.Add(v.skew)) {
		return ErrExpired
	}
	if !c.NotBefore.IsZero() && now.Add(v.skew).Before(c.NotBefore) {
		return ErrNotYet
	}
	return nil
}

// deadline is when an entry may be dropped from the cache.
func (v *Verifier) deadline(c *Claims) time.Time {
	if c.Expires.IsZero() {
		return time.Time{}
	}
	return c.Expires.Add(v.skew)
}

func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

func verifySignature(k *Key, signed string, sig []byte) bool {
	var h crypto.Hash
	if k.Alg != "EdDSA" {
		switch k.Alg[2:] {
		case "256":
			h = crypto.SHA256
		case "384":
			h = crypto.SHA384
		case "512":
			h = crypto.SHA512
		}
	}
	digest := []byte(signed)
	if h != 0 {
		w := h.New()
		w.Write(digest)
		digest = w.Sum(nil)
	}
	switch pub := k.Public.(type) {
	case *rsa.PublicKey:
		if k.Alg[0] == 'P' {
			return rsa.VerifyPSS(pub, h, digest, sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, h, digest, sig) == nil
	case *ecdsa.PublicKey:
		size := (pub.Curve.Params().BitSize + 7) / 8
		if len(sig) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(sig[:size]), new(big.Int).SetBytes(sig[size:])
		return ecdsa.Verify(pub, digest, r, s)
	case ed25519.PublicKey:
		return ed25519.Verify(pub, digest, sig)
	}
	return false
}
