package gateway

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// httptest's certificate names example.com and the loopback addresses, but not
// localhost.
func TestNamesInCertificatesOfBackends(t *testing.T) {
	b := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	defer b.Close()
	roots := x509.NewCertPool()
	roots.AddCert(b.Certificate())
	u, err := url.Parse(b.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		host, names string
		roots       *x509.CertPool
		ok          bool
	}{
		"named, always":                    {"127.0.0.1", "", roots, true},
		"not named, always":                {"localhost", "", roots, false},
		"not named, but this machine":      {"localhost", "localhost", roots, true},
		"nowhere":                          {"localhost", "any", roots, true},
		"this machine, another authority":  {"localhost", "localhost", x509.NewCertPool(), false},
		"nowhere, still another authority": {"localhost", "any", x509.NewCertPool(), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := pizzeria(t, func(a *snapshot.API) { a.Production[0].URL = "https://" + c.host + ":" + u.Port() }, func(o *Options) {
				o.Upstream, o.UpstreamRoots, o.UpstreamNames = nil, c.roots, c.names
			})
			got := w.get("/pizza/1.0/menu", bearerOf(w.token()))
			if (got.Code == http.StatusOK) != c.ok {
				t.Errorf("%d %s, want success %v", got.Code, got.Body, c.ok)
			}
		})
	}
}

func TestConnectionsToABackendAreBounded(t *testing.T) {
	var now, most atomic.Int64
	w, front := between(t, func(http.ResponseWriter, *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		now.Add(-1)
	}, nil, func(o *Options) { o.MaxPerHost = 2 })
	tok := w.token()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+"/pizza/1.0/menu", nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Authorization", "Bearer "+tok)
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				t.Errorf("answered %d", res.StatusCode)
			}
		})
	}
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d calls at a time, want 2", most.Load())
	}
}

func TestPoolsOfForgottenBackendsAreDropped(t *testing.T) {
	b := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer b.Close()
	w := pizzeria(t, func(a *snapshot.API) { a.Production[0].URL = b.URL }, func(o *Options) { o.Upstream = nil })
	if rec := w.get("/pizza/1.0/open"); rec.Code != 200 {
		t.Fatal(rec.Code, rec.Body)
	}
	up := w.g.upstream.(*upstream)
	addr := strings.TrimPrefix(b.URL, "http://")
	idle := func() int { _, idle, _ := up.client.Endpoint(addr, nil).Counts(); return idle }
	up.forget(w.g.tables.Load())
	if idle() != 1 {
		t.Errorf("%d idle connections to a backend that is used", idle())
	}
	a := pizza()
	a.Production[0].URL = "http://backend.test"
	w.apply(false, w.api(a))
	up.forget(w.g.tables.Load())
	if idle() != 0 {
		t.Errorf("%d idle connections to a backend that nobody names", idle())
	}
}
