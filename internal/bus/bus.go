// Package bus carries messages between the parts of the product: it wakes and
// fans out. Nothing relies on a message arriving: whatever must not be lost is
// in the database or is sent again until it is answered. It is a NATS server
// inside the process, or a connection to one elsewhere.
package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// MaxMessage bounds one message, in bytes.
const MaxMessage = 8 << 20

// Scheme of the URLs by which nodes reach the bus inside a control process:
// bus://host:port, mutual TLS from the first byte. Other URLs (nats, tls, ws,
// wss) belong to a NATS cluster of the operator's own.
const Scheme = "bus"

// ErrNobody says that no part of the product answers requests on a subject now.
var ErrNobody = errors.New("nobody answers")

// Options of a bus.
type Options struct {
	Name string // shown in the cluster's list of connections
	Log  *slog.Logger
}

// Bus is one connection to the bus and, when it is embedded, the bus itself.
// All methods are safe for concurrent use.
type Bus struct {
	log    *slog.Logger
	self   string // this node
	conn   *nats.Conn
	server *server.Server // nil unless embedded
	gate   *gate          // of the server

	mu        sync.Mutex
	listeners []*listener
	closed    bool
}

// Embedded starts a bus inside the process. It listens nowhere until Listen.
func Embedded(o Options) (*Bus, error) {
	log := o.logger()
	g := newGate()
	s, err := server.NewServer(&server.Options{
		ServerName: o.name(),
		DontListen: true,
		NoSigs:     true,
		NoLog:      true,
		MaxPayload: MaxMessage,
		// A slow reader is cut off rather than waited for: subscribers resynchronise.
		MaxPending:    64 << 20,
		WriteDeadline: 10 * time.Second,
		PingInterval:  10 * time.Second,
		MaxPingsOut:   2,

		CustomClientAuthentication: g,
	})
	if err != nil {
		return nil, fmt.Errorf("start bus: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, errors.New("start bus: not ready after 10 s")
	}
	conn, err := nats.Connect(nats.DefaultURL, append(o.common(log), nats.InProcessServer(s), nats.Token(g.own))...)
	if err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start bus: %w", err)
	}
	return &Bus{log: log, self: o.name(), conn: conn, server: s, gate: g}, nil
}

// Connect joins the bus at the URLs, separated by commas. tlsConf is needed for
// bus URLs and optional for the others. It returns at once: while nobody
// listens, it goes on trying, and messages published meanwhile are kept up to
// a bound.
func Connect(urls string, tlsConf *tls.Config, o Options) (*Bus, error) {
	log := o.logger()
	opts := o.common(log)
	var servers []string
	own := 0
	for _, raw := range strings.Split(urls, ",") {
		u, err := url.Parse(strings.TrimSpace(raw))
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("connect bus: %q is not a URL such as nats://host:4222", raw)
		}
		switch u.Scheme {
		case Scheme:
			own++
			u.Scheme = "nats"
		case "nats", "tls", "ws", "wss":
		default:
			return nil, fmt.Errorf("connect bus: unknown scheme %q", u.Scheme)
		}
		servers = append(servers, u.String())
	}
	switch {
	case own == len(servers):
		if tlsConf == nil {
			return nil, errors.New("connect bus: a bus URL needs a node certificate")
		}
		// The name is resolved by the dialer, which checks the certificate against it.
		opts = append(opts, nats.SetCustomDialer(&dialer{tls: tlsConf}), nats.SkipHostLookup(), nats.IgnoreDiscoveredServers())
	case own > 0:
		return nil, errors.New("connect bus: bus URLs and others do not mix")
	case tlsConf != nil:
		opts = append(opts, nats.Secure(tlsConf))
	}
	name := o.name()
	if self := selfOf(tlsConf); self != "" {
		name = self // what the other side knows it by
		opts = append(opts, nats.CustomInboxPrefix(inboxOf(self)))
	}
	conn, err := nats.Connect(strings.Join(servers, ","), opts...)
	if err != nil {
		return nil, fmt.Errorf("connect bus: %w", err)
	}
	return &Bus{log: log, self: name, conn: conn}, nil
}

func (o Options) name() string {
	if o.Name == "" {
		return "cardea"
	}
	return o.Name
}

func (o Options) logger() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

func (o Options) common(log *slog.Logger) []nats.Option {
	return []nats.Option{
		nats.Name(o.name()),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a server that refuses now may have other settings later
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(100 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 200*time.Millisecond),
		nats.ReconnectBufSize(16 << 20),
		nats.Timeout(5 * time.Second),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("bus disconnected", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { log.Info("bus connected again") }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			log.Warn("bus trouble", "subject", subject, "err", err)
		}),
	}
}

// Connected reports whether messages reach the bus now.
func (b *Bus) Connected() bool { return b.conn.IsConnected() }

// Publish sends to every subscriber of the subject, in which Sender stands for
// this node. It does not wait for any.
func (b *Bus) Publish(subject string, data []byte) error {
	subject = from(b.self, subject)
	if err := b.conn.Publish(subject, data); err != nil {
		return fmt.Errorf("publish %s: %w", subject, err)
	}
	return nil
}

// Subscribe calls fn for each message on the subject, one after the other. The
// subject may end in ">" or hold "*". After a loss of connection it goes on by
// itself; what was sent meanwhile is lost.
func (b *Bus) Subscribe(subject string, fn func(subject string, data []byte)) (cancel func(), err error) {
	sub, err := b.conn.Subscribe(subject, func(m *nats.Msg) { fn(m.Subject, m.Data) })
	if err != nil {
		return nil, fmt.Errorf("subscribe %s: %w", subject, err)
	}
	return b.cancel(sub)
}

// Request sends and waits for one answer. In the subject Sender stands for this
// node. It fails with ErrNobody at once when no one answers that subject.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	subject = from(b.self, subject)
	if _, ok := ctx.Deadline(); !ok {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, 10*time.Second)
		defer stop()
	}
	m, err := b.conn.RequestWithContext(ctx, subject, data)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, fmt.Errorf("request %s: %w", subject, ErrNobody)
	}
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", subject, err)
	}
	return m.Data, nil
}

// Reply answers requests on the subject. Of all that share a queue name, one
// gets each request. fn is called for one request after the other. What is not
// a request of Request's kind is not answered: its sender may have no right to
// send where it wants the answer to go.
func (b *Bus) Reply(subject, queue string, fn func(data []byte) []byte) (cancel func(), err error) {
	return b.answer(subject, queue, func(m *nats.Msg) []byte { return fn(m.Data) })
}

// ReplyTo is Reply on a subject with Sender in it, and tells fn who asks. On
// the bus of a control process that is the name of a certificate; on a cluster
// of the operator's own it is as good as the rights configured there.
func (b *Bus) ReplyTo(subject, queue string, fn func(sender string, data []byte) []byte) (cancel func(), err error) {
	return b.answer(fromAny(subject), queue, func(m *nats.Msg) []byte {
		sender, ok := senderOf(subject, m.Subject)
		if !ok {
			b.log.Warn("bus request names no sender", "subject", m.Subject)
			return nil
		}
		return fn(sender, m.Data)
	})
}

func (b *Bus) answer(subject, queue string, fn func(*nats.Msg) []byte) (cancel func(), err error) {
	sub, err := b.conn.QueueSubscribe(subject, queue, func(m *nats.Msg) {
		if !strings.HasPrefix(m.Reply, inboxes) {
			b.log.Warn("bus message is no request", "subject", subject)
			return
		}
		if err := m.Respond(fn(m)); err != nil {
			b.log.Warn("bus answer lost", "subject", subject, "err", err)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reply to %s: %w", subject, err)
	}
	return b.cancel(sub)
}

// cancel makes sure that the bus knows the subscription before the caller goes
// on, when there is a connection to make sure over.
func (b *Bus) cancel(sub *nats.Subscription) (func(), error) {
	if b.conn.IsConnected() {
		if err := b.conn.FlushTimeout(5 * time.Second); err != nil {
			b.log.Warn("bus slow to subscribe", "subject", sub.Subject, "err", err)
		}
	}
	return func() { _ = sub.Unsubscribe() }, nil // fails only once the connection is closed
}

// Flush waits until the bus has everything published so far.
func (b *Bus) Flush(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, 10*time.Second)
		defer stop()
	}
	if err := b.conn.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush bus: %w", err)
	}
	return nil
}

// Close lets go of the bus; an embedded one ends with it.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	listeners := b.listeners
	b.listeners = nil
	b.mu.Unlock()
	if b.conn.IsConnected() {
		_ = b.conn.FlushTimeout(time.Second) // best effort: nothing relies on the last messages
	}
	b.conn.Close()
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.close())
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
	return errors.Join(errs...)
}

// dialer makes connections that are TLS from the first byte.
type dialer struct{ tls *tls.Config }

// Dial is nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, network, address, d.tls)
	if err != nil {
		return nil, err // not c: a nil *tls.Conn is no nil net.Conn
	}
	return c, nil
}

// SkipTLSHandshake is nats.skipTLSDialer: the connection is encrypted already.
func (d *dialer) SkipTLSHandshake() bool { return true }
