package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestPipelineOverTheWire(t *testing.T) {
	_, addr := start(t, Limits{}, echo)
	c := dial(t, addr)
	in := ""
	for i := range 50 {
		body := strings.Repeat(fmt.Sprint(i%10), i*100)
		in += fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	in += "GET / HTTP/1.1\r\nHost: h\r\nBad Name: x\r\n\r\n" + "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	go io.WriteString(c, in)
	list := answers(t, c)
	if len(list) != 51 || list[50].status != 400 {
		t.Fatalf("%d answers, last %d", len(list), list[len(list)-1].status)
	}
	for i, a := range list[:50] {
		if a.status != 200 || a.body != strings.Repeat(fmt.Sprint(i%10), i*100) {
			t.Fatalf("answer %d: %d with %d bytes", i, a.status, len(a.body))
		}
	}
}

func TestExpect(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
	t.Run("accepted", func(t *testing.T) {
		_, addr := start(t, Limits{}, echo)
		c := dial(t, addr)
		for range 2 {
			io.WriteString(c, head)
			got := make([]byte, 25)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "HTTP/1.1 100 Continue\r\n\r\n" {
				t.Fatalf("%q, %v", got, err)
			}
			io.WriteString(c, "abc")
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || res.StatusCode != 200 || res.ContentLength != 3 {
				t.Fatal(res, err)
			}
		}
	})
	for _, status := range []int{417, 403} {
		t.Run(fmt.Sprint("refused with ", status), func(t *testing.T) {
			_, addr := start(t, Limits{}, func(x *Exchange) {
				if !x.Expects() {
					t.Error("not seen")
				}
				_ = x.Reply(status, nil, 0)
				if _, err := x.Body.Read(make([]byte, 1)); err != ErrNotWanted {
					t.Errorf("reading after the refusal: %v", err)
				}
			})
			c := dial(t, addr)
			io.WriteString(c, head)
			list := answers(t, c)
			if len(list) != 1 || list[0].status != status || !list[0].close {
				t.Errorf("%+v", list)
			}
		})
	}
	t.Run("not asked of 1.0", func(t *testing.T) {
		s := &Server{Handler: echo}
		defer s.Close()
		out := over(s, strings.Replace(head, "1.1", "1.0", 1)+"abc", 0)
		if strings.Contains(out, "100 Continue") || !strings.HasSuffix(out, "abc") {
			t.Errorf("%q", out)
		}
	})
}

func TestEarlyAnswerDuringUpload(t *testing.T) {
	_, addr := start(t, Limits{}, func(x *Exchange) {
		_, _ = x.Body.Read(make([]byte, 10))
		_ = x.Reply(413, nil, 5)
		_, _ = x.WriteString("large")
	})
	c := dial(t, addr)
	go func() {
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n")
		b := make([]byte, 64<<10)
		for { // until the server is gone
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 413 {
		t.Fatal(res, err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != "large" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestClientLeavesWhileHandlerWaits(t *testing.T) {
	for _, reset := range []bool{true, false} {
		t.Run(fmt.Sprint("reset ", reset), func(t *testing.T) {
			began, ended := make(chan bool, 1), make(chan time.Duration, 1)
			_, addr := start(t, Limits{HalfClose: 200 * time.Millisecond}, func(x *Exchange) {
				began <- true
				at := time.Now()
				<-x.Context().Done()
				ended <- time.Since(at)
			})
			c := dial(t, addr)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			<-began
			if reset {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			c.Close()
			select {
			case d := <-ended:
				if !reset && d < 200*time.Millisecond {
					t.Errorf("a half-closed client was given up after %v", d)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("handler was never told")
			}
		})
	}
}

func TestHalfClosedClientGetsItsAnswer(t *testing.T) {
	_, addr := start(t, Limits{}, func(x *Exchange) {
		time.Sleep(100 * time.Millisecond)
		echo(x)
	})
	c := dial(t, addr)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
	_ = c.(*net.TCPConn).CloseWrite()
	if list := answers(t, c); len(list) != 1 || list[0].body != "abc" {
		t.Errorf("%+v", list)
	}
}

func TestTimeouts(t *testing.T) {
	limits := Limits{HeadTime: 100 * time.Millisecond, Idle: 100 * time.Millisecond, Grace: 400 * time.Millisecond}
	slow := make(chan error, 10)
	_, addr := start(t, limits, func(x *Exchange) {
		if x.Body != nil {
			_, err := io.Copy(io.Discard, x.Body)
			slow <- err
			return
		}
		_ = x.Reply(200, nil, 0)
	})
	ended := func(t *testing.T, c net.Conn) []answer {
		begin := time.Now()
		list := answers(t, c)
		if d := time.Since(begin); d < 90*time.Millisecond || d > 5*time.Second {
			t.Errorf("ended after %v", d)
		}
		return list
	}
	t.Run("no head", func(t *testing.T) {
		if l := ended(t, dial(t, addr)); len(l) != 0 {
			t.Error(l)
		}
	})
	t.Run("slow head", func(t *testing.T) {
		c := dial(t, addr)
		go func() {
			for _, b := range "GET / HTTP/1.1\r\nHost: " + strings.Repeat("h", 500) {
				if _, err := c.Write([]byte{byte(b)}); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
		if l := ended(t, c); len(l) != 1 || l[0].status != 408 {
			t.Error(l)
		}
	})
	t.Run("idle", func(t *testing.T) {
		c := dial(t, addr)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if l := ended(t, c); len(l) != 1 || l[0].close {
			t.Error(l)
		}
	})
	t.Run("stalled body", func(t *testing.T) {
		c := dial(t, addr)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc")
		if l := ended(t, c); len(l) != 1 || l[0].status != 408 || !l[0].close {
			t.Error(l)
		}
		if err := <-slow; err != ErrTimeout {
			t.Errorf("handler got %v", err)
		}
	})
	t.Run("body below the floor rate", func(t *testing.T) {
		c := dial(t, addr)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999\r\n\r\n")
		go func() {
			for {
				if _, err := c.Write([]byte("a")); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond) // 100 bytes a second
			}
		}()
		if err := <-slow; err != ErrTimeout {
			t.Errorf("handler got %v", err)
		}
	})
	t.Run("body above the floor rate", func(t *testing.T) {
		c := dial(t, addr)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6000\r\n\r\n")
		go func() {
			for range 60 { // longer than the grace
				_, _ = c.Write(make([]byte, 100))
				time.Sleep(10 * time.Millisecond)
			}
		}()
		if err := <-slow; err != nil {
			t.Errorf("handler got %v", err)
		}
	})
}

func TestSlowReaderIsCut(t *testing.T) {
	done := make(chan error, 1)
	_, addr := start(t, Limits{Grace: 200 * time.Millisecond, SendBuffer: 32 << 10}, func(x *Exchange) {
		_ = x.Reply(200, nil, -1)
		var err error
		for b := make([]byte, 64<<10); err == nil; {
			_, err = x.Write(b)
		}
		done <- err
	})
	c := dial(t, addr)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	select {
	case err := <-done:
		if err != ErrTimeout {
			t.Errorf("write ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a client that reads nothing is served for ever")
	}
}

func TestConnectionLimits(t *testing.T) {
	for name, l := range map[string]Limits{"overall": {Connections: 2}, "per client": {PerClient: 2}} {
		t.Run(name, func(t *testing.T) {
			s, addr := start(t, l, echo)
			a, b := dial(t, addr), dial(t, addr)
			within(t, time.Second, "two connections", func() bool { return s.Open() == 2 })
			third := dial(t, addr)
			io.WriteString(third, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
			if list := answers(t, third); len(list) != 1 || list[0].status != 503 || list[0].header.Get("Retry-After") == "" {
				t.Errorf("third connection: %+v", list)
			}
			a.Close()
			within(t, time.Second, "a free place", func() bool { return s.Open() == 1 })
			c := dial(t, addr)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			if list := answers(t, c); len(list) != 1 || list[0].status != 200 {
				t.Errorf("after one left: %+v", list)
			}
			b.Close()
		})
	}
}

func TestDrain(t *testing.T) {
	hold := make(chan bool)
	s, addr := start(t, Limits{Drain: 50 * time.Millisecond}, func(x *Exchange) {
		if x.Target == "/slow" {
			<-hold
		}
		_ = x.Reply(200, nil, 0)
	})
	idle, slow := dial(t, addr), dial(t, addr)
	io.WriteString(idle, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	io.WriteString(slow, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
	within(t, time.Second, "both served", func() bool { return s.Open() == 2 })
	time.Sleep(50 * time.Millisecond)
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	go func() { ended <- s.Shutdown(ctx) }()
	if l := answers(t, idle); len(l) != 1 {
		t.Errorf("idle connection: %+v", l)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("still accepting")
	}
	close(hold)
	if l := answers(t, slow); len(l) != 1 || l[0].status != 200 || !l[0].close {
		t.Errorf("busy connection: %+v", l)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestDrainHasAnEnd(t *testing.T) {
	s, addr := start(t, Limits{}, func(x *Exchange) { <-x.Context().Done() })
	io.WriteString(dial(t, addr), "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	within(t, time.Second, "served", func() bool { return s.Open() == 1 })
	ctx, cancel := context.WithTimeout(background, 100*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("%v", err)
	}
}

func TestPanicCutsTheConnection(t *testing.T) {
	var calls atomic.Int32
	_, addr := start(t, Limits{}, func(x *Exchange) {
		calls.Add(1)
		_ = x.Reply(200, nil, 100)
		_ = x.Flush()
		panic("x")
	})
	c := dial(t, addr)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	_, _ = io.ReadAll(c)
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
}

func TestAdapt(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Trailer", r.Trailer.Get("T"))
		w.Write(b)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		for range 100 {
			io.WriteString(w, strings.Repeat("a", 1000))
		}
	})
	mux.HandleFunc("/trailer", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "A")
		io.WriteString(w, "x")
		w.Header().Set("A", "1")
		w.Header().Set(http.TrailerPrefix+"B", "2")
	})
	mux.HandleFunc("/none", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	mux.HandleFunc("/abort", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "a")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-r.Context().Done()
	})
	_, addr := start(t, Limits{}, Adapt(mux))
	ours, theirs := "http://"+addr, httptest.NewServer(mux)
	defer theirs.Close()
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	for _, tt := range [][2]string{{"GET", "/echo"}, {"POST", "/echo"}, {"GET", "/large"}, {"HEAD", "/large"}, {"GET", "/trailer"}, {"GET", "/none"}, {"GET", "/missing"}, {"GET", "/echo/../large?a=b"}} {
		var seen [2]string
		for i, base := range []string{theirs.URL, ours} {
			var body io.Reader
			if tt[0] == "POST" {
				body = io.MultiReader(strings.NewReader("some "), strings.NewReader("text"))
			}
			req, _ := http.NewRequest(tt[0], base+tt[1], body)
			req.Trailer = nil
			if body != nil {
				req.Trailer = http.Header{"T": {"v"}}
			}
			res, err := c.Do(req)
			if err != nil {
				t.Fatal(tt, err)
			}
			b, err := io.ReadAll(res.Body)
			if err != nil {
				t.Fatal(tt, err)
			}
			res.Body.Close()
			res.Header.Del("Date")
			seen[i] = fmt.Sprint(res.StatusCode, res.ContentLength, res.Header, res.Trailer, len(b), res.TransferEncoding, res.Close)
		}
		if seen[0] != seen[1] {
			t.Errorf("%v:\n net/http %s\n ours     %s", tt, seen[0], seen[1])
		}
	}
	if _, err := c.Get(ours + "/abort"); err == nil {
		t.Error("aborted, but answered")
	}
	res, err := c.Get(ours + "/flush")
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := res.Body.Read(one); err != nil || one[0] != 'a' {
		t.Error(one, err)
	}
	res.Body.Close()
}

func TestPriorKnowledgeIsHandedOver(t *testing.T) {
	got := make(chan string, 1)
	s := &Server{Handler: echo, HTTP2: func(c net.Conn) {
		b := make([]byte, 24)
		_, _ = io.ReadFull(c, b)
		got <- string(b)
	}}
	defer s.Close()
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	over(s, preface, 5)
	if p := <-got; p != preface {
		t.Errorf("%q", p)
	}
}

func TestReaderAboveTheFloorRateIsServed(t *testing.T) {
	const size = 600 << 10
	_, addr := start(t, Limits{Grace: time.Second, Rate: 20 << 10, SendBuffer: 16 << 10}, func(x *Exchange) {
		_ = x.Reply(200, nil, size)
		_, _ = x.Write(make([]byte, size)) // one call, much longer than the grace
	})
	c := dial(t, addr)
	_ = c.(*net.TCPConn).SetReadBuffer(16 << 10)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	br := bufio.NewReaderSize(c, 16)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for b := make([]byte, 8<<10); ; time.Sleep(20 * time.Millisecond) {
		n, err := res.Body.Read(b)
		if total += n; err != nil {
			break
		}
	}
	if total != size {
		t.Errorf("cut after %d of %d bytes", total, size)
	}
}

func TestSignalAsParent(t *testing.T) {
	var s Signal
	inner := &s
	withValue := context.WithValue(inner, testKey{}, 1)
	if signalOf(withValue) != inner || signalOf(inner) != inner {
		t.Error("the signal is not found through values")
	}
	ctx, cancel := context.WithTimeout(withValue, time.Hour)
	defer cancel()
	if signalOf(ctx) != nil {
		t.Error("a context that may end sooner is taken for the signal")
	}
	called := make(chan bool, 1)
	stop := s.AfterFunc(func() { t.Error("stopped, but called") })
	s.AfterFunc(func() { called <- true })
	if !stop() || stop() {
		t.Error("stop is not true once")
	}
	s.fire()
	<-ctx.Done()
	<-called
	if ctx.Err() != context.Canceled || s.Err() != context.Canceled {
		t.Error(ctx.Err(), s.Err())
	}
	if s.AfterFunc(func() { called <- true })() {
		t.Error("stopped after the end")
	}
	<-called
}

type testKey struct{}
