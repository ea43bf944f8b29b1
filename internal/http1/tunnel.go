package http1

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Tunnel is a connection that has left HTTP. Reads begin with the bytes that
// were read too far.
type Tunnel struct {
	net.Conn
	rest  []byte
	ended func()
	once  sync.Once
}

// Read reads from the connection.
func (t *Tunnel) Read(p []byte) (int, error) {
	if len(t.rest) > 0 {
		n := copy(p, t.rest)
		t.rest = t.rest[n:]
		return n, nil
	}
	return t.Conn.Read(p)
}

// Buffered are the bytes that were read too far and not yet read here.
func (t *Tunnel) Buffered() []byte { return t.rest }

// NetConn is the connection below.
func (t *Tunnel) NetConn() net.Conn { return t.Conn }

// CloseWrite ends our sending side, where the transport can.
func (t *Tunnel) CloseWrite() error {
	if w, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return t.Close()
}

// Close closes the connection.
func (t *Tunnel) Close() error {
	err := t.Conn.Close()
	t.once.Do(func() {
		if t.ended != nil {
			t.ended()
		}
	})
	return err
}

// ErrQuiet ends a tunnel in which nothing moved for too long.
var ErrQuiet = errors.New("tunnel was quiet for too long")

// Join copies between two connections in both directions until both ended,
// passing on half-closes, and closes both. It also ends when nothing moved for
// idle; 0 is without a bound.
func Join(a, b *Tunnel, idle time.Duration) error {
	var moved atomic.Int64
	moved.Store(mono())
	type result struct{ err error }
	done := make(chan result, 2)
	run := func(to, from *Tunnel) {
		buf := getBuffer(wide)
		defer putBuffer(buf)
		done <- result{pass(to, from, buf, idle, &moved)}
	}
	go run(a, b)
	go run(b, a)
	first := <-done
	if first.err != nil {
		a.Close()
		b.Close()
	}
	second := <-done
	a.Close()
	b.Close()
	if first.err != nil {
		return first.err
	}
	return second.err
}

func pass(to, from *Tunnel, buf []byte, idle time.Duration, moved *atomic.Int64) error {
	for {
		if idle > 0 {
			_ = from.SetReadDeadline(time.Now().Add(idle))
		}
		n, err := from.Read(buf)
		if n > 0 {
			moved.Store(mono())
			if idle > 0 {
				_ = to.SetWriteDeadline(time.Now().Add(idle))
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			moved.Store(mono())
		}
		switch ne, ok := err.(net.Error); {
		case err == nil:
		case err == io.EOF:
			_ = to.CloseWrite()
			return nil
		case ok && ne.Timeout():
			// The other direction may have been busy.
			if mono()-moved.Load() >= int64(idle) {
				return ErrQuiet
			}
		default:
			return err
		}
	}
}
