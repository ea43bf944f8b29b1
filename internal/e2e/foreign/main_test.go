// Package foreign proves the gateway with clients, servers and conformance
// suites that nobody here wrote: h2spec, curl, gRPC, Node.js, nginx, HAProxy,
// wrk and h2load. All tests share one process of the real binary; each has an
// API of its own.
package foreign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

func TestMain(m *testing.M) {
	if target := os.Getenv(h2specTarget); target != "" {
		os.Exit(h2specChild(target))
	}
	code := m.Run()
	if shared.node != nil {
		shared.node.Kill()
		if code != 0 {
			out := shared.node.Output()
			fmt.Printf("log of the node at offset %d:\n%s\n", shared.node.Offset, out[max(0, len(out)-6000):])
		}
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir) // a leftover in the temporary folder harms nobody
	}
	e2e.Cleanup()
	os.Exit(code)
}

var long = os.Getenv("CARDEA_LONG") != ""

// world is the process under test, its administrator and a token that every
// secured API accepts once the application has subscribed to it.
type world struct {
	*e2e.Process
	admin *e2e.Client
	app   *e2e.App
	token string
	cert  certificate // of the backends that speak TLS; the gateway trusts it
}

var shared struct {
	once sync.Once
	dir  string
	node *e2e.Process
	w    *world
	err  error
}

// gateway starts the process with the first test that needs it.
func gateway(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() { shared.w, shared.err = start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.w
}

func start() (*world, error) {
	ctx := context.Background() // the process outlives the test that starts it
	var err error
	if shared.dir, err = os.MkdirTemp("", "cardea-foreign-"); err != nil {
		return nil, err
	}
	w := &world{}
	if w.cert, err = newCertificate(shared.dir); err != nil {
		return nil, err
	}
	shared.node, err = e2e.Start(ctx, e2e.Node{Home: filepath.Join(shared.dir, "home"), Env: []string{"SSL_CERT_FILE=" + w.cert.file}})
	if err != nil {
		return nil, err
	}
	w.Process = shared.node
	if w.admin, err = e2e.Login(ctx, w.Management(), "admin", "admin"); err != nil {
		return nil, err
	}
	if w.app, err = w.admin.NewApp(ctx, "foreign", "Unlimited"); err != nil {
		return nil, err
	}
	w.token, err = w.admin.AppToken(ctx, w.app, "")
	return w, err
}

// anything is an API whose operations take every path.
const anything = `{"openapi": "3.0.1", "info": {"title": "Anything", "version": "1"}, "paths": {"/*": {` +
	`"get": {"responses": {"200": {"description": "ok"}}}, "head": {"responses": {"200": {"description": "ok"}}}, ` +
	`"post": {"responses": {"200": {"description": "ok"}}}, "put": {"responses": {"200": {"description": "ok"}}}}}}`

// open is a definition whose operations need no token.
func open(definition string) string {
	return strings.ReplaceAll(definition, `{"responses"`, `{"x-auth-type": "None", "responses"`)
}

// publish makes an API of a definition, subscribes the application, and returns
// its id and its path on the gateway.
func (w *world) publish(t *testing.T, name, definition, backend string) (id, path string) {
	t.Helper()
	path = "/foreign/" + strings.ToLower(name)
	id, err := w.admin.Import(t.Context(), e2e.NewAPI{Definition: []byte(definition), Name: name, Version: "1.0.0", Context: path, Backend: backend})
	ok(t, err)
	ok(t, w.admin.Publish(t.Context(), id))
	if !strings.Contains(definition, `"x-auth-type": "None"`) {
		_, err = w.admin.Subscribe(t.Context(), w.app.ID, id, "Unlimited")
		ok(t, err)
	}
	return id, path + "/1.0.0"
}

// counted waits until analytics knows as many calls of an API, and checks that
// it does not know more.
func (w *world) counted(t *testing.T, api string, requests, errors int) {
	t.Helper()
	if gotRequests, gotErrors := w.totals(t, api, requests); gotRequests != requests || gotErrors != errors {
		t.Errorf("counted %d requests and %d errors, want %d and %d", gotRequests, gotErrors, requests, errors)
	}
}

// countedBetween is counted where a client does not know exactly how many calls
// it began; none of those that it completed may be counted as an error.
func (w *world) countedBetween(t *testing.T, api string, least, most int) {
	t.Helper()
	if requests, errors := w.totals(t, api, least); requests < least || requests > most || requests-errors < least {
		t.Errorf("counted %d requests and %d errors, want %d to %d requests", requests, errors, least, most)
	}
}

// totals asks until analytics knows at least as many calls.
func (w *world) totals(t *testing.T, api string, least int) (requests, errors int) {
	t.Helper()
	var got struct{ Requests, Errors int }
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		ok(t, w.admin.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/analytics/totals?from=-1h&api="+url.QueryEscape(api), nil, &got))
		if got.Requests >= least || time.Now().After(deadline) {
			return got.Requests, got.Errors
		}
	}
}

// certificate signs itself, for localhost and 127.0.0.1.
type certificate struct {
	file, key string // PEM
	pair      tls.Certificate
}

func newCertificate(dir string) (certificate, error) {
	c := certificate{file: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return c, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}}, key.Public(), key)
	if err != nil {
		return c, err
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return c, err
	}
	cp, kp := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
	if err := os.WriteFile(c.file, cp, 0o600); err != nil {
		return c, err
	}
	if err := os.WriteFile(c.key, kp, 0o600); err != nil {
		return c, err
	}
	c.pair, err = tls.X509KeyPair(cp, kp)
	return c, err
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		ok(t, err)
		return v
	}
}
