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
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds of every listener; reference: security.
const (
	maxHead     = 64 << 10
	headTimeout = 10 * time.Second
	idleTimeout = 60 * time.Second
)

// http2Bounds keeps what one connection may hold and ask for small.
func http2Bounds() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          250,
		MaxDecoderHeaderTableSize:     4 << 10,
		MaxEncoderHeaderTableSize:     4 << 10,
		MaxReadFrameSize:              64 << 10,
		MaxReceiveBufferPerConnection: 1 << 20,
		MaxReceiveBufferPerStream:     256 << 10,
		SendPingTimeout:               30 * time.Second,
		PingTimeout:                   15 * time.Second,
		WriteByteTimeout:              30 * time.Second,
	}
}

// listener is one port on one or more addresses with its handler.
type listener struct {
	name  string // in messages: management, gateway, nodes
	hosts []string
	port  int
	tls   *tls.Config // nil: plain
	h2    bool
	head  int // bound of a request head, bytes; 0: maxHead
	serve http.Handler
}

// listeners are the open ports of a process.
type listeners struct {
	log      *slog.Logger
	pace     pace
	open     []net.Listener
	servers  []*http.Server
	names    []string     // of the listener each open port belongs to
	busy     atomic.Int64 // requests being served
	draining atomic.Bool
	failed   chan error
}

func newListeners(log *slog.Logger) *listeners {
	return &listeners{log: log, pace: floor, failed: make(chan error, 8)}
}

// add opens a port; requests are served once start is called.
func (l *listeners) add(c listener) error {
	if c.port == 0 {
		return nil
	}
	srv := &http.Server{
		Handler:           l.track(c.serve),
		TLSConfig:         c.tls,
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    orDefault(c.head, maxHead),
		ErrorLog:          slog.NewLogLogger(l.log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2:             http2Bounds(),
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(c.h2 && c.tls != nil)
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
		l.open = append(l.open, pacedListener{ln, l.pace})
		l.servers = append(l.servers, srv)
		l.names = append(l.names, c.name)
	}
	if opened == 0 {
		return fmt.Errorf("open %s port %d: none of the addresses %v could be used", c.name, c.port, c.hosts)
	}
	return nil
}

// start serves on every open port.
func (l *listeners) start() {
	for i, ln := range l.open {
		srv := l.servers[i]
		go func() {
			var err error
			if srv.TLSConfig != nil {
				err = srv.ServeTLS(ln, "", "")
			} else {
				err = srv.Serve(ln)
			}
			if !errors.Is(err, http.ErrServerClosed) && !l.draining.Load() {
				select {
				case l.failed <- fmt.Errorf("serve %s: %w", ln.Addr(), err):
				default:
				}
			}
		}()
	}
}

// track counts requests and, while the process drains, asks clients to leave:
// over HTTP/2 the same header sends GOAWAY.
func (l *listeners) track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.busy.Add(1)
		defer l.busy.Add(-1)
		if l.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(l.pace.paced(w, r), r)
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
	for _, s := range l.servers {
		_ = s.Close() // whatever outlived the limit
	}
	if failed != nil {
		return fmt.Errorf("drain: %d requests were still running after %s", l.busy.Load(), limit)
	}
	return nil
}

// stop closes the ports of the gateway, or all others, and waits for their
// requests until ctx ends.
func (l *listeners) stop(ctx context.Context, grace time.Duration, gateway bool) error {
	var servers []*http.Server
	for i, ln := range l.open {
		if (l.names[i] == "gateway") == gateway {
			_ = ln.Close() // Shutdown closes it again
			servers = append(servers, l.servers[i])
		}
	}
	if len(servers) == 0 {
		return nil
	}
	// Connections that are in use get one more answer each before the idle
	// ones are closed.
	sleep(ctx, grace)
	errs := make(chan error, len(servers))
	for _, s := range servers {
		go func() { errs <- s.Shutdown(ctx) }()
	}
	var failed error
	for range servers {
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
