// Package gateway serves API calls: it compiles what a snapshot says into flat
// flows and runs them. See exchange (what steps see), route (which API and
// resource), facts (applications, keys, subscriptions), auth, proxy and report.
// engine.go joins it to our own HTTP/1.1 engine, httpadapter.go to net/http's
// HTTP/2; no other part knows either.
package gateway

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// Gateway serves what the snapshot it was given says.
type Gateway struct {
	o        Options
	auth     auth.Authenticator
	upstream proxy.Upstream
	rules    proxy.Rules
	cors     *cors
	metrics  metrics
	keys     *keys

	tables atomic.Pointer[tables]
	ready  atomic.Bool
	failed atomic.Int64
	close  func()

	inFlight atomic.Int64

	mu     sync.Mutex // one Apply at a time; guards claims
	claims claims
}

// New makes a gateway that knows no API yet: every call is answered 404 until
// the first Apply. Close it to end what it runs in the background.
func New(o Options) (*Gateway, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("make gateway: %w", err)
	}
	g := &Gateway{
		o: o, claims: claims{},
		rules: proxy.Rules{PublicHTTP: o.PublicHTTP, PublicHTTPS: o.PublicHTTPS},
		auth: auth.Authenticator{
			Verifier:    token.NewVerifier(token.Options{Skew: o.TokenSkew, MaxLength: o.TokenMaxLength, CacheSize: o.TokenCacheSize, CacheTTL: o.TokenCacheTTL}),
			RequireType: o.RequireTokenType,
		},
	}
	if o.Directory != nil {
		g.auth.Basic = auth.NewBasic(o.Directory)
	}
	if o.Tokens != nil {
		g.auth.Opaque = auth.NewOpaque(o.Tokens)
	}
	var err error
	if g.cors, err = compileCORS(*o.CORS); err != nil {
		return nil, fmt.Errorf("make gateway: %w", err)
	}
	g.tables.Store(&tables{facts: &facts.Facts{}})
	fetcher := newFetcher(&g.o)
	g.close = fetcher.close
	if g.upstream = o.Upstream; g.upstream == nil {
		up := newUpstream(&g.o)
		g.upstream = up
		ctx, stop := context.WithCancel(context.Background()) // outlives any call; ended by Close
		go up.tidy(ctx, g.tables.Load)
		g.close = func() { stop(); fetcher.close(); up.close() }
	}
	g.auth.Elsewhere = newElsewhere(g, fetcher)
	g.startKeys(fetcher.fetch)
	return g, nil
}

// Ready reports whether a snapshot was applied. By then every API of it was
// compiled; one that could not be is named by Apply and does not hold back the
// others.
func (g *Gateway) Ready() bool { return g.ready.Load() }

// Version is the snapshot in force.
func (g *Gateway) Version() snapshot.Version { return g.tables.Load().version }

// Close ends background work and idle connections to backends. Calls in
// flight are the engine's to drain first.
func (g *Gateway) Close() error {
	g.keys.close()
	g.close()
	return nil
}
