package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// between puts a real gateway in front of a real backend.
func between(t *testing.T, backend http.HandlerFunc, change func(*snapshot.API), options ...func(*Options)) (*world, *front) {
	t.Helper()
	b := httptest.NewServer(backend)
	t.Cleanup(b.Close)
	w := pizzeria(t, func(a *snapshot.API) {
		a.Production[0].URL = b.URL
		if change != nil {
			change(a)
		}
	}, append([]func(*Options){func(o *Options) { o.Upstream = nil }}, options...)...)
	return w, w.listen()
}

// front is an address where a gateway serves.
type front struct {
	net.Listener
	URL string
}

func (w *world) listen() *front {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	go w.engine.Serve(l)
	return &front{l, "http://" + l.Addr().String()}
}

// pattern is n bytes that are never held together.
type pattern struct{ left, at int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.left)]
	for i := range b {
		b[i] = byte(p.at*31 + p.at>>8)
		p.at++
	}
	p.left -= int64(len(b))
	return len(b), nil
}

func sumOf(n int64) string {
	h := sha256.New()
	io.Copy(h, &pattern{left: n})
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestBodiesStreamBothWaysAtConstantMemory(t *testing.T) {
	const size = 64 << 20
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			fmt.Fprintf(w, "%d %x %v %d", n, h.Sum(nil), err, r.ContentLength)
			return
		}
		if strings.HasSuffix(r.URL.Path, "known") {
			w.Header().Set("Content-Length", fmt.Sprint(size))
		}
		io.Copy(w, &pattern{left: size})
	}, nil)
	want := sumOf(size)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := watchHeap(t)
	for _, length := range []int64{size, -1} {
		req, _ := http.NewRequestWithContext(t.Context(), "PUT", front.URL+"/pizza/1.0/files/up", io.NopCloser(&pattern{left: size}))
		req.ContentLength = length
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if s := fmt.Sprintf("%d %s <nil> %d", size, want, length); string(got) != s {
			t.Errorf("backend got %s, want %s", got, s)
		}
	}
	for _, name := range []string{"known", "chunked"} {
		res, err := http.Get(front.URL + "/pizza/1.0/files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, res.Body); err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != want || (res.ContentLength == size) != (name == "known") {
			t.Errorf("%s: sum %s of %d", name, got, res.ContentLength)
		}
	}
	runtime.ReadMemStats(&after)
	if high := peak(); high > before.HeapAlloc+24<<20 {
		t.Errorf("heap rose from %d MB to %d MB", before.HeapAlloc>>20, high>>20)
	}
}

// watchHeap samples the heap until the result is called, which gives its peak.
func watchHeap(t *testing.T) func() uint64 {
	stop, ended := make(chan struct{}), make(chan uint64)
	go func() {
		var high uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			high = max(high, m.HeapAlloc)
			select {
			case <-stop:
				ended <- high
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-ended }
}

func TestAnswersArriveAsTheyAreWritten(t *testing.T) {
	next := make(chan struct{})
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
		}
	}, nil)
	res, err := http.Get(front.URL + "/pizza/1.0/open")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	rd := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := rd.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		rd.ReadString('\n')
		next <- struct{}{}
	}
}

func TestBackendMayAnswerDuringTheUpload(t *testing.T) {
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(202)
		w.(http.Flusher).Flush()
		io.Copy(w, r.Body)
	}, nil)
	rd, wr := io.Pipe()
	req, _ := http.NewRequestWithContext(t.Context(), "PUT", front.URL+"/pizza/1.0/files/up", rd)
	done := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			defer res.Body.Close()
			// The answer is here although the body has not even begun.
			io.WriteString(wr, "late body")
			wr.Close()
			var b []byte
			if b, err = io.ReadAll(res.Body); err == nil && (string(b) != "late body" || res.StatusCode != 202) {
				err = fmt.Errorf("%d %q", res.StatusCode, b)
			}
		}
		done <- err
	}()
	// Something must be written for the client to send its head.
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("no answer during the upload")
	}
}

// deaf is an address that accepts and then does what fn says.
func deaf(t *testing.T, fn func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { fn(c); c.Close() }()
		}
	}()
	return "http://" + l.Addr().String()
}

func readHead(c net.Conn) { c.Read(make([]byte, 4096)) }

func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return "http://" + l.Addr().String()
}

func TestBackendsThatFail(t *testing.T) {
	short := 150 * time.Millisecond
	for _, c := range []struct {
		name   string
		url    func(*testing.T) string
		status int
		code   string
		rule   string
	}{
		{"nobody listens", closedPort, 500, "101503", "backend-connect"},
		{"never answers", func(t *testing.T) string { return deaf(t, func(c net.Conn) { time.Sleep(2 * time.Second) }) }, 504, "101504", "backend-timeout"},
		{"half a head", func(t *testing.T) string {
			return deaf(t, func(c net.Conn) {
				readHead(c)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
				time.Sleep(2 * time.Second)
			})
		}, 504, "101504", "backend-timeout"},
		{"closes at once", func(t *testing.T) string { return deaf(t, func(c net.Conn) { readHead(c) }) }, 500, "101505", "backend-closed"},
		{"speaks nonsense", func(t *testing.T) string {
			return deaf(t, func(c net.Conn) { readHead(c); io.WriteString(c, "hello, who is there?\r\n\r\n") })
		}, 500, "101506", "backend-protocol"},
		{"endless head", func(t *testing.T) string {
			return deaf(t, func(c net.Conn) {
				readHead(c)
				io.WriteString(c, "HTTP/1.1 200 OK\r\n")
				for {
					if _, err := io.WriteString(c, "X-A: "+strings.Repeat("a", 1000)+"\r\n"); err != nil {
						return
					}
				}
			})
		}, 500, "101506", "backend-protocol"},
		{"metadata service", func(*testing.T) string { return "http://169.254.169.254/latest" }, 500, "101503", "backend-address"},
		{"our own port", func(*testing.T) string { return "http://127.0.0.1:4222" }, 500, "101503", "backend-address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, front := between(t, func(http.ResponseWriter, *http.Request) {}, func(a *snapshot.API) {
				a.Production[0] = snapshot.Endpoint{URL: c.url(t), Timeout: short}
			}, func(o *Options) { o.RefusedPorts = []int{4222} })
			res, err := http.Get(front.URL + "/pizza/1.0/open")
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if res.StatusCode != c.status || !strings.HasPrefix(string(body), `{"code":"`+c.code+`","type":"Status report","message":"Runtime Error","description":"`) {
				t.Errorf("%d %s, want %d with code %s", res.StatusCode, body, c.status, c.code)
			}
			if d := w.records.last().Decision; d == nil || d.Rule != c.rule || d.Details["endpoint"] == "" {
				t.Errorf("decision %+v, want rule %s", d, c.rule)
			}
			if res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get(DecisionHeader) == "" {
				t.Errorf("headers %v", res.Header)
			}
		})
	}
}

func TestBrokenAnswerIsBrokenForTheClientToo(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nonly \r\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, front := between(t, func(http.ResponseWriter, *http.Request) {}, func(a *snapshot.API) {
				a.Production[0].URL = deaf(t, func(c net.Conn) { readHead(c); io.WriteString(c, answer) })
			})
			res, err := http.Get(front.URL + "/pizza/1.0/open")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if b, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("the client took %q for the whole answer", b)
			}
		})
	}
}

func TestSlowBodiesAreNotCutWhileTheyMove(t *testing.T) {
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		for range 5 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(60 * time.Millisecond)
		}
	}, func(a *snapshot.API) { a.Production[0].Timeout = 150 * time.Millisecond })
	res, err := http.Get(front.URL + "/pizza/1.0/open")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || string(b) != "xxxxx" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestClientThatLeavesEndsTheBackendCall(t *testing.T) {
	left := make(chan struct{})
	started := make(chan struct{})
	w, front := between(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(left)
	}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-started; cancel() }()
	req, _ := http.NewRequestWithContext(ctx, "GET", front.URL+"/pizza/1.0/open", nil)
	if res, err := http.DefaultClient.Do(req); err == nil {
		res.Body.Close()
		t.Fatal("got an answer")
	}
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Fatal("the backend was not told")
	}
	for range 100 {
		if w.records.last().Status == statusGone {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("reported %+v", w.records.last())
}

func TestIncompleteRequestBody(t *testing.T) {
	w, front := between(t, func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) }, nil)
	c, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "PUT /pizza/1.0/files/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	// The backend may have begun to answer with what it had; then the answer breaks.
	if res.StatusCode != 400 || !bytes.Contains(b, []byte(`"102511"`)) {
		t.Errorf("%d %s; decision %+v", res.StatusCode, b, w.records.last().Decision)
	}
}

func TestLocation(t *testing.T) {
	to := ""
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", to)
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Cardea-Decision", "forged")
		w.Header().Set("Access-Control-Allow-Origin", "https://backend")
		w.WriteHeader(302)
	}, nil, func(o *Options) { o.PublicHTTP = "http://gw.example:8280" })
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, c := range []struct{ to, want string }{
		{"https://other.example/x", "https://other.example/x"},
		{"/base/x?y=1", "http://gw.example:8280/base/x?y=1"},
		{"x", "http://gw.example:8280/pizza/1.0/x"},
		{"?y", "http://gw.example:8280/pizza/1.0/open?y"},
		{"//other.example/x", "//other.example/x"},
		{"mailto:a@b", "mailto:a@b"},
	} {
		to = c.to
		res, err := client.Get(front.URL + "/pizza/1.0/open")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Location"); got != c.want {
			t.Errorf("%s became %s, want %s", c.to, got, c.want)
		}
		if res.Header.Get("X-Hop") != "" || res.Header.Get("Cardea-Decision") != "" {
			t.Errorf("headers %v", res.Header)
		}
		if got := res.Header["Access-Control-Allow-Origin"]; len(got) != 1 || got[0] != "https://backend" {
			t.Errorf("the backend's own CORS header became %v", got)
		}
	}
}

func TestFailoverLoadBalanceAndSuspension(t *testing.T) {
	name := func(s string) string {
		b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) }))
		t.Cleanup(b.Close)
		return b.URL
	}
	get := func(url string) string {
		res, err := http.Get(url + "/pizza/1.0/open")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode != 200 {
			return string(b[9:15])
		}
		return string(b)
	}
	dead, a, b := closedPort(t), name("a"), name("b")
	group := func(mode string, list ...snapshot.Endpoint) string {
		_, front := between(t, nil, func(api *snapshot.API) { api.EndpointMode, api.Production = mode, list })
		return front.URL
	}
	if got := get(group("failover", snapshot.Endpoint{URL: dead}, snapshot.Endpoint{URL: b})); got != "b" {
		t.Errorf("failover: %s", got)
	}
	front := group("load_balance", snapshot.Endpoint{URL: a}, snapshot.Endpoint{URL: dead}, snapshot.Endpoint{URL: b})
	seen := map[string]int{}
	for range 9 {
		seen[get(front)]++
	}
	if seen["a"] != 3 || seen["b"] != 6 {
		t.Errorf("load balance: %v", seen)
	}
	front = group("", snapshot.Endpoint{URL: dead, Suspend: 200 * time.Millisecond})
	if one, two := get(front), get(front); one != "101503" || two != "303001" {
		t.Errorf("suspension: %s, then %s", one, two)
	}
	time.Sleep(250 * time.Millisecond)
	if got := get(front); got != "101503" {
		t.Errorf("after the suspension: %s", got)
	}
}

func TestHeadAndEmptyAnswers(t *testing.T) {
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "HEAD":
			w.Header().Set("Content-Length", "1234")
		case strings.HasSuffix(r.URL.Path, "204"):
			w.WriteHeader(204)
		case strings.HasSuffix(r.URL.Path, "304"):
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		}
	}, func(a *snapshot.API) {
		a.Operations = append(a.Operations, snapshot.Operation{Target: "/files/*", Verb: "HEAD", Auth: "None"})
	})
	for _, c := range []struct {
		verb, path string
		status     int
		length     int64
	}{{"HEAD", "x", 200, 1234}, {"GET", "204", 204, 0}, {"GET", "304", 304, 0}, {"GET", "empty", 200, 0}} {
		req, _ := http.NewRequestWithContext(t.Context(), c.verb, front.URL+"/pizza/1.0/files/"+c.path, nil)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != c.status || res.ContentLength != c.length || res.Header.Get("Content-Type") != "" {
			t.Errorf("%s %s: %d, length %d, %v", c.verb, c.path, res.StatusCode, res.ContentLength, res.Header)
		}
	}
}

func TestConnectionCloseIsHonoured(t *testing.T) {
	_, front := between(t, func(http.ResponseWriter, *http.Request) {}, nil)
	c, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /pizza/1.0/open HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil || !bytes.Contains(b, []byte("Connection: close")) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestGuardSeesThroughAddressesThatCarryOthers(t *testing.T) {
	check := guard([]int{9444})
	for address, refused := range map[string]bool{
		"169.254.169.254:80": true, "[::ffff:169.254.169.254]:80": true, "[64:ff9b::a9fe:a9fe]:80": true, "[64:ff9b:1::a9fe:a9fe]:80": true,
		"[2002:a9fe:a9fe::1]:80": true, "[::ffff:0:a9fe:a9fe]:80": true, "[fe80::1%eth0]:80": true, "[fd00:ec2::254]:80": true, "100.100.100.200:80": true,
		"127.0.0.1:9444": true, "[::1]:9444": true, "0.0.0.0:9444": true, "[::ffff:127.0.0.1]:9444": true, "localhost:80": true,
		"127.0.0.1:80": false, "10.1.2.3:9444": false, "[2001:db8::1]:443": false, "[64:ff9b::808:808]:443": false,
	} {
		if err := check("tcp", address, nil); (err != nil) != refused {
			t.Errorf("%s: %v", address, err)
		}
	}
}
