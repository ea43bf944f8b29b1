package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// ErrSuspended says that every endpoint is suspended after failures.
var ErrSuspended = errors.New("all endpoints are suspended")

// Group is the endpoints for one kind of key.
type Group struct {
	list   []*Endpoint
	rotate bool
	next   atomic.Uint32
}

// NewGroup compiles endpoints. With mode failover they are tried in order,
// with load_balance in turns; otherwise only the first is used. nil without
// endpoints.
func NewGroup(list []snapshot.Endpoint, mode string, open Open, timeout time.Duration) (*Group, error) {
	if len(list) == 0 {
		return nil, nil
	}
	if mode != "failover" && mode != "load_balance" {
		list = list[:1]
	}
	g := &Group{rotate: mode == "load_balance"}
	for i, s := range list {
		e, err := newEndpoint(s, open, timeout)
		if err != nil {
			return nil, fmt.Errorf("endpoint %d: %w", i+1, err)
		}
		g.list = append(g.list, e)
	}
	return g, nil
}

// Call is what Send needs to know besides the exchange.
type Call struct {
	Rest    string // raw path below the API's context
	Query   string // raw query to forward
	Rules   *Rules
	Trusted bool   // the peer's X-Forwarded-* are believed
	Strip   string // name of the header that carried the caller's key, besides the usual ones
	Auth    string // name of the authorization header
	AuthTo  string // what remains of it for the backend; empty: nothing
	KeepAll bool   // forward credentials
	Now     time.Time
}

// Send tries endpoints until one answers. Another one, or the same again, is
// tried only where that is safe: when nothing was sent, or the method is
// idempotent and there is no body. The answer is put into res. The error wraps
// one of this package's.
func (g *Group) Send(ctx context.Context, up Upstream, x *exchange.Exchange, c *Call, r *Request, res *Response) (*Endpoint, error) {
	first := 0
	if g.rotate {
		first = int(g.next.Add(1)-1) % len(g.list)
	}
	var last error
	var at *Endpoint
	r.sent.r = x.Body
	r.sent.read.Store(false)
	for i := range g.list {
		e := g.list[(first+i)%len(g.list)]
		if e.suspended(c.Now) {
			continue
		}
		for try := 0; ; try++ {
			at = e
			e.rebuild(x, c, r)
			if x.Body != nil && x.BodyLen != 0 {
				r.Body, r.BodyLen = &r.sent, x.BodyLen
			}
			err := up.Send(ctx, r, res)
			if err == nil {
				e.worked()
				return e, nil
			}
			*res = Response{}
			last = err
			if errors.Is(err, ErrClient) || errors.Is(err, ErrBody) || errors.Is(err, ErrRefused) || ctx.Err() != nil {
				return e, err
			}
			if !safe(x, err, r.sent.read.Load()) {
				e.failed(c.Now)
				return e, err
			}
			if try == e.retries {
				e.failed(c.Now)
				break
			}
			if e.delay > 0 {
				select {
				case <-ctx.Done():
					return e, fmt.Errorf("%w: %w", ErrClient, ctx.Err())
				case <-time.After(e.delay):
				}
			}
		}
	}
	if last == nil {
		last = ErrSuspended
	}
	return at, last
}

// safe reports whether sending the request again cannot do anything twice.
func safe(x *exchange.Exchange, err error, bodyRead bool) bool {
	if bodyRead {
		return false
	}
	if errors.Is(err, ErrConnect) {
		return true
	}
	switch x.Method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return x.BodyLen == 0 && !errors.Is(err, ErrTimeout)
	}
	return false
}

// tracked notes that a body was read from.
type tracked struct {
	r    io.Reader
	read atomic.Bool
}

// Read reads the body.
func (t *tracked) Read(p []byte) (int, error) {
	if !t.read.Load() {
		t.read.Store(true)
	}
	return t.r.Read(p)
}

// Take is the whole body if it has arrived.
func (t *tracked) Take() ([]byte, bool) {
	if w, ok := t.r.(interface{ Take() ([]byte, bool) }); ok {
		if p, whole := w.Take(); whole {
			t.read.Store(true)
			return p, true
		}
	}
	return nil, false
}

// Interrupt ends a read that waits.
func (t *tracked) Interrupt() {
	if i, ok := t.r.(interface{ Interrupt() }); ok {
		i.Interrupt()
	}
}

// Each calls fn for the address of every endpoint; a nil group has none.
func (g *Group) Each(fn func(addr string, secure, nearby bool)) {
	if g == nil {
		return
	}
	for _, e := range g.list {
		fn(e.addr, e.tls, e.nearby)
	}
}
