package http1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is one client's connection and the goroutine that serves it.
type conn struct {
	srv    *Server
	nc     net.Conn
	out    io.Writer // nc, or a quicker way to write to it
	peer   netip.AddrPort
	secure *tls.ConnectionState
	src    source
	x      Exchange
	sig    Signal
	probe  *probe
	busy   atomic.Int64 // since when a handler runs; 0: none
	used   bool         // has served a request
	astray bool         // a handler panicked: somebody may still use our buffers
	gather int          // bytes of an answer that are sent in one piece

	wmu   sync.Mutex
	wdl   deadline
	write allowance
	vec   net.Buffers
	vecs  [4][]byte

	// The sweeper's own.
	asked int64 // when it last asked whether the client is there
	half  int64 // since when the client's sending side is closed and nothing came
	seen  int64 // bytes that had come then
}

func newConn(s *Server, nc net.Conn, peer netip.AddrPort) *conn {
	c := &conn{srv: s, nc: nc, peer: peer, probe: newProbe(nc)}
	rw := quick(nc)
	c.out = rw
	c.src = source{conn: nc, in: rw, sweep: s.sweep, allow: newAllowance(s.limits.Grace, s.limits.Rate)}
	c.write = newAllowance(s.limits.Grace, s.limits.Rate)
	c.x.c = c
	c.gather = small
	if _, ok := nc.(*tls.Conn); ok {
		c.gather = wide / 2 // one record
	}
	c.x.body.src = &c.src
	if t, ok := c.raw().(*net.TCPConn); ok {
		_ = t.SetWriteBuffer(s.limits.SendBuffer)
	}
	return c
}

// raw is the connection below TLS.
func (c *conn) raw() net.Conn {
	if t, ok := c.nc.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c.nc
}

// sweep enforces deadlines and sees the client leave.
func (c *conn) sweep(now int64) {
	drain := c.srv.drainAt.Load()
	c.src.dl.expire(now, drain > 0 && now >= drain, c.nc.SetReadDeadline)
	c.wdl.expire(now, false, c.nc.SetWriteDeadline)
	since := c.busy.Load()
	if since == 0 || c.probe == nil {
		c.half = 0
		return
	}
	// The longer it takes, the less often we ask.
	if now-max(c.asked, since) < min((now-since)/4, int64(time.Second)) {
		return
	}
	c.asked = now
	switch c.probe.peer() {
	case peerGone:
		c.sig.fire()
	case peerHalf:
		wait := c.srv.limits.HalfClose
		if !c.x.body.whole.Load() {
			wait = c.srv.limits.Grace // the rest of its body may be on the way to us
		}
		if total := c.src.total.Load(); c.half == 0 || total != c.seen {
			c.half, c.seen = now, total
		}
		if now-c.half >= int64(wait) {
			c.sig.fire()
		}
	}
}

func (c *conn) serve() {
	tunnel := false
	defer func() {
		c.sig.fire()
		c.srv.forget(c, tunnel)
		if !tunnel {
			_ = c.nc.Close()
		}
	}()
	if t, ok := c.nc.(*tls.Conn); ok && !c.handshake(t) {
		return
	}
	c.src.buf = getBuffer(small)
	for c.next() {
		c.x.run()
		if c.x.tunnel != nil {
			tunnel = true
			return
		}
		if !c.x.settle() {
			break
		}
	}
	if !c.astray {
		c.src.release()
	}
}

// handshake reports whether HTTP/1.1 follows.
func (c *conn) handshake(t *tls.Conn) bool {
	ctx, cancel := context.WithTimeout(&c.sig, c.srv.limits.HeadTime)
	err := t.HandshakeContext(ctx)
	cancel()
	if err != nil {
		c.srv.Log.Debug("TLS handshake failed", "peer", c.peer, "err", err)
		return false
	}
	state := t.ConnectionState()
	c.secure = &state
	if state.NegotiatedProtocol == "h2" {
		if c.srv.HTTP2 != nil {
			c.srv.HTTP2(c.nc)
		}
		return false
	}
	return true
}

var preface = []byte("PRI * HTTP/2.0\r\n")

// next reads the head of the next request; false ends the connection.
func (c *conn) next() bool {
	s, l := &c.src, &c.srv.limits
	var until int64 // for the whole head, from its first byte
	seen := 0       // bytes without a line end that were looked at
	if !c.used {
		until = s.sweep.after(l.HeadTime)
	}
	for {
		if b := s.buf[s.r:s.w]; len(b) > seen {
			if until == 0 {
				until = s.sweep.after(l.HeadTime)
			}
			if c.srv.HTTP2 != nil && !c.used && c.secure == nil && bytes.HasPrefix(b, preface) {
				c.http2()
				return false
			}
			if seen < 3 || bytes.IndexByte(b[seen:], '\n') >= 0 {
				n, err := c.x.parse(b, l.Fields)
				if err == nil && max(n, 0) > l.Head {
					err = errLarge
				}
				if err != nil {
					c.refuse(err)
					return false
				}
				if n > 0 {
					s.r += n
					s.base = s.r
					return true
				}
			}
			if seen = len(b); seen >= l.Head {
				c.refuse(errLarge)
				return false
			}
		}
		if s.w == len(s.buf) && !s.enlarge() {
			c.refuse(errLarge)
			return false
		}
		at := until
		if at == 0 {
			at = s.sweep.after(l.Idle)
		}
		unused := s.buffered() == 0
		if unused {
			at |= idleBit
		}
		n, err := s.read(s.buf[s.w:], at)
		switch s.w += n; {
		case err == nil:
		case err != ErrTimeout:
			return false
		case !unused:
			c.refuse(errLate)
			return false
		case n > 0 || c.probe != nil && c.probe.pending() > 0:
			// A request came as we were about to close: its client cannot know
			// that it may send it again.
			_ = c.nc.SetReadDeadline(time.Time{})
		default:
			return false
		}
	}
}

// http2 hands the connection over to the server of another protocol.
func (c *conn) http2() {
	t := c.detach()
	c.src.release()
	c.srv.HTTP2(t)
}

// detach makes a connection out of what was read too far and what follows.
func (c *conn) detach() *Tunnel {
	t := &Tunnel{Conn: c.nc}
	t.rest = append(t.rest, c.src.buf[c.src.r:c.src.w]...)
	return t
}

// refuse answers a request that could not be understood.
func (c *conn) refuse(m *Malformed) {
	x := &c.x
	x.reset()
	x.Header, x.Minor, x.Method, x.keep = x.Header[:0], 1, "", false
	if err := x.Reply(m.Status, nil, 0); err == nil {
		_ = x.Flush()
	}
	x.free()
	c.linger()
}

// send writes the first n of c.vecs, in one call if the client reads fast
// enough. The caller holds wmu.
func (c *conn) send(n int) (err error) {
	c.vec = c.vecs[:n]
	for len(c.vec) > 0 && err == nil {
		err = c.sendSome()
	}
	c.vec = nil
	clear(c.vecs[:n])
	return err
}

// record is what TLS sends or does not send as a whole.
const record = 16 << 10

// sendSome writes what it can of c.vec. A client that reads slowly, but not
// slower than the floor rate, has several calls made for it.
func (c *conn) sendSome() error {
	var sent int64
	var err error
	begin, a := c.srv.sweep.clock.Load(), &c.write
	if c.secure != nil {
		// What TLS has begun must be ended by the same call.
		p := c.vec[0][:min(len(c.vec[0]), record)]
		c.wdl.arm(c.srv.sweep.after(time.Duration(a.credit + int64(len(p))*int64(time.Second)/a.rate)))
		var n int
		n, err = c.out.Write(p)
		sent = int64(n)
		if c.vec[0] = c.vec[0][n:]; len(c.vec[0]) == 0 {
			c.vec = c.vec[1:]
		}
	} else if c.wdl.arm(c.srv.sweep.after(time.Duration(a.credit))); len(c.vec) == 1 {
		var n int
		n, err = c.out.Write(c.vec[0])
		sent = int64(n)
		if c.vec[0] = c.vec[0][n:]; len(c.vec[0]) == 0 {
			c.vec = c.vec[1:]
		}
	} else {
		sent, err = c.vec.WriteTo(c.nc)
	}
	c.wdl.off()
	a.used(c.srv.sweep.clock.Load()-begin, int(sent))
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case a.credit <= 0 || c.secure != nil:
		return ErrTimeout
	}
	return c.nc.SetWriteDeadline(time.Time{})
}

const (
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20
)

// linger lets the client read its answer before it learns that nobody reads
// what it still sends.
func (c *conn) linger() {
	type closeWriter interface{ CloseWrite() error }
	w, ok := c.nc.(closeWriter)
	if !ok || w.CloseWrite() != nil {
		return
	}
	if c.raw() != c.nc {
		if w, ok := c.raw().(closeWriter); ok {
			_ = w.CloseWrite()
		}
	}
	s := &c.src
	s.stopped.Store(false)
	_ = c.nc.SetReadDeadline(time.Time{})
	until := s.sweep.after(lingerTime)
	for n := 0; n < lingerBytes; {
		m, err := s.read(s.buf, until)
		if err != nil {
			return
		}
		n += m
	}
}

// cut ends the connection, with a reset if the client could take a plain end for
// that of its answer or does not read what the kernel still holds.
func (c *conn) cut(reset bool) {
	if t, ok := c.raw().(*net.TCPConn); ok && reset {
		_ = t.SetLinger(0)
	}
	_ = c.raw().Close()
}
