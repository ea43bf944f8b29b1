package gateway

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/token"
)

const (
	keysEvery = 10 * time.Minute // a key set is fetched again
	keysRetry = 15 * time.Second // after a failure
	keysLeast = 10 * time.Second // between two fetches, whatever calls ask for
	keysWait  = 10 * time.Second // for one answer
	keysMax   = 1 << 20          // bytes of a key set
)

// keys fetches the key sets of key managers that name only an address. Calls
// never wait for it: until a set is there, its tokens are refused.
type keys struct {
	g     *Gateway
	log   *slog.Logger
	fetch func(ctx context.Context, url string, limit int64) ([]byte, error)
	wake  chan struct{}
	stop  context.CancelFunc
	ended chan struct{}

	asking singleflight.Group
	mu     sync.Mutex
	lately map[string]time.Time // by key manager and URL
}

func (g *Gateway) startKeys(fetch func(context.Context, string, int64) ([]byte, error)) {
	ctx, stop := context.WithCancel(context.Background()) // outlives any call; ended by Close
	g.keys = &keys{g: g, log: g.o.Log, fetch: fetch, wake: make(chan struct{}, 1), stop: stop, ended: make(chan struct{}), lately: map[string]time.Time{}}
	go g.keys.run(ctx)
}

// look has the key managers looked at now.
func (k *keys) look() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *keys) close() {
	k.stop()
	<-k.ended
}

func (k *keys) run(ctx context.Context) {
	defer close(k.ended)
	due := map[string]time.Time{} // by URL
	for {
		next := keysEvery
		for id, m := range k.g.tables.Load().facts.KeyManagers {
			if !m.Enabled || len(m.JWKS) > 0 || m.JWKSURL == "" {
				continue
			}
			if m.KeyManager.Issuer != "" && (m.Issuer.Keys == nil || time.Now().After(due[m.JWKSURL])) {
				wait := keysEvery
				if err := k.share(ctx, id, m); err != nil {
					if ctx.Err() != nil {
						return
					}
					k.log.Warn("fetch of a key set failed", "key_manager", m.Name, "url", m.JWKSURL, "err", err)
					wait = keysRetry
				}
				if now := k.g.tables.Load().facts.KeyManagers[id]; now != nil && now.Issuer.Keys == nil {
					wait = keysRetry
				}
				due[m.JWKSURL] = time.Now().Add(wait)
				next = min(next, wait)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
		case <-time.After(next):
		}
	}
}

// share fetches a key set unless that was done lately; who comes while it is
// fetched waits for it.
func (k *keys) share(ctx context.Context, id string, m *facts.KeyManager) error {
	name := id + " " + m.JWKSURL
	_, err, _ := k.asking.Do(name, func() (any, error) {
		if !k.turn(name) {
			return nil, nil
		}
		return nil, k.load(ctx, id, m)
	})
	return err
}

func (k *keys) turn(name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	if now.Sub(k.lately[name]) < keysLeast {
		return false
	}
	if len(k.lately) > 1000 { // those that were there once
		clear(k.lately)
	}
	k.lately[name] = now
	return true
}

func (k *keys) load(ctx context.Context, id string, m *facts.KeyManager) error {
	ctx, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	doc, err := k.fetch(ctx, m.JWKSURL, keysMax)
	if err != nil {
		return err
	}
	set, err := token.ParseJWKS(doc)
	if err != nil {
		return err
	}
	k.g.mu.Lock()
	defer k.g.mu.Unlock()
	old := k.g.tables.Load()
	if old.facts.KeyManagers[id] != m {
		return nil // it changed meanwhile and is looked at again
	}
	if m.Issuer.Keys != nil && bytes.Equal(m.Issuer.Keys.JWKS(), set.JWKS()) {
		return nil // what was verified with them stays so
	}
	next := *old
	next.facts = old.facts.WithManager(m.WithKeys(set))
	k.g.auth.Verifier.SetIssuers(next.facts.Issuers())
	k.g.tables.Store(&next)
	return nil
}
