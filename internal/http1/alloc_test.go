package http1

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

var warmHead = "GET /pizza/1.0/menu?limit=10 HTTP/1.1\r\nHost: localhost:8280\r\nUser-Agent: wrk\r\nAccept: application/json\r\n" +
	"Authorization: Bearer " + strings.Repeat("eyJhbGciOi", 80) + "\r\nX-Request: 0123456789abcdef\r\n\r\n"

var kilobyte = bytes.Repeat([]byte("k"), 1024)

func answerKilobyte(x *Exchange) {
	_ = x.Reply(200, jsonType, 1024)
	_, _ = x.Write(kilobyte)
}

var jsonType = Header{{"Content-Type", "application/json"}}

// asker sends the same request again and again and reads answers of one size.
type asker struct {
	c      net.Conn
	head   []byte
	buf    []byte
	answer int
}

func newAsker(t testing.TB, addr, request string) *asker {
	a := &asker{c: dial(t, addr), head: []byte(request), buf: make([]byte, 64<<10)}
	_ = a.c.SetDeadline(time.Time{})
	if _, err := a.c.Write(a.head); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(a.c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res.StatusCode, err)
	}
	_, _ = a.c.Write(a.head)
	for { // its length on the wire
		n, err := a.c.Read(a.buf)
		if err != nil {
			t.Fatal(err)
		}
		if a.answer += n; bytes.HasSuffix(a.buf[:n], body[max(0, len(body)-8):]) {
			return a
		}
	}
}

func (a *asker) ask(t testing.TB) {
	if _, err := a.c.Write(a.head); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(a.c, a.buf[:a.answer]); err != nil {
		t.Fatal(err)
	}
}

func TestNoAllocationsPerRequest(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	tests := []struct {
		name    string
		handler func(t *testing.T) func(*Exchange)
		request string
	}{
		{"server", func(*testing.T) func(*Exchange) { return answerKilobyte }, warmHead},
		{"server and client", func(t *testing.T) func(*Exchange) { return warmProxy(t) }, warmHead},
		{"server and client with a body", func(t *testing.T) func(*Exchange) { return warmProxy(t) }, strings.Replace(warmHead, "GET", "POST", 1)[:len(warmHead)-1] + "Content-Length: 500\r\n\r\n" + string(kilobyte[:500])},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, addr := start(t, Limits{Tick: time.Second}, tt.handler(t))
			a := newAsker(t, addr, tt.request)
			for range 200 {
				a.ask(t)
			}
			if n := testing.AllocsPerRun(2000, func() { a.ask(t) }); n > 0 {
				t.Errorf("%v allocations per request", n)
			}
		})
	}
}

// warmProxy passes requests to a backend of ours without allocating itself.
func warmProxy(t testing.TB) func(*Exchange) {
	_, back := start(t, Limits{Tick: time.Second}, answerKilobyte)
	c := newClient(t, Options{Tick: time.Second})
	e := c.Endpoint(back, nil)
	pool := make(chan *Request, 256)
	return func(x *Exchange) {
		var r *Request
		select {
		case r = <-pool:
		default:
			r = new(Request)
		}
		*r = Request{Method: x.Method, Target: x.Target, Host: x.Host, Length: x.Length, Timeout: time.Minute, Header: x.Header}
		if x.Body != nil {
			r.Body = x.Body
		}
		res, err := e.Do(x.Context(), r)
		if err != nil {
			_ = x.Reply(502, nil, 0)
			return
		}
		_ = x.Reply(res.Status, res.Header, res.Length)
		_, _ = x.ReadFrom(res)
		_ = res.Close()
		pool <- r
	}
}

// BenchmarkProxy compares a proxy over this package with net/http's, before the
// same backend and behind the same client.
func BenchmarkProxy(b *testing.B) {
	_, back := start(b, Limits{Tick: 100 * time.Millisecond}, answerKilobyte)
	target, _ := url.Parse("http://" + back)
	rp := httputil.NewSingleHostReverseProxy(target)
	rp.Transport = &http.Transport{MaxIdleConnsPerHost: 512}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	std := &http.Server{Handler: rp}
	go std.Serve(l)
	defer std.Close()
	_, ours := start(b, Limits{Tick: 100 * time.Millisecond}, warmProxy(b))
	var took [3]float64
	for i, bb := range []struct{ name, addr string }{{"NoProxy", back}, {"ReverseProxy", l.Addr().String()}, {"http1", ours}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpuTime()
			b.RunParallel(func(pb *testing.PB) {
				a := newAsker(b, bb.addr, warmHead)
				for pb.Next() {
					a.ask(b)
				}
			})
			cpu := float64(cpuTime()-before) / float64(b.N)
			b.ReportMetric(cpu, "cpu-ns/op")
			took[i] = cpu
			if i == 2 && took[1] > 0 {
				// Without what client and backend cost alone.
				b.ReportMetric((took[1]-took[0])/(took[2]-took[0]), "ReverseProxy/http1")
			}
		})
	}
}

// BenchmarkHead parses a usual request's head.
func BenchmarkHead(b *testing.B) {
	var x Exchange
	in := []byte(warmHead)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if n, err := x.parse(in, 100); n != len(in) || err != nil {
			b.Fatal(n, err)
		}
	}
}
