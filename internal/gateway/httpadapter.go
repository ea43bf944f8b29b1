package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
)

// Handler is the gateway as a handler of net/http's server, whose listeners
// and timeouts are the caller's.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c := g.acquire()
	fill(&c.Exchange, r)
	defer g.inFlight.Add(-1)
	c.crowded = g.inFlight.Add(1) > g.o.MaxConcurrent
	if c.Body != nil && r.ProtoMajor == 1 {
		// The backend may answer before it has read everything. An engine that
		// cannot do that (a recorder in a test) still serves.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	c.serve()
	var bytes int64
	var err error
	if c.gone {
		err = errGone
	} else {
		bytes, err = write(w, r, &c.Reply)
	}
	c.done(bytes)
	if err != nil {
		panic(http.ErrAbortHandler) // cut the connection: the answer is incomplete
	}
}

// fill makes an exchange out of a request of net/http.
func fill(x *exchange.Exchange, r *http.Request) {
	x.Ctx, x.Method, x.Host = r.Context(), r.Method, r.Host
	target := r.RequestURI
	if target == "" || target[0] != '/' {
		target = r.URL.RequestURI() // absolute form; the authority is in Host
	}
	if i := strings.IndexByte(target, '?'); i >= 0 {
		x.RawPath, x.RawQuery = target[:i], target[i+1:]
	} else {
		x.RawPath = target
	}
	for name, values := range r.Header {
		for _, v := range values {
			x.Header = append(x.Header, exchange.Field{Name: name, Value: v})
		}
	}
	x.BodyLen = r.ContentLength
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		x.Body = r.Body
	}
	if len(r.Trailer) > 0 && x.Body != nil {
		x.Trailer = trailer(r.Trailer)
	}
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.Peer = a.Addr().Unmap()
	}
	if t := r.TLS; t != nil {
		x.TLS = &exchange.TLS{Version: t.Version, ServerName: t.ServerName}
		for _, cert := range t.PeerCertificates {
			x.TLS.Client = append(x.TLS.Client, cert.Raw)
		}
	}
}

// trailer is a trailer of net/http, which fills it when the body ends.
func trailer(h http.Header) exchange.Trailer {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	return exchange.Trailer{Names: names, Read: func() exchange.Header {
		out := make(exchange.Header, 0, len(h))
		for name, values := range h {
			for _, v := range values {
				out = append(out, exchange.Field{Name: name, Value: v})
			}
		}
		return out
	}}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// write sends a reply. An error means that the client has only a part of it.
func write(w http.ResponseWriter, r *http.Request, reply *exchange.Reply) (int64, error) {
	h := w.Header()
	for _, f := range reply.Header {
		k := http.CanonicalHeaderKey(f.Name)
		h[k] = append(h[k], f.Value)
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // do not guess
	}
	if reply.Close {
		h.Set("Connection", "close")
	}
	bodiless := r.Method == http.MethodHead || reply.Status == http.StatusNoContent || reply.Status == http.StatusNotModified
	if reply.Len >= 0 && (reply.Len > 0 || !bodiless) {
		h.Set("Content-Length", strconv.FormatInt(reply.Len, 10))
	}
	if reply.Trailer.Read != nil && reply.Len < 0 {
		for _, name := range reply.Trailer.Names {
			h.Add("Trailer", name)
		}
	}
	w.WriteHeader(reply.Status)
	if reply.HasText {
		if bodiless {
			return 0, nil
		}
		n, err := io.WriteString(w, reply.Text)
		return int64(n), err
	}
	if reply.Body == nil {
		return 0, nil
	}
	defer reply.Body.Close()
	if bodiless {
		return 0, nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	flush := reply.Stream || reply.Len < 0
	if reply.Stream || flush && r.ContentLength != 0 {
		_ = flushNow(w) // the client may wait for the head before it goes on sending
	}
	var total int64
	for {
		n, err := reply.Body.Read(*buf)
		if n > 0 {
			m, werr := w.Write((*buf)[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
			if flush {
				if err := flushNow(w); err != nil {
					return total, err
				}
			}
		}
		if err == io.EOF {
			if reply.Trailer.Read != nil && reply.Len < 0 {
				for _, f := range reply.Trailer.Read() {
					k := http.TrailerPrefix + http.CanonicalHeaderKey(f.Name)
					h[k] = append(h[k], f.Value)
				}
			}
			return total, nil
		}
		if err != nil {
			_ = flushNow(w) // what there is; then the connection is cut
			return total, err
		}
	}
}

// flushNow sends what is buffered, where the engine can.
func flushNow(w http.ResponseWriter) error {
	if f, ok := w.(interface{ FlushError() error }); ok {
		return f.FlushError()
	}
	return nil
}

// transport is an Upstream over net/http's client.
type transport struct {
	rt *http.Transport
}

func newTransport(o *Options) *transport {
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 30 * time.Second, Control: guard(o.RefusedPorts)}
	rt := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.UpstreamRoots},
		TLSHandshakeTimeout:    o.ConnectTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    512,
		MaxConnsPerHost:        o.MaxPerHost,
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        16 << 10,
		ReadBufferSize:         16 << 10,
	}
	if o.UpstreamNames != "" {
		rt.DialTLSContext = dialLenient(dialer, rt.TLSClientConfig, o.ConnectTimeout, o.UpstreamNames == "any")
	}
	return &transport{rt: rt}
}

// dialLenient verifies the chain of a backend's certificate as always, but not
// that it names the host where that is this machine, or nowhere.
func dialLenient(d *net.Dialer, base *tls.Config, timeout time.Duration, nowhere bool) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		raw, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conf := base.Clone()
		conf.ServerName = host
		if nowhere || onThisMachine(host) {
			conf.InsecureSkipVerify = true // VerifyConnection does it, but for the name
			conf.VerifyConnection = func(s tls.ConnectionState) error {
				o := x509.VerifyOptions{Roots: base.RootCAs, Intermediates: x509.NewCertPool()}
				for _, c := range s.PeerCertificates[1:] {
					o.Intermediates.AddCert(c)
				}
				_, err := s.PeerCertificates[0].Verify(o)
				return err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		c := tls.Client(raw, conf)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return c, nil
	}
}

func onThisMachine(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && a.Unmap().IsLoopback())
}

func (t *transport) close() { t.rt.CloseIdleConnections() }

var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("100.100.100.200/32"),
}

// carriers are IPv6 ranges whose addresses lead to an IPv4 address they hold,
// from the given byte on.
var carriers = []struct {
	prefix netip.Prefix
	from   int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/96"), 12},  // NAT64, local
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

// inner is the address that is reached in the end.
func inner(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	for _, c := range carriers {
		if c.prefix.Contains(ip) {
			b := ip.As16()
			return netip.AddrFrom4([4]byte(b[c.from : c.from+4]))
		}
	}
	return ip
}

// guard refuses, after names were resolved, what no backend may be: metadata
// services, link-local addresses, and our own ports on loopback.
func guard(ports []int) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s", proxy.ErrRefused, address)
		}
		ip := inner(a.Addr())
		for _, p := range metadata {
			if p.Contains(ip) {
				return fmt.Errorf("%w: %s", proxy.ErrRefused, ip)
			}
		}
		for _, port := range ports {
			if int(a.Port()) == port && (ip.IsLoopback() || ip.IsUnspecified()) {
				return fmt.Errorf("%w: port %d is our own", proxy.ErrRefused, port)
			}
		}
		return nil
	}
}

// Send sends one request. Its timeout runs from the start to the head of the
// answer, and anew with every piece of a body in either direction.
func (t *transport) Send(ctx context.Context, r *proxy.Request) (*proxy.Response, error) {
	ctx, cancel := context.WithCancel(ctx)
	e := &sending{timeout: r.Timeout, cancel: cancel}
	e.timer = time.AfterFunc(r.Timeout, e.expire)
	req := &http.Request{
		Method: r.Method, Host: r.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		URL: &url.URL{Scheme: "http", Host: r.Addr}, Header: make(http.Header, len(r.Header)+1),
	}
	if r.TLS {
		req.URL.Scheme = "https"
	}
	if err := setTarget(req.URL, r.Target); err != nil {
		e.end()
		return nil, fmt.Errorf("%w: %w", proxy.ErrProtocol, err)
	}
	for _, f := range r.Header {
		k := http.CanonicalHeaderKey(f.Name)
		req.Header[k] = append(req.Header[k], f.Value)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // none was sent, none is invented
	}
	if r.Body != nil {
		body := &sentBody{r: r.Body, e: e}
		if r.Trailer.Read != nil && r.BodyLen < 0 {
			req.Trailer = make(http.Header, len(r.Trailer.Names))
			for _, name := range r.Trailer.Names {
				req.Trailer[http.CanonicalHeaderKey(name)] = nil
			}
			body.trailer, body.to = r.Trailer.Read, req.Trailer
		}
		req.Body, req.ContentLength = body, r.BodyLen
		req.GetBody = func() (io.ReadCloser, error) {
			if body.touched.Load() {
				return nil, errors.New("body was already sent in part")
			}
			return body, nil
		}
	} else {
		req.Body = http.NoBody
	}
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { e.connected.Store(true) }}
	res, err := t.rt.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		err = e.explain(ctx, err)
		e.end()
		return nil, err
	}
	if res.StatusCode == http.StatusSwitchingProtocols { // nobody asked for it
		res.Body.Close()
		e.end()
		return nil, fmt.Errorf("%w: status 101", proxy.ErrProtocol)
	}
	out := &proxy.Response{Status: res.StatusCode, Len: res.ContentLength, Header: make(exchange.Header, 0, len(res.Header)+1)}
	for name, values := range res.Header {
		for _, v := range values {
			out.Header = append(out.Header, exchange.Field{Name: name, Value: v})
		}
	}
	e.timer.Reset(e.timeout)
	body := &receivedBody{r: res.Body, e: e}
	out.Body = body
	if res.ContentLength < 0 {
		out.Trailer = exchange.Trailer{Names: trailer(res.Trailer).Names, Read: func() exchange.Header { return trailer(res.Trailer).Read() }}
	}
	return out, nil
}

// setTarget has the raw bytes of the target sent as they are.
func setTarget(u *url.URL, target string) error {
	path, query, asked := strings.Cut(target, "?")
	u.RawQuery, u.ForceQuery = query, asked && query == ""
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
		return nil
	}
	// An opaque part that begins with two slashes would be taken for a host.
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return err
	}
	u.Path, u.RawPath = decoded, path
	return nil
}

// sending is one request under way.
type sending struct {
	timeout   time.Duration
	timer     *time.Timer
	cancel    context.CancelFunc
	expired   atomic.Bool
	connected atomic.Bool
	broken    atomic.Bool // the client's body failed
}

func (e *sending) expire() {
	e.expired.Store(true)
	e.cancel()
}

func (e *sending) end() {
	e.timer.Stop()
	e.cancel()
}

func (e *sending) explain(ctx context.Context, err error) error {
	var kind error
	switch {
	case errors.Is(err, proxy.ErrRefused):
		return err
	case e.expired.Load() && !e.connected.Load():
		kind = proxy.ErrConnect
	case e.expired.Load():
		kind = proxy.ErrTimeout
	case e.broken.Load():
		kind = proxy.ErrBody
	case ctx.Err() != nil:
		kind = proxy.ErrClient
	case !e.connected.Load():
		kind = proxy.ErrConnect
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE),
		errors.Is(err, net.ErrClosed), strings.Contains(err.Error(), "server closed idle connection"):
		kind = proxy.ErrClosed
	default:
		kind = proxy.ErrProtocol
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// sentBody is a request body on its way; every piece restarts the timeout.
type sentBody struct {
	r       io.Reader
	e       *sending
	touched atomic.Bool
	trailer func() exchange.Header
	to      http.Header
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.touched.Store(true)
	n, err := b.r.Read(p)
	if !b.e.expired.Load() {
		b.e.timer.Reset(b.e.timeout)
	}
	if err != nil && err != io.EOF {
		b.e.broken.Store(true)
	}
	if err == io.EOF && b.trailer != nil {
		for _, f := range b.trailer() {
			// What was not announced cannot be sent.
			if k := http.CanonicalHeaderKey(f.Name); hasKey(b.to, k) {
				b.to[k] = append(b.to[k], f.Value)
			}
		}
		b.trailer = nil
	}
	return n, err
}

func hasKey(h http.Header, k string) bool {
	_, ok := h[k]
	return ok
}

func (b *sentBody) Close() error { return nil } // the client's connection owns it

// receivedBody is an answer on its way; every piece restarts the timeout.
type receivedBody struct {
	r io.ReadCloser
	e *sending
}

func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == nil {
		b.e.timer.Reset(b.e.timeout)
	} else {
		b.e.timer.Stop()
	}
	return n, err
}

func (b *receivedBody) Close() error {
	err := b.r.Close()
	b.e.end()
	return err
}

// fetch reads a document, a key set, through the same guard.
func (t *transport) fetch(ctx context.Context, from string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	res, err := t.rt.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch document: status %d", res.StatusCode)
	}
	doc, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("fetch document: %w", err)
	}
	if int64(len(doc)) > limit {
		return nil, fmt.Errorf("fetch document: larger than %d bytes", limit)
	}
	return doc, nil
}
