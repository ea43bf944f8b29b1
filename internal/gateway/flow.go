package gateway

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
)

// step acts on one call; an error ends the flow and is answered.
type step func(*call) error

// flow is the list of steps of an operation. Flows hold nothing of their API,
// so operations share them.
type flow struct{ steps []step }

var (
	flowBlocked = &flow{[]step{stepBlocked}}
	flowServe   = &flow{[]step{stepAuthenticate, stepEndpoint, stepThrottle, stepSend}}
)

// flowFor picks the flow of an operation when its API is compiled.
func flowFor(a *api, _ auth.Kind) *flow {
	if a.state == "BLOCKED" {
		return flowBlocked
	}
	return flowServe
}

const blockedDetail = "This API has been blocked temporarily. Please try again later or contact the system administrators."

func stepBlocked(c *call) error {
	return exchange.Refuse(exchange.Blocked, fault.GwAPIBlocked.With(blockedDetail), "api-blocked")
}

func stepAuthenticate(c *call) error {
	var scopes []string
	if c.op.more != nil {
		scopes = c.op.more.scopes
	}
	if r := c.g.auth.Check(&c.Exchange, c.t.facts, c.api.rules, c.op.kind, scopes, c.now, &c.caller); r != nil {
		return r
	}
	return nil
}

// stepEndpoint lets a key reach only endpoints and environments of its kind.
func stepEndpoint(c *call) error {
	sandbox := c.caller.KeyType == auth.Sandbox
	switch c.t.facts.Environments[c.api.env] {
	case "production":
		if sandbox && !c.caller.Anonymous {
			return exchange.Refuse(exchange.WrongKey, fault.GwBadCredentials.With("Sandbox Key Provided for Production Gateway"), "environment")
		}
	case "sandbox":
		if !sandbox && c.caller.Anonymous && c.api.sandbox != nil {
			sandbox, c.caller.KeyType = true, auth.Sandbox
		} else if !sandbox && !c.caller.Anonymous {
			return exchange.Refuse(exchange.WrongKey, fault.GwBadCredentials.With("Production Key Provided for Sandbox Gateway"), "environment")
		}
	}
	c.group = c.api.production
	detail := "Production key offered to the API with no production endpoint"
	if sandbox {
		c.group = c.api.sandbox
		detail = "Sandbox key offered to the API with no sandbox endpoint"
	}
	if c.group == nil {
		return exchange.Refuse(exchange.Fault, fault.GwNoKeyEndpoint.With(detail), "endpoint-of-key", "keytype", c.caller.KeyType)
	}
	return nil
}

// stepSend takes the call to a backend. The reply's body is still to be read.
func stepSend(c *call) error {
	rules := c.api.rules
	c.send = proxy.Call{
		Rest: c.path.Rest(c.depth), Query: auth.StripQuery(c.RawQuery, rules), Rules: &c.g.rules, Trusted: c.trusted,
		Strip: rules.KeyHeader, Auth: rules.AuthHeader, AuthTo: c.caller.AuthTo, KeepAll: c.g.o.OutboundAuthHeader, Now: c.now,
	}
	if c.Body != nil && c.BodyLen != 0 {
		c.in.r = c.Body
		c.Body = &c.in
	}
	c.sentAt = time.Now()
	e, err := c.group.Send(c.Ctx, c.g.upstream, &c.Exchange, &c.send, &c.req, &c.res)
	c.headAt = time.Now()
	if err != nil {
		if errors.Is(err, proxy.ErrBody) && c.left() {
			return errGone
		}
		if errors.Is(err, proxy.ErrBusy) {
			c.Reply.Header.Add("Retry-After", "1")
		}
		return sendFailed(err, e)
	}
	c.res.Reply(&c.Exchange, &c.g.rules)
	if c.Reply.Body != nil {
		c.out = timedBody{r: c.Reply.Body}
		c.Reply.Body = &c.out
	}
	return nil
}

// errGone ends a call whose client left: nobody is there to be answered.
var errGone = errors.New("client went away")

func sendFailed(err error, e *proxy.Endpoint) error {
	row, rule, detail := fault.GwUpstreamIO, "backend-io", "Error while talking to the backend"
	switch {
	case errors.Is(err, proxy.ErrClient):
		return errGone
	case errors.Is(err, proxy.ErrBody):
		row, rule, detail = fault.GwIncomplete, "body-incomplete", "The request body ended too early"
	case errors.Is(err, proxy.ErrSuspended):
		row, rule, detail = fault.GwSuspended, "endpoint-suspended", "Currently, the endpoint is suspended"
	case errors.Is(err, proxy.ErrBusy):
		row, rule, detail = fault.GwOverload, "backend-busy", "Too many calls wait for a connection to the backend"
	case errors.Is(err, proxy.ErrTimeout):
		row, rule, detail = fault.GwUpstreamTimeout, "backend-timeout", "The backend did not answer in time"
	case errors.Is(err, proxy.ErrConnect):
		row, rule, detail = fault.GwUpstreamConnect, "backend-connect", "Cannot connect to the backend"
	case errors.Is(err, proxy.ErrRefused):
		row, rule, detail = fault.GwUpstreamConnect, "backend-address", "The address of the backend is not allowed"
	case errors.Is(err, proxy.ErrClosed):
		row, rule, detail = fault.GwUpstreamClosed, "backend-closed", "The backend closed the connection"
	case errors.Is(err, proxy.ErrProtocol):
		row, rule, detail = fault.GwUpstreamBroken, "backend-protocol", "The backend's answer is not valid HTTP"
	}
	pairs := []string{"cause", err.Error()}
	if e != nil {
		pairs = append(pairs, "endpoint", e.URL())
	}
	return exchange.Refuse(exchange.Fault, row.With(detail).Because(err), rule, pairs...)
}

// counted counts the bytes of a request body.
type counted struct {
	r io.Reader
	n atomic.Int64
}

// Read reads the body.
func (b *counted) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// Take is the whole body if it has arrived.
func (b *counted) Take() ([]byte, bool) {
	w, ok := b.r.(interface{ Take() ([]byte, bool) })
	if !ok {
		return nil, false
	}
	p, whole := w.Take()
	b.n.Add(int64(len(p)))
	return p, whole
}

// Interrupt ends a read that waits.
func (b *counted) Interrupt() {
	if i, ok := b.r.(interface{ Interrupt() }); ok {
		i.Interrupt()
	}
}

// timedBody measures how long the backend is waited for while its body is read.
type timedBody struct {
	r    io.ReadCloser
	wait time.Duration
}

func (b *timedBody) Read(p []byte) (int, error) {
	from := time.Now()
	n, err := b.r.Read(p)
	b.wait += time.Since(from)
	return n, err
}

// Close ends the backend's answer, once.
func (b *timedBody) Close() error {
	r := b.r
	if r == nil {
		return nil
	}
	b.r = nil
	return r.Close()
}
