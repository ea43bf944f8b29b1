package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// backend answers every connection with a script: n is the number of the
// connection, from 1.
func backend(t testing.TB, script func(n int, c net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				script(n, c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// head reads a request's head.
func head(r *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String()
		}
	}
}

func get(c *Client, addr string, r *Request) (status int, body string, err error) {
	if r.Method == "" {
		r.Method, r.Target, r.Host = "GET", "/", "h"
	}
	if r.Timeout == 0 {
		r.Timeout = 5 * time.Second
	}
	res, err := c.Endpoint(addr, nil).Do(background, r)
	if err != nil {
		return 0, "", err
	}
	defer res.Close()
	b, err := io.ReadAll(res)
	return res.Status, string(b), err
}

func TestAnswers(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	tests := []struct {
		name, method, answer string
		status               int
		body                 string
		err                  error
		kept                 bool
	}{
		{"length", "GET", "HTTP/1.1 200 OK\n" + "Content-Length: 3\n\nabc", 200, "abc", nil, true},
		{"no reason", "GET", "HTTP/1.1 200\nContent-Length: 0\n\n", 200, "", nil, true},
		{"long body", "GET", "HTTP/1.1 200 OK\nContent-Length: 102400\n\n" + long, 200, long, nil, true},
		{"chunked", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n2;x=y\nde\n0\nT: v\n\n", 200, "abcde", nil, true},
		{"until close", "GET", "HTTP/1.1 200 OK\n\nabc", 200, "abc", nil, false},
		{"1.0", "GET", "HTTP/1.0 200 OK\nContent-Length: 3\n\nabc", 200, "abc", nil, false},
		{"1.0 kept", "GET", "HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 3\n\nabc", 200, "abc", nil, true},
		{"close", "GET", "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 3\n\nabc", 200, "abc", nil, false},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\nContent-Length: 3\n\n", 200, "", nil, true},
		{"204", "GET", "HTTP/1.1 204 No Content\n\n", 204, "", nil, true},
		{"304 with length", "GET", "HTTP/1.1 304 Not Modified\nContent-Length: 3\n\n", 304, "", nil, true},
		{"interim", "GET", "HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nA: b\n\nHTTP/1.1 200 OK\nContent-Length: 1\n\na", 200, "a", nil, true},
		{"more than announced", "GET", "HTTP/1.1 200 OK\nContent-Length: 3\n\nabcd", 200, "abc", nil, false},
		{"less than announced", "GET", "HTTP/1.1 200 OK\nContent-Length: 9\n\nabc", 200, "abc", ErrClosed, false},
		{"chunked cut", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabc\n", 200, "abc", ErrClosed, false},
		{"bad chunk", "GET", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nabcd\n0\n\n", 200, "abc", ErrProtocol, false},
		{"garbage", "GET", "hello\n\n", 0, "", ErrProtocol, false},
		{"nothing", "POST", "", 0, "", ErrClosed, false},
		{"half a head", "GET", "HTTP/1.1 200 OK\nA: b\n", 0, "", ErrClosed, false},
		{"two lengths", "GET", "HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 3\n\nabc", 0, "", ErrProtocol, false},
		{"length and coding", "GET", "HTTP/1.1 200 OK\nContent-Length: 3\nTransfer-Encoding: chunked\n\n0\n\n", 0, "", ErrProtocol, false},
		{"coding in 1.0", "GET", "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n0\n\n", 0, "", ErrProtocol, false},
		{"unasked upgrade", "GET", "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: x\n\n", 0, "", ErrProtocol, false},
		{"endless interim", "GET", strings.Repeat("HTTP/1.1 102 Processing\n\n", 40), 0, "", ErrProtocol, false},
		{"endless head", "GET", "HTTP/1.1 200 OK\nA: " + strings.Repeat("a", 200<<10) + "\n\n", 0, "", ErrProtocol, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			addr := backend(t, func(n int, c net.Conn, r *bufio.Reader) {
				head(r)
				io.WriteString(c, crlfs(tt.answer))
				if tt.kept {
					head(r)
				}
			})
			c := newClient(t, Options{})
			status, body, err := get(c, addr, &Request{Method: tt.method, Target: "/", Host: "h"})
			if status != tt.status || body != tt.body || !errors.Is(err, tt.err) {
				t.Errorf("%d %.20q %v, want %d %.20q %v", status, body, err, tt.status, tt.body, tt.err)
			}
			if _, idle, _ := c.Endpoint(addr, nil).Counts(); (idle == 1) != tt.kept {
				t.Errorf("connection kept: %v", idle == 1)
			}
		})
	}
}

func TestRequestOnTheWire(t *testing.T) {
	got := make(chan string, 1)
	addr := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		for {
			h := head(r)
			if h == "" {
				return
			}
			if strings.Contains(h, "chunked") {
				for !strings.HasSuffix(h, "\r\n\r\n") || !strings.Contains(h, "\r\n0\r\n") {
					line, err := r.ReadString('\n')
					if h += line; err != nil {
						break
					}
				}
			} else if strings.Contains(h, "Content-Length: 3") {
				b := make([]byte, 3)
				_, _ = io.ReadFull(r, b)
				h += string(b)
			}
			got <- h
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	c := newClient(t, Options{})
	for _, tt := range []struct {
		r    Request
		want string
	}{
		{Request{Method: "GET", Target: "/a?b", Host: "h:1", Header: Header{{"B", "1"}, {"a", ""}, {"Connection", "x"}, {"Host", "z"}, {"Transfer-Encoding", "y"}}}, "GET /a?b HTTP/1.1\nHost: h:1\nB: 1\na: \n\n"},
		{Request{Method: "POST", Target: "/", Host: "h"}, "POST / HTTP/1.1\nHost: h\nContent-Length: 0\n\n"},
		{Request{Method: "POST", Target: "/", Host: "h", Body: strings.NewReader("abc"), Length: 3}, "POST / HTTP/1.1\nHost: h\nContent-Length: 3\n\nabc"},
		{
			Request{Method: "POST", Target: "/", Host: "h", Body: strings.NewReader("abc"), Length: -1, Trailer: func() Header { return Header{{"T", "v"}} }},
			"POST / HTTP/1.1\nHost: h\nTransfer-Encoding: chunked\n\n3\nabc\n0\nT: v\n\n",
		},
	} {
		if status, _, err := get(c, addr, &tt.r); status != 204 || err != nil {
			t.Fatal(status, err)
		}
		if h := <-got; h != crlfs(tt.want) {
			t.Errorf("%q, want %q", h, crlfs(tt.want))
		}
	}
	for _, r := range []Request{
		{Method: "GET", Target: "/a b", Host: "h"},
		{Method: "CONNECT", Target: "h:1", Host: "h:1"},
		{Method: "GET ", Target: "/", Host: "h"},
		{Method: "GET", Target: "/", Host: "h\r\nA: b"},
		{Method: "GET", Target: "/", Host: "h", Header: Header{{"A", "b\r\nC: d"}}},
	} {
		if _, _, err := get(c, addr, &r); !errors.Is(err, ErrRequest) {
			t.Errorf("%v: %v", r, err)
		}
	}
	if open, _, _ := c.Endpoint(addr, nil).Counts(); open != 0 {
		t.Errorf("%d connections leaked", open)
	}
}

// A backend may close an idle connection at the very moment it is used.
func TestBackendClosesIdleConnection(t *testing.T) {
	var calls atomic.Int32
	script := func(n int, c net.Conn, r *bufio.Reader) {
		for i := 0; head(r) != ""; i++ {
			calls.Add(1)
			if n == 1 && i == 1 {
				return // used, and closed without a byte
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
	t.Run("as it is used, idempotent", func(t *testing.T) {
		addr, c := backend(t, script), newClient(t, Options{})
		for range 3 {
			if _, body, err := get(c, addr, &Request{}); body != "ok" || err != nil {
				t.Fatal(body, err)
			}
		}
	})
	t.Run("as it is used, not idempotent", func(t *testing.T) {
		addr, c := backend(t, script), newClient(t, Options{})
		_, _, _ = get(c, addr, &Request{})
		calls.Store(0)
		_, _, err := get(c, addr, &Request{Method: "POST", Target: "/", Host: "h"})
		if !errors.Is(err, ErrClosed) || calls.Load() != 1 {
			t.Errorf("%v after %d calls", err, calls.Load())
		}
	})
	t.Run("in the middle of its answer", func(t *testing.T) {
		var asked atomic.Int32
		addr := backend(t, func(n int, c net.Conn, r *bufio.Reader) {
			for i := 0; head(r) != ""; i++ {
				asked.Add(1)
				if i == 1 {
					io.WriteString(c, "HTTP/1.1 2")
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		c := newClient(t, Options{})
		_, _, _ = get(c, addr, &Request{})
		if _, _, err := get(c, addr, &Request{}); !errors.Is(err, ErrClosed) || asked.Load() != 2 {
			t.Errorf("%v after %d requests: it was begun, and must not be sent again", err, asked.Load())
		}
	})
	t.Run("before it is used", func(t *testing.T) {
		closed := make(chan bool, 1)
		addr := backend(t, func(n int, c net.Conn, r *bufio.Reader) {
			head(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if n == 2 {
				head(r)
			}
			c.Close()
			closed <- true
		})
		c := newClient(t, Options{})
		_, _, _ = get(c, addr, &Request{})
		<-closed
		time.Sleep(5 * time.Millisecond)
		status, _, err := get(c, addr, &Request{Method: "POST", Target: "/", Host: "h"})
		if status != 200 || err != nil {
			t.Errorf("%d %v: the closed connection was used", status, err)
		}
	})
	t.Run("with a farewell", func(t *testing.T) {
		addr := backend(t, func(n int, c net.Conn, r *bufio.Reader) {
			head(r)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if n == 1 {
				head(r)
				io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				return
			}
			head(r)
		})
		c := newClient(t, Options{})
		for range 2 {
			if status, _, err := get(c, addr, &Request{}); status != 200 || err != nil {
				t.Errorf("%d %v", status, err)
			}
		}
	})
	t.Run("many at once", func(t *testing.T) {
		addr := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
			for range 5 {
				if head(r) == "" {
					return
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		c := newClient(t, Options{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 200 {
					if status, _, err := get(c, addr, &Request{}); status != 200 || err != nil {
						t.Error(status, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestClientTimeouts(t *testing.T) {
	release := make(chan bool)
	addr := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		if h := head(r); strings.HasPrefix(h, "GET /body") {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
		}
		<-release
	})
	defer close(release)
	c := newClient(t, Options{})
	for _, target := range []string{"/head", "/body"} {
		begin := time.Now()
		_, _, err := get(c, addr, &Request{Method: "GET", Target: target, Host: "h", Timeout: 100 * time.Millisecond})
		if d := time.Since(begin); !errors.Is(err, ErrTimeout) || d < 100*time.Millisecond || d > 3*time.Second {
			t.Errorf("%s: %v after %v", target, err, d)
		}
	}
	ctx, cancel := context.WithCancel(background)
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Endpoint(addr, nil).Do(ctx, &Request{Method: "GET", Target: "/head", Host: "h"}); !errors.Is(err, ErrCanceled) {
		t.Errorf("cancelled: %v", err)
	}
	never := func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	if _, _, err := get(newClient(t, Options{Connect: 50 * time.Millisecond, Dial: never}), addr, &Request{}); !errors.Is(err, ErrConnect) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no connection in time: %v", err)
	}
	dead := newClient(t, Options{Dial: never})
	ctx, cancel = context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	if _, err := dead.Endpoint(addr, nil).Do(ctx, &Request{Method: "GET", Target: "/", Host: "h"}); !errors.Is(err, ErrCanceled) {
		t.Errorf("no connection: %v", err)
	}
	if _, _, err := get(c, "127.0.0.1:1", &Request{}); !errors.Is(err, ErrConnect) {
		t.Errorf("refused: %v", err)
	}
}

func TestPoolBounds(t *testing.T) {
	var now, most atomic.Int32
	addr := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer now.Add(-1)
		for head(r) != "" {
			time.Sleep(2 * time.Millisecond)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	c := newClient(t, Options{MaxOpen: 3, MaxIdle: 2, Idle: 100 * time.Millisecond})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 5 {
				if status, _, err := get(c, addr, &Request{}); status != 200 || err != nil {
					t.Error(status, err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 {
		t.Errorf("%d connections at once", most.Load())
	}
	e := c.Endpoint(addr, nil)
	if open, idle, waiting := e.Counts(); open != idle || idle > 2 || waiting != 0 {
		t.Errorf("%d open, %d idle, %d waiting", open, idle, waiting)
	}
	within(t, 5*time.Second, "idle connections are closed", func() bool { open, _, _ := e.Counts(); return open == 0 && now.Load() == 0 })

	full := newClient(t, Options{MaxOpen: 1, MaxWait: 1, WaitTime: 50 * time.Millisecond})
	res, err := full.Endpoint(addr, nil).Do(background, &Request{Method: "GET", Target: "/", Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	for range 2 {
		go func() { _, _, err := get(full, addr, &Request{}); errs <- err }()
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrBusy) || !errors.Is(err, ErrConnect) {
			t.Errorf("%v", err)
		}
	}
	res.Close()
}

func TestClientEarlyAnswer(t *testing.T) {
	addr := backend(t, func(_ int, c net.Conn, r *bufio.Reader) {
		head(r)
		_, _ = io.ReadFull(r, make([]byte, 1000))
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
		head(r) // reads no more, until the client closes
	})
	c := newClient(t, Options{})
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	status, body, err := get(c, addr, &Request{Method: "POST", Target: "/", Host: "h", Body: endless, Length: -1})
	if status != 413 || body != "large" || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
	if open, _, _ := c.Endpoint(addr, nil).Counts(); open != 0 {
		t.Error("connection with half a request was kept")
	}
	broken := io.MultiReader(bytes.NewReader(make([]byte, 100)), readerFunc(func([]byte) (int, error) { return 0, fmt.Errorf("broken") }))
	if _, _, err = get(c, addr, &Request{Method: "POST", Target: "/", Host: "h", Body: broken, Length: 2000}); !errors.Is(err, ErrBody) {
		t.Errorf("broken body: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
