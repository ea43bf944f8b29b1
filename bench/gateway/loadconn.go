package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loadConn is one connection of the load generator with at most one request in
// flight.
type loadConn struct {
	fd     int
	rw     io.ReadWriter
	secure bool
	due    time.Time
	busy   bool
	out    []byte // still to write
	in     []byte // the answer so far
	head   int    // length of the answer's head, once it is there
	status int
	length int // of the body
}

// flush writes what the socket takes.
func (c *loadConn) flush() error {
	c.head = 0
	return c.write()
}

func (c *loadConn) write() error {
	for len(c.out) > 0 {
		n, err := c.rw.Write(c.out)
		c.out = c.out[max(n, 0):]
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return nil
}

// progress reads and writes what is possible; done: the answer is complete.
func (c *loadConn) progress() (done bool, err error) {
	if len(c.out) > 0 {
		if err := c.write(); err != nil {
			return false, err
		}
	}
	for {
		if len(c.in) == cap(c.in) {
			return false, errors.New("answer too long")
		}
		room := c.in[len(c.in):cap(c.in)]
		n, err := c.rw.Read(room)
		if n > 0 {
			c.in = c.in[:len(c.in)+n]
		}
		switch {
		case errors.Is(err, unix.EAGAIN):
		case err != nil:
			return false, fmt.Errorf("read: %w", err)
		case n == 0:
			return false, errors.New("connection closed by the server")
		case !c.busy:
			return false, fmt.Errorf("bytes without a request: %.80q", c.in)
		}
		if n > 0 {
			if done, err := c.complete(); done || err != nil {
				return done, err
			}
		}
		if err != nil || (!c.secure && n < len(room)) {
			return false, nil
		}
	}
}

// complete looks whether the whole answer is there.
func (c *loadConn) complete() (bool, error) {
	if c.head == 0 {
		end := bytes.Index(c.in, []byte("\r\n\r\n"))
		if end < 0 {
			return false, nil
		}
		c.head = end + 4
		if len(c.in) < 12 || !bytes.HasPrefix(c.in, []byte("HTTP/1.1 ")) {
			return false, fmt.Errorf("not an answer: %.80q", c.in)
		}
		c.status, _ = strconv.Atoi(string(c.in[9:12])) // anything else counts as a bad answer
		c.length = -1
		if v := headerValue(c.in[:end+2], "content-length"); v != nil {
			n, err := strconv.Atoi(string(v))
			if err != nil {
				return false, fmt.Errorf("length of the answer: %w", err)
			}
			c.length = n
		}
	}
	if c.length >= 0 {
		return len(c.in) >= c.head+c.length, nil
	}
	if !bytes.HasSuffix(c.in, []byte("0\r\n\r\n")) {
		return false, nil
	}
	body := c.in[c.head:]
	c.length = 0
	for {
		line, rest, ok := bytes.Cut(body, []byte("\r\n"))
		n, err := strconv.ParseInt(string(line), 16, 32)
		if !ok || err != nil || int64(len(rest)) < n {
			c.length = -1
			return false, nil // the body may end like the last chunk
		}
		if n == 0 {
			return true, nil
		}
		c.length += int(n)
		body = rest[min(len(rest), int(n)+2):]
	}
}

// headerValue finds a header, its name in lower case, in a head.
func headerValue(head []byte, name string) []byte {
	for len(head) > 0 {
		line, rest, _ := bytes.Cut(head, []byte("\r\n"))
		head = rest
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.TrimSpace(line[len(name)+1:])
		}
	}
	return nil
}

// rawSocket reads and writes a descriptor that does not block.
type rawSocket int

func (s rawSocket) Read(p []byte) (int, error) { return s.call(unix.SYS_READ, p) }

func (s rawSocket) Write(p []byte) (int, error) { return s.call(unix.SYS_WRITE, p) }

func (s rawSocket) call(trap uintptr, p []byte) (int, error) {
	n, _, e := syscall.RawSyscall(trap, uintptr(s), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	switch e {
	case 0:
		return int(n), nil
	case syscall.EAGAIN:
		return 0, unix.EAGAIN
	}
	return 0, e
}

// socketConn lets crypto/tls work over a descriptor that does not block: an
// empty socket is a temporary error, after which crypto/tls goes on reading.
type socketConn struct{ fd int }

type emptySocket struct{}

func (emptySocket) Error() string   { return "nothing to read" }
func (emptySocket) Timeout() bool   { return true }
func (emptySocket) Temporary() bool { return true }
func (emptySocket) Unwrap() error   { return unix.EAGAIN }

func (s *socketConn) Read(p []byte) (int, error) {
	n, err := unix.Read(s.fd, p)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, emptySocket{}
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *socketConn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(s.fd, p[done:])
		if errors.Is(err, unix.EAGAIN) {
			if _, err = unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return done, err
			}
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (s *socketConn) Close() error                     { return unix.Close(s.fd) }
func (s *socketConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *socketConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *socketConn) SetDeadline(time.Time) error      { return nil }
func (s *socketConn) SetReadDeadline(time.Time) error  { return nil }
func (s *socketConn) SetWriteDeadline(time.Time) error { return nil }
