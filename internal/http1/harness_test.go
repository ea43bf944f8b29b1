package http1

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// start runs a server on a free port until the test ends.
func start(t testing.TB, limits Limits, h func(*Exchange)) (*Server, string) {
	t.Helper()
	if limits.Tick == 0 {
		limits.Tick = 10 * time.Millisecond
	}
	s := &Server{Handler: h, Limits: limits}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return s, l.Addr().String()
}

// newClient makes a client that is closed with the test.
func newClient(t testing.TB, o Options) *Client {
	if o.Tick == 0 {
		o.Tick = 10 * time.Millisecond
	}
	c := NewClient(o)
	t.Cleanup(c.Close)
	return c
}

// proxy is the smallest gateway: every request goes to one backend.
func proxy(c *Client, addr string) func(*Exchange) {
	return func(x *Exchange) {
		req := Request{Method: x.Method, Target: x.Target, Host: x.Host, Length: x.Length, Timeout: 10 * time.Second, Upgrade: x.Upgrading()}
		if x.Body != nil {
			req.Body = x.Body
			req.Trailer = x.Body.Trailer
		}
		for _, f := range x.Header {
			if !fold(f.Name, "Expect") {
				req.Header = append(req.Header, f)
			}
		}
		req.Inform = func(status int, h Header) {
			if status != 100 {
				_ = x.Inform(status, h)
			}
		}
		res, err := c.Endpoint(addr, nil).Do(x.Context(), &req)
		if err != nil {
			_ = x.Reply(502, Header{{"X-Error", err.Error()}}, 0)
			return
		}
		if res.Status == 101 {
			up, err := res.Tunnel()
			if err != nil {
				x.Abort()
				return
			}
			down, err := x.Upgrade(res.Header.Get("Upgrade"), nil)
			if err != nil {
				up.Close()
				x.Abort()
				return
			}
			_ = Join(down, up, 0)
			return
		}
		defer res.Close()
		if err := x.Reply(res.Status, res.Header, res.Length); err != nil {
			return
		}
		if _, err := x.ReadFrom(res); err != nil {
			x.Abort()
			return
		}
		x.Trailer(res.Trailer())
	}
}

// echo answers with the request's body.
func echo(x *Exchange) {
	var b []byte
	if x.Body != nil {
		var err error
		if b, err = io.ReadAll(x.Body); err != nil {
			return
		}
	}
	_ = x.Reply(200, nil, int64(len(b)))
	_, _ = x.Write(b)
}

// mirror tells what it understood: the request's line and fields, content and
// trailer. It refuses CONNECT.
func mirror(x *Exchange) {
	var content []byte
	if x.Body != nil {
		var err error
		if content, err = io.ReadAll(x.Body); err != nil {
			return
		}
	}
	if x.Method == "CONNECT" {
		_ = x.Reply(405, nil, 0)
		return
	}
	head, late := []string{fmt.Sprintf("%s %s 1.%d %s", x.Method, x.Target, x.Minor, x.Host)}, []string(nil)
	for _, f := range x.Header {
		head = append(head, f.Name+": "+f.Value)
	}
	if x.Body != nil {
		for _, f := range x.Body.Trailer() {
			late = append(late, f.Name+": "+f.Value)
		}
	}
	out := strings.Join(head, "\n") + "\n\n" + string(content) + "\n" + strings.Join(late, "\n")
	_ = x.Reply(200, nil, int64(len(out)))
	_, _ = x.WriteString(out)
}

// differ compares what a server answered with what the model expects.
func differ(t testing.TB, out string, want []modelAnswer) string {
	t.Helper()
	var methods []string
	for _, w := range want {
		methods = append(methods, w.method)
	}
	got := answers(t, strings.NewReader(strings.ReplaceAll(out, "HTTP/1.1 100 Continue\r\n\r\n", "")), methods...)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("answer %d is missing: %+v", i+1, want[i])
		case i >= len(want):
			return fmt.Sprintf("answer %d was not expected: %d %q", i+1, got[i].status, got[i].body)
		}
		if g := (modelAnswer{got[i].status, want[i].method, got[i].body, got[i].close}); g != want[i] {
			return fmt.Sprintf("answer %d is %+v,\nexpected %+v", i+1, g, want[i])
		}
	}
	return ""
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// wire is a connection whose input is known; it notes what is written.
type wire struct {
	in   []byte
	step int // bytes per read; 0: all
	out  bytes.Buffer
	shut bool
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.in) == 0 {
		return 0, io.EOF
	}
	n := len(w.in)
	if w.step > 0 {
		n = min(n, w.step)
	}
	n = copy(p, w.in[:n])
	w.in = w.in[n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) {
	if w.shut {
		return 0, net.ErrClosed
	}
	return w.out.Write(p)
}
func (w *wire) Close() error                     { w.shut = true; return nil }
func (w *wire) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (w *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// over serves bytes on a wire and gives the answers.
func over(s *Server, in string, step int) string {
	w := &wire{in: []byte(in), step: step}
	s.ServeConn(w)
	return w.out.String()
}

// answer is one answer as net/http's client reads it.
type answer struct {
	status int
	close  bool
	body   string
	header http.Header
	resp   *http.Response
}

// answers reads all answers of a connection to requests of these methods.
func answers(t testing.TB, r io.Reader, methods ...string) (list []answer) {
	t.Helper()
	br := bufio.NewReader(r)
	for i := 0; ; i++ {
		if _, err := br.Peek(1); err != nil {
			return list
		}
		method := "GET"
		if i < len(methods) {
			method = methods[i]
		}
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("answer %d: %v", i+1, err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatalf("body of answer %d: %v", i+1, err)
		}
		list = append(list, answer{res.StatusCode, res.Close, string(b), res.Header, res})
	}
}

func statuses(list []answer) (out []int) {
	for _, a := range list {
		out = append(out, a.status)
	}
	return out
}

func crlfs(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func long() bool { return os.Getenv("CARDEA_LONG") != "" }

func within(t testing.TB, d time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}

var background = context.Background()
