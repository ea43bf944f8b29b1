package app

import (
	"context"
	"crypto/x509"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/gateway"
	"github.com/cardea-apim/cardea/internal/gateway/report"
	"github.com/cardea-apim/cardea/internal/node"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/usage"
)

// decisionPurpose names the sub-key of the master key that seals decision ids,
// so that any node can read what another one issued.
const decisionPurpose = "decision-id"

// gatewayOf is the gateway role: the gateway and what keeps it up to date.
type gatewayOf struct {
	gw       *gateway.Gateway
	reporter *report.Reporter // nil: analytics is off
	follower *node.Follower
}

// ready means: a whole snapshot was applied and every API of it compiled.
func (g *gatewayOf) ready() bool { return g.follower.Loaded() && g.gw.Ready() }

// wireGateway makes the gateway, lets it serve what its disk holds, and follows
// the control node of this process or of another one.
func (a *App) wireGateway(ctx context.Context) error {
	if !a.cfg.Has(config.Gateway) {
		return nil
	}
	feed, local, err := a.feed()
	if err != nil {
		return err
	}
	var reports gateway.Reporter // stays nil where nothing is to be reported
	var reporter *report.Reporter
	if a.cfg.Analytic.Enabled {
		var err error
		if reporter, err = a.reporter(); err != nil {
			return err
		}
		reports = reporter
	}
	roots, err := a.upstreamRoots()
	if err != nil {
		return err
	}
	c := a.cfg
	g, err := gateway.New(gateway.Options{
		Log: a.log, Name: a.name, DecisionKey: a.box.Key(decisionPurpose), Limiter: a.counting.limiter, Reporter: reports, Box: a.box, Directory: a.personsOf(), Tokens: a.tokensOf(),
		Environments: c.Labels,
		CORS: &gateway.CORS{
			Enabled: c.CORS.Enabled, Origins: c.CORS.Origins, Methods: c.CORS.Methods, Headers: c.CORS.Headers,
			Expose: c.CORS.Expose, Credentials: c.CORS.Credentials,
		},
		AuthHeader: c.AuthHeader, OutboundAuthHeader: c.ForwardAuth, RequireTokenType: c.StrictTokenType,
		HeaderConditions: c.Throttle.Header, QueryConditions: c.Throttle.Query, ClaimConditions: c.Throttle.Claim,
		TrustedProxies: c.TrustedProxies,
		PublicHTTP:     gatewayURL(c, "http", c.Listen.GatewayHTTP), PublicHTTPS: gatewayURL(c, "https", c.Listen.GatewayHTTPS),
		ResponseTimeout: c.SocketTimeout, RefusedPorts: a.ownPorts(), UpstreamRoots: roots, UpstreamNames: upstreamNames(c), MaxPerHost: c.Upstream.MaxPerHost,
		TokenCacheSize: tokenCache(c), TokenCacheTTL: c.TokenCacheTTL, TokenSkew: c.TokenSkew,
		MaxConcurrent: int64(c.MaxConcurrent), NoRateLimitHeaders: !c.RateHeaders,
	})
	if err != nil {
		return err
	}
	a.onClose(g.Close)
	follower, err := node.NewFollower(node.Options{
		Dir: a.home.path("snapshot"), Node: apim.GatewayNode{ID: a.name, Labels: c.Labels, Local: local},
		KeyID: a.box.ID(), Feed: feed, Gateway: g, Log: a.log, Warnings: a.warnings,
	})
	if err != nil {
		return err
	}
	follower.Load(ctx)
	a.background(follower.Run)
	a.metrics.MustRegister(g.Collectors()...)
	a.gateway = &gatewayOf{gw: g, reporter: reporter, follower: follower}
	return nil
}

// reporter sends what was called to the analytics role, wherever it is, and
// keeps it on disk until somebody has stored it.
func (a *App) reporter() (*report.Reporter, error) {
	send := func(ctx context.Context, data []byte) ([]byte, error) {
		return a.bus.Request(ctx, usage.SubjectBatch, data)
	}
	r, err := report.New(report.Options{Log: a.log, Gateway: a.name, Sender: report.SenderFunc(send), Dir: a.home.path("usage")})
	if err != nil {
		return nil, err
	}
	a.metrics.MustRegister(r.Collectors()...)
	a.onClose(func() error {
		// Run has flushed already: this is for what came since.
		ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
		defer cancel()
		return r.Close(ctx)
	})
	return r, nil
}

// feed is where the gateway learns what to serve.
func (a *App) feed() (node.Feed, bool, error) {
	if a.db != nil && a.cfg.Has(config.Control) {
		return a.localFeed(), true, nil
	}
	controls := []string{}
	if a.joined != nil {
		controls = a.joined.Controls
	}
	client, err := node.NewClient(node.ClientOptions{Controls: controls, Home: a.home.dir, KeyID: a.box.ID(), Log: a.log})
	if err != nil {
		return nil, false, err
	}
	a.background(func(ctx context.Context) error { return a.renewIdentity(ctx, client) })
	return client, false, nil
}

// ownPorts are loopback ports that no backend of an API may be: the bus, the
// node synchronisation and the database.
func (a *App) ownPorts() []int {
	c := a.cfg
	out := []int{c.Listen.Node, busPort + c.Offset}
	if _, port, err := net.SplitHostPort(c.Bus.Listen); err == nil {
		if n, err := strconv.Atoi(port); err == nil {
			out = append(out, n)
		}
	}
	if c.Database.Postgres {
		out = append(out, databasePorts(c.Database.URL.Reveal())...)
	}
	return out
}

// databasePorts are the ports that the store connects to for a PostgreSQL URL,
// which may name several servers, or a port among its parameters.
func databasePorts(url string) []int {
	c, err := pgconn.ParseConfig(url)
	if err != nil {
		return []int{5432} // the store cannot be open with such a URL
	}
	out := []int{int(c.Port)}
	for _, f := range c.Fallbacks {
		if port := int(f.Port); !slices.Contains(out, port) {
			out = append(out, port)
		}
	}
	return out
}

// upstreamRoots are whom backends must be certified by: the system's
// authorities and those of our own nodes.
func (a *App) upstreamRoots() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		a.log.Warn("the system's certificate authorities cannot be read; only our own is trusted", "err", err)
		pool = x509.NewCertPool()
	}
	pool.AddCert(a.ca.Cert)
	if a.cfg != nil && a.cfg.Truststore.File != "" {
		trusted, err := keystoreOf(a.cfg.Truststore).Certificates()
		if err != nil {
			return nil, err
		}
		for _, c := range trusted {
			pool.AddCert(c)
		}
	}
	if a.joined == nil {
		return pool, nil
	}
	id, err := pki.LoadIdentity(pki.Dir(a.home.dir))
	if err != nil {
		return nil, err
	}
	pool.AddCert(id.CA)
	return pool, nil
}
