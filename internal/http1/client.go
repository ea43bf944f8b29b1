package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Options of a client. Zero fields get the default named beside them.
type Options struct {
	// Dial opens connections. The default resolves the name anew each time and
	// tries all addresses of a name; its context ends after Connect.
	Dial      func(ctx context.Context, network, address string) (net.Conn, error)
	Connect   time.Duration // to connect and to shake hands, each; 10 s
	Idle      time.Duration // an unused connection is closed after that; 50 s
	Age       time.Duration // an older one is not used again, so that names are resolved anew; 5 min
	MaxIdle   int           // unused connections kept per endpoint; 512
	MaxOpen   int           // connections per endpoint; 0: no bound
	MaxWait   int           // callers that may wait for a connection, per endpoint; 1024
	WaitTime  time.Duration // how long they do; 10 s
	Head      int           // bytes of an answer's head, at most 128 KB; 128 KB
	Fields    int           // fields of an answer's head; 256
	Tick      time.Duration // how exact time-outs are; 50 ms
	KeepAlive time.Duration // TCP keep-alive period; 30 s
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Connect, 10*time.Second)
	def(&o.Idle, 50*time.Second)
	def(&o.Age, 5*time.Minute)
	def(&o.WaitTime, 10*time.Second)
	def(&o.Tick, 50*time.Millisecond)
	def(&o.KeepAlive, 30*time.Second)
	if o.MaxIdle <= 0 {
		o.MaxIdle = 512
	}
	if o.MaxWait <= 0 {
		o.MaxWait = 1024
	}
	if o.Head <= 0 || o.Head > huge {
		o.Head = huge
	}
	if o.Fields <= 0 {
		o.Fields = 256
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: o.Connect, KeepAlive: o.KeepAlive}).DialContext
	}
	return o
}

// Client holds connections to endpoints. It needs no goroutine per connection.
type Client struct {
	o         Options
	sweep     *sweeper
	endpoints atomic.Pointer[map[endpointKey]*Endpoint] // copied on write
	mu        sync.Mutex
	closed    atomic.Bool
}

type endpointKey struct {
	addr string
	tls  *tls.Config
}

// NewClient makes a client; it must be closed.
func NewClient(o Options) *Client {
	o = o.withDefaults()
	c := &Client{o: o, sweep: newSweeper(o.Tick)}
	c.endpoints.Store(new(map[endpointKey]*Endpoint))
	return c
}

// Close closes idle connections, and the others when their answers end. Calls
// that are under way lose their time-outs, but not their contexts.
func (c *Client) Close() {
	c.closed.Store(true)
	for _, e := range *c.endpoints.Load() {
		e.drop()
	}
	c.sweep.close()
}

// protocol is our name in ALPN.
const protocol = "http/1.1"

// Endpoint is the pool for one address (host:port). With secure not nil its
// connections are of TLS; the same pointer gives the same pool, so trust and
// client certificates are per endpoint. An empty ServerName is the host's, and
// no NextProtos are our own; a server that chooses another is not used.
func (c *Client) Endpoint(addr string, secure *tls.Config) *Endpoint {
	key := endpointKey{addr, secure}
	if e := (*c.endpoints.Load())[key]; e != nil {
		return e
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := *c.endpoints.Load()
	if e := old[key]; e != nil {
		return e
	}
	e := &Endpoint{c: c, addr: addr}
	if secure != nil {
		e.tls = secure.Clone()
		if e.tls.ServerName == "" {
			e.tls.ServerName, _, _ = net.SplitHostPort(addr)
		}
		if len(e.tls.NextProtos) == 0 {
			e.tls.NextProtos = []string{protocol}
		}
	}
	next := make(map[endpointKey]*Endpoint, len(old)+1)
	for k, v := range old {
		next[k] = v
	}
	next[key] = e
	c.endpoints.Store(&next)
	c.sweep.add(e)
	return e
}

// Forget drops pools that keep says are no longer needed. Calls under way go
// on.
func (c *Client) Forget(keep func(addr string, secure *tls.Config) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[endpointKey]*Endpoint)
	for k, e := range *c.endpoints.Load() {
		if keep(k.addr, k.tls) {
			next[k] = e
			continue
		}
		e.drop()
		c.sweep.remove(e)
	}
	c.endpoints.Store(&next)
}

// Why a call failed, besides ErrTimeout. ErrConnect promises that no byte of
// the request was sent.
var (
	ErrConnect  = errors.New("connect")
	ErrBusy     = errors.New("too many callers wait for a connection")
	ErrClosed   = errors.New("server closed the connection")
	ErrBody     = errors.New("request body failed")
	ErrCanceled = errors.New("call was cancelled")
	ErrProtocol = errors.New("server broke the protocol")
	ErrRequest  = errors.New("request cannot be written")
)

// Endpoint is a pool of connections to one address.
type Endpoint struct {
	c    *Client
	addr string
	tls  *tls.Config

	mu      sync.Mutex
	idle    []*upstream // the most recently used last
	open    int
	waiting []*waiter
	dropped bool
}

type waiter struct{ got chan *upstream }

// sweep closes what was idle for too long.
func (e *Endpoint) sweep(now int64) {
	for _, u := range e.expired(now) {
		_ = u.nc.Close()
		delete(e.c.sweep.set, u) // the sweeper holds its lock
	}
}

// drop has no connection kept any more.
func (e *Endpoint) drop() {
	e.mu.Lock()
	e.dropped = true
	e.mu.Unlock()
	for _, u := range e.expired(1 << 62) {
		u.close()
	}
}

// expired takes out the connections that were idle for too long.
func (e *Endpoint) expired(now int64) []*upstream {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for n < len(e.idle) && now-e.idle[n].since >= int64(e.c.o.Idle) {
		n++
	}
	if n == 0 {
		return nil
	}
	old := append([]*upstream(nil), e.idle[:n]...)
	m := copy(e.idle, e.idle[n:])
	clear(e.idle[m:])
	e.idle = e.idle[:m]
	e.open -= n
	return old
}

// get is a connection: an idle one, or a new one, which may take as long as the
// call's own time-out if that is shorter than ours.
func (e *Endpoint) get(ctx context.Context, fresh bool, timeout time.Duration) (*upstream, error) {
	within := e.c.o.Connect
	if timeout > 0 {
		within = min(within, timeout)
	}
	e.mu.Lock()
	if n := len(e.idle); n > 0 && !fresh {
		u := e.idle[n-1]
		e.idle[n-1] = nil
		e.idle = e.idle[:n-1]
		e.mu.Unlock()
		u.reused = true
		return u, nil
	}
	if o := &e.c.o; o.MaxOpen > 0 && e.open >= o.MaxOpen {
		if n := len(e.idle); n > 0 { // a fresh one is wanted: it takes the place of an idle one
			u := e.idle[0]
			m := copy(e.idle, e.idle[1:])
			e.idle[m] = nil
			e.idle = e.idle[:m]
			e.mu.Unlock()
			u.close()
			return e.dial(ctx, within)
		}
		if len(e.waiting) >= o.MaxWait {
			e.mu.Unlock()
			return nil, fmt.Errorf("%w: %w", ErrConnect, ErrBusy)
		}
		w := &waiter{make(chan *upstream, 1)}
		e.waiting = append(e.waiting, w)
		e.mu.Unlock()
		return e.wait(ctx, w, within)
	}
	e.open++
	e.mu.Unlock()
	return e.dial(ctx, within)
}

func (e *Endpoint) wait(ctx context.Context, w *waiter, within time.Duration) (*upstream, error) {
	t := time.NewTimer(e.c.o.WaitTime)
	defer t.Stop()
	var err error
	select {
	case u := <-w.got:
		if u == nil {
			return e.dial(ctx, within)
		}
		u.reused = true
		return u, nil
	case <-ctx.Done():
		err = fmt.Errorf("%w: %w", ErrCanceled, ctx.Err())
	case <-t.C:
		err = fmt.Errorf("%w: %w", ErrConnect, ErrBusy)
	}
	e.mu.Lock()
	for i, other := range e.waiting {
		if other == w {
			e.waiting = append(e.waiting[:i], e.waiting[i+1:]...)
			break
		}
	}
	e.mu.Unlock()
	select {
	case u := <-w.got: // it came all the same: pass it on
		if u == nil {
			e.lost()
		} else {
			e.put(u)
		}
	default:
	}
	return nil, err
}

// put takes a connection back that may be used again.
func (e *Endpoint) put(u *upstream) {
	now := mono()
	if now-u.born >= int64(e.c.o.Age) || e.c.closed.Load() {
		u.close()
		e.lost()
		return
	}
	u.since = now
	e.mu.Lock()
	if len(e.waiting) > 0 {
		w := e.waiting[0]
		e.waiting = e.waiting[1:]
		e.mu.Unlock()
		w.got <- u
		return
	}
	if len(e.idle) >= e.c.o.MaxIdle || e.dropped {
		e.open--
		e.mu.Unlock()
		u.close()
		return
	}
	e.idle = append(e.idle, u)
	e.mu.Unlock()
}

// lost gives the place of a connection that is closed to the next caller.
func (e *Endpoint) lost() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) > 0 {
		w := e.waiting[0]
		e.waiting = e.waiting[1:]
		w.got <- nil
		return
	}
	e.open--
}

// dial opens a connection in a place that get has taken.
func (e *Endpoint) dial(ctx context.Context, within time.Duration) (*upstream, error) {
	u, err := e.connect(ctx, within)
	if err != nil {
		e.lost()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrCanceled, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrConnect, err)
	}
	return u, nil
}

func (e *Endpoint) connect(ctx context.Context, within time.Duration) (*upstream, error) {
	limited, cancel := context.WithTimeout(ctx, within)
	nc, err := e.c.o.Dial(limited, "tcp", e.addr)
	cancel()
	if err != nil {
		return nil, err
	}
	if e.tls != nil {
		t := tls.Client(nc, e.tls)
		limited, cancel := context.WithTimeout(ctx, within)
		err := t.HandshakeContext(limited)
		cancel()
		if p := t.ConnectionState().NegotiatedProtocol; err == nil && p != "" && p != protocol {
			err = fmt.Errorf("server chose protocol %q", p)
		}
		if err != nil {
			_ = nc.Close()
			return nil, err
		}
		nc = t
	}
	return newUpstream(e, nc), nil
}

// Counts are the connections of an endpoint.
func (e *Endpoint) Counts() (open, idle, waiting int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.open, len(e.idle), len(e.waiting)
}
