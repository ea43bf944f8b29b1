package proxy

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// Endpoint is one backend, compiled.
type Endpoint struct {
	tls     bool
	addr    string // host:port
	nearby  bool   // the host is this machine
	host    string // as written in the URL
	base    string // escaped path without trailing slash
	query   string
	timeout time.Duration
	retries int
	delay   time.Duration

	authorization string // replaces the caller's, when not empty
	keyHeader     string
	keyValue      string
	keyQuery      string // name=value, escaped

	suspend    time.Duration // 0: never suspended
	suspendMax time.Duration
	factor     float64
	until      atomic.Int64 // Unix nanoseconds
	last       atomic.Int64 // length of the last suspension
}

// URL is the endpoint without secrets, for decision records.
func (e *Endpoint) URL() string {
	scheme := "http"
	if e.tls {
		scheme = "https"
	}
	return scheme + "://" + e.host + e.base
}

// proto picks the version of HTTP: gRPC is HTTP/2 only, and a call that came
// over HTTP/2 goes on over it where the backend agrees.
func (e *Endpoint) proto(x *exchange.Exchange) Proto {
	switch {
	case !x.HTTP2:
		return HTTP1
	case grpc(x.Header.Get("Content-Type")):
		return HTTP2
	case e.tls:
		return Prefer2
	}
	return HTTP1
}

// grpc reports whether a body is gRPC's own; grpc-web is made for HTTP/1.1 too.
func grpc(contentType string) bool {
	const prefix = "application/grpc"
	return len(contentType) >= len(prefix) && exchange.Fold(contentType[:len(prefix)], prefix) &&
		(len(contentType) == len(prefix) || strings.IndexByte("+; ", contentType[len(prefix)]) >= 0)
}

// never is the timeout of endpoints that are to have none.
const never = 7 * 24 * time.Hour

// Open opens a sealed endpoint secret.
type Open func(sealed string) ([]byte, error)

// newEndpoint compiles one endpoint. timeout is the gateway's default.
func newEndpoint(s snapshot.Endpoint, open Open, timeout time.Duration) (*Endpoint, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, errors.New("endpoint URL is malformed") // the URL may hold a password
	}
	e := &Endpoint{
		host: u.Host, base: strings.TrimSuffix(u.EscapedPath(), "/"), query: u.RawQuery, timeout: s.Timeout,
		retries: min(max(s.Retries, 0), 10), delay: min(max(s.RetryDelay, 0), 10*time.Second),
		suspend: s.Suspend, suspendMax: s.SuspendMax, factor: s.SuspendFactor,
	}
	port := u.Port()
	switch strings.ToLower(u.Scheme) {
	case "http":
		port = orDefault(port, "80")
	case "https":
		e.tls, port = true, orDefault(port, "443")
	default:
		return nil, fmt.Errorf("endpoint scheme %q is not http or https", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("endpoint URL has no host")
	}
	e.addr = net.JoinHostPort(u.Hostname(), port)
	e.nearby = Nearby(u.Hostname())
	if u.User != nil {
		pass, _ := u.User.Password()
		e.authorization = basic(u.User.Username(), pass)
	}
	switch {
	case s.OnTimeout == "never":
		e.timeout = never
	case e.timeout <= 0:
		e.timeout = timeout
	}
	if s.Sealed != "" {
		if err := e.secure(s.Sealed, open); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Nearby reports whether a host is this machine by name or address.
func Nearby(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

func (e *Endpoint) secure(sealed string, open Open) error {
	if open == nil {
		return errors.New("endpoint has a sealed secret and there is no key to open it")
	}
	plain, err := open(sealed)
	if err != nil {
		return fmt.Errorf("open endpoint secret: %w", err)
	}
	var s snapshot.EndpointSecurity
	if err := json.Unmarshal(plain, &s); err != nil {
		return errors.New("endpoint secret is malformed")
	}
	switch strings.ToUpper(s.Type) {
	case "", "NONE":
	case "BASIC":
		e.authorization = basic(s.Username, s.Password)
	case "APIKEY":
		if s.KeyName == "" {
			return errors.New("endpoint API key has no name")
		}
		if strings.EqualFold(s.KeyIn, "QUERY_PARAMETER") {
			e.keyQuery = url.QueryEscape(s.KeyName) + "=" + url.QueryEscape(s.KeyValue)
		} else {
			e.keyHeader, e.keyValue = s.KeyName, s.KeyValue
		}
	default:
		return fmt.Errorf("endpoint security %q is not supported", s.Type)
	}
	return nil
}

func basic(user, pass string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass))
}

func orDefault(s, d string) string {
	if s == "" {
		return d
	}
	return s
}

func (e *Endpoint) suspended(now time.Time) bool {
	return e.suspend > 0 && e.until.Load() > now.UnixNano()
}

// failed suspends the endpoint: each time in a row longer by the factor, up to
// the longest suspension.
func (e *Endpoint) failed(now time.Time) {
	if e.suspend <= 0 {
		return
	}
	d := e.suspend
	if last := time.Duration(e.last.Load()); last > 0 && e.factor > 1 {
		d = time.Duration(float64(last) * e.factor)
	}
	if e.suspendMax > 0 {
		d = min(d, e.suspendMax)
	}
	e.last.Store(int64(d))
	e.until.Store(now.Add(d).UnixNano())
}

func (e *Endpoint) worked() {
	if e.suspend > 0 && e.last.Load() != 0 {
		e.last.Store(0)
		e.until.Store(0)
	}
}
