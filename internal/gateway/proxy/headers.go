package proxy

import (
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
)

// Rules are the header rules that all APIs of a gateway share.
type Rules struct {
	PublicHTTP, PublicHTTPS string // scheme://host:port; empty: as the caller addressed us
}

// class is what a gateway does about a field, by its name.
type class uint8

const (
	plain     class = iota
	hop             // concerns one connection only, or is rebuilt from what was parsed
	forwarded       // only a trusted proxy may set it
	own             // is for the gateway only
)

// classes are the names of each class but plain.
var classes = map[class][]string{
	hop: {
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "TE", "Trailer",
		"Transfer-Encoding", "Upgrade", "Expect", "Host", "Content-Length", "HTTP2-Settings",
	},
	forwarded: {
		"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server", "Forwarded",
		"X-Real-IP", "X-WSO2-CLIENT-CERTIFICATE",
	},
	own: {"Internal-Key", "apikey", "WSO2_AM_API_DEFAULT_VERSION"},
}

type classed struct {
	name string
	class
}

// byLength finds the few names a field's can be.
var byLength = func() (t [32][]classed) {
	for c, names := range classes {
		for _, n := range names {
			t[len(n)] = append(t[len(n)], classed{n, c})
		}
	}
	return t
}()

func classOf(name string) class {
	if len(name) >= len(byLength) {
		return plain
	}
	for _, k := range byLength[len(name)] {
		if exchange.Fold(k.name, name) {
			return k.class
		}
	}
	return plain
}

func in(list []string, name string) bool {
	for _, n := range list {
		if exchange.Fold(n, name) {
			return true
		}
	}
	return false
}

// namesFields reports whether a Connection field of h names other fields, which
// then concern the connection only.
func namesFields(h exchange.Header) bool {
	for i := range h {
		if exchange.Fold(h[i].Name, "Connection") && !exchange.Fold(h[i].Value, "keep-alive") && !exchange.Fold(h[i].Value, "close") {
			return true
		}
	}
	return false
}

// named reports whether a Connection field of h names the field.
func named(h exchange.Header, name string) (yes bool) {
	for i := range h {
		if exchange.Fold(h[i].Name, "Connection") {
			exchange.EachToken(h[i].Value, func(t string) bool {
				yes = exchange.Fold(t, name)
				return !yes
			})
			if yes {
				return true
			}
		}
	}
	return false
}

// rebuild makes the request for this endpoint out of what was parsed.
func (e *Endpoint) rebuild(x *exchange.Exchange, c *Call, r *Request) {
	r.Method, r.TLS, r.Addr, r.Nearby, r.Host, r.Timeout = x.Method, e.tls, e.addr, e.nearby, e.host, e.timeout
	r.Proto = e.proto(x)
	r.Body, r.BodyLen = nil, 0
	r.Trailer = exchange.Trailer{}
	if x.Trailer.From != nil {
		strip, auth := c.Strip, c.Auth
		r.Trailer = only(x.Trailer, func(name string) bool {
			return !in(framing[:], name) && classOf(name) == plain &&
				!exchange.Fold(name, strip) && !exchange.Fold(name, auth)
		})
	}
	r.Target = e.target(&x.Scratch, c.Rest, c.Query)
	r.Header = r.Header[:0]
	connection := namesFields(x.Header)
	forwardedFor := ""
	for _, f := range x.Header {
		kind := classOf(f.Name)
		switch {
		case kind == hop, kind == own:
			continue
		case connection && named(x.Header, f.Name):
			continue
		case kind == forwarded:
			if !c.Trusted {
				continue
			}
			if exchange.Fold(f.Name, "X-Forwarded-For") {
				if forwardedFor != "" {
					forwardedFor += ", "
				}
				forwardedFor += f.Value
				continue
			}
		case exchange.Fold(f.Name, c.Strip):
			continue
		case exchange.Fold(f.Name, c.Auth):
			if e.authorization != "" && exchange.Fold(f.Name, "Authorization") {
				continue
			}
			if !c.KeepAll {
				continue
			}
		case e.authorization != "" && exchange.Fold(f.Name, "Authorization"):
			continue
		case e.keyHeader != "" && exchange.Fold(f.Name, e.keyHeader):
			continue
		}
		r.Header = append(r.Header, f)
	}
	if c.AuthTo != "" && !c.KeepAll && (e.authorization == "" || !exchange.Fold(c.Auth, "Authorization")) {
		r.Header.Add(c.Auth, c.AuthTo)
	}
	if e.authorization != "" {
		r.Header.Add("Authorization", e.authorization)
	}
	if e.keyHeader != "" {
		r.Header.Add(e.keyHeader, e.keyValue)
	}
	if x.Peer.IsValid() {
		b := x.Scratch.Begin()
		if forwardedFor != "" {
			b = append(append(b, forwardedFor...), ", "...)
		}
		r.Header.Add("X-Forwarded-For", x.Scratch.End(x.Peer.AppendTo(b)))
	}
	if !c.Trusted || !r.Header.Has("X-Forwarded-Host") {
		r.Header.Add("X-Forwarded-Host", x.Host)
	}
	if !c.Trusted || !r.Header.Has("X-Forwarded-Proto") {
		r.Header.Add("X-Forwarded-Proto", x.Scheme())
	}
}

func (e *Endpoint) target(s *exchange.Scratch, rest, query string) string {
	b := append(append(s.Begin(), e.base...), rest...)
	if len(b) == 0 {
		b = append(b, '/')
	}
	sep := byte('?')
	for _, q := range [...]string{e.query, query, e.keyQuery} {
		if q != "" {
			b = append(append(b, sep), q...)
			sep = '&'
		}
	}
	return s.End(b)
}

// Reply moves a backend's answer into the exchange, without what concerned the
// connection to the backend. Fields already in the reply (CORS) give way to
// the backend's own.
func (r *Response) Reply(x *exchange.Exchange, rules *Rules) {
	out := &x.Reply
	kept := out.Header[:0]
	for _, f := range out.Header {
		if !r.Header.Has(f.Name) {
			kept = append(kept, f)
		}
	}
	out.Header = kept
	connection := namesFields(r.Header)
	for _, f := range r.Header {
		switch {
		case classOf(f.Name) == hop && !exchange.Fold(f.Name, "Proxy-Authenticate"):
			continue
		case connection && named(r.Header, f.Name):
			continue
		case len(f.Name) > 7 && exchange.Fold(f.Name[:7], "Cardea-"):
			continue
		case exchange.Fold(f.Name, "Location"):
			f.Value = rules.location(x, f.Value)
		case exchange.Fold(f.Name, "Content-Type"):
			out.Stream = out.Stream || strings.HasPrefix(f.Value, "text/event-stream")
		}
		out.Header = append(out.Header, f)
	}
	out.Status, out.Body, out.Len, out.HasText = r.Status, r.Body, r.Len, false
	out.Trailer = only(r.Trailer, mayFollow)
}

// framing are fields that mean something before a body only, so that no
// trailer may carry them.
var framing = [...]string{
	"Authorization", "Cookie", "Set-Cookie", "Content-Type", "Content-Encoding", "Content-Range", "Cache-Control",
	"Location", "Range", "Vary", "WWW-Authenticate",
}

// only is t with the fields whose names may pass.
func only(t exchange.Trailer, may func(name string) bool) exchange.Trailer {
	if t.From == nil {
		return t
	}
	t.May = may
	if len(t.Names) > 0 {
		t.Names = slices.DeleteFunc(slices.Clone(t.Names), func(n string) bool { return !may(n) })
	}
	return t
}

// mayFollow reports whether an answer's trailer may have a field.
func mayFollow(name string) bool { return !in(framing[:], name) && classOf(name) != hop }

// location makes a relative Location absolute, on this gateway; an absolute
// one passes.
func (s *Rules) location(x *exchange.Exchange, to string) string {
	if to == "" || strings.HasPrefix(to, "//") || absolute(to) {
		return to
	}
	base := s.PublicHTTP
	if x.TLS != nil {
		base = s.PublicHTTPS
	}
	if base == "" {
		base = x.Scheme() + "://" + x.Host
	}
	if to[0] == '/' {
		return base + to
	}
	if to[0] == '?' || to[0] == '#' {
		return base + x.RawPath + to
	}
	return base + x.RawPath[:strings.LastIndexByte(x.RawPath, '/')+1] + to
}

// absolute reports whether a reference begins with a scheme.
func absolute(ref string) bool {
	for i := range len(ref) {
		switch c := ref[i]; {
		case c == ':':
			return i > 0
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	return false
}
