package http1

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What a server sends behind its answer, however late, is nobody's answer.
func TestUnaskedAnswerIsNotUsed(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			sent := make(chan bool, 2)
			addr := backend(t, func(n int, c net.Conn, r *bufio.Reader) {
				head(r)
				io.WriteString(c, ok+"good")
				if n == 1 {
					time.Sleep(20 * time.Millisecond)
					io.WriteString(c, ok+"evil")
					sent <- true
				}
				head(r)
			})
			c := newClient(t, Options{Tick: 10 * time.Second}) // its coarse clock stands still
			for range 2 {
				if _, body, err := get(c, addr, &Request{Method: method, Target: "/", Host: "h"}); body != "good" || err != nil {
					t.Fatal(body, err)
				}
				select {
				case <-sent:
					time.Sleep(5 * time.Millisecond)
				case <-time.After(5 * time.Second):
					t.Fatal("the second answer was never sent")
				}
				sent <- true
			}
		})
	}
}

// A connection past its age is not used again, so that a name which has moved
// is followed.
func TestConnectionsAreRenewed(t *testing.T) {
	var dials atomic.Int32
	_, addr := start(t, Limits{}, echo)
	c := newClient(t, Options{Age: 50 * time.Millisecond, Dial: func(_ context.Context, network, address string) (net.Conn, error) {
		dials.Add(1)
		return net.Dial(network, address)
	}})
	for range 2 {
		if status, _, err := get(c, addr, &Request{}); status != 200 || err != nil {
			t.Fatal(status, err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("a young connection was not kept: %d", n)
	}
	time.Sleep(60 * time.Millisecond)
	for range 2 { // the first ends the old connection, the second needs a new one
		if status, _, err := get(c, addr, &Request{}); status != 200 || err != nil {
			t.Fatal(status, err)
		}
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connections were made", n)
	}
}

// Where one address of a name does not answer, another one is tried.
func TestNameWithTwoAddresses(t *testing.T) {
	_, addr := start(t, Limits{}, echo) // of IPv4 alone
	_, port, _ := net.SplitHostPort(addr)
	if status, _, err := get(newClient(t, Options{}), net.JoinHostPort("localhost", port), &Request{}); status != 200 || err != nil {
		t.Error(status, err)
	}
}

func TestProtocolOfTLS(t *testing.T) {
	cert, roots := certificate(t, "h", true)
	for _, tt := range []struct {
		name         string
		theirs, ours []string
		ok           bool
	}{
		{"server knows no ALPN", nil, nil, true},
		{"server prefers HTTP/2", []string{"h2", "http/1.1"}, nil, true},
		{"server knows only another", []string{"other"}, nil, false},
		{"HTTP/2 was agreed", []string{"h2"}, []string{"h2", "http/1.1"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &Server{Handler: echo, HTTP2: func(net.Conn) {}}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: tt.theirs}))
			defer s.Close()
			e := newClient(t, Options{}).Endpoint(l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "h", NextProtos: tt.ours})
			res, err := e.Do(background, &Request{Method: "GET", Target: "/", Host: "h", Timeout: 5 * time.Second})
			if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrConnect) {
				t.Errorf("%v", err)
			}
			if err == nil {
				res.Close()
			}
			if open, idle, _ := e.Counts(); open != idle {
				t.Errorf("%d open, %d idle", open, idle)
			}
		})
	}
}

// Only a protocol that was asked for is changed to.
func TestUpgradeToAnotherProtocol(t *testing.T) {
	for _, tt := range []struct {
		asked, got string
		ok         bool
	}{{"websocket", "WebSocket", true}, {"a, b", "b", true}, {"websocket", "h2c", false}, {"websocket", "", false}} {
		addr := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			head(r)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: "+tt.got+"\r\n\r\n")
			head(r)
		})
		res, err := newClient(t, Options{}).Endpoint(addr, nil).Do(background, &Request{Method: "GET", Target: "/", Host: "h", Upgrade: tt.asked, Timeout: 5 * time.Second})
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrProtocol) {
			t.Errorf("%q answered with %q: %v", tt.asked, tt.got, err)
		}
		if err == nil {
			tun, err := res.Tunnel()
			if err != nil {
				t.Fatal(err)
			}
			tun.Close()
		}
	}
}

// A client that ends its sending side and waits gets its answer through a
// proxy; a backend that ends its own behind the answer has it delivered, also
// while the request's body is still on its way.
func TestHalfClosesThroughProxy(t *testing.T) {
	t.Run("client's side", func(t *testing.T) {
		_, back := start(t, Limits{}, func(x *Exchange) {
			time.Sleep(100 * time.Millisecond)
			echo(x)
		})
		_, addr := start(t, Limits{HalfClose: 10 * time.Second}, proxy(newClient(t, Options{}), back))
		c := dial(t, addr)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
		_ = c.(*net.TCPConn).CloseWrite()
		if list := answers(t, c); len(list) != 1 || list[0].status != 200 || list[0].body != "abc" {
			t.Errorf("%+v", list)
		}
	})
	t.Run("backend's side", func(t *testing.T) {
		for name, answer := range map[string]string{
			"length": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone", "until close": "HTTP/1.1 200 OK\r\n\r\ndone",
		} {
			back := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
				head(r)
				_, _ = io.ReadFull(r, make([]byte, 10))
				io.WriteString(c, answer)
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, r)
			})
			client := newClient(t, Options{})
			_, addr := start(t, Limits{}, proxy(client, back))
			c := dial(t, addr)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("a", 20000))
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || res.StatusCode != 200 {
				t.Fatal(name, res, err)
			}
			if b, err := io.ReadAll(res.Body); string(b) != "done" || err != nil {
				t.Errorf("%s: %q %v", name, b, err)
			}
			within(t, 5*time.Second, "no connection is left", func() bool { open, _, _ := client.Endpoint(back, nil).Counts(); return open == 0 })
		}
	})
}

// A client that leaves in the middle of an endless answer ends it.
func TestClientGoneEndsDownload(t *testing.T) {
	ended := make(chan error, 1)
	addr, c, back := chain(t, func(x *Exchange) {
		_ = x.Reply(200, nil, -1)
		var err error
		for b := make([]byte, 8<<10); err == nil; {
			_, err = x.Write(b)
		}
		ended <- err
	})
	conn := dial(t, addr)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	_, _ = io.ReadFull(conn, make([]byte, 100<<10))
	conn.Close()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the backend sends for ever")
	}
	within(t, 5*time.Second, "no connection is left", func() bool { open, _, _ := c.Endpoint(back, nil).Counts(); return open == 0 })
}

// unwilling cannot flush.
type unwilling struct{ io.Writer }

var errUnwilling = errors.New("unwilling")

func (unwilling) Flush() error { return errUnwilling }

// The error of whom an answer is copied to is not the server's failure.
func TestWhoFailed(t *testing.T) {
	hold := make(chan bool)
	defer close(hold)
	for _, tt := range []struct {
		name, answer string
		to           io.Writer
		failed       bool
		err          error
	}{
		{"flush", "Content-Length: 9\r\n\r\nabc", unwilling{io.Discard}, false, errUnwilling},
		{"write", "Content-Length: 9\r\n\r\nabc", writerFunc(func([]byte) (int, error) { return 0, errUnwilling }), false, errUnwilling},
		{"server", "Transfer-Encoding: chunked\r\n\r\nx", io.Discard, true, ErrProtocol},
	} {
		addr := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			head(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+tt.answer+"\r\n")
			<-hold
		})
		res, err := newClient(t, Options{}).Endpoint(addr, nil).Do(background, &Request{Method: "GET", Target: "/", Host: "h", Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := res.WriteTo(tt.to); !errors.Is(err, tt.err) || res.Failed() != tt.failed {
			t.Errorf("%s: %v, failed %v", tt.name, err, res.Failed())
		}
		res.Close()
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
