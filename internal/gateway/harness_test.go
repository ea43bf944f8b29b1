package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
	"github.com/cardea-apim/cardea/internal/gateway/report"
	"github.com/cardea-apim/cardea/internal/http1"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/throttle"
	"github.com/cardea-apim/cardea/internal/token"
)

const (
	issuer = "https://localhost:9443/oauth2/token"
	tenant = "carbon.super"
)

var signingKey = func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}()

// world is a gateway with everything around it.
type world struct {
	t       testing.TB
	g       *Gateway
	signer  *token.Signer
	limiter *throttle.Limiter
	records *records
	engine  *http1.Server
	seq     uint64
}

// records keeps what was reported.
type records struct {
	mu   sync.Mutex
	list []report.Record
}

func (r *records) Report(rec *report.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, *rec)
}

func (r *records) last() report.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.list) == 0 {
		return report.Record{Source: noSource}
	}
	return r.list[len(r.list)-1]
}

// echo answers what it was sent.
type echo struct{ status int }

type echoed struct {
	Method, Target, Host, Body string
	Header                     map[string][]string
}

func (e echo) Send(_ context.Context, r *proxy.Request, res *proxy.Response) error {
	out := echoed{Method: r.Method, Target: r.Target, Host: r.Host, Header: map[string][]string{}}
	for _, f := range r.Header {
		k := http.CanonicalHeaderKey(f.Name)
		out.Header[k] = append(out.Header[k], f.Value)
	}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		out.Body = string(b)
	}
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	status := e.status
	if status == 0 {
		status = 200
	}
	*res = proxy.Response{
		Status: status, Header: exchange.Header{{Name: "Content-Type", Value: "application/json"}, {Name: "X-Backend", Value: "yes"}},
		Body: io.NopCloser(strings.NewReader(string(body))), Len: int64(len(body)),
	}
	return nil
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	signer, err := token.NewSigner(signingKey, []byte("certificate"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, signer: signer, limiter: throttle.New(throttle.Options{}), records: &records{}}
	o := Options{
		Log: slog.New(slog.DiscardHandler), Name: "gw1", DecisionKey: []byte("0123456789abcdef"),
		Limiter: w.limiter, Reporter: w.records, Upstream: echo{},
	}
	for _, fn := range change {
		fn(&o)
	}
	if w.g, err = New(o); err != nil {
		t.Fatal(err)
	}
	w.engine = &http1.Server{Handler: w.g.Serve}
	t.Cleanup(func() { w.engine.Close(); w.g.Close() })
	return w
}

func item(t testing.TB, k snapshot.Kind, id, env string, body any) snapshot.Item {
	t.Helper()
	it, err := snapshot.Make(snapshot.Key{Kind: k, ID: id, Env: env}, body)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// apply takes items in and fails the test when one does not compile.
func (w *world) apply(full bool, items ...snapshot.Item) {
	w.t.Helper()
	w.seq++
	if failed := w.g.Apply(full, snapshot.Version{Epoch: 1, Seq: w.seq}, items); len(failed) > 0 {
		w.t.Fatalf("items did not compile: %v", failed)
	}
}

// pizza is an API with something of everything.
func pizza() snapshot.API {
	return snapshot.API{
		ID: "api-1", Tenant: tenant, Name: "Pizza", Version: "1.0", Type: "HTTP", State: "PUBLISHED",
		Context: "/pizza/1.0", BaseContext: "/pizza", Transports: []string{"http", "https"},
		Security: snapshot.Security{OAuth2: true, APIKey: true}, KeyManagers: []string{"all"},
		Production: []snapshot.Endpoint{{URL: "http://backend.test/base"}},
		Sandbox:    []snapshot.Endpoint{{URL: "http://sandbox.test"}},
		Operations: []snapshot.Operation{
			{Target: "/menu", Verb: "GET", Auth: "Any"},
			{Target: "/menu", Verb: "POST", Auth: "Any"},
			{Target: "/open", Verb: "GET", Auth: "None"},
			{Target: "/open", Verb: "POST", Auth: "None"},
			{Target: "/order/{id}", Verb: "GET", Auth: "Any", Scopes: []string{"order_read", "admin"}},
			{Target: "/order/{id}", Verb: "DELETE", Auth: "Application User"},
			{Target: "/app", Verb: "GET", Auth: "Application"},
			{Target: "/limited", Verb: "GET", Auth: "Any", Policy: "2PerMin"},
			{Target: "/options", Verb: "OPTIONS", Auth: "None"},
			{Target: "/options", Verb: "GET", Auth: "None"},
			{Target: "/files/*", Verb: "GET", Auth: "None"},
			{Target: "/files/*", Verb: "PUT", Auth: "None"},
		},
	}
}

func (w *world) resident() snapshot.Item {
	set, err := token.NewKeySet(w.signer.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	return item(w.t, snapshot.KindKeyManager, "km-1", "", snapshot.KeyManager{
		ID: "km-1", Tenant: tenant, Global: true, Name: "Resident Key Manager", Enabled: true, Resident: true, Issuer: issuer, JWKS: set.JWKS(),
	})
}

// base is what surrounds an API: key manager, application, keys, subscription, policies.
func (w *world) base() []snapshot.Item {
	t := w.t
	min := func(n int64) snapshot.Limit { return snapshot.Limit{Count: n, Window: time.Minute} }
	return []snapshot.Item{
		w.resident(),
		item(t, snapshot.KindApplication, "app-1", "", snapshot.Application{ID: "app-1", Tenant: tenant, Name: "Phone", Owner: "alice", Policy: "Unlimited"}),
		item(t, snapshot.KindApplication, "app-2", "", snapshot.Application{ID: "app-2", Tenant: tenant, Name: "Other", Owner: "bob", Policy: "Unlimited"}),
		item(t, snapshot.KindKey, "km-1/key-1", "", snapshot.KeyMapping{ConsumerKey: "key-1", KeyManager: "km-1", Application: "app-1", KeyType: "PRODUCTION"}),
		item(t, snapshot.KindKey, "km-1/key-sand", "", snapshot.KeyMapping{ConsumerKey: "key-sand", KeyManager: "km-1", Application: "app-1", KeyType: "SANDBOX"}),
		item(t, snapshot.KindKey, "km-1/key-2", "", snapshot.KeyMapping{ConsumerKey: "key-2", KeyManager: "km-1", Application: "app-2", KeyType: "PRODUCTION"}),
		item(t, snapshot.KindSubscription, "app-1/api-1", "", subscription("UNBLOCKED", "Unlimited")),
		item(t, snapshot.KindAPIPolicy, tenant+"/2PerMin", "", snapshot.Policy{Tenant: tenant, Name: "2PerMin", Limit: min(2), StopOnQuota: true}),
		item(t, snapshot.KindTenant, tenant, "", snapshot.Tenant{Domain: tenant, Active: true}),
		item(t, snapshot.KindTenant, "shop.com", "", snapshot.Tenant{Domain: "shop.com", Active: true}),
		item(t, snapshot.KindEnvironment, "Default", "", snapshot.Environment{Name: "Default", Type: "hybrid"}),
		item(t, snapshot.KindAPIKey, token.Hash("good-key"), "", snapshot.APIKey{ID: "k1", Name: "k1", API: "api-1", Application: "app-1", KeyType: "PRODUCTION", User: "alice"}),
	}
}

func subscription(state, policy string) snapshot.Subscription {
	return snapshot.Subscription{ID: "sub-1", Tenant: tenant, Application: "app-1", API: "api-1", Policy: policy, State: state}
}

func (w *world) api(a snapshot.API) snapshot.Item {
	return item(w.t, snapshot.KindAPI, a.ID, "Default", a)
}

// serve makes the usual world: pizza, after change, and all around it.
func pizzeria(t testing.TB, change func(*snapshot.API), options ...func(*Options)) *world {
	t.Helper()
	w := newWorld(t, options...)
	a := pizza()
	if change != nil {
		change(&a)
	}
	w.apply(true, append(w.base(), w.api(a))...)
	return w
}

// token signs claims; change may alter them.
func (w *world) token(change ...func(*token.Claims)) string {
	w.t.Helper()
	now := time.Now()
	c := &token.Claims{
		Issuer: issuer, Subject: "alice", ID: "jti-1", Audience: []string{"key-1"}, AuthorizedParty: "key-1", ClientID: "key-1",
		Aut: token.AutApplication, Scope: "default", IssuedAt: now.Add(-time.Minute), NotBefore: now.Add(-time.Minute), Expires: now.Add(time.Hour),
	}
	for _, fn := range change {
		fn(c)
	}
	s, err := w.signer.Sign(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// do sends one request through the engine, without a network. headers are
// "Name: value".
func (w *world) do(method, target string, body string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	host, rest := "localhost:8280", ""
	for _, h := range headers {
		if name, value, _ := strings.Cut(h, ": "); name == "Host" {
			host = value
			continue
		}
		rest += h + "\r\n"
	}
	if body != "" {
		rest += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	in := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n%s", method, target, host, rest, body)
	line := &wire{in: strings.NewReader(in)}
	w.engine.ServeConn(line)
	res, err := http.ReadResponse(bufio.NewReader(&line.out), &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("answer to %s %s: %v", method, target, err)
	}
	rec := httptest.NewRecorder()
	rec.Code = res.StatusCode
	for name, values := range res.Header {
		rec.Header()[name] = values
	}
	if _, err := rec.Body.ReadFrom(res.Body); err != nil {
		w.t.Fatalf("answer to %s %s: %v", method, target, err)
	}
	return rec
}

// wire is a client's connection with all it says known before.
type wire struct {
	net.Conn
	in  *strings.Reader
	out bytes.Buffer
}

func (l *wire) Read(p []byte) (int, error)       { return l.in.Read(p) }
func (l *wire) Write(p []byte) (int, error)      { return l.out.Write(p) }
func (l *wire) Close() error                     { return nil }
func (l *wire) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (l *wire) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5555} }
func (l *wire) SetDeadline(time.Time) error      { return nil }
func (l *wire) SetReadDeadline(time.Time) error  { return nil }
func (l *wire) SetWriteDeadline(time.Time) error { return nil }

func (w *world) get(target string, headers ...string) *httptest.ResponseRecorder {
	w.t.Helper()
	return w.do("GET", target, "", headers...)
}

func bearerOf(t string) string { return "Authorization: Bearer " + t }

// backendSaw decodes what the echo backend was sent.
func backendSaw(t testing.TB, rec *httptest.ResponseRecorder) echoed {
	t.Helper()
	var e echoed
	if rec.Code != 200 {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	return e
}
