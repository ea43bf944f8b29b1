package http1

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sock reads and writes a TCP connection without telling Go's scheduler that it
// enters the kernel: the calls do not block, and with a million of them a second
// the telling, and the monitor that it wakes, are a tenth of what a request
// costs. Waiting is left to the runtime's poller as ever. One goroutine reads
// and one writes at a time.
type sock struct {
	c     *net.TCPConn
	raw   syscall.RawConn
	in    transfer
	out   transfer
	recv  func(fd uintptr) bool
	send  func(fd uintptr) bool
	both  func(fd uintptr) bool
	asked bool
	errno [2]syscall.Errno
}

type transfer struct {
	p []byte
	n int
}

// atOnce bounds one call, for until it returns nothing else runs on this
// processor; bytes.
const atOnce = 64 << 10

// quick is c with quicker reads and writes where that is possible.
func quick(c net.Conn) io.ReadWriter {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	s := &sock{c: t, raw: raw}
	s.recv, s.send, s.both = s.doRecv, s.doSend, s.doBoth
	return s
}

func (s *sock) doRecv(fd uintptr) bool {
	p := s.in.p[:min(len(s.in.p), atOnce)]
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			s.in.n = int(n)
			return true
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.errno[0] = errno
			return true
		}
	}
}

func (s *sock) doSend(fd uintptr) bool {
	for s.out.n < len(s.out.p) {
		p := s.out.p[s.out.n:]
		p = p[:min(len(p), atOnce)]
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			s.out.n += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			s.errno[1] = errno
			return true
		}
	}
	return true
}

// ask sends out and reads the answer's first bytes into in. It saves the look
// for bytes that cannot be there yet: a wait that begins before the question is
// asked cannot miss its answer. What came before it can be missed, so the
// connection must have been silent, and whoever asks looks after a while.
//
// late says that the answer began although not all of the question was taken.
func (s *sock) ask(out, in []byte) (n int, late bool, err error) {
	s.out, s.in, s.errno, s.asked = transfer{p: out}, transfer{p: in}, [2]syscall.Errno{}, false
	err = s.raw.Read(s.both)
	sent, n, errno := s.out.n, s.in.n, s.errno
	s.out.p, s.in.p = nil, nil
	switch {
	case err != nil:
		return 0, false, err
	case sent < len(out) && errno[1] == 0: // there was no room for all of it
		if _, err := s.Write(out[sent:]); err != nil {
			return 0, false, err
		}
		n, err = s.Read(in)
		return n, false, err
	case n > 0:
		return n, errno[1] != 0, nil
	case errno[1] != 0:
		return 0, false, s.failed("write", "sendto", errno[1])
	case errno[0] != 0:
		return 0, false, s.failed("read", "recvfrom", errno[0])
	}
	return 0, false, io.EOF
}

func (s *sock) doBoth(fd uintptr) bool {
	if s.asked {
		return s.doRecv(fd)
	}
	s.asked = true
	if !s.doSend(fd) {
		return true
	}
	if s.errno[1] != 0 { // perhaps it answered before it closed its side
		s.doRecv(fd)
		return true
	}
	return false
}

// Read reads once, as net.Conn does.
func (s *sock) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in, s.errno[0] = transfer{p: p}, 0
	err := s.raw.Read(s.recv)
	n, errno := s.in.n, s.errno[0]
	s.in.p = nil
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, s.failed("read", "recvfrom", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of p, as net.Conn does.
func (s *sock) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.out, s.errno[1] = transfer{p: p}, 0
	err := s.raw.Write(s.send)
	n, errno := s.out.n, s.errno[1]
	s.out.p = nil
	if err == nil && errno != 0 {
		err = s.failed("write", "sendto", errno)
	}
	return n, err
}

func (s *sock) failed(op, call string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.c.LocalAddr(), Addr: s.c.RemoteAddr(), Err: os.NewSyscallError(call, errno)}
}
