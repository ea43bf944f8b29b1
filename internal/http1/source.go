package http1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Why a read or a write ended early.
var (
	ErrTimeout     = fmt.Errorf("peer was too slow: %w", os.ErrDeadlineExceeded)
	ErrInterrupted = errors.New("reading was interrupted")
)

// source is the reading side of a connection. Bytes below base belong to a head
// that is in use and stay where they are.
type source struct {
	conn    net.Conn
	in      io.Reader // conn, or a quicker way to read it
	sweep   *sweeper
	buf     []byte
	base    int
	r, w    int
	held    []byte // the buffer with the head, when buf is another one
	dl      deadline
	allow   allowance
	total   atomic.Int64 // bytes ever read
	stopped atomic.Bool
	idle    flusher // told before a read that may have to wait; nil: nobody
	broken  error   // what it said, which is not this side's fault
}

// read reads once, at the latest until at. ErrTimeout with bytes says that they
// came at the last moment; the connection's deadline has passed then.
func (s *source) read(p []byte, at int64) (int, error) {
	s.dl.arm(at)
	n, err := s.in.Read(p)
	return s.came(n, err)
}

// came ends a read that began by arming the deadline.
func (s *source) came(n int, err error) (int, error) {
	s.total.Add(int64(n))
	if !s.dl.off() {
		return n, ErrTimeout
	}
	if n > 0 {
		return n, nil
	}
	switch {
	case err == nil:
		err = io.ErrNoProgress
	case s.stopped.Load():
		err = ErrInterrupted
	}
	return 0, err
}

// patient reads once under the allowance.
func (s *source) patient(p []byte) (int, error) {
	if s.idle != nil {
		if err := s.idle.Flush(); err != nil {
			s.broken = err
			return 0, err
		}
	}
	begin := s.sweep.clock.Load()
	n, err := s.read(p, s.sweep.after(time.Duration(s.allow.credit)))
	s.allow.used(s.sweep.clock.Load()-begin, n)
	return n, err
}

func (s *source) buffered() int { return s.w - s.r }

// fill reads more bytes into the buffer, behind what is there.
func (s *source) fill() error {
	if s.r == s.w {
		s.r, s.w = s.base, s.base
	} else if s.w == len(s.buf) {
		if s.r == s.base {
			return io.ErrShortBuffer
		}
		n := copy(s.buf[s.base:], s.buf[s.r:s.w])
		s.r, s.w = s.base, s.base+n
	}
	n, err := s.patient(s.buf[s.w:])
	s.w += n
	return err
}

// widen makes room for streaming, leaving the head where it is.
func (s *source) widen() {
	if len(s.buf)-s.base >= wide/2 {
		return
	}
	b := getBuffer(wide)
	n := copy(b, s.buf[s.r:s.w])
	if s.held == nil {
		s.held = s.buf
	} else {
		putBuffer(s.buf)
	}
	s.buf, s.base, s.r, s.w = b, 0, 0, n
}

// enlarge makes room for a longer head; it reports whether there is one.
func (s *source) enlarge() bool {
	if s.r > 0 {
		n := copy(s.buf, s.buf[s.r:s.w])
		s.r, s.w = 0, n
		return true
	}
	if len(s.buf) == huge {
		return false
	}
	b := getBuffer(len(s.buf) * 2)
	s.w = copy(b, s.buf[:s.w])
	putBuffer(s.buf)
	s.buf = b
	return true
}

// settle ends the use of a head: what was read beyond it stays.
func (s *source) settle() {
	if s.r == s.w {
		s.r, s.w = 0, 0
	}
	s.base = 0
	if s.held != nil {
		if s.r == s.w {
			putBuffer(s.buf)
			s.buf = s.held
		} else {
			putBuffer(s.held)
		}
		s.held = nil
	}
	if s.r == s.w && len(s.buf) > small {
		putBuffer(s.buf)
		s.buf = getBuffer(small)
	}
}

// release gives the buffers back.
func (s *source) release() {
	if s.buf != nil {
		putBuffer(s.buf)
	}
	if s.held != nil {
		putBuffer(s.held)
	}
	s.buf, s.held, s.base, s.r, s.w = nil, nil, 0, 0, 0
}
