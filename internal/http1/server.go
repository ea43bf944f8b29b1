package http1

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what a client can make a server do. Zero fields get the default
// named beside them.
type Limits struct {
	Head        int           // bytes of a request's head, at most 128 KB; 64 KB
	Fields      int           // header fields; 256
	HeadTime    time.Duration // from the first byte of a head (or the connection) to its end; 10 s
	Idle        time.Duration // between requests; 60 s
	Grace       time.Duration // a body or a reader may stall that long in all; 10 s
	Rate        int64         // bytes a second that restore the grace; 1 KB
	SendBuffer  int           // kernel's send buffer of a connection, bytes; 256 KB
	Connections int           // at once; 0: no bound
	PerClient   int           // at once from one address; 0: no bound
	Drain       time.Duration // Shutdown leaves idle connections open that long; 500 ms
	// HalfClose is how long a client that closed its sending side may wait for
	// its answer. It cannot be told from one that left; a reset can. 1 s.
	HalfClose time.Duration
	Tick      time.Duration // how exact all of these are; 100 ms
}

func (l Limits) withDefaults() Limits {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if l.Head <= 0 {
		l.Head = 64 << 10
	}
	l.Head = min(l.Head, huge)
	if l.Fields <= 0 {
		l.Fields = 256
	}
	if l.Rate <= 0 {
		l.Rate = 1 << 10
	}
	if l.SendBuffer <= 0 {
		l.SendBuffer = 256 << 10
	}
	def(&l.HeadTime, 10*time.Second)
	def(&l.Idle, 60*time.Second)
	def(&l.Grace, 10*time.Second)
	def(&l.Drain, 500*time.Millisecond)
	def(&l.HalfClose, time.Second)
	def(&l.Tick, 100*time.Millisecond)
	return l
}

// Server serves connections. Set the fields before the first Serve.
type Server struct {
	// Handler serves one request. The exchange and all strings in it are the
	// server's again when it returns. A panic cuts the connection.
	Handler func(*Exchange)
	Limits  Limits
	Log     *slog.Logger // nil: nothing is logged
	// HTTP2, if set, gets connections whose client negotiated "h2" or sent the
	// preface of prior knowledge; it serves the connection until it ends. The
	// preface is still unread.
	HTTP2 func(net.Conn)

	once      sync.Once
	sweep     *sweeper
	limits    Limits
	date      atomic.Pointer[dateText]
	draining  atomic.Bool
	drainAt   atomic.Int64
	closed    atomic.Bool
	refusing  atomic.Int32
	fresh     atomic.Int32 // accepted, and not yet begun
	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	clients   map[netip.Addr]int
	tunnels   int
	idle      chan struct{} // closed when draining has left no connection
}

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("server was closed")

func (s *Server) init() {
	s.once.Do(func() {
		s.limits = s.Limits.withDefaults()
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		s.sweep = newSweeper(s.limits.Tick)
		s.mu.Lock()
		s.listeners = make(map[net.Listener]struct{})
		s.conns = make(map[*conn]struct{})
		s.clients = make(map[netip.Addr]int)
		s.mu.Unlock()
	})
}

// Serve accepts connections, of TLS too (tls.NewListener), until the listener
// fails or the server is closed. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	s.init()
	defer l.Close()
	s.mu.Lock()
	if s.closed.Load() || s.draining.Load() {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	delay := time.Duration(0)
	for {
		s.pause()
		nc, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			s.start(nc)
		case s.closed.Load() || s.draining.Load():
			return ErrServerClosed
		case temporary(err):
			// Out of file handles, or the client was quicker: it passes.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.Log.Warn("accept failed", "err", err, "retry", delay)
			time.Sleep(delay)
		default:
			return err
		}
	}
}

func temporary(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Temporary() bool
	}](err)
	return ok && t.Temporary()
}

// ServeConn serves one connection until it ends.
func (s *Server) ServeConn(nc net.Conn) {
	s.init()
	if c := s.admit(nc); c != nil {
		c.serve()
	}
}

func (s *Server) start(nc net.Conn) {
	if c := s.admit(nc); c != nil {
		s.fresh.Add(1)
		go func() {
			s.fresh.Add(-1)
			c.serve()
		}()
	}
}

// freshMost is how many accepted connections may wait for their turn on a
// processor. More are left to the kernel, whose queue is bounded and turns the
// rest away: accepted without an end they would be served after their clients
// have given up.
const freshMost = 128

// pause lets what was accepted begin.
func (s *Server) pause() {
	for s.fresh.Load() >= freshMost && !s.closed.Load() {
		runtime.Gosched()
	}
}

func (s *Server) admit(nc net.Conn) *conn {
	peer := addressOf(nc)
	s.mu.Lock()
	var refuse string
	switch {
	case s.closed.Load() || s.draining.Load():
		refuse = "draining"
	case s.limits.Connections > 0 && len(s.conns)+s.tunnels >= s.limits.Connections:
		refuse = "connections"
	case s.limits.PerClient > 0 && peer.IsValid() && s.clients[peer.Addr()] >= s.limits.PerClient:
		refuse = "connections of this client"
	}
	if refuse != "" {
		s.mu.Unlock()
		s.turnAway(nc)
		return nil
	}
	c := newConn(s, nc, peer)
	s.conns[c] = struct{}{}
	if s.limits.PerClient > 0 && peer.IsValid() {
		s.clients[peer.Addr()]++
	}
	s.mu.Unlock()
	s.sweep.add(c)
	return c
}

const busy = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

// farewells is how many connections that are turned away get the time to read
// why; the others are just closed.
const farewells = 64

// turnAway answers 503 on a plain connection whatever was asked.
func (s *Server) turnAway(nc net.Conn) {
	t, ok := nc.(*net.TCPConn)
	if !ok || s.refusing.Add(1) > farewells {
		if ok {
			s.refusing.Add(-1)
		}
		_ = nc.Close()
		return
	}
	go func() {
		defer s.refusing.Add(-1)
		defer t.Close()
		_ = t.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := io.WriteString(t, busy); err == nil && t.CloseWrite() == nil {
			// Closed with a request unread the answer would be lost.
			_, _ = io.CopyN(io.Discard, t, 64<<10)
		}
	}()
}

// forget ends the accounting of a connection.
func (s *Server) forget(c *conn, tunnel bool) {
	s.sweep.remove(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if tunnel {
		s.tunnels++
	} else {
		s.gone(c.peer)
	}
	s.drained()
}

func (s *Server) gone(peer netip.AddrPort) {
	if s.limits.PerClient > 0 && peer.IsValid() {
		if n := s.clients[peer.Addr()]; n > 1 {
			s.clients[peer.Addr()] = n - 1
		} else {
			delete(s.clients, peer.Addr())
		}
	}
}

func (s *Server) drained() {
	if s.idle != nil && len(s.conns) == 0 {
		select {
		case <-s.idle:
		default:
			close(s.idle)
		}
	}
}

func (s *Server) tunnelClosed(peer netip.AddrPort) {
	s.mu.Lock()
	s.tunnels--
	s.gone(peer)
	s.mu.Unlock()
}

// Open is the number of connections, without those that were handed over.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Busy is the number of requests being served.
func (s *Server) Busy() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.busy.Load() != 0 {
			n++
		}
	}
	return n
}

// Shutdown stops accepting, has every answer close its connection, closes idle
// connections after Limits.Drain, and cuts what is left when ctx ends, whose
// error it then returns. Handed over connections are their owners' affair.
func (s *Server) Shutdown(ctx context.Context) error {
	s.init()
	s.mu.Lock()
	s.drainAt.Store(s.sweep.after(s.limits.Drain))
	s.draining.Store(true)
	for l := range s.listeners {
		_ = l.Close()
	}
	if s.idle == nil {
		s.idle = make(chan struct{})
		if len(s.conns) == 0 {
			close(s.idle)
		}
	}
	idle := s.idle
	s.mu.Unlock()
	var err error
	select {
	case <-idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.Close()
	return err
}

// Close cuts every connection and ends the contexts of its handlers, without
// waiting for them.
func (s *Server) Close() error {
	s.init()
	s.mu.Lock()
	s.closed.Store(true)
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		_ = c.raw().Close()
		c.sig.fire()
	}
	s.mu.Unlock()
	s.sweep.close()
	return nil
}

func addressOf(nc net.Conn) netip.AddrPort {
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// dateText is the value of Date for one second.
type dateText struct {
	second int64
	text   string
}

// now is the value of Date, exact to the sweeper's tick.
func (s *Server) now() string {
	second := s.sweep.wall.Load()
	d := s.date.Load()
	if d == nil || d.second != second {
		d = &dateText{second, time.Unix(second, 0).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
		s.date.Store(d)
	}
	return d.text
}
