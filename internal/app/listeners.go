package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cardea-apim/cardea/internal/http1"
)

// Bounds of every listener; reference: security.
const (
	maxHead     = 64 << 10
	headTimeout = 10 * time.Second
	idleTimeout = 60 * time.Second
)

// listener is one port on one or more addresses with its handler.
type listener struct {
	name   string // in messages: management, gateway, nodes
	hosts  []string
	port   int
	tls    *tls.Config // nil: plain
	head   int         // bound of a request head, bytes; 0: maxHead
	serve  http.Handler
	engine func(*http1.Exchange) // serves HTTP/1.1; nil: serve does, through an adapter
}

// listeners are the open ports of a process.
type listeners struct {
	log      *slog.Logger
	pace     pace
	open     []port
	busy     atomic.Int64 // requests of HTTP/2 being served
	draining atomic.Bool
	failed   chan error
}

// port is one open port, served by our own engine, which hands HTTP/2 over.
type port struct {
	net.Listener
	name   string // of its listener
	tls    *tls.Config
	server *http1.Server
	http2  *handover
}

func newListeners(log *slog.Logger) *listeners {
	return &listeners{log: log, pace: floor, failed: make(chan error, 8)}
}

// add opens a port; requests are served once start is called.
func (l *listeners) add(c listener) error {
	if c.port == 0 {
		return nil
	}
	engine := c.engine
	if engine == nil {
		engine = http1.Adapt(slowBodies(c.serve))
	}
	engine = l.leaving(engine)
	if c.tls != nil {
		c.tls = c.tls.Clone()
		c.tls.NextProtos = []string{"h2", "http/1.1", "http/1.0"}
	}
	opened := 0
	for _, host := range c.hosts {
		addr := net.JoinHostPort(host, strconv.Itoa(c.port))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			if host == "::1" && len(c.hosts) > 1 && !errors.Is(err, syscall.EADDRINUSE) {
				continue // a machine without IPv6
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				return fmt.Errorf("open %s port %s: already in use; stop the other process or shift all ports with --offset", c.name, addr)
			}
			return fmt.Errorf("open %s port %s: %w", c.name, addr, err)
		}
		opened++
		shorten(ln)
		h2 := newHandover(l.track(c.serve, c.engine != nil), l.log, orDefault(c.head, maxHead))
		l.open = append(l.open, port{Listener: ln, name: c.name, tls: c.tls, http2: h2, server: &http1.Server{
			Handler: engine,
			HTTP2:   h2.take,
			Log:     l.log,
			Limits: http1.Limits{
				Head: orDefault(c.head, maxHead), HeadTime: headTimeout, Idle: idleTimeout,
				Grace: l.pace.grace, Rate: l.pace.rate, Tick: min(100*time.Millisecond, l.pace.grace/10),
			},
		}})
	}
	if opened == 0 {
		return fmt.Errorf("open %s port %d: none of the addresses %v could be used", c.name, c.port, c.hosts)
	}
	return nil
}

// start serves on every open port.
func (l *listeners) start() {
	for _, p := range l.open {
		ln := p.Listener
		if p.tls != nil {
			ln = tls.NewListener(ln, p.tls)
		}
		p.http2.start()
		go func() {
			if err := p.server.Serve(ln); !errors.Is(err, http1.ErrServerClosed) && !l.draining.Load() {
				select {
				case l.failed <- fmt.Errorf("serve %s: %w", p.Addr(), err):
				default:
				}
			}
		}()
	}
}

// leaving asks clients to leave while the process drains.
func (l *listeners) leaving(next func(*http1.Exchange)) func(*http1.Exchange) {
	return func(x *http1.Exchange) {
		if l.draining.Load() {
			x.CloseAfter()
		}
		next(x)
	}
}

// track is leaving for HTTP/2, where the header sends GOAWAY. It counts requests,
// as our engine does by itself. A call of gRPC may
// be a conversation in which the client is silent for long: through a gateway
// the timeout of the endpoint bounds that, not the pace of bodies.
func (l *listeners) track(next http.Handler, gateway bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.busy.Add(1)
		defer l.busy.Add(-1)
		if l.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		kind, isGRPC := strings.CutPrefix(r.Header.Get("Content-Type"), "application/grpc")
		silent := gateway && isGRPC && !strings.HasPrefix(kind, "-") // grpc-web has no conversations
		next.ServeHTTP(l.pace.paced(w, r, silent), r)
	})
}

// drain stops without failing a request: first every answer says that the
// connection closes while new ones are still taken (readiness is already
// false), then the ports close, then what is being served may finish. The
// gateway's ports go first: its calls may need the other ones, for a backend or
// a password check in this process.
func (l *listeners) drain(limit time.Duration) error {
	l.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	grace := min(limit/8, time.Second)
	sleep(ctx, grace)
	front := make(chan error, 1)
	go func() { front <- l.stop(ctx, grace/2, true) }()
	var failed error
	select {
	case failed = <-front:
		front <- nil
	case <-time.After(limit - 3*grace): // the rest needs its time too
	}
	failed = errors.Join(failed, l.stop(ctx, grace/2, false), <-front)
	running := int(l.busy.Load())
	for _, p := range l.open {
		running += p.server.Busy()
		_ = p.server.Close() // whatever outlived the limit
		_ = p.http2.server.Close()
	}
	if failed != nil {
		return fmt.Errorf("drain: %d requests were still running after %s", running, limit)
	}
	return nil
}

// stop closes the ports of the gateway, or all others, and waits for their
// requests until ctx ends.
func (l *listeners) stop(ctx context.Context, grace time.Duration, gateway bool) error {
	var ports []port
	for _, p := range l.open {
		if (p.name == "gateway") == gateway {
			_ = p.Close() // Shutdown closes it again
			ports = append(ports, p)
		}
	}
	if len(ports) == 0 {
		return nil
	}
	// Connections that are in use get one more answer each before the idle
	// ones are closed.
	sleep(ctx, grace)
	errs := make(chan error, 2*len(ports))
	for _, p := range ports {
		go func() { errs <- p.server.Shutdown(ctx) }()
		go func() { errs <- p.http2.server.Shutdown(ctx) }()
	}
	var failed error
	for range 2 * len(ports) {
		failed = errors.Join(failed, <-errs)
	}
	return failed
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
