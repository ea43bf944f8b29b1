package hostile

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

const (
	patience = 4 * time.Second // what backends here have to answer
	slack    = 8 * time.Second // of a busy machine
	chunked  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
)

func length(n int, body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, body)
}

// broken is a backend and what callers must be told.
type broken struct {
	name    string
	backend func(*testing.T) string
	upload  int // bytes of a POST; 0: a GET

	status int    // of the refusal; 0: the answer of the backend, 200
	code   string // of the refusal
	cut    bool   // the answer begins and is then cut
	body   string // of the whole answer, or what one that is cut begins with
	late   bool   // not before the endpoint's time is over
}

func (b *broken) check(t *testing.T, o outcome) {
	t.Helper()
	if b.late && o.took < patience*9/10 {
		t.Errorf("it took %v, less than the endpoint's %v", o.took, patience)
	}
	if o.took > patience+slack {
		t.Errorf("it took %v; the endpoint has %v", o.took, patience)
	}
	if b.status == 0 {
		if o.status != http.StatusOK {
			t.Fatalf("status %d %.200s (%v), want 200", o.status, o.body, o.err)
		}
		switch {
		case b.cut && o.err == nil:
			t.Errorf("the client took %d bytes for the whole answer", len(o.body))
		case b.cut && !strings.HasPrefix(b.body, o.body) && !strings.HasPrefix(o.body, b.body):
			t.Errorf("the answer began with %.80q", o.body)
		case !b.cut && (o.err != nil || o.body != b.body):
			t.Errorf("%d bytes %.80q, %v; want %d bytes", len(o.body), o.body, o.err, len(b.body))
		}
		return
	}
	var told struct{ Code, Type, Message, Description string }
	if err := json.Unmarshal([]byte(o.body), &told); o.err != nil || err != nil {
		t.Fatalf("status %d, body %.200q (%v), want a refusal", o.status, o.body, o.err)
	}
	if o.status != b.status || told.Code != b.code || told.Type != "Status report" || told.Message != "Runtime Error" || told.Description == "" {
		t.Errorf("status %d %s, want %d with code %s", o.status, o.body, b.status, b.code)
	}
	if o.header.Get("Cardea-Decision") == "" || !strings.HasPrefix(o.header.Get("Content-Type"), "application/json") {
		t.Errorf("headers of the refusal: %v", o.header)
	}
}

// Codes of the original, with their statuses.
func refused(b broken) broken   { b.status, b.code = 500, "101503"; return b }
func timedOut(b broken) broken  { b.status, b.code, b.late = 504, "101504", true; return b }
func closed(b broken) broken    { b.status, b.code = 500, "101505"; return b }
func malformed(b broken) broken { b.status, b.code = 500, "101506"; return b }

// distant are backends whose network is bad: toxiproxy stands between.
func distant() []broken {
	return []broken{
		{name: "latency", backend: toxic("length", `{"type":"latency","attributes":{"latency":200}}`), body: large},
		timedOut(broken{name: "latency beyond the endpoint's time", backend: toxic("length", `{"type":"latency","attributes":{"latency":5000}}`)}),
		{name: "bandwidth", backend: toxic("chunks", `{"type":"bandwidth","attributes":{"rate":40}}`), body: large},
		{name: "slow close", backend: toxic("length", `{"type":"slow_close","attributes":{"delay":1500}}`), body: large},
		{name: "slow close that ends the answer", backend: toxic("close", `{"type":"slow_close","attributes":{"delay":300}}`), body: large},
		closed(broken{name: "reset", backend: toxic("length", `{"type":"reset_peer","attributes":{"timeout":0}}`)}),
		closed(broken{name: "reset on the request", backend: toxic("length", `{"type":"reset_peer","stream":"upstream","attributes":{"timeout":0}}`)}),
		closed(broken{name: "reset during an upload", upload: 4 << 20, backend: toxic("length", `{"type":"reset_peer","stream":"upstream","attributes":{"timeout":100}}`)}),
		timedOut(broken{name: "never answers", backend: toxic("length", `{"type":"timeout","attributes":{"timeout":0}}`)}),
		closed(broken{name: "closes without an answer", backend: toxic("length", `{"type":"timeout","attributes":{"timeout":200}}`)}),
		closed(broken{name: "cut in the head", backend: toxic("length", `{"type":"limit_data","attributes":{"bytes":40}}`)}),
		{name: "cut in the body, of known length", backend: toxic("length", `{"type":"limit_data","attributes":{"bytes":20000}}`), cut: true, body: large},
		{name: "cut in the body, in chunks", backend: toxic("chunks", `{"type":"limit_data","attributes":{"bytes":20000}}`), cut: true, body: large},
		{
			name: "slices", body: large,
			backend: toxic("chunks", `{"type":"slicer","attributes":{"average_size":512,"size_variation":500,"delay":500}}`),
		},
		{
			name: "slices of the request", upload: 100 << 10, body: large,
			backend: toxic("length", `{"type":"slicer","stream":"upstream","attributes":{"average_size":1024,"size_variation":1000,"delay":500}}`),
		},
	}
}

// rude are backends that break the protocol, or off.
func rude() []broken {
	endless := func(first, more string) func(*testing.T) string {
		return raw(func(p *peer) {
			if p.request() == nil || !p.say(first) {
				return
			}
			for p.say(more) {
			}
		})
	}
	return []broken{
		refused(broken{name: "refuses connections", backend: nobody}),
		refused(broken{name: "does not notice connections", backend: blackhole}),
		refused(broken{name: "is nowhere", backend: func(*testing.T) string { return "http://192.0.2.1:81" }}),
		closed(broken{name: "closes at once", backend: raw(func(*peer) {})}),
		closed(broken{name: "resets without an answer", backend: raw(func(p *peer) {
			if p.request() != nil {
				_ = p.SetLinger(0)
			}
		})}),
		closed(broken{name: "half-closed without an answer", backend: raw(func(p *peer) {
			if p.request() != nil && p.CloseWrite() == nil {
				p.wait()
			}
		})}),
		closed(broken{name: "half-closed in the head", backend: raw(func(p *peer) {
			if p.request() != nil && p.say("HTTP/1.1 200 OK\r\nContent-Le") && p.CloseWrite() == nil {
				p.wait()
			}
		})}),
		{name: "half-closed after the answer", body: "ok", backend: raw(func(p *peer) {
			if p.request() != nil && p.say(length(2, "ok")) && p.CloseWrite() == nil {
				p.wait()
			}
		})},
		{name: "half-closed in the body", cut: true, body: "half", backend: raw(func(p *peer) {
			if p.request() != nil && p.say(length(20, "half")) && p.CloseWrite() == nil {
				p.wait()
			}
		})},
		timedOut(broken{name: "stalls in the head", backend: says("HTTP/1.1 200 OK\r\nContent-Le", false)}),
		{name: "stalls in the body", late: true, cut: true, body: "some", backend: says(length(20, "some"), false)},
		{name: "stalls in a chunk", late: true, cut: true, body: "some", backend: says(chunked+"a\r\nsome", false)},
		{name: "stalls before the last chunk", late: true, cut: true, body: "some", backend: says(chunked+"4\r\nsome\r\n", false)},
		timedOut(broken{name: "does not read an upload", upload: 16 << 20, backend: raw(func(*peer) { time.Sleep(10 * time.Second) })}),
		{name: "answers early and closes", upload: 4 << 20, body: "no", backend: raw(func(p *peer) {
			if _, err := http.ReadRequest(p.in); err == nil && p.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno") && p.CloseWrite() == nil {
				p.wait()
			}
		})},

		malformed(broken{name: "endless head", backend: endless("HTTP/1.1 200 OK\r\n", "X-A: "+strings.Repeat("a", 1000)+"\r\n")}),
		malformed(broken{name: "endless field", backend: endless("HTTP/1.1 200 OK\r\nX-A: ", strings.Repeat("a", 1000))}),
		malformed(broken{name: "endless status line", backend: endless("HTTP/1.1 200 ", strings.Repeat("O", 1000))}),
		malformed(broken{name: "text", backend: says("hello, who is there?\r\n\r\n", true)}),
		malformed(broken{name: "binary", backend: says("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\xff\r\n\r\n", true)}),
		malformed(broken{name: "zero bytes", backend: endless("", strings.Repeat("\x00", 1000))}),
		malformed(broken{name: "HTTP/2 unasked", backend: says("HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n", true)}),
		malformed(broken{name: "status of two digits", backend: says("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", true)}),
		malformed(broken{name: "flood of interim answers", backend: endless("", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")}),
		{name: "some interim answers", body: "ok", backend: says("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+length(2, "ok"), false)},
		malformed(broken{name: "changes the protocol unasked", backend: says("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false)}),

		malformed(broken{name: "length and chunks", backend: says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", false)}),
		malformed(broken{name: "two lengths", backend: says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", false)}),
		malformed(broken{name: "negative length", backend: says("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello", true)}),
		malformed(broken{name: "length beyond numbers", backend: says("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello", true)}),
		malformed(broken{name: "unknown coding", backend: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", true)}),
		{name: "length too long", cut: true, body: "hello", backend: says(length(50, "hello"), true)},
		{name: "length too short", body: "hello", backend: says(length(5, "hello, and more"), false)},
		{name: "chunk size beyond numbers", cut: true, backend: says(chunked+"ffffffffffffffffff\r\nhello", true)},
		{name: "huge chunk size", cut: true, body: "hello", backend: says(chunked+"fffffffffffffff\r\nhello", true)},
		{name: "negative chunk size", cut: true, backend: says(chunked+"-5\r\nhello\r\n0\r\n\r\n", true)},
		{name: "chunk longer than said", cut: true, body: "hello", backend: says(chunked+"5\r\nhello, and more\r\n0\r\n\r\n", true)},
		{name: "endless chunk extension", cut: true, backend: endless(chunked+"5;a=", strings.Repeat("b", 1000))},
		{name: "endless trailer", cut: true, body: "hello", backend: endless(chunked+"5\r\nhello\r\n0\r\n", "X-A: "+strings.Repeat("a", 1000)+"\r\n")},
		{name: "reset in the body", cut: true, body: "hello", backend: raw(func(p *peer) {
			if p.request() != nil && p.say(length(50, "hello")) {
				time.Sleep(50 * time.Millisecond)
				_ = p.SetLinger(0)
			}
		})},
		{name: "reset in a body without an announced end", cut: true, body: "hello", backend: raw(func(p *peer) {
			if p.request() != nil && p.say("HTTP/1.1 200 OK\r\n\r\nhello") {
				time.Sleep(50 * time.Millisecond)
				_ = p.SetLinger(0)
			}
		})},
	}
}

// TestBrokenBackends calls every kind of broken backend, all at the same time,
// while another API goes on being served.
func TestBrokenBackends(t *testing.T) {
	t.Parallel()
	s := start(t, e2e.Node{})
	other := newNeighbour(2, 5*time.Millisecond, s.Gateway()+s.open(t, "Good", goodBackend(t), 0))
	list := append(distant(), rude()...)
	outcomes := make([][]outcome, len(list))
	var wg sync.WaitGroup
	for i, b := range list {
		target := s.Gateway() + s.open(t, fmt.Sprintf("Broken%d", i), b.backend(t), patience)
		wg.Go(func() {
			for range 3 { // connections that are kept from one to the next must do no harm
				method, body := http.MethodGet, io.Reader(nil)
				if b.upload > 0 {
					method, body = http.MethodPost, io.LimitReader(zeros{}, int64(b.upload))
				}
				outcomes[i] = append(outcomes[i], call(t, method, target, body))
			}
		})
	}
	wg.Wait()
	for i, b := range list {
		t.Run(b.name, func(t *testing.T) {
			for _, o := range outcomes[i] {
				b.check(t, o)
			}
		})
	}
	other.end(t)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestSecondAnswers has backends say more than they were asked for, at once or
// a moment later: no caller may get what another one's request brought.
func TestSecondAnswers(t *testing.T) {
	t.Parallel()
	s := start(t, e2e.Node{})
	for name, c := range map[string]struct {
		first string
		pause time.Duration
		more  string
	}{
		"at once":               {length(2, "ok"), 0, length(6, "poison")},
		"later":                 {length(2, "ok"), 20 * time.Millisecond, length(6, "poison")},
		"after chunks":          {chunked + "2\r\nok\r\n0\r\n\r\n", 0, length(6, "poison")},
		"body of a 204":         {"HTTP/1.1 204 No Content\r\n\r\n", 0, length(6, "poison")},
		"body of a 304":         {"HTTP/1.1 304 Not Modified\r\n\r\n", 20 * time.Millisecond, length(6, "poison")},
		"more than the length":  {length(2, "ok"), 0, "poison"},
		"interim after the end": {length(2, "ok"), 20 * time.Millisecond, "HTTP/1.1 100 Continue\r\n\r\n" + length(6, "poison")},
	} {
		t.Run(name, func(t *testing.T) {
			sent := make(chan bool, 1)
			backend := raw(func(p *peer) {
				for more := true; more && p.request() != nil && p.say(c.first); {
					time.Sleep(c.pause)
					more = p.say(c.more)
					sent <- more
				}
			})(t)
			target := s.Gateway() + s.open(t, "Second"+strings.ReplaceAll(name, " ", ""), backend, patience)
			for i := range 20 {
				o := call(t, http.MethodGet, target, nil)
				if o.err != nil || o.status >= 400 || strings.Contains(o.body, "poison") {
					t.Fatalf("call %d: status %d %q, %v", i+1, o.status, o.body, o.err)
				}
				// What comes while the next request is under way cannot be told from
				// its answer; what came before can.
				select {
				case <-sent:
				case <-time.After(20 * time.Second):
					t.Fatal("the backend never said more")
				}
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
}

// TestEndlessBody lets a client read some of an answer without end and leave:
// the backend must notice, and the node keeps nothing of it.
func TestEndlessBody(t *testing.T) {
	t.Parallel()
	s := start(t, e2e.Node{})
	var talking atomic.Int64
	backend := raw(func(p *peer) {
		if p.request() == nil {
			return
		}
		talking.Add(1)
		defer talking.Add(-1)
		piece := strings.Repeat("x", 16<<10)
		p.say(chunked)
		for p.say(fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)) {
		}
	})(t)
	host, path := s.host(), s.open(t, "Endless", backend, patience)
	before := s.memory(t, "VmRSS")
	for range 16 {
		c, err := net.Dial("tcp", host)
		ok(t, err)
		defer c.Close()
		_, err = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path)
		ok(t, err)
		ok(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
		_, err = io.CopyN(io.Discard, c, 32<<20)
		ok(t, err)
		ok(t, c.Close())
	}
	deadline := time.Now().Add(20 * time.Second)
	for talking.Load() > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d backends still talk to nobody", talking.Load())
		}
		time.Sleep(20 * time.Millisecond)
	}
	grown := s.memory(t, "VmHWM") - before
	t.Logf("512 MB of endless bodies took %d KB more", grown)
	if grown > 64<<10 {
		t.Errorf("memory grew by %d KB", grown)
	}
}
