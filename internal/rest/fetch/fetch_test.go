package fetch

import (
	"compress/gzip"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestAllowed(t *testing.T) {
	c := New(Options{Allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("169.254.0.0/16")}})
	for addr, want := range map[string]bool{
		"93.184.216.34": true, "2606:4700::1111": true, "10.1.2.3": true,
		"10.2.0.1": false, "127.0.0.1": false, "::1": false, "169.254.169.254": false, "192.168.1.1": false,
		"172.16.0.1": false, "0.0.0.0": false, "fe80::1": false, "fd00::1": false, "100.64.0.1": false,
		"64:ff9b::a9fe:a9fe": false, "2002:7f00:1::": false, "::ffff:127.0.0.1": false, "224.0.0.1": false,
	} {
		if got := c.allowed(netip.MustParseAddr(addr).Unmap()); got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

func TestGet(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			_, _ = w.Write(make([]byte, 100))
		case "/file":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		case "/missing":
			http.NotFound(w, r)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		default:
			_, _ = w.Write([]byte("doc"))
		}
	}))
	defer s.Close()
	open := New(Options{Loopback: true})
	if b, err := open.Get(t.Context(), s.URL+"/x", 10); err != nil || string(b) != "doc" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := open.Get(t.Context(), s.URL+"/big", 10); !errors.Is(err, ErrTooLarge) {
		t.Errorf("big: %v", err)
	}
	for _, bad := range []string{s.URL + "/missing", s.URL + "/round"} {
		if _, err := open.Get(t.Context(), bad, 10); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	for _, bad := range []string{s.URL + "/file", "file:///etc/passwd", "gopher://x/", "", "http://"} {
		if _, err := open.Get(t.Context(), bad, 10); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := New(Options{}).Get(t.Context(), s.URL, 10); !errors.Is(err, ErrRefused) {
		t.Errorf("loopback: %v", err)
	}
}

// TestDisguisedAddresses: whatever spells a forbidden address, the connection
// is judged by what it would reach.
func TestDisguisedAddresses(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("reached by %s", r.Host)
	}))
	defer s.Close()
	port := s.Listener.Addr().(*net.TCPAddr).Port
	c := New(Options{Timeout: 3 * time.Second})
	for _, host := range []string{
		"localhost", "LOCALHOST", "localhost.", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]",
		"0.0.0.0", "0", "[::]", "user:password@127.0.0.1", "93.184.216.34@127.0.0.1", "127.0.0.1%23.example", "[64:ff9b::7f00:1]", "[::7f00:1]",
	} {
		_, err := c.Get(t.Context(), fmt.Sprintf("http://%s:%d/", host, port), 10)
		if err == nil {
			t.Errorf("%s: no error", host)
		}
		if host == "localhost" && strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: the error tells the address of a name: %v", host, err)
		}
	}
	for _, address := range []string{"http://169.254.169.254/latest/meta-data", "http://[fd00:ec2::254]/", "http://100.100.100.200/", "jar:http://x!/", "ftp://127.0.0.1/", "//127.0.0.1/", "http:///x", "unix:///run/x.sock"} {
		if _, err := c.Get(t.Context(), address, 10); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestRedirectsAreJudgedAnew: an allowed address that leads to a forbidden one.
func TestRedirectsAreJudgedAnew(t *testing.T) {
	var to string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }))
	defer s.Close()
	c := New(Options{Loopback: true, Timeout: 3 * time.Second})
	for _, to = range []string{"http://169.254.169.254/", "http://10.0.0.1/", "http://[fe80::1]/", "http://192.168.1.1/", "gopher://x/", "http://[::ffff:169.254.169.254]/"} {
		if _, err := c.Get(t.Context(), s.URL, 10); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// TestSlowServersAreLeft: a document that trickles ends with the timeout.
func TestSlowServersAreLeft(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}))
	defer s.Close()
	began := time.Now()
	if _, err := New(Options{Loopback: true, Timeout: 300 * time.Millisecond}).Get(t.Context(), s.URL, 1<<20); err == nil || time.Since(began) > 3*time.Second {
		t.Errorf("error = %v after %v", err, time.Since(began))
	}
}

// TestPackedDocumentsAreBoundedUnpacked: the bound is on what comes out.
func TestPackedDocumentsAreBoundedUnpacked(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(make([]byte, 64<<20))
		_ = z.Close()
	}))
	defer s.Close()
	if _, err := New(Options{Loopback: true}).Get(t.Context(), s.URL, 1<<20); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error = %v", err)
	}
}
