package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
	"github.com/cardea-apim/cardea/internal/http1"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// upstream is how calls reach backends: over our own client for HTTP/1.1, and
// over net/http's for HTTP/2.
type upstream struct {
	client  *http1.Client
	trust   *tls.Config // of backends elsewhere
	lenient *tls.Config // of backends whose certificates need not name the host; see Options.UpstreamNames
	nowhere bool        // lenient is for all
	h2      *http2Upstream
}

func newUpstream(o *Options) *upstream {
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 30 * time.Second, Control: guard(o.RefusedPorts)}
	u := &upstream{
		client: http1.NewClient(http1.Options{
			Dial: dialer.DialContext, Connect: o.ConnectTimeout, MaxOpen: o.MaxPerHost, WaitTime: o.ConnectTimeout,
		}),
		trust:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.UpstreamRoots, ClientSessionCache: tls.NewLRUClientSessionCache(256)},
		nowhere: o.UpstreamNames == "any",
	}
	u.lenient = u.trust
	if o.UpstreamNames != "" {
		u.lenient = namelessly(u.trust)
	}
	u.h2 = newHTTP2Upstream(o, dialer, u.secure)
	return u
}

// secure is the TLS configuration for a backend, always the same for the same.
func (u *upstream) secure(nearby bool) *tls.Config {
	if nearby || u.nowhere {
		return u.lenient
	}
	return u.trust
}

func (u *upstream) close() {
	u.client.Close()
	u.h2.close()
}

// Send sends one request. Its timeout runs from the start to the head of the
// answer, and anew with every piece of a body in either direction.
func (u *upstream) Send(ctx context.Context, r *proxy.Request, res *proxy.Response) error {
	if r.Proto != proxy.HTTP1 {
		done, err := u.h2.send(ctx, r, res)
		if done || err != nil {
			return err
		}
	}
	var secure *tls.Config
	if r.TLS {
		secure = u.secure(r.Nearby)
	}
	w := &r.Wire
	*w = http1.Request{Method: r.Method, Target: r.Target, Host: r.Host, Header: http1.Header(r.Header), Timeout: r.Timeout}
	if r.Body != nil {
		w.Body, w.Length = r.Body, r.BodyLen
		if r.BodyLen < 0 && r.Trailer.From != nil {
			w.Trailer = func() http1.Header { return http1.Header(r.Trailer.Fields()) }
		}
	}
	got, err := u.client.Endpoint(r.Addr, secure).Do(ctx, w)
	if err != nil {
		return explain(err)
	}
	res.Status, res.Header, res.Len, res.Body = got.Status, exchange.Header(got.Header), got.Length, got
	if got.Length < 0 {
		res.Trailer = exchange.Trailer{Names: exchange.Announced(res.Header), From: got}
	}
	return nil
}

// explain says in the proxy's words why a backend did not answer.
func explain(err error) error {
	for _, m := range [...]struct{ is, as error }{
		{proxy.ErrRefused, proxy.ErrRefused}, // the guard's, within ErrConnect
		{http1.ErrBusy, proxy.ErrBusy},       // likewise
		{http1.ErrConnect, proxy.ErrConnect},
		{http1.ErrTimeout, proxy.ErrTimeout},
		{http1.ErrBody, proxy.ErrBody},
		{http1.ErrCanceled, proxy.ErrClient},
		{http1.ErrProtocol, proxy.ErrProtocol},
		{http1.ErrRequest, proxy.ErrProtocol},
		{http1.ErrClosed, proxy.ErrClosed},
	} {
		if errors.Is(err, m.is) {
			return fmt.Errorf("%w: %w", m.as, err)
		}
	}
	return fmt.Errorf("%w: %w", proxy.ErrClosed, err)
}

// tidyEvery is how long the pools of backends that are no longer named may stay.
const tidyEvery = time.Minute

// tidy forgets backends, from time to time, after APIs changed.
func (u *upstream) tidy(ctx context.Context, current func() *tables) {
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	var seen *tables
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if t := current(); t != seen {
				seen = t
				u.forget(t)
			}
		}
	}
}

// backend is one address as the client's pools know it.
type backend struct {
	addr   string
	secure *tls.Config
}

// forget drops the pools of backends that no API names any more.
func (u *upstream) forget(t *tables) {
	used := make(map[backend]bool)
	t.apis.Each(func(_ snapshot.Key, a *api) bool {
		for _, group := range []*proxy.Group{a.production, a.sandbox} {
			group.Each(func(addr string, secure, nearby bool) {
				b := backend{addr: addr}
				if secure {
					b.secure = u.secure(nearby)
				}
				used[b] = true
			})
		}
		return true
	})
	u.client.Forget(func(addr string, secure *tls.Config) bool { return used[backend{addr, secure}] })
}
