package app

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/config"
)

func TestClientAddressIsWalkedFromTheRightPastTrustedPeers(t *testing.T) {
	a := &App{cfg: &config.Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}}}
	for name, c := range map[string]struct{ peer, forwarded, want string }{
		"no proxy":                {"192.0.2.1:5", "", "192.0.2.1"},
		"untrusted peer may lie":  {"192.0.2.1:5", "203.0.113.9", "192.0.2.1"},
		"one proxy":               {"127.0.0.1:5", "203.0.113.9", "203.0.113.9"},
		"two proxies":             {"127.0.0.1:5", "203.0.113.9, 10.1.1.1", "203.0.113.9"},
		"client adds a hop":       {"127.0.0.1:5", "198.51.100.1, 203.0.113.9", "203.0.113.9"},
		"garbage ends the walk":   {"127.0.0.1:5", "198.51.100.1, nonsense", "127.0.0.1"},
		"mapped address":          {"127.0.0.1:5", "::ffff:203.0.113.9", "203.0.113.9"},
		"trusted peer, no header": {"10.1.1.1:5", "", "10.1.1.1"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := a.clientAddr(r); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestRedirectGoesToTheConfiguredHost(t *testing.T) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "http://evil.example/publisher?x=1", nil)
	toHTTPS("https://api.example:9443", http.NotFoundHandler()).ServeHTTP(w, r)
	if got := w.Header().Get("Location"); w.Code != http.StatusPermanentRedirect || got != "https://api.example:9443/publisher?x=1" {
		t.Errorf("%d %s", w.Code, got)
	}
}

func TestRedirectRefusesTargetsThatWouldChangeTheHost(t *testing.T) {
	h := toHTTPS("https://api.example:9443", http.NotFoundHandler())
	for _, target := range []string{"@evil.example", "*", ".evil.example"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Opaque: target}, Host: "api.example"})
		if w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
			t.Errorf("%s: %d, Location %s", target, w.Code, w.Header().Get("Location"))
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// A client that honours Connection: close and stops when readiness is gone
// sees no failure while the server drains.
func TestDrainFailsNoRequest(t *testing.T) {
	t.Parallel()
	l := newListeners(slog.New(slog.DiscardHandler))
	port := freePort(t)
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond)
		_, _ = io.WriteString(w, "ok")
	})
	if err := l.add(listener{name: "test", hosts: []string{"127.0.0.1"}, port: port, serve: slow}); err != nil {
		t.Fatal(err)
	}
	l.start()
	url := "http://127.0.0.1:" + strconv.Itoa(port)
	var failed, served atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
			for !l.draining.Load() {
				req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, url, nil)
				res, err := c.Do(req)
				if err != nil {
					failed.Add(1)
					continue
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				served.Add(1)
			}
		})
	}
	time.Sleep(100 * time.Millisecond)
	if err := l.drain(4 * time.Second); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if failed.Load() > 0 || served.Load() == 0 {
		t.Errorf("%d failed of %d", failed.Load(), served.Load())
	}
}

// Calls through the gateway to a backend on the management port of the same
// process, as in the demo, do not fail while the process stops.
func TestDrainStopsTheGatewayBeforeWhatItCalls(t *testing.T) {
	t.Parallel()
	l := newListeners(slog.New(slog.DiscardHandler))
	front, back := freePort(t), freePort(t)
	backend := "http://127.0.0.1:" + strconv.Itoa(back)
	forward := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := fresh.Get(backend) //nolint:noctx // a test
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_ = res.Body.Close()
	})
	ok := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(2 * time.Millisecond) })
	for _, c := range []listener{
		{name: "management", hosts: []string{"127.0.0.1"}, port: back, serve: ok},
		{name: "gateway", hosts: []string{"127.0.0.1"}, port: front, serve: forward},
	} {
		if err := l.add(c); err != nil {
			t.Fatal(err)
		}
	}
	l.start()
	var failed, served atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				res, err := http.Get("http://127.0.0.1:" + strconv.Itoa(front)) //nolint:noctx // a test
				if err != nil {
					return // the gateway's port is closed
				}
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK {
					failed.Add(1)
				}
				served.Add(1)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	if err := l.drain(4 * time.Second); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if failed.Load() > 0 || served.Load() == 0 {
		t.Errorf("%d failed of %d", failed.Load(), served.Load())
	}
}

func TestPortInUseIsSaidClearly(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	l := newListeners(slog.New(slog.DiscardHandler))
	err = l.add(listener{name: "gateway", hosts: []string{"127.0.0.1"}, port: ln.Addr().(*net.TCPAddr).Port, serve: http.NotFoundHandler()})
	if err == nil || !strings.Contains(err.Error(), "already in use") || !strings.Contains(err.Error(), "--offset") {
		t.Errorf("error = %v", err)
	}
}

func TestHomeIsHeldByOneProcess(t *testing.T) {
	dir := t.TempDir()
	h, err := openHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openHome(dir); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("second: %v", err)
	}
	name, err := h.node("")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := openHome(dir)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := again.node(""); err != nil || same != name {
		t.Errorf("name %q after %q: %v", same, name, err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
