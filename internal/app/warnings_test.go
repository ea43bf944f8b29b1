package app

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

func TestUnwellPartsAreNamedAndCounted(t *testing.T) {
	t.Parallel()
	a := &App{metrics: newRegistry()}
	var trouble error
	a.watch("counters", func() error { return trouble })
	a.watch("bus", func() error { return nil })
	if got := a.warnings(); len(got) != 0 {
		t.Errorf("all is well, yet %v", got)
	}
	trouble = errors.New("disk full " + strings.Repeat("!", 1000))
	if got := a.warnings(); len(got) != 1 || !strings.HasPrefix(got[0], "counters: disk full") || len(got[0]) > maxWarning {
		t.Errorf("warnings: %v", got)
	}
	w := httptest.NewRecorder()
	promhttp.HandlerFor(a.metrics, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{`cardea_part_healthy{part="counters"} 0`, `cardea_part_healthy{part="bus"} 1`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestNoBackendIsOneOfOurPorts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cfg  config.Config
		want []int
	}{
		"embedded database": {config.Config{Offset: 1, Listen: config.Listen{Node: 9445}}, []int{9445, 4223}},
		"postgres":          {config.Config{Listen: config.Listen{Node: 9444}, Database: config.Database{Postgres: true, URL: "postgres://u:p@localhost/x"}}, []int{9444, 4222, 5432}},
		"postgres elsewhere, and the bus": {config.Config{
			Listen: config.Listen{Node: 9444}, Bus: config.Bus{Listen: "127.0.0.1:7422"},
			Database: config.Database{Postgres: true, URL: "postgres://u:p@127.0.0.1:6543/x"},
		}, []int{9444, 4222, 7422, 6543}},
		"postgres by parameters": {config.Config{Database: config.Database{Postgres: true, URL: "postgres:///x?host=127.0.0.1&port=6543"}}, []int{0, 4222, 6543}},
		"postgres by IPv6":       {config.Config{Database: config.Database{Postgres: true, URL: "postgresql://u:p@[::1]:6543/x"}}, []int{0, 4222, 6543}},
		"several postgres":       {config.Config{Database: config.Database{Postgres: true, URL: "postgres://u:p@127.0.0.1:6543,127.0.0.1:6544/x"}}, []int{0, 4222, 6543, 6544}},
	} {
		a := &App{cfg: &c.cfg}
		if got := a.ownPorts(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// An API whose backend is the database of the process is not called: the rule
// of ownPorts reaches the gateway.
func TestTheDatabaseIsNoBackend(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	port := databasePorts(url)[0]
	r := run(t, "cardea.database.url", url)
	e := r.settle(user("admin", "admin"), "dbport", "http://127.0.0.1:"+strconv.Itoa(port))
	key := func(q *http.Request) { q.Header.Set("Internal-Key", e.secrets["internal key"]) }
	status, body := r.ask(key, "GET", r.gw+"/dbport/1.0.0/a", nil)
	// Anything else would be what PostgreSQL says to HTTP.
	if status != http.StatusInternalServerError || !strings.Contains(string(body), `"code":"101503"`) {
		t.Errorf("%d %s, want 500 with code 101503", status, body)
	}
}

// The sample backend on the https port is certified by home's own authority.
func TestBackendsOfOurAuthorityAreTrusted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, err := pki.EnsureCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.ServerCertificate(dir, []string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.TLS = cert.TLS()
	srv.StartTLS()
	defer srv.Close()
	a := &App{ca: ca}
	roots, err := a.upstreamRoots()
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost"}}}
	res, err := c.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}
