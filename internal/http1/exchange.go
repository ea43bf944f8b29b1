package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"
)

// Exchange is one request and the answer to it. It is used by one goroutine,
// but its Body may be read by another one, until the handler returns.
type Exchange struct {
	Method string
	Target string // as received
	Minor  int    // of HTTP/1
	Host   string // of an absolute target, or the Host field
	Header Header // as received, without Host
	Length int64  // of the body; -1: chunked
	Body   *Body  // nil: none

	c       *conn
	framing framing
	body    Body
	keep    bool
	expect  expectation // guarded by c.wmu
	tunnel  *Tunnel

	out      []byte // not sent yet
	status   int    // 0: no reply yet
	length   int64  // -1: not known
	written  int64
	chunked  bool
	bodiless bool
	sent     bool // a byte of the answer has left
	broken   error
	stream   bool
	trailer  Header
}

type expectation uint8

const (
	noExpect expectation = iota
	expecting
	expectDone
	expectRefused
)

// Errors of answering.
var (
	ErrReplied    = errors.New("answer has begun already")
	ErrNoReply    = errors.New("answer has not begun")
	ErrBadField   = errors.New("header field has bytes it must not have")
	ErrTooLong    = errors.New("body is longer than was announced")
	ErrNoUpgrade  = errors.New("client did not ask for an upgrade")
	ErrNoTunnel   = errors.New("CONNECT makes no tunnel here")
	ErrNotWanted  = errors.New("body was refused before it was sent")
	errIncomplete = errors.New("body is shorter than was announced")
)

// Context ends when the client leaves or its connection ends. It is one for
// all requests of a connection.
func (x *Exchange) Context() context.Context { return &x.c.sig }

// Peer is the address at the other end of the socket.
func (x *Exchange) Peer() netip.AddrPort { return x.c.peer }

// Local is our address.
func (x *Exchange) Local() net.Addr { return x.c.nc.LocalAddr() }

// TLS is nil on a plain connection.
func (x *Exchange) TLS() *tls.ConnectionState { return x.c.secure }

// Upgrading is the protocol that the client wants to change to, or "".
func (x *Exchange) Upgrading() string {
	if x.framing.upgrade && x.Minor == 1 {
		return x.framing.upgradeTo
	}
	return ""
}

// Expects reports whether the client waits for 100 Continue before it sends
// its body. The first read of the body sends that; a reply without a read
// refuses it.
func (x *Exchange) Expects() bool { return x.framing.expect && x.Minor == 1 && x.Body != nil }

// Stream has every Flush of an answer with a known length go out too, and a
// body that is copied flushed whenever its source has to be waited for.
func (x *Exchange) Stream() { x.stream = true }

func (x *Exchange) streams() bool { return x.stream || x.length < 0 }

// CloseAfter closes the connection after this answer.
func (x *Exchange) CloseAfter() { x.keep = false }

// Replied reports whether Reply was called.
func (x *Exchange) Replied() bool { return x.status != 0 }

func (x *Exchange) reset() {
	x.Body, x.Length = nil, 0
	x.expect, x.tunnel = noExpect, nil
	x.status, x.length, x.written = 0, 0, 0
	x.chunked, x.bodiless, x.sent, x.stream = false, false, false, false
	x.broken, x.trailer = nil, nil
}

// run serves one request whose head was read.
func (x *Exchange) run() {
	c, f := x.c, &x.framing
	x.reset()
	// What follows a CONNECT may be meant for the tunnel it did not get.
	x.keep = !f.close && (x.Minor == 1 || f.keepAlive) && x.Method != "CONNECT"
	x.body.start(&c.src, f, false)
	if x.body.kind != noBody {
		x.Body, x.Length = &x.body, f.length
		x.body.asks = nil
		if x.Expects() {
			x.expect = expecting
			x.body.asks = x
		}
	}
	c.used = true
	c.src.allow.renew()
	c.write.renew()
	c.busy.Store(c.srv.sweep.clock.Load())
	x.handle()
	c.busy.Store(0)
}

func (x *Exchange) handle() {
	defer func() {
		if r := recover(); r != nil {
			if r != http.ErrAbortHandler {
				x.c.srv.Log.Error("handler panicked", "panic", r, "stack", string(debug.Stack()))
			}
			x.c.astray = true
			x.Abort()
			if u := x.c.sig.slot.Load(); u != nil {
				// An answer that nobody closes. Whoever may still use it is told by
				// the connection's end and is long gone by then.
				time.AfterFunc(orphaned, u.finish)
			}
		}
	}()
	x.c.srv.Handler(x)
}

// orphaned is how long after a panic a call to a backend is ended for good.
const orphaned = 2 * time.Second

// Abort cuts the connection; the client sees that its answer is incomplete.
func (x *Exchange) Abort() {
	x.keep = false
	if x.broken != ErrTimeout { // what a client that does not read has coming is not kept for it
		x.broken = ErrInterrupted
	}
}

// settle finishes the answer after the handler; it reports whether another
// request may follow.
func (x *Exchange) settle() bool {
	c := x.c
	defer x.free()
	if x.status == 0 && x.broken == nil {
		status := 500
		if err := x.body.err; err != nil && err != io.EOF {
			x.keep = false
			if m, ok := isMalformed(err); ok {
				status = m.Status
			} else if err == io.ErrUnexpectedEOF {
				status = 400
			} else if err == ErrTimeout {
				status = 408
			}
		}
		_ = x.Reply(status, nil, 0)
	}
	if x.broken == nil && !x.bodiless && x.length >= 0 && x.written != x.length {
		x.broken = errIncomplete
	}
	if x.broken == nil {
		x.finish()
	}
	if x.broken != nil {
		if len(x.out) > 0 && x.broken == errIncomplete {
			_ = x.flush() // what there is, then the cut
		}
		c.cut(x.broken == ErrTimeout || x.length < 0 && !x.chunked)
		return false
	}
	rest := x.drain()
	if !x.keep || !rest || c.sig.ended.Load() {
		if !c.sig.ended.Load() && (!rest || c.src.buffered() > 0 || c.probe != nil && c.probe.pending() >= 0) {
			c.linger()
		}
		return false
	}
	if c.src.stopped.Swap(false) {
		_ = c.nc.SetReadDeadline(time.Time{}) // interrupted after the body's end
	}
	c.src.settle()
	return true
}

const drainable = 64 << 10

// drain reads what is left of a small request body, so that the connection can
// go on. It reports whether the body is complete.
func (x *Exchange) drain() bool {
	b := &x.body
	if b.complete() {
		return true
	}
	if !x.keep || b.err != nil {
		return false
	}
	for n := 0; n < drainable; {
		m, err := b.next()
		if err == io.EOF {
			return true
		}
		if err != nil {
			return false
		}
		x.c.src.r += m
		b.took(m)
		n += m
		if b.complete() {
			return true
		}
	}
	return false
}

func (x *Exchange) free() {
	if x.out != nil {
		putBuffer(x.out)
		x.out = nil
	}
}
