package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/token"
)

// Tokens is the resident key manager: it tells what an opaque access token
// stands for. ErrToken is its refusal; any other error means that it is away.
type Tokens interface {
	Access(ctx context.Context, raw string) (*token.Claims, error)
}

// ErrToken is what Tokens answers about a token it does not know (any more).
var ErrToken = errors.New("access token is not known")

const (
	opaqueKept   = time.Minute     // an answer is believed
	opaqueWait   = 3 * time.Second // for the key manager
	opaqueShards = 64
	opaqueMax    = 1024 // per shard
	maxOpaque    = 256  // longest opaque token looked at, bytes
)

// Opaque knows opaque access tokens: it asks the key manager, a bounded number
// at a time, and remembers the good ones for a short while under a hash keyed
// by this process. Revocations reach it as they do for any token, by the id
// that the key manager gave it.
type Opaque struct {
	tokens Tokens
	key    []byte
	asking singleflight.Group
	places chan struct{}
	shards [opaqueShards]opaqueShard
}

type opaqueShard struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte]told
}

type told struct {
	claims *token.Claims
	at     time.Time
}

// NewOpaque asks t.
func NewOpaque(t Tokens) *Opaque {
	o := &Opaque{tokens: t, key: make([]byte, 32), places: make(chan struct{}, 32*runtime.GOMAXPROCS(0))}
	if _, err := rand.Read(o.key); err != nil {
		panic(err) // crypto/rand does not fail
	}
	return o
}

func (o *Opaque) mac(raw string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, o.key)
	h.Write([]byte(raw))
	h.Sum(sum[:0])
	return sum
}

func (o *Opaque) known(mac *[sha256.Size]byte, now time.Time) *token.Claims {
	s := &o.shards[mac[0]%opaqueShards]
	s.mu.Lock()
	t, ok := s.m[*mac]
	s.mu.Unlock()
	if !ok || now.Sub(t.at).Abs() > opaqueKept {
		return nil
	}
	return t.claims
}

func (o *Opaque) keep(mac *[sha256.Size]byte, c *token.Claims, now time.Time) {
	s := &o.shards[mac[0]%opaqueShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[[sha256.Size]byte]told{}
	}
	if len(s.m) >= opaqueMax {
		for k, t := range s.m {
			if now.Sub(t.at).Abs() > opaqueKept {
				delete(s.m, k)
			}
		}
		for k := range s.m {
			if len(s.m) < opaqueMax {
				break
			}
			delete(s.m, k)
		}
	}
	s.m[*mac] = told{c, now}
}

// claims finds what a token stands for. Callers with the same one share one
// question.
func (o *Opaque) claims(raw string, now time.Time) (*token.Claims, error) {
	mac := o.mac(raw)
	if c := o.known(&mac, now); c != nil {
		return c, nil
	}
	v, err, _ := o.asking.Do(string(mac[:]), func() (any, error) {
		// Whoever asked first may leave; the others still want the answer.
		ctx, cancel := context.WithTimeout(context.Background(), opaqueWait)
		defer cancel()
		select {
		case o.places <- struct{}{}:
			defer func() { <-o.places }()
		case <-ctx.Done():
			return nil, errCrowded
		}
		c, err := o.tokens.Access(ctx, raw)
		if err != nil {
			return nil, err
		}
		o.keep(&mac, c, now)
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*token.Claims), nil
}

// opaque verifies a token that is no JWT. It is good for every resident key
// manager, as JWTs of the same issuer are.
func (a *Authenticator) opaque(f *facts.Facts, raw string, now time.Time) (*token.Verified, *exchange.Refusal) {
	if a.Opaque == nil || len(raw) > maxOpaque {
		return nil, bad("token-opaque")
	}
	c, err := a.Opaque.claims(raw, now)
	switch {
	case errors.Is(err, ErrToken):
		return nil, bad("token-unknown")
	case errors.Is(err, errCrowded):
		return nil, exchange.Refuse(exchange.Fault, fault.GwOverload.With("Too many tokens are being looked up"), "token-crowded")
	case err != nil:
		return nil, exchange.Refuse(exchange.Auth, fault.GwUnclassified.With("Unclassified Authentication Failure"), "identity-away", "cause", err.Error())
	case !now.Before(c.Expires):
		return nil, bad("token-expired")
	}
	t := &token.Verified{Claims: *c}
	for _, km := range f.KeyManagers {
		if km.Resident && km.Enabled && km.KeyManager.Issuer == c.Issuer {
			t.Issuers = append(t.Issuers, km.Issuer)
		}
	}
	return t, nil
}
