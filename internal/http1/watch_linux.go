package http1

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

type peerState uint8

const (
	peerThere peerState = iota
	peerHalf            // it will send no more; perhaps it still reads
	peerGone
)

// probe asks the kernel about a connection without reading from it. Its
// functions are made once, so that asking allocates nothing.
type probe struct {
	raw   syscall.RawConn
	state peerState
	bytes int // 1: some wait; -1: none, and still open; 0: closed
	one   [1]byte
	poll  func(fd uintptr)
	look  func(fd uintptr)
}

func newProbe(c net.Conn) *probe {
	for {
		inner, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = inner.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	p := &probe{raw: raw}
	var fds [1]unix.PollFd
	p.poll = func(fd uintptr) {
		fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP}
		p.state = peerThere
		if n, err := unix.Poll(fds[:], 0); n > 0 && err == nil {
			switch e := fds[0].Revents; {
			case e&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
				p.state = peerGone
			case e&unix.POLLRDHUP != 0:
				p.state = peerHalf
			}
		}
	}
	p.look = func(fd uintptr) {
		// It does not block, so the scheduler need not know: that is most of its
		// price.
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p.one)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EAGAIN || errno == unix.EINTR:
			p.bytes = -1
		case errno != 0:
			p.bytes = 0
		default:
			p.bytes = int(n)
		}
	}
	return p
}

// peer is what the peer's side of the connection looks like.
func (p *probe) peer() peerState {
	if p.raw.Control(p.poll) != nil {
		return peerGone
	}
	return p.state
}

// pending is -1 if the connection is open with nothing to read, 0 if it was
// closed, and otherwise positive.
func (p *probe) pending() int {
	if p.raw.Control(p.look) != nil {
		return 0
	}
	return p.bytes
}
