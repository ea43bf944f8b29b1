package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/token"
)

const (
	answerWait   = 5 * time.Second // for one introspection
	answerMax    = 64 << 10        // bytes of it
	inactiveKept = 5 * time.Second // that a token is worth nothing is believed
	introspected = 64              // at a time
	answerShards = 64
	answersMax   = 512 // per shard
)

// elsewhere asks other key managers, on behalf of calls that wait for it. What
// they said of a token is remembered, under its hash, for as long as verified
// tokens are.
type elsewhere struct {
	g      *Gateway
	post   func(ctx context.Context, to, authorization, form string, limit int64) ([]byte, error)
	kept   time.Duration // 0: nothing is remembered
	asking singleflight.Group
	places chan struct{}
	shards [answerShards]answerShard
}

type answerShard struct {
	mu sync.Mutex
	m  map[[sha256.Size]byte]answer
}

// answer is what was said of a token; nil claims: it is worth nothing.
type answer struct {
	claims *token.Claims
	until  time.Time
}

func newElsewhere(g *Gateway, f *fetcher) *elsewhere {
	e := &elsewhere{g: g, post: f.post, kept: g.o.TokenCacheTTL, places: make(chan struct{}, introspected)}
	if g.o.TokenCacheSize < 0 {
		e.kept = 0
	}
	return e
}

// Introspect looks a token up (RFC 7662), or remembers.
func (e *elsewhere) Introspect(ctx context.Context, km *facts.KeyManager, raw string, now time.Time) (*token.Claims, error) {
	// The hash of the item is part of the key: who changes the key manager asks anew.
	sum := sha256.Sum256([]byte(km.ID + "\x00" + km.Hash + "\x00" + raw))
	s := &e.shards[sum[0]%answerShards]
	if a, ok := s.get(sum, now); ok {
		return a.still(now)
	}
	// The question outlives the call that asks first: others wait for it too.
	said := e.asking.DoChan(string(sum[:]), func() (any, error) {
		c, err := e.ask(km, raw)
		switch {
		case errors.Is(err, token.ErrInactive):
			s.put(sum, answer{nil, now.Add(min(inactiveKept, e.kept))}, now)
		case err == nil && e.kept > 0:
			s.put(sum, answer{c, now.Add(e.kept)}, now)
		}
		return c, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-said:
		if r.Err != nil {
			return nil, r.Err
		}
		c, ok := r.Val.(*token.Claims)
		if !ok {
			return nil, errors.New("introspection without claims")
		}
		return answer{claims: c}.still(now)
	}
}

// still is the answer, unless the token has ended since.
func (a answer) still(now time.Time) (*token.Claims, error) {
	c := a.claims
	if c == nil || !c.Expires.IsZero() && !now.Before(c.Expires) || !c.NotBefore.IsZero() && now.Before(c.NotBefore) {
		return nil, token.ErrInactive
	}
	return c, nil
}

func (s *answerShard) get(sum [sha256.Size]byte, now time.Time) (answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.m[sum]
	return a, ok && now.Before(a.until)
}

func (s *answerShard) put(sum [sha256.Size]byte, a answer, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[[sha256.Size]byte]answer{}
	}
	if len(s.m) >= answersMax {
		for k, v := range s.m {
			if !now.Before(v.until) {
				delete(s.m, k)
			}
		}
		for k := range s.m {
			if len(s.m) < answersMax {
				break
			}
			delete(s.m, k)
		}
	}
	s.m[sum] = a
}

func (e *elsewhere) ask(km *facts.KeyManager, raw string) (*token.Claims, error) {
	select {
	case e.places <- struct{}{}:
		defer func() { <-e.places }()
	default:
		return nil, errors.New("too many tokens are being looked up")
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerWait)
	defer cancel()
	form := url.Values{"token": {raw}, "token_type_hint": {"access_token"}}
	authorization := ""
	if i := km.Introspection; i.User != "" {
		if e.g.o.Box == nil {
			return nil, errors.New("introspect: the secret of the key manager cannot be opened here")
		}
		secret, err := e.g.o.Box.Open(i.Sealed)
		if err != nil {
			return nil, fmt.Errorf("introspect: open secret: %w", err)
		}
		user, password := i.User, string(secret)
		if i.Client {
			user, password = url.QueryEscape(user), url.QueryEscape(password)
		}
		authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	doc, err := e.post(ctx, km.Introspection.URL, authorization, form.Encode(), answerMax)
	if err != nil {
		return nil, fmt.Errorf("introspect: %w", err)
	}
	return token.Introspected(doc)
}

// Refresh fetches key sets again: a token was signed with a key that they lack.
func (e *elsewhere) Refresh(ctx context.Context, managers []*facts.KeyManager) bool {
	changed := false
	for _, m := range managers {
		if err := e.g.keys.share(context.WithoutCancel(ctx), m.ID, m); err != nil {
			e.g.o.Log.Warn("fetch of a key set failed", "key_manager", m.Name, "url", m.JWKSURL, "err", err)
		}
		if now := e.g.tables.Load().facts.KeyManagers[m.ID]; now != nil && now != m {
			changed = true
		}
	}
	return changed
}
