package app

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/cardea-apim/cardea/internal/http1"
)

// frames is a client of HTTP/2 that keeps no rules.
type frames struct {
	*http2.Framer
	conn net.Conn
	head bytes.Buffer
	enc  *hpack.Encoder
	next uint32
}

func dialFrames(t *testing.T, addr string) *frames {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// Nothing here may hang, whatever the server does.
	if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	f := &frames{Framer: http2.NewFramer(c, c), conn: c, next: 1}
	f.enc = hpack.NewEncoder(&f.head)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	return f
}

// begin opens a stream with the usual head and the given fields.
func (f *frames) begin(end bool, pairs ...string) (uint32, error) {
	f.head.Reset()
	head := append([]string{":method", "POST", ":scheme", "https", ":authority", "x", ":path", "/"}, pairs...)
	last := map[string]string{}
	for i := 0; i < len(head); i += 2 {
		last[head[i]] = head[i+1]
	}
	for i := 0; i < len(head); i += 2 {
		if head[i][0] == ':' && i >= 8 {
			continue // given instead of the usual
		}
		if err := f.enc.WriteField(hpack.HeaderField{Name: head[i], Value: last[head[i]]}); err != nil {
			return 0, err
		}
	}
	id := f.next
	f.next += 2
	return id, f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.head.Bytes(), EndHeaders: true, EndStream: end})
}

// listen reads until the server ends the connection and tells the code of its
// GOAWAY, if there was one.
func (f *frames) listen() <-chan error {
	ended := make(chan error, 1)
	go func() {
		var why error
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				if errors.As(err, new(net.Error)) && err.(net.Error).Timeout() { //nolint:errorlint // as it came
					why = err
				}
				ended <- why
				return
			}
			if bye, ok := fr.(*http2.GoAwayFrame); ok {
				why = http2.ConnectionError(bye.ErrCode)
			}
		}
	}()
	return ended
}

// peaks samples heap and goroutines until the result is called.
func peaks() func() (heap uint64, routines int) {
	stop, done := make(chan struct{}), make(chan struct{})
	var heap uint64
	var routines int
	runtime.GC()
	go func() {
		defer close(done)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap, routines = max(heap, m.HeapAlloc), max(routines, runtime.NumGoroutine())
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() (uint64, int) { close(stop); <-done; return heap, routines }
}

// What one connection can do to the process is bounded, and others are served.
func TestHTTP2FloodsAreBounded(t *testing.T) {
	const many = 200_000
	repeat := func(n int, fn func() error) error {
		for range n {
			if err := fn(); err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range []struct {
		name  string
		reads bool // the client reads what is sent to it
		ends  bool // the server must end the connection
		flood func(f *frames) error
	}{
		{"rapid reset", true, true, func(f *frames) error {
			return repeat(many, func() error {
				id, err := f.begin(true)
				return errors.Join(err, f.WriteRSTStream(id, http2.ErrCodeCancel))
			})
		}},
		{"patient reset", true, true, func(f *frames) error {
			return repeat(4*churnBurst, func() error {
				id, err := f.begin(true)
				time.Sleep(200 * time.Microsecond) // its handler has begun
				return errors.Join(err, f.WriteRSTStream(id, http2.ErrCodeCancel))
			})
		}},
		{"more streams than allowed", true, false, func(f *frames) error {
			return repeat(many/10, func() error { _, err := f.begin(true); return err })
		}},
		{"continuation", true, true, func(f *frames) error {
			junk := bytes.Repeat([]byte("\x00\x01a\x01b"), 3000)
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: junk}); err != nil {
				return err
			}
			return repeat(many, func() error { return f.WriteContinuation(1, false, junk) })
		}},
		{"empty continuation", true, false, func(f *frames) error {
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}); err != nil {
				return err
			}
			return repeat(many, func() error { return f.WriteContinuation(1, false, nil) })
		}},
		{"SETTINGS unread", false, false, func(f *frames) error {
			return repeat(many, func() error { return f.WriteSettings() })
		}},
		{"PING unread", false, true, func(f *frames) error {
			return repeat(5*many, func() error { return f.WritePing(false, [8]byte{}) })
		}},
		{"PRIORITY", true, false, func(f *frames) error {
			return repeat(many, func() error { return f.WritePriority(3, http2.PriorityParam{StreamDep: 1}) })
		}},
		{"small DATA past the window", true, true, func(f *frames) error {
			if _, err := f.begin(false); err != nil {
				return err
			}
			return repeat(2<<20, func() error { return f.WriteData(1, false, []byte("x")) })
		}},
		{"empty DATA", true, false, func(f *frames) error {
			if _, err := f.begin(false); err != nil {
				return err
			}
			return repeat(many, func() error { return f.WriteData(1, false, nil) })
		}},
		{"HPACK bomb", true, false, func(f *frames) error {
			f.enc.SetMaxDynamicTableSize(4096)
			if _, err := f.begin(true, "x-big", string(bytes.Repeat([]byte("v"), 3900))); err != nil {
				return err
			}
			// One byte each for what was just put into the table: 62 is its newest.
			bomb := bytes.Repeat([]byte{0x80 | 62}, 16<<10-1)
			return repeat(400, func() error {
				id := f.next
				f.next += 2
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: bomb, EndHeaders: true, EndStream: true})
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var running, high atomic.Int64
			addr := paceServer(t, testCertificate(t), func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					return
				}
				n := running.Add(1)
				defer running.Add(-1)
				for old := high.Load(); n > old && !high.CompareAndSwap(old, n); old = high.Load() {
				}
				<-r.Context().Done()
			})
			good := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
			defer good.CloseIdleConnections()
			var before runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			routines := runtime.NumGoroutine()
			seen := peaks()
			f := dialFrames(t, addr)
			if err := f.WriteSettings(); err != nil {
				t.Fatal(err)
			}
			var ended <-chan error
			if c.reads {
				ended = f.listen()
			}
			flooded := make(chan error, 1)
			go func() { flooded <- c.flood(f) }()
			for range 3 {
				res, err := good.Get("https://" + addr)
				if err != nil || res.StatusCode != 200 {
					t.Fatalf("another client during the flood: %v %v", res, err)
				}
				res.Body.Close()
			}
			err := <-flooded
			if c.ends && err == nil && ended != nil {
				select {
				case <-ended:
					err = io.EOF
				case <-time.After(20 * time.Second):
				}
			}
			if c.ends && err == nil {
				t.Error("the server took it all")
			}
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("the server neither read nor closed: %v", err)
			}
			heap, most := seen()
			if heap > before.HeapAlloc+48<<20 {
				t.Errorf("heap rose from %d to %d MB", before.HeapAlloc>>20, heap>>20)
			}
			if n := most - routines; n > 1000 || high.Load() > 250 {
				t.Errorf("%d goroutines more, %d handlers at once", n, high.Load())
			}
			f.conn.Close()
			for end := time.Now().Add(10 * time.Second); running.Load() > 0; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d handlers outlive the connection", running.Load())
				}
			}
		})
	}
}

// Streams whose window stays shut do not hold their handlers for ever.
func TestShutWindowsDoNotHoldHandlers(t *testing.T) {
	t.Parallel()
	var running atomic.Int64
	started := make(chan struct{}, 300)
	addr := paceServer(t, testCertificate(t), func(w http.ResponseWriter, _ *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		started <- struct{}{}
		for {
			if _, err := w.Write(make([]byte, 8<<10)); err != nil {
				return
			}
		}
	})
	f := dialFrames(t, addr)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	f.listen()
	for range 200 {
		if _, err := f.begin(true); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		<-started
	}
	for end := time.Now().Add(20 * time.Second); running.Load() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d handlers still wait for a window", running.Load())
		}
	}
}

// What is malformed never reaches a handler, or is told so there.
func TestHTTP2RequestsThatAreMalformed(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	addr := paceServer(t, testCertificate(t), func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err == nil {
			calls.Add(1)
		}
		if r.TLS == nil {
			t.Error("a request over TLS came as one without")
		}
		w.WriteHeader(http.StatusAccepted)
	})
	for _, c := range []struct {
		name  string
		data  string
		pairs []string
	}{
		{"", "", []string{":scheme", "http"}}, // what counts is the connection
		{"upper case name", "", []string{"X-Upper", "1"}},
		{"connection", "", []string{"connection", "close"}},
		{"keep-alive", "", []string{"keep-alive", "1"}},
		{"transfer-encoding", "", []string{"transfer-encoding", "chunked"}},
		{"upgrade", "", []string{"upgrade", "h2c"}},
		{"te", "", []string{"te", "gzip"}},
		{"line end in a value", "", []string{"x", "a\r\nb"}},
		{"no path", "", []string{":path", ""}},
		{"user in authority", "", []string{":authority", "a@b"}},
		{"longer than said", "hello", []string{"content-length", "3"}},
		{"shorter than said", "hello", []string{"content-length", "9"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := dialFrames(t, addr)
			if err := f.WriteSettings(); err != nil {
				t.Fatal(err)
			}
			before := calls.Load()
			id, err := f.begin(c.data == "", c.pairs...)
			if err == nil && c.data != "" {
				err = f.WriteData(id, true, []byte(c.data))
			}
			if err != nil {
				t.Fatal(err)
			}
			for {
				fr, err := f.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				switch fr := fr.(type) {
				case *http2.RSTStreamFrame, *http2.GoAwayFrame:
				case *http2.HeadersFrame:
					head, err := hpack.NewDecoder(4096, nil).DecodeFull(fr.HeaderBlockFragment())
					want := "400"
					if c.name == "" {
						want, before = "202", before+1
					}
					if err != nil || head[0].Value != want && c.data == "" {
						t.Errorf("answered with %v %v", head, err)
					}
				default:
					continue
				}
				break
			}
			if calls.Load() != before {
				t.Error("a handler took it for whole")
			}
		})
	}
}

func TestChurnIsForgivenWithTime(t *testing.T) {
	t.Parallel()
	c, now := &h2Conn{left: churnBurst}, time.Unix(1, 0)
	for i := range churnBurst {
		if !c.churned(now) {
			t.Fatalf("number %d was one too many", i+1)
		}
	}
	if c.churned(now) {
		t.Error("no bound")
	}
	if now = now.Add(time.Second); !c.churned(now) {
		t.Error("never forgiven")
	}
	for i := range 100 * churnRate {
		if now = now.Add(time.Second / churnRate); !c.churned(now) {
			t.Fatalf("the steady rate was too much after %d", i)
		}
	}
}

// A conversation of gRPC may fall silent; another body may not.
func TestSilentConversationsOfGRPCGoOn(t *testing.T) {
	t.Parallel()
	l := newListeners(slog.New(slog.DiscardHandler))
	l.pace = pace{grace: 500 * time.Millisecond, rate: 10 << 10}
	port := freePort(t)
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
		}
	})
	c := listener{name: "gateway", hosts: []string{"127.0.0.1"}, port: port, tls: testCertificate(t), serve: serve, engine: func(*http1.Exchange) {}}
	if err := l.add(c); err != nil {
		t.Fatal(err)
	}
	l.start()
	t.Cleanup(func() { _ = l.drain(time.Second) })
	for kind, want := range map[string]int{"application/grpc+proto": 200, "text/plain": http.StatusRequestTimeout} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
			defer tr.CloseIdleConnections()
			res, err := (&http.Client{Transport: tr}).Post(fmt.Sprintf("https://127.0.0.1:%d", port), kind, trickle(1, 2, 1500*time.Millisecond))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%d, want %d", res.StatusCode, want)
			}
		})
	}
}

// Prior knowledge is for plain connections: over TLS the versions are agreed on
// in the handshake, and what was not agreed on is refused.
func TestPriorKnowledge(t *testing.T) {
	t.Parallel()
	serve := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }
	plain, secure := paceServer(t, nil, serve), paceServer(t, testCertificate(t), serve)
	for name, protos := range map[string][]string{"without ALPN": nil, "agreed on HTTP/1.1": {"http/1.1"}} {
		c, err := tls.Dial("tcp", secure, &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if err := errors.Join(second(io.WriteString(c, http2.ClientPreface)), http2.NewFramer(c, nil).WriteSettings()); err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(c)
		if !bytes.HasPrefix(b, []byte("HTTP/1.1 505 ")) {
			t.Errorf("%s: answered with %q", name, b)
		}
	}
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get("http://" + plain)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); string(b) != "HTTP/2.0" || err != nil {
		t.Errorf("plain: %q %v", b, err)
	}
}

func second[T any](_ T, err error) error { return err }
