package http1

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A client that is a little late with each of its bodies is not punished for
// their sum: every request has the whole grace.
func TestGraceIsPerRequest(t *testing.T) {
	_, addr := start(t, Limits{Grace: time.Second}, echo)
	c := dial(t, addr)
	for i := range 9 {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n")
		time.Sleep(150 * time.Millisecond)
		io.WriteString(c, "a")
		b := make([]byte, 15)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "HTTP/1.1 200 OK" {
			t.Fatalf("request %d: %q %v", i+1, b, err)
		}
		for !strings.HasSuffix(string(b), "\r\n\r\na") {
			one := make([]byte, 1)
			if _, err := c.Read(one); err != nil {
				t.Fatal(err)
			}
			b = append(b, one...)
		}
	}
}

// Date is the system's clock, also after that was set.
func TestDateFollowsTheClock(t *testing.T) {
	s, addr := start(t, Limits{}, echo)
	dial(t, addr) // the sweeper rests without a connection
	within(t, time.Second, "a connection", func() bool { return s.Open() == 1 })
	slow := &Server{Limits: Limits{Tick: time.Hour}}
	slow.init()
	defer slow.Close()
	slow.sweep.wall.Store(1)
	if d := slow.now(); d != "Thu, 01 Jan 1970 00:00:01 GMT" {
		t.Errorf("the clock was set to 1970, the date is %s", d)
	}
	s.sweep.wall.Store(1)
	within(t, 5*time.Second, "the date is now", func() bool {
		at, err := time.Parse(time.RFC1123, s.now())
		return err == nil && time.Since(at).Abs() < 5*time.Second
	})
}

// lastMoment is a connection whose bytes come as its deadline passes.
type lastMoment struct {
	wire
	mu     sync.Mutex
	missed chan bool
	reads  atomic.Int32
}

func (c *lastMoment) Read(p []byte) (int, error) {
	if c.reads.Add(1) == 1 {
		<-c.missed
		return c.wire.Read(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.missed:
		return 0, os.ErrDeadlineExceeded
	default:
		return c.wire.Read(p)
	}
}

func (c *lastMoment) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.IsZero() {
		c.missed = make(chan bool)
	} else {
		close(c.missed)
	}
	return nil
}

// A request that comes just as its idle connection is given up is answered.
func TestRequestAtTheLastMoment(t *testing.T) {
	for name, drain := range map[string]bool{"idle": false, "draining": true} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Handler: echo, Limits: Limits{HeadTime: time.Hour, Idle: 10 * time.Millisecond, Drain: 10 * time.Millisecond, Tick: time.Millisecond}}
			if !drain {
				s.Limits.HeadTime = 10 * time.Millisecond
			}
			defer s.Close()
			c := &lastMoment{missed: make(chan bool)}
			c.in = []byte("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab")
			ended := make(chan bool)
			go func() { s.ServeConn(c); close(ended) }()
			if drain {
				within(t, time.Second, "served", func() bool { return s.Open() == 1 })
				go s.Shutdown(background)
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Fatal("the deadline was never enforced")
			}
			if out := c.out.String(); !strings.HasPrefix(out, "HTTP/1.1 200") || !strings.HasSuffix(out, "\r\n\r\nab") {
				t.Errorf("%q", out)
			}
		})
	}
}

// A connection on which nothing came yet does not hold up a shutdown.
func TestDrainClosesUnusedConnections(t *testing.T) {
	s, addr := start(t, Limits{Drain: 20 * time.Millisecond, HeadTime: time.Hour}, echo)
	dial(t, addr)
	within(t, time.Second, "accepted", func() bool { return s.Open() == 1 })
	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestTLSHandshakeHasAnEnd(t *testing.T) {
	cert, _ := certificate(t, "h", true)
	s := &Server{Handler: echo, Limits: Limits{HeadTime: 100 * time.Millisecond, Tick: 10 * time.Millisecond}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}}))
	defer s.Close()
	for _, sent := range []string{"", "\x16\x03\x01\x02\x00\x01", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"} {
		c := dial(t, l.Addr().String())
		io.WriteString(c, sent)
		b, _ := io.ReadAll(c)
		if strings.Contains(string(b), "HTTP/1.1 200") {
			t.Errorf("%q was answered with %q", sent, b)
		}
	}
	within(t, 5*time.Second, "all are closed", func() bool { return s.Open() == 0 })
}

// full fails to accept as the kernel does without free file handles.
type full struct {
	net.Listener
	left atomic.Int32
}

func (l *full) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvivesFullFileTable(t *testing.T) {
	s := &Server{Handler: echo}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &full{Listener: inner}
	l.left.Store(4)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	c := dial(t, inner.Addr().String())
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if list := answers(t, c); len(list) != 1 || list[0].status != 200 {
		t.Errorf("%+v", list)
	}
	s.Close()
	if err := <-ended; err != ErrServerClosed {
		t.Error(err)
	}
}

// What the kernel holds for a client that does not read is bounded.
func TestSendBufferIsBounded(t *testing.T) {
	const bound = 64 << 10
	s, addr := start(t, Limits{SendBuffer: bound}, echo)
	dial(t, addr)
	within(t, time.Second, "accepted", func() bool { return s.Open() == 1 })
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		raw, err := c.raw().(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.Control(func(fd uintptr) {
			// The kernel doubles the value for its book-keeping.
			if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF); err != nil || n > 2*bound {
				t.Errorf("send buffer is %d, %v", n, err)
			}
		})
	}
}

// A CONNECT is never a success, and what its client sends behind it is not taken
// for a request.
func TestConnectMakesNoTunnel(t *testing.T) {
	var errs []error
	s := &Server{Handler: func(x *Exchange) { errs = append(errs, x.Reply(200, nil, 0)) }}
	defer s.Close()
	out := over(s, "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", 0)
	if list := answers(t, strings.NewReader(out)); len(list) != 1 || list[0].status != 500 || !list[0].close || fmt.Sprint(errs) != fmt.Sprint([]error{ErrNoTunnel}) {
		t.Errorf("%q %v", out, errs)
	}
}

// Fields that mean something in a head only are not taken from a trailer, nor
// sent in one.
func TestTrailersAreFiltered(t *testing.T) {
	var got Header
	s := &Server{Handler: func(x *Exchange) {
		_, _ = io.ReadAll(x.Body)
		got = append(got, x.Body.Trailer()...)
		_ = x.Reply(200, nil, -1)
		x.Trailer(Header{{"Grpc-Status", "0"}, {"Content-Length", "9"}, {"Set-Cookie", "a=b"}, {"If-Match", "x"}, {"X-Forwarded-For", "x"}, {"Connection", "x"}, {"Sum", "7"}})
	}}
	defer s.Close()
	out := over(s, crlfs("POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n0\nSum: 1\nauthorization: Bearer x\nX-FORWARDED-For: 1.2.3.4\nCookie: a\nIf-None-Match: x\nX-A: b\n\n"), 3)
	if fmt.Sprint(got) != "[{Sum 1} {X-A b}]" {
		t.Errorf("received %v", got)
	}
	if !strings.HasSuffix(out, crlfs("0\nGrpc-Status: 0\nSum: 7\n\n")) {
		t.Errorf("sent %q", out)
	}
}

// A client that reads, but more slowly than the floor rate, is cut, over TLS
// too.
func TestReaderBelowTheFloorRateIsCut(t *testing.T) {
	cert, roots := certificate(t, "h", true)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			ended := make(chan error, 1)
			s := &Server{
				Limits: Limits{Grace: 200 * time.Millisecond, Rate: 1 << 20, SendBuffer: 16 << 10, Tick: 10 * time.Millisecond},
				Handler: func(x *Exchange) {
					_ = x.Reply(200, nil, -1)
					var err error
					for b := make([]byte, 64<<10); err == nil; {
						_, err = x.Write(b)
					}
					ended <- err
				},
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			c, outer := dial(t, l.Addr().String()), l
			_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
			if secure {
				outer = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
				c = tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "h"})
			}
			go s.Serve(outer)
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			stop := make(chan bool)
			defer close(stop)
			go func() { // 100 KB a second
				for b := make([]byte, 1<<10); ; time.Sleep(10 * time.Millisecond) {
					select {
					case <-stop:
						return
					default:
						_, _ = c.Read(b)
					}
				}
			}()
			select {
			case err := <-ended:
				if err != ErrTimeout {
					t.Errorf("write ended with %v", err)
				}
			case <-time.After(15 * time.Second):
				t.Fatal("it is served for ever")
			}
		})
	}
}

// A connection that was handed over keeps its place under the bounds until its
// new owner closes it.
func TestTunnelsCountAsConnections(t *testing.T) {
	for name, l := range map[string]Limits{"overall": {Connections: 1}, "per client": {PerClient: 1}} {
		t.Run(name, func(t *testing.T) {
			given := make(chan *Tunnel, 1)
			s, addr := start(t, l, func(x *Exchange) {
				if x.Upgrading() == "" {
					_ = x.Reply(200, nil, 0)
					return
				}
				tun, err := x.Upgrade("raw", nil)
				if err != nil {
					t.Error(err)
				}
				given <- tun
			})
			io.WriteString(dial(t, addr), "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n")
			tun := <-given
			within(t, 5*time.Second, "it has left the server", func() bool { return s.Open() == 0 })
			ask := func() int {
				c := dial(t, addr)
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				list := answers(t, c)
				if len(list) != 1 {
					return 0
				}
				return list[0].status
			}
			if status := ask(); status != 503 {
				t.Errorf("beside a tunnel: %d", status)
			}
			tun.Close()
			tun.Close()
			if status := ask(); status != 200 {
				t.Errorf("after it: %d", status)
			}
		})
	}
}

// A handler that panics while its request's body still goes to a backend harms
// nobody else.
func TestPanicDuringUpload(t *testing.T) {
	_, back := start(t, Limits{}, func(x *Exchange) {
		_ = x.Reply(200, nil, -1)
		_ = x.Flush()
		_, _ = io.Copy(io.Discard, x.Body)
	})
	c := newClient(t, Options{})
	_, addr := start(t, Limits{}, func(x *Exchange) {
		if x.Target != "/panic" {
			echo(x)
			return
		}
		_, err := c.Endpoint(back, nil).Do(x.Context(), &Request{Method: "POST", Target: "/", Host: "h", Body: x.Body, Length: -1, Timeout: 5 * time.Second})
		if err != nil {
			t.Error(err)
		}
		panic("lost")
	})
	for range 20 {
		conn := dial(t, addr)
		io.WriteString(conn, "POST /panic HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		_, _ = io.ReadAll(conn)
		other := dial(t, addr)
		body := strings.Repeat("x", 30<<10)
		fmt.Fprintf(other, "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if list := answers(t, other); len(list) != 1 || list[0].body != body {
			t.Fatal("another connection was disturbed")
		}
	}
	within(t, 20*time.Second, "no connection to the backend is left", func() bool {
		open, _, _ := c.Endpoint(back, nil).Counts()
		return open == 0
	})
}
