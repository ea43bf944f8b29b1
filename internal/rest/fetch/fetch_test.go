package fetch

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
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
