package fetch

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestSend: a call carries what it is given to one address, and nowhere else.
func TestSend(t *testing.T) {
	var seen []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		seen = append(seen, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(b))
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/big":
			_, _ = w.Write(make([]byte, 100))
		default:
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "short")
		}
	}))
	defer s.Close()
	open := New(Options{Loopback: true, Timeout: 3 * time.Second})
	h := http.Header{"Authorization": {"Bearer x"}}
	a, err := open.Send(t.Context(), &Request{Method: http.MethodPut, URL: s.URL + "/a", Header: h, Body: []byte("body"), Limit: 10})
	if err != nil || a.Status != http.StatusTeapot || string(a.Body) != "short" || seen[0] != "PUT /a Bearer x body" {
		t.Errorf("got %+v, %v; seen %q", a, err, seen)
	}
	if a, err = open.Send(t.Context(), &Request{Method: http.MethodPost, URL: s.URL + "/away", Header: h, Limit: 1000}); err != nil || a.Status != http.StatusTemporaryRedirect || len(seen) != 2 {
		t.Errorf("a redirect: %+v, %v; seen %q", a, err, seen)
	}
	if _, err = open.Send(t.Context(), &Request{Method: http.MethodGet, URL: s.URL + "/big", Limit: 10}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	n := len(seen)
	for _, bad := range []string{s.URL, "http://169.254.169.254/", "http://[fe80::1]/", "file:///etc/passwd", "", "http://"} {
		if _, err := New(Options{Timeout: 3 * time.Second}).Send(t.Context(), &Request{Method: http.MethodPost, URL: bad, Limit: 10}); !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if len(seen) != n {
		t.Errorf("reached: %q", seen[n:])
	}
}
