package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/report"
	"github.com/cardea-apim/cardea/internal/http1"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/usage"
)

// budget is what one warm call may allocate, from the client's first byte to
// the report, over real sockets. The engine's share is 0 (see package http1).
var budget = []struct {
	name, method, path, body string
	limited                  bool
	credential               string // jwt, key or none
	allocations              float64
}{
	{name: "open", method: "GET", path: "/pizza/1.0/open"},
	{name: "jwt", method: "GET", path: "/pizza/1.0/menu", credential: "jwt"},
	{name: "jwt+limits", method: "GET", path: "/pizza/1.0/menu", credential: "jwt", limited: true},
	{name: "key+limits", method: "GET", path: "/pizza/1.0/menu", credential: "key", limited: true},
	{name: "jwt+limits+query", method: "GET", path: "/pizza/1.0/menu?limit=10&offset=20", credential: "jwt", limited: true},
	{name: "jwt+limits+body", method: "POST", path: "/pizza/1.0/menu", body: strings.Repeat("x", 500), credential: "jwt", limited: true},
}

// warmGateway is a gateway with everything on before a backend of our own, and
// a client's connection to it.
func warmGateway(t testing.TB, limited bool) (*world, string) {
	t.Helper()
	kilobyte := []byte(strings.Repeat("k", 1024))
	back := &http1.Server{Handler: func(x *http1.Exchange) {
		_ = x.Reply(200, jsonType, int64(len(kilobyte)))
		_, _ = x.Write(kilobyte)
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go back.Serve(l)
	t.Cleanup(func() { back.Close() })
	ack := report.SenderFunc(func(_ context.Context, data []byte) ([]byte, error) {
		var b usage.Batch
		if err := json.Unmarshal(data, &b); err != nil {
			return nil, err
		}
		return json.Marshal(usage.BatchAck{Seq: b.Seq})
	})
	reporter, err := report.New(report.Options{Log: slog.New(slog.DiscardHandler), Gateway: "gw1", Sender: ack, Every: time.Hour, Calls: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reporter.Close(context.Background()) })
	w := benchWorld(t, limited, func(a *snapshot.API) { a.Production[0].URL = "http://" + l.Addr().String() },
		func(o *Options) { o.Upstream, o.Reporter = nil, reporter })
	return w, w.listen().Addr().String()
}

var jsonType = http1.Header{{Name: "Content-Type", Value: "application/json"}}

// caller sends the same request again and again on one connection.
type caller struct {
	c      net.Conn
	head   []byte
	buf    []byte
	answer int
}

func newCaller(t testing.TB, addr, head string) *caller {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	a := &caller{c: c, head: []byte(head), buf: make([]byte, 16<<10)}
	a.learn(t)
	return a
}

// learn asks once and notes the length of the answer, which quotas change.
func (a *caller) learn(t testing.TB) {
	t.Helper()
	if _, err := a.c.Write(a.head); err != nil {
		t.Fatal(err)
	}
	for a.answer = 0; ; {
		n, err := a.c.Read(a.buf[a.answer:])
		if err != nil {
			t.Fatal(err)
		}
		a.answer += n
		if s := string(a.buf[:a.answer]); strings.HasSuffix(s, "kkkk") {
			if !strings.HasPrefix(s, "HTTP/1.1 200 ") {
				t.Fatalf("answer %.200s", s)
			}
			return
		} else if !strings.HasPrefix(s, "HTTP/1.1 200 ") {
			t.Fatalf("answer %.400s", s)
		}
	}
}

func (a *caller) ask(t testing.TB) {
	if _, err := a.c.Write(a.head); err != nil {
		t.Fatal(err)
	}
	// Up to the last byte of the body, which is a k; its head may be some bytes
	// shorter or longer than the last time.
	for n := 0; n < 1024 || a.buf[n-1] != 'k'; {
		m, err := a.c.Read(a.buf[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
}

func requestOf(w *world, method, path, body, credential string) string {
	head := method + " " + path + " HTTP/1.1\r\nHost: localhost:8280\r\nUser-Agent: bench\r\nAccept: */*\r\n"
	switch credential {
	case "jwt":
		head += bearerOf(w.token()) + "\r\n"
	case "key":
		head += "apikey: good-key\r\n"
	}
	if body != "" {
		head += fmt.Sprintf("Content-Type: text/plain\r\nContent-Length: %d\r\n", len(body))
	}
	return head + "\r\n" + body
}

func TestWarmCallsStayWithinTheirBudget(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, b := range budget {
		t.Run(b.name, func(t *testing.T) {
			w, addr := warmGateway(t, b.limited)
			a := newCaller(t, addr, requestOf(w, b.method, b.path, b.body, b.credential))
			for range 300 {
				a.ask(t)
			}
			if n := testing.AllocsPerRun(2000, func() { a.ask(t) }); n > b.allocations {
				t.Errorf("%v allocations per call, %v allowed", n, b.allocations)
			}
		})
	}
}

// BenchmarkCall measures whole calls over real sockets, with the budget's rows.
func BenchmarkCall(b *testing.B) {
	for _, c := range budget {
		b.Run(c.name, func(b *testing.B) {
			w, addr := warmGateway(b, c.limited)
			request := requestOf(w, c.method, c.path, c.body, c.credential)
			b.ReportAllocs()
			b.SetParallelism(32 / runtime.GOMAXPROCS(0))
			b.RunParallel(func(pb *testing.PB) {
				a := newCaller(b, addr, request)
				for pb.Next() {
					a.ask(b)
				}
			})
		})
	}
}
