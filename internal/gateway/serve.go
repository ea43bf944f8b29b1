package gateway

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
	"github.com/cardea-apim/cardea/internal/gateway/report"
	"github.com/cardea-apim/cardea/internal/gateway/route"
	"github.com/cardea-apim/cardea/internal/throttle"
	"github.com/cardea-apim/cardea/internal/usage"
)

// call is an exchange and what the gateway finds out about it, with room that
// needs no clearing between calls.
type call struct {
	state
	room   [12]throttle.Check
	record report.Record
}

type state struct {
	exchange.Exchange
	g       *Gateway
	t       *tables
	now     time.Time // of decisions
	trusted bool      // the peer is a trusted proxy
	crowded bool      // more calls are in progress than may be
	path    route.Path
	api     *api // nil: none found
	depth   int  // length of the context in path.Decoded
	op      *operation
	caller  auth.Caller
	group   *proxy.Group
	checks  []throttle.Check
	send    proxy.Call
	req     proxy.Request
	res     proxy.Response
	in      counted
	out     timedBody
	sink    sink
	secure  exchange.TLS
	sentAt  time.Time // zero: no backend was asked
	headAt  time.Time
	refusal *exchange.Refusal
	id      string // of the decision
	gone    bool   // the client left
}

var calls = sync.Pool{New: func() any { return new(call) }}

// acquire gives an empty call to an engine, which fills the request part of
// its exchange, has it served, writes the reply and calls done.
func (g *Gateway) acquire() *call {
	c := calls.Get().(*call)
	c.g = g
	c.Start = time.Now()
	return c
}

func (c *call) release() {
	sent, in, out, scratch := c.req.Header[:0], c.Header[:0], c.Reply.Header[:0], c.Scratch
	scratch.Reset()
	c.state = state{}
	c.req.Header, c.Header, c.Reply.Header, c.Scratch = sent, in, out, scratch
	calls.Put(c)
}

// serve decides the call and, unless it is refused, has the backend's answer
// begin. Afterwards c.Reply says what to write; c.gone that there is nobody.
func (c *call) serve() {
	c.t = c.g.tables.Load()
	c.now = c.Start
	if c.g.o.clock {
		c.now = c.g.o.Now()
	}
	c.trusted = c.g.isTrusted(c.Peer)
	c.Client = c.Peer
	if c.trusted {
		c.Client = c.g.client(&c.Exchange)
	}
	err := c.admit()
	if err == nil {
		err = c.route()
	}
	if err == nil && c.op != nil {
		for _, s := range c.op.flow.steps {
			if err = s(c); err != nil {
				break
			}
		}
	}
	switch r := err.(type) {
	case nil:
	case *exchange.Refusal:
		c.refuse(r)
	default:
		if err == errGone {
			c.gone = true
			return
		}
		c.refuse(exchange.Refuse(exchange.Fault, fault.GwNoDefinition.Because(err), "internal"))
	}
}

// admit refuses a call that is one too many: better a few told to come back
// than all slow.
func (c *call) admit() error {
	if !c.crowded {
		return nil
	}
	c.g.cors.mark(&c.Exchange)
	c.Reply.Header.Add("Retry-After", "1")
	return exchange.Refuse(exchange.Fault, fault.GwOverload.With("The gateway is at its limit of concurrent calls"), "overload",
		"limit", strconv.FormatInt(c.g.o.MaxConcurrent, 10))
}

// upgrades reports whether the client wants another protocol than HTTP on this
// connection. An offer of HTTP/2 may be ignored; WebSocket cannot go on without.
func upgrades(h exchange.Header) (yes bool) {
	to := h.Get("Upgrade")
	if to == "" || exchange.Fold(to, "h2c") {
		return false
	}
	for i := range h {
		if exchange.Fold(h[i].Name, "Connection") {
			exchange.EachToken(h[i].Value, func(t string) bool {
				yes = yes || exchange.Fold(t, "upgrade")
				return !yes
			})
		}
	}
	return yes
}

// route finds API and resource. Without an error and without an operation the
// reply is complete.
func (c *call) route() error {
	p, err := route.Parse(c.RawPath)
	if err != nil || strings.IndexByte(c.RawQuery, '#') >= 0 {
		why := "fragment in target"
		if err != nil {
			why = err.Error()
		}
		c.g.cors.mark(&c.Exchange)
		return badRequest(why)
	}
	c.path = p
	e, depth := c.t.lookup(c.Host, p.Decoded)
	if e == nil {
		c.g.cors.mark(&c.Exchange)
		if c.RawPath == "/" && (c.Method == "GET" || c.Method == "HEAD") {
			c.Reply.Plain(200, "text/html; charset=UTF-8", welcome)
			return nil
		}
		return c.unknown()
	}
	c.api, c.depth = e, depth
	c.api.cors.mark(&c.Exchange)
	if c.TLS == nil && !c.api.http || c.TLS != nil && !c.api.https {
		return exchange.Refuse(exchange.Fault,
			fault.GwTransport.With("Unsupported Transport [ "+c.Scheme()+" ]. The requested resource is not available."), "transport")
	}
	if upgrades(c.Header) {
		return exchange.Refuse(exchange.Threat, fault.GwBadRequest.With("This API does not speak another protocol than HTTP on this port"), "upgrade",
			"protocol", c.Header.Get("Upgrade"))
	}
	err = c.find(c.Method)
	if err == nil || c.Method != "OPTIONS" {
		return err
	}
	if r, ok := err.(*exchange.Refusal); ok && r.Rule == "method" {
		c.op = nil
		err = c.preflight()
		c.op = nil
	}
	return err
}

// find looks up the resource for a verb.
func (c *call) find(verb string) error {
	i, found, err := c.path.Resource(c.depth, c.api.matcher, c.RawQuery, verb)
	if err != nil {
		return badRequest(err.Error())
	}
	switch found {
	case route.NoVerb:
		return refuseMethod()
	case route.NoPath:
		return exchange.Refuse(exchange.Fault, fault.GwNoResource.With("No matching resource found for given API Request"), "resource")
	}
	c.op = &c.api.ops[i]
	return nil
}

// unknown answers a path that belongs to no API. A tenant's domain in the
// wrong case is answered as the original does, with a 500.
func (c *call) unknown() error {
	if rest, ok := strings.CutPrefix(c.path.Decoded, "/t/"); ok {
		domain, _, _ := strings.Cut(rest, "/")
		if _, known := c.t.facts.Tenants[domain]; !known {
			if _, known = c.t.facts.Tenants[strings.ToLower(domain)]; known {
				return exchange.Refuse(exchange.Fault, fault.GwTenantCase.With("Error while resolving the tenant"), "tenant-case")
			}
		}
	}
	return exchange.Refuse(exchange.Fault, fault.GwNotFound.With("The requested resource is not available."), "no-api")
}

func badRequest(why string) error {
	return exchange.Refuse(exchange.Threat, fault.GwBadRequest.With("The path or query of the request is malformed"), "bad-path", "cause", why)
}

const welcome = "<!DOCTYPE html>\n<html><head><title>APIM</title></head><body><h1>Welcome to APIM</h1></body></html>\n"

func (g *Gateway) isTrusted(a netip.Addr) bool {
	for _, p := range g.o.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// client walks X-Forwarded-For from the right, past trusted proxies.
func (g *Gateway) client(x *exchange.Exchange) netip.Addr {
	at := x.Peer
	for i := len(x.Header) - 1; i >= 0; i-- {
		if !exchange.Fold(x.Header[i].Name, "X-Forwarded-For") {
			continue
		}
		v := x.Header[i].Value
		for v != "" {
			var last string
			if j := strings.LastIndexByte(v, ','); j >= 0 {
				v, last = v[:j], v[j+1:]
			} else {
				v, last = "", v
			}
			a, ok := parseAddr(strings.TrimSpace(last))
			if !ok {
				return at
			}
			if at = a; !g.isTrusted(a) {
				return at
			}
		}
	}
	return at
}

// parseAddr reads an address, with or without a port.
func parseAddr(s string) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), true
	}
	if p, err := netip.ParseAddrPort(s); err == nil {
		return p.Addr().Unmap(), true
	}
	return netip.Addr{}, false
}

func unescape(s string) string {
	if t, err := url.QueryUnescape(s); err == nil {
		return t
	}
	return s
}

// noSource is what calls of no API have in common.
var noSource = &report.Source{}

// done reports the call after its reply was written: bytes is how many of the
// body went out. The call must not be used afterwards.
func (c *call) done(bytes int64) {
	end := time.Now()
	received := c.in.n.Load()
	if received > 0 {
		c.g.o.Limiter.Charge(c.now, c.checks, throttle.Bytes, received)
	}
	c.g.metrics.count(c)
	if c.g.o.Reporter != nil {
		r := &c.record
		*r = report.Record{
			Source: noSource, User: c.caller.User, KeyType: c.caller.KeyType, Status: c.Reply.Status, Time: c.now, ID: c.id,
			BytesIn: received, BytesOut: bytes, Path: c.RawPath, Client: c.Client, UserAgent: c.Header.Get("User-Agent"),
		}
		if c.api != nil {
			r.Source = c.api.source
			if c.op != nil {
				r.Operation, r.Verb = c.op.target, c.op.verb
			}
		}
		if c.caller.Application != nil {
			r.Application = c.caller.Application.ID
		}
		if r.ID == "" {
			r.ID = c.Header.Get("activityid")
		}
		if c.gone {
			r.Status = statusGone
		}
		r.Gateway, r.Backend = c.times(end)
		if c.refusal != nil {
			r.Code = c.refusal.Fault.Code
			r.Decision = c.decision()
		}
		c.g.o.Reporter.Report(r)
	}
	c.release()
}

// statusGone is reported, never sent: the client left before the answer.
const statusGone = 499

// times splits the call's time: waiting for the backend, and everything until
// the reply could be written. Writing to the client belongs to neither.
func (c *call) times(end time.Time) (gateway, backend time.Duration) {
	if c.sentAt.IsZero() {
		return end.Sub(c.Start), 0
	}
	return c.sentAt.Sub(c.Start), c.headAt.Sub(c.sentAt) + c.out.wait
}

func (c *call) decision() *usage.Decision {
	d := &usage.Decision{
		ID: c.id, Time: c.now, Gateway: c.g.o.Name, Status: c.Reply.Status, Code: c.refusal.Fault.Code,
		Rule: c.refusal.Rule, Details: c.refusal.Details, Application: c.record.Application,
	}
	if c.api != nil {
		d.Tenant, d.API = c.api.tenant, c.api.id
	}
	return d
}
