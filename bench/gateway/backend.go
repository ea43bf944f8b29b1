package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// runBackend answers every request, once it has read its whole body, with a body
// of a fixed length. It is an epoll loop of one thread that looks at nothing but
// the length of what it gets, so that it leaves most of its core to the load.
func runBackend(args []string) error {
	fs := flag.NewFlagSet("backend", flag.ContinueOnError)
	addr := fs.String("addr", "", "host:port")
	size := fs.Int("body", 1024, "length of the answers' bodies")
	if err := fs.Parse(args); err != nil {
		return err
	}
	tcp, err := net.ResolveTCPAddr("tcp4", *addr)
	if err != nil {
		return err
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := errors.Join(unix.SetsockoptInt(l, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(l, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(tcp.IP.To4())}), unix.Listen(l, 4096)); err != nil {
		return fmt.Errorf("listen on %s: %w", *addr, err)
	}
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, l, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l)}); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", *size)
	answer = append(answer, bytes.Repeat([]byte("x"), *size)...)
	conns := map[int32]*backendConn{}
	buf := make([]byte, 256<<10)
	var events [128]unix.EpollEvent
	for {
		n, err := epollWait(ep, events[:], -1)
		if err != nil {
			return err
		}
		for _, ev := range events[:n] {
			if ev.Fd == int32(l) {
				fd, _, err := unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				if err != nil {
					continue // it left before
				}
				if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
					unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: edges, Fd: int32(fd)})); err != nil {
					return fmt.Errorf("accept: %w", err)
				}
				conns[int32(fd)] = &backendConn{rawSocket: rawSocket(fd), answer: answer}
				continue
			}
			if c := conns[ev.Fd]; c != nil && !c.progress(buf) {
				delete(conns, ev.Fd)
				_ = unix.Close(int(ev.Fd)) // the proxy left
			}
		}
	}
}

// backendConn is a connection from a proxy, which sends one request at a time.
type backendConn struct {
	rawSocket
	answer, out []byte
	head        []byte // of a request that is not complete
	body        bool   // the head is read
	left        int    // of a body with a length
	chunked     bool
	tail        []byte // last bytes of a chunked body
}

// progress reads and writes what is possible; false ends the connection.
func (c *backendConn) progress(buf []byte) bool {
	for {
		if !c.flush() {
			return false
		}
		n, err := c.Read(buf)
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if err != nil || n == 0 || !c.take(buf[:n]) {
			return false
		}
		if n < len(buf) {
			return c.flush()
		}
	}
}

func (c *backendConn) flush() bool {
	for len(c.out) > 0 {
		n, err := c.Write(c.out)
		if errors.Is(err, unix.EAGAIN) {
			return true
		}
		if err != nil {
			return false
		}
		c.out = c.out[n:]
	}
	return true
}

// take reads bytes of a request and makes its answer when it is complete.
func (c *backendConn) take(b []byte) bool {
	if !c.body {
		if len(c.head) > 0 {
			c.head = append(c.head, b...)
			b = c.head
		}
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			if len(c.head) == 0 {
				c.head = append(c.head, b...)
			}
			return len(c.head) < 64<<10
		}
		c.body, c.left, c.chunked, c.tail = true, 0, false, c.tail[:0]
		if b[0] != 'G' { // a GET has no body here
			if v := headerValue(b[:end+2], "content-length"); v != nil {
				n, err := strconv.Atoi(string(v))
				if err != nil {
					return false
				}
				c.left = n
			}
			c.chunked = headerValue(b[:end+2], "transfer-encoding") != nil
		}
		b = b[end+4:]
	}
	if c.chunked {
		c.tail = append(c.tail, b[max(0, len(b)-7):]...)
		c.tail = append(c.tail[:0], c.tail[max(0, len(c.tail)-7):]...)
		if !bytes.Equal(c.tail, []byte("\r\n0\r\n\r\n")) && !bytes.Equal(c.tail, []byte("0\r\n\r\n")) {
			return true
		}
	} else if c.left -= len(b); c.left > 0 {
		return true
	} else if c.left < 0 {
		return false // more than one request at a time
	}
	c.body, c.head, c.out = false, c.head[:0], c.answer
	return true
}

// runReverseProxy is Go's own reverse proxy, for scale.
func runReverseProxy(args []string) error {
	fs := flag.NewFlagSet("reverseproxy", flag.ContinueOnError)
	addr := fs.String("addr", "", "host:port")
	backend := fs.String("backend", "", "URL")
	if err := fs.Parse(args); err != nil {
		return err
	}
	to, err := url.Parse(*backend)
	if err != nil {
		return err
	}
	p := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true},
	}
	s := &http.Server{Addr: *addr, Handler: p, ReadHeaderTimeout: time.Minute}
	return s.ListenAndServe()
}
