package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
)

// http2Upstream reaches backends over HTTP/2, with net/http's client.
type http2Upstream struct {
	asked *http.Transport // offers both versions
	only  *http.Transport // HTTP/2, by prior knowledge without TLS
	plain plainBackends
}

// plainFor is how long a backend that chose HTTP/1.1 is taken at its word.
const plainFor = 10 * time.Minute

func newHTTP2Upstream(o *Options, dialer *net.Dialer, secure func(nearby bool) *tls.Config) *http2Upstream {
	transport := func(http1 bool) *http.Transport {
		t := &http.Transport{
			DialContext:            dialer.DialContext,
			DialTLSContext:         dialTLS(dialer, secure, http1, o.ConnectTimeout),
			DisableCompression:     true,
			MaxIdleConnsPerHost:    64,
			MaxConnsPerHost:        o.MaxPerHost,
			IdleConnTimeout:        50 * time.Second,
			MaxResponseHeaderBytes: 256 << 10,
			Protocols:              new(http.Protocols),
			// A client that reads slowly makes the gateway hold one stream's buffer,
			// and no more.
			HTTP2: &http.HTTP2Config{
				SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second,
				MaxReceiveBufferPerStream: 512 << 10, MaxReceiveBufferPerConnection: 64 << 20,
			},
		}
		t.Protocols.SetHTTP1(http1)
		t.Protocols.SetHTTP2(true)
		t.Protocols.SetUnencryptedHTTP2(!http1)
		return t
	}
	return &http2Upstream{asked: transport(true), only: transport(false)}
}

func dialTLS(d *net.Dialer, secure func(nearby bool) *tls.Config, http1 bool, timeout time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		raw, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conf := secure(proxy.Nearby(host)).Clone()
		conf.ServerName, conf.NextProtos = host, []string{"h2"}
		if http1 {
			conf.NextProtos = append(conf.NextProtos, "http/1.1")
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		c := tls.Client(raw, conf)
		if err := c.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		if !http1 && c.ConnectionState().NegotiatedProtocol != "h2" {
			_ = raw.Close() // it would be sent HTTP/1.1
			return nil, errNotHTTP2
		}
		return c, nil
	}
}

var errNotHTTP2 = errors.New("the backend does not speak HTTP/2")

func (u *http2Upstream) close() {
	u.asked.CloseIdleConnections()
	u.only.CloseIdleConnections()
}

// plainBackends remembers who chose HTTP/1.1.
type plainBackends struct {
	mu sync.Mutex
	m  map[string]time.Time // until when, by address
}

func (p *plainBackends) has(addr string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Before(p.m[addr])
}

func (p *plainBackends) add(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for a, until := range p.m {
		if now.After(until) {
			delete(p.m, a)
		}
	}
	if p.m == nil {
		p.m = map[string]time.Time{}
	}
	p.m[addr] = now.Add(plainFor)
}

// send is Send for calls that are to go over HTTP/2. done is false, and
// nothing has happened, where the backend is known to prefer HTTP/1.1.
func (u *http2Upstream) send(ctx context.Context, r *proxy.Request, res *proxy.Response) (done bool, err error) {
	rt := u.only
	if r.Proto == proxy.Prefer2 {
		if u.plain.has(r.Addr) {
			return false, nil
		}
		rt = u.asked
	}
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
	// Texts are copied: the connection's header compression keeps them after the
	// call, whose room they are in.
	if err := setTarget(req.URL, strings.Clone(r.Target)); err != nil {
		e.end()
		return true, fmt.Errorf("%w: %w", proxy.ErrProtocol, err)
	}
	for _, f := range r.Header {
		k := http.CanonicalHeaderKey(f.Name)
		req.Header[k] = append(req.Header[k], strings.Clone(f.Value))
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header["User-Agent"] = nil // none was sent, none is invented
	}
	if r.Proto == proxy.HTTP2 {
		// gRPC: the field concerns one connection each, and trailers pass here.
		req.Header["Te"] = []string{"trailers"}
	}
	req.Body = http.NoBody
	if r.Body != nil {
		e.body = &sentBody{r: r.Body, e: e}
		if r.Trailer.From != nil && r.BodyLen < 0 {
			req.Trailer = make(http.Header, len(r.Trailer.Names))
			for _, name := range r.Trailer.Names {
				req.Trailer[http.CanonicalHeaderKey(name)] = nil
			}
			e.body.trailer, e.body.to = r.Trailer.Fields, req.Trailer
		}
		req.Body, req.ContentLength, req.GetBody = e.body.attempt(), r.BodyLen, e.body.again
	}
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { e.connected.Store(true) }}
	got, err := rt.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, trace)))
	if err != nil {
		err = e.explain(ctx, err)
		e.end()
		return true, err
	}
	if got.StatusCode == http.StatusSwitchingProtocols { // nobody asked for it
		got.Body.Close()
		e.end()
		return true, fmt.Errorf("%w: status 101", proxy.ErrProtocol)
	}
	if r.Proto == proxy.Prefer2 && got.ProtoMajor == 1 {
		u.plain.add(r.Addr)
	}
	res.Status, res.Len = got.StatusCode, got.ContentLength
	for name, values := range got.Header {
		for _, v := range values {
			res.Header = append(res.Header, exchange.Field{Name: name, Value: v})
		}
	}
	e.timer.Reset(e.timeout)
	res.Body = &receivedBody{r: got.Body, e: e}
	res.Trailer = trailerOf(&got.Trailer) // over HTTP/2 also after a body of known length
	return true, nil
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
	body      *sentBody // nil: none
	expired   atomic.Bool
	connected atomic.Bool
	broken    atomic.Pointer[error] // why the client's body failed
}

func (e *sending) expire() {
	e.expired.Store(true)
	e.cancel()
}

// end ends the request; nothing of it is used afterwards.
func (e *sending) end() {
	e.timer.Stop()
	e.cancel()
	if e.body != nil {
		e.body.stop()
	}
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
	case e.broken.Load() != nil:
		kind, err = proxy.ErrBody, *e.broken.Load()
	case ctx.Err() != nil:
		kind = proxy.ErrClient
	case !e.connected.Load():
		kind = proxy.ErrConnect
	case closedByBackend(err):
		kind = proxy.ErrClosed
	default:
		kind = proxy.ErrProtocol
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// streamError is what net/http fills in for its own error of that shape.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

// Error names the stream and the code of RFC 9113 §7.
func (e streamError) Error() string {
	return fmt.Sprintf("stream %d ended with code %d", e.StreamID, e.Code)
}

// closedByBackend reports whether the backend ended the connection or the
// stream, other than by complaining about us or by breaking the protocol.
func closedByBackend(err error) bool {
	var s streamError
	if errors.As(err, &s) {
		return s.Cause != nil && s.Cause.Error() == "received from peer"
	}
	for _, is := range []error{errBodyBegun, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, is) {
			return true
		}
	}
	text := err.Error() // net/http has no names for these
	for _, is := range []string{"server closed idle connection", "GOAWAY", "client connection lost", "client connection force closed", "client conn not usable"} {
		if strings.Contains(text, is) {
			return true
		}
	}
	return false
}

// receivedBody is an answer on its way; every piece restarts the timeout.
type receivedBody struct {
	r io.ReadCloser
	e *sending
}

// Read reads the answer.
func (b *receivedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == nil {
		b.e.timer.Reset(b.e.timeout)
	} else {
		b.e.timer.Stop()
	}
	return n, err
}

// Close ends the request.
func (b *receivedBody) Close() error {
	err := b.r.Close()
	b.e.end()
	return err
}
