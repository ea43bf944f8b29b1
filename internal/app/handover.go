package app

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
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

// handover is where our engine leaves connections that speak HTTP/2: a listener
// whose connections are already there, served by net/http.
type handover struct {
	server *http.Server
	conns  chan net.Conn
	shut   chan struct{}
	once   sync.Once

	mu   sync.Mutex
	ends map[net.Conn]chan struct{} // closed when the connection ended
}

func newHandover(serve http.Handler, log *slog.Logger, head int) *handover {
	h := &handover{conns: make(chan net.Conn), shut: make(chan struct{}), ends: map[net.Conn]chan struct{}{}}
	h.server = &http.Server{
		Handler:           h2Calm(serve, log),
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    head,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
		HTTP2:             http2Bounds(),
		ConnState:         h.state,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, h2ConnKey{}, &h2Conn{Conn: c, left: churnBurst})
		},
	}
	h.server.Protocols.SetHTTP2(true)
	h.server.Protocols.SetUnencryptedHTTP2(true)
	return h
}

// Streams that a client takes back at once cost it nothing, and us a call of a
// backend each (CVE-2023-44487). So many at a time, and so many a second on
// average, are a client's good right.
const (
	churnTime  = time.Second // what lives longer was used
	churnBurst = 500
	churnRate  = 50
)

// h2Conn is what is known of a connection across its requests.
type h2Conn struct {
	net.Conn

	mu   sync.Mutex
	left float64 // streams that may yet be taken back
	at   time.Time
}

type h2ConnKey struct{}

// churned notes a stream taken back; false: one too many.
func (c *h2Conn) churned(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.at.IsZero() {
		c.left = min(churnBurst, c.left+now.Sub(c.at).Seconds()*churnRate)
	}
	c.at = now
	c.left--
	return c.left >= 0
}

// h2Calm ends connections whose client does nothing but begin and take back.
func h2Calm(next http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(h2ConnKey{}).(*h2Conn)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		began := time.Now()
		defer func() {
			if now := time.Now(); r.Context().Err() != nil && now.Sub(began) < churnTime && !c.churned(now) {
				log.Debug("HTTP/2 connection ended: too many streams taken back", "peer", r.RemoteAddr)
				_ = c.Close()
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// start serves what is handed over.
func (h *handover) start() { go func() { _ = h.server.Serve(h) }() }

// take serves one connection until it ends.
func (h *handover) take(c net.Conn) {
	ended := make(chan struct{})
	h.mu.Lock()
	h.ends[c] = ended
	h.mu.Unlock()
	select {
	case h.conns <- c:
		<-ended
	case <-h.shut:
		h.state(c, http.StateClosed)
	}
}

func (h *handover) state(c net.Conn, s http.ConnState) {
	if s != http.StateClosed && s != http.StateHijacked {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if ended := h.ends[c]; ended != nil {
		close(ended)
		delete(h.ends, c)
	}
}

// Accept gives the next connection to net/http.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.shut:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.shut) })
	return nil
}

// Addr is of no network.
func (h *handover) Addr() net.Addr { return &net.TCPAddr{} }
