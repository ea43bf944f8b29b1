package http1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// upstream is one connection to a server.
type upstream struct {
	e      *Endpoint
	nc     net.Conn
	to     io.Writer // nc, or a quicker way to write to it
	sock   *sock     // that way; nil: there is none
	probe  *probe
	src    source
	res    Response
	born   int64
	since  int64 // when it became idle
	reused bool

	req     *Request
	timeout time.Duration
	sig     *Signal
	stop    func() bool // of context.AfterFunc
	aborted atomic.Bool
	wdl     deadline
	out     []byte
	ask     []byte   // a request to send when its answer is waited for
	nudge   deadline // when to look for what came before the request
	vec     net.Buffers
	vecs    [3][]byte

	pumping bool
	pumped  chan error
	failed  atomic.Bool // the request's body could not be read
	late    bool        // the answer came though the request could not be sent
}

func newUpstream(e *Endpoint, nc net.Conn) *upstream {
	u := &upstream{e: e, nc: nc, probe: newProbe(nc), born: e.c.sweep.clock.Load()}
	rw := quick(nc)
	u.to = rw
	u.sock, _ = rw.(*sock)
	u.src = source{conn: nc, in: rw, sweep: e.c.sweep}
	u.res.u = u
	u.res.body.src = &u.src
	e.c.sweep.add(u)
	return u
}

// sweep enforces deadlines.
func (u *upstream) sweep(now int64) {
	u.src.dl.expire(now, false, u.nc.SetDeadline)
	u.wdl.expire(now, false, u.nc.SetDeadline)
	u.nudge.look(now, func() bool {
		return u.probe.pending() >= 0 && u.nc.SetReadDeadline(past) == nil
	})
}

// abort ends whatever the connection waits for. Any goroutine may call it.
func (u *upstream) abort() {
	u.aborted.Store(true)
	_ = u.nc.SetDeadline(past)
}

func (u *upstream) close() {
	u.e.c.sweep.remove(u)
	_ = u.nc.Close()
}

const forever = 100 * 365 * 24 * time.Hour

// idempotent methods may be sent again when nothing came back.
func idempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}

// moment is how long a connection may be idle and still be used without a look.
const moment = int64(time.Millisecond)

// stale reports whether a connection that was idle can no longer be used: the
// server closed it, or sent what nobody asked for, which must not become the
// answer to the next request.
func (u *upstream) stale(method string) bool {
	// A look costs a system call. What was used a moment ago is used again
	// without one where a second attempt would be safe.
	if u.probe == nil || idempotent(method) && mono()-u.since < moment {
		return false
	}
	n := u.probe.pending()
	if n <= 0 || u.e.tls == nil {
		return n >= 0
	}
	// Perhaps only a session ticket.
	_ = u.nc.SetReadDeadline(time.Now().Add(time.Millisecond))
	var b [1]byte
	_, err := u.nc.Read(b[:])
	ne, ok := errors.AsType[net.Error](err)
	if err == nil || !ok || !ne.Timeout() {
		return true
	}
	_ = u.nc.SetReadDeadline(time.Time{})
	return false
}

// Do sends a request and waits for the head of the answer, which must be
// closed. r belongs to the call until then. A request is sent again only if
// its method is idempotent, it has no body, and a connection that was used
// before ended without a byte of an answer.
func (e *Endpoint) Do(ctx context.Context, r *Request) (*Response, error) {
	for fresh := false; ; {
		u, err := e.get(ctx, fresh, r.Timeout)
		if err != nil {
			return nil, err
		}
		if u.reused && u.stale(r.Method) {
			u.close()
			e.lost()
			continue
		}
		res, again, err := u.do(ctx, r)
		if err == nil {
			return res, nil
		}
		if !again {
			return nil, err
		}
		fresh = true
	}
}

func (u *upstream) do(ctx context.Context, r *Request) (res *Response, again bool, err error) {
	u.req, u.sig, u.stop = r, nil, nil
	u.aborted.Store(false)
	u.timeout = r.Timeout
	if u.timeout <= 0 {
		u.timeout = forever
	}
	u.failed.Store(false)
	u.ask, u.late = nil, false
	if u.src.buf == nil {
		u.src.buf = getBuffer(small)
	}
	u.src.allow = newAllowance(u.timeout, 0)
	before := u.src.total.Load()
	if !u.watch(ctx) {
		return nil, false, u.fail(context.Canceled)
	}
	if err = u.write(r); err == nil || u.pumping {
		err = u.readHead(r)
	} else if !errors.Is(err, ErrRequest) && !u.aborted.Load() && err != ErrTimeout {
		// The server may have answered before it closed its side.
		if late := u.readHead(r); late == nil {
			u.res.framing.close = true
			err = nil
		}
	}
	if err != nil {
		silent := u.src.total.Load() == before
		again = u.reused && silent && idempotent(r.Method) && (r.Body == nil || r.Length == 0) &&
			err != ErrTimeout && !u.aborted.Load() && !errors.Is(err, ErrRequest)
		return nil, again, u.fail(err)
	}
	if u.reused && u.res.Status == 408 && u.res.framing.close && idempotent(r.Method) && !u.pumping && (r.Body == nil || r.Length == 0) {
		// Said to an idle connection just before it was closed, not to us.
		return nil, true, u.fail(io.EOF)
	}
	if u.late {
		u.res.framing.close = true
	}
	u.res.Length = u.res.framing.length
	if u.res.framing.chunked {
		u.res.Length = -1
	}
	f := u.res.framing
	switch {
	case r.Method == "HEAD":
		f = framing{}
	case u.res.Status == 204 || u.res.Status == 304 || u.res.Status == 101:
		f = framing{}
		u.res.Length = max(u.res.Length, 0)
	}
	u.res.body.start(&u.src, &f, true)
	return &u.res, false, nil
}

// watch has the call end with ctx; it reports false if that has happened.
func (u *upstream) watch(ctx context.Context) bool {
	if s := signalOf(ctx); s != nil {
		taken, alive := s.attach(u)
		if !alive {
			return false
		}
		if taken {
			u.sig = s
			return true
		}
	}
	if ctx.Done() != nil {
		u.stop = context.AfterFunc(ctx, u.abort)
	}
	return ctx.Err() == nil
}

// unwatch reports whether the connection was left alone.
func (u *upstream) unwatch() bool {
	ok := true
	if u.sig != nil {
		ok = u.sig.detach(u)
		u.sig = nil
	}
	if u.stop != nil {
		ok = u.stop() && ok
		u.stop = nil
	}
	return ok && !u.aborted.Load()
}

// explain names the cause of an error in this package's words.
func (u *upstream) explain(err error) error {
	var kind error
	switch {
	case u.failed.Load():
		kind = ErrBody
	case errors.Is(err, ErrRequest):
		return err
	case err == ErrTimeout && !u.aborted.Load():
		return err
	case u.aborted.Load() || err == context.Canceled:
		kind = ErrCanceled
	default:
		if _, ok := isMalformed(err); ok {
			kind = ErrProtocol
		} else {
			kind = ErrClosed
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// fail ends a call that got no answer.
func (u *upstream) fail(err error) error {
	err = u.explain(err)
	_ = u.nc.Close() // ends the pump's writes, too
	u.join()
	u.unwatch()
	u.free()
	u.close()
	u.e.lost()
	return err
}

const pumpGrace = 20 * time.Millisecond

// finish ends a call after its answer.
func (u *upstream) finish() {
	if u.req == nil {
		return // closed before
	}
	b := &u.res.body
	if !b.complete() && b.kind == lengthBody && b.err == nil && int64(u.src.buffered()) >= b.left {
		u.src.r += int(b.left)
		b.left = 0
		_ = b.fail(io.EOF)
	}
	f := &u.res.framing
	keep := b.complete() && b.kind != closeBody && !f.close && (u.res.minor == 1 || f.keepAlive) &&
		u.src.buffered() == 0 && u.res.Status != 101
	if u.pumping {
		// The request's end is often sent a moment before the answer's end comes,
		// and its sender not yet back.
		t := time.NewTimer(pumpGrace)
		select {
		case err := <-u.pumped:
			u.pumping = false
			keep = keep && err == nil
		case <-t.C:
			// The answer is over and the request is not: nobody wants its rest.
			keep = false
			_ = u.nc.Close()
			u.join()
		}
		t.Stop()
	}
	keep = u.unwatch() && keep
	u.src.settle()
	u.free()
	if keep {
		u.e.put(u)
		return
	}
	u.close()
	u.e.lost()
}

// give takes the connection out of the pool.
func (u *upstream) give() *Tunnel {
	t := &Tunnel{Conn: u.nc}
	t.rest = append(t.rest, u.src.buf[u.src.r:u.src.w]...)
	u.unwatch()
	_ = u.nc.SetDeadline(time.Time{})
	u.req = nil
	u.e.c.sweep.remove(u)
	t.ended = u.e.lost
	return t
}

func (u *upstream) free() {
	u.req = nil
	u.src.release()
	if u.out != nil {
		putBuffer(u.out)
		u.out = nil
	}
}

// join waits for the goroutine that sends the body.
func (u *upstream) join() {
	if !u.pumping {
		return
	}
	if i, ok := u.req.Body.(interrupter); ok {
		i.Interrupt()
	}
	<-u.pumped
	u.pumping = false
}

const maxInterim = 32

// offered reports whether the protocol is in the list that was asked for.
func offered(list, protocol string) bool {
	for p := range strings.SplitSeq(list, ",") {
		if p = trimBlank(p); p != "" && fold(p, protocol) {
			return true
		}
	}
	return false
}

// receive reads once, and sends the request before if that is still to be done.
func (u *upstream) receive(p []byte, until int64) (int, error) {
	s := &u.src
	out := u.ask
	if out == nil {
		return s.read(p, until)
	}
	u.ask = nil
	s.dl.arm(until)
	u.nudge.arm(u.e.c.sweep.after(nudgeAfter))
	n, late, err := u.sock.ask(out, p)
	u.late = late
	if !u.nudge.off() {
		_ = u.nc.SetReadDeadline(time.Time{})
		if u.aborted.Load() {
			u.abort() // its deadline may have been the one that was taken away
		}
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			n, err = s.in.Read(p)
		}
	}
	return s.came(n, err)
}

const nudgeAfter = 50 * time.Millisecond

// readHead waits for the final answer's head.
func (u *upstream) readHead(r *Request) error {
	s, o := &u.src, &u.e.c.o
	until := u.e.c.sweep.after(u.timeout)
	interim, seen := 0, 0
	for {
		if b := s.buf[s.r:s.w]; len(b) > seen {
			n, err := 0, (*Malformed)(nil)
			if seen < 8 || bytes.IndexByte(b[seen:], '\n') >= 0 { // a line more: no work for each byte
				n, err = u.res.parse(b, o.Fields)
			}
			if err == nil && n > o.Head {
				err = errLarge
			}
			if err != nil {
				return err
			}
			switch {
			case n == 0:
				if seen = len(b); seen >= o.Head {
					return errLarge
				}
			case u.res.Status >= 200 || u.res.Status == 101:
				s.r += n
				s.base = s.r
				if u.res.Status == 101 && !(u.res.framing.upgrade && offered(r.Upgrade, u.res.framing.upgradeTo)) {
					return errSwitch
				}
				return nil
			default:
				if interim++; interim > maxInterim {
					return errStatusLine
				}
				if r.Inform != nil {
					r.Inform(u.res.Status, u.res.Header)
				}
				s.r += n
				seen = 0
				continue
			}
		}
		if s.r == s.w {
			s.r, s.w = 0, 0
		}
		if s.w == len(s.buf) && !s.enlarge() {
			return errLarge
		}
		if u.pumping {
			until = u.e.c.sweep.after(u.timeout)
		}
		n, err := u.receive(s.buf[s.w:], until)
		if err != nil {
			if err == io.EOF && s.buffered() > 0 {
				return io.ErrUnexpectedEOF
			}
			return err
		}
		s.w += n
	}
}
