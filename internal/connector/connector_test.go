package connector

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest/fetch"
)

// server is another key manager that notes what it is asked.
type server struct {
	*httptest.Server
	asked []string // METHOD path authorization
	body  map[string]any
	say   func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

func newServer(t *testing.T) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.asked = append(s.asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		if s.say != nil && s.say(w, r) {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"access_token":"management","expires_in":60}`)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			s.body = nil
			if len(b) > 0 && json.Unmarshal(b, &s.body) != nil {
				t.Errorf("%s %s: body %q", r.Method, r.URL.Path, b)
			}
			_, _ = io.WriteString(w, `{"client_id":"made","client_secret":"new","grant_types":["client_credentials"]}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) manager(kind string, settings map[string]string) *Manager {
	t, _ := TypeOf(kind)
	return &Manager{Name: "other", kind: t, Settings: settings, Endpoints: map[string]string{
		"clientRegistrationEndpoint": s.URL + "/clients", "tokenEndpoint": s.URL + "/token", "revokeEndpoint": s.URL + "/revoke",
	}}
}

var open = New(fetch.New(fetch.Options{Loopback: true}))

// TestTypes has each type make, change, rotate and remove a client, and looks
// at where it asks and with what authority.
func TestTypes(t *testing.T) {
	const ask = "POST /token Basic aWQ6c2VjcmV0"
	for _, c := range []struct {
		kind     string
		settings map[string]string
		want     []string // registering
		change   string
		rotate   string // empty: it cannot
	}{
		{kind: "custom", want: []string{"POST /clients "}, change: "PUT /clients/made "},
		{kind: "custom", settings: map[string]string{"initial_access_token": "init"}, want: []string{"POST /clients Bearer init"}, change: "PUT /clients/made Bearer init"},
		{kind: "custom", settings: map[string]string{"client_id": "id", "client_secret": "secret"}, want: []string{ask, "POST /clients Bearer management"}, change: "PUT /clients/made Bearer management"},
		{kind: "KeyCloak", settings: map[string]string{"client_id": "id", "client_secret": "secret"}, want: []string{ask, "POST /clients Bearer management"}, change: "PUT /clients/made Bearer management"},
		{kind: "Forgerock", settings: map[string]string{"client_id": "id", "client_secret": "secret"}, want: []string{ask, "POST /clients Bearer management"}, change: "PUT /clients/made Bearer management"},
		{kind: "Asgardeo", settings: map[string]string{"client_id": "id", "client_secret": "secret"}, want: []string{ask, "POST /clients Bearer management"}, change: "PUT /clients/made Bearer management"},
		{kind: "WSO2-IS", settings: map[string]string{"Username": "u", "Password": "p"}, want: []string{"POST /clients Basic dTpw"}, change: "PUT /clients/made Basic dTpw"},
		{kind: "WSO2-IS-7", settings: map[string]string{"Username": "u", "Password": "p"}, want: []string{"POST /clients Basic dTpw"}, change: "PUT /clients/made Basic dTpw"},
		{kind: "PingFederate", settings: map[string]string{"username": "u", "password": "p"}, want: []string{"POST /clients Basic dTpw"}, change: "PUT /clients/made Basic dTpw"},
		{kind: "Okta", settings: map[string]string{"apiKey": "key", "client_id": "id", "client_secret": "secret"}, want: []string{"POST /clients SSWS key"}, change: "PUT /clients/made SSWS key", rotate: "POST /clients/made/lifecycle/newSecret SSWS key"},
		{kind: "Auth0", settings: map[string]string{"client_id": "id", "client_secret": "secret", "audience": "/api/v2/"}, want: []string{ask, "POST /api/v2/clients Bearer management"}, change: "PATCH /api/v2/clients/made Bearer management", rotate: "POST /api/v2/clients/made/rotate-secret Bearer management"},
	} {
		t.Run(c.kind, func(t *testing.T) {
			s := newServer(t)
			if a := c.settings["audience"]; a != "" {
				c.settings["audience"] = s.URL + a
			}
			m := s.manager(c.kind, c.settings)
			client, err := open.Register(t.Context(), m, &Client{Name: "app", Grants: []string{"client_credentials"}})
			if err != nil || client.ID != "made" || client.Secret != "new" || !reflect.DeepEqual(s.asked, c.want) {
				t.Fatalf("register: %+v, %v\nasked %q\nwant  %q", client, err, s.asked, c.want)
			}
			if s.body["client_name"] != "app" && s.body["name"] != "app" {
				t.Errorf("registered %v", s.body)
			}
			if _, err = open.Update(t.Context(), m, client); err != nil || s.asked[len(s.asked)-1] != c.change {
				t.Errorf("update: %v, asked %q, want %q", err, s.asked[len(s.asked)-1], c.change)
			}
			_, err = open.Rotate(t.Context(), m, client)
			switch {
			case c.rotate == "" && !errors.Is(err, &fault.BadRequest):
				t.Errorf("rotate: %v", err)
			case c.rotate != "" && (err != nil || s.asked[len(s.asked)-1] != c.rotate):
				t.Errorf("rotate: %v, asked %q, want %q", err, s.asked[len(s.asked)-1], c.rotate)
			}
			if err := open.Delete(t.Context(), m, client); err != nil {
				t.Errorf("delete: %v", err)
			}
		})
	}
}

// TestManagementAddress: the address and the token that came with a client are
// used, but never on another host.
func TestManagementAddress(t *testing.T) {
	s := newServer(t)
	m := s.manager("custom", nil)
	for at, want := range map[string]string{
		s.URL + "/own/1":           "DELETE /own/1 Bearer mine",
		"http://evil.test/x":       "DELETE /clients/made Bearer mine",
		"file:///etc/passwd":       "DELETE /clients/made Bearer mine",
		"":                         "DELETE /clients/made Bearer mine",
		"https" + s.URL[4:] + "/s": "DELETE /clients/made Bearer mine",
	} {
		if err := open.Delete(t.Context(), m, &Client{ID: "made", URL: at, Access: "mine"}); err != nil {
			t.Errorf("%s: %v", at, err)
		}
		if got := s.asked[len(s.asked)-1]; got != want {
			t.Errorf("%s: asked %q, want %q", at, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := newServer(t)
	m := s.manager("custom", nil)
	var status int
	var body string
	s.say = func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   *fault.Error
		text   string
	}{
		{"what it says is told", 400, `{"error":"invalid_redirect_uri","error_description":"no\u0000way\r\n"}`, &fault.BadRequest, "invalid_redirect_uri: no way"},
		{"a long text is cut", 400, `{"error":"x","error_description":"` + strings.Repeat("y", 5000) + `"}`, &fault.BadRequest, "x: yyy"},
		{"not allowed", 401, `{"error":"invalid_token"}`, &fault.KMFailed, "invalid_token"},
		{"an error there", 500, `<html>`, &fault.KMFailed, "status 500"},
		{"a redirect is not followed", 302, ``, &fault.KMFailed, "status 302"},
		{"no JSON", 201, `<html>`, &fault.KMFailed, "no JSON"},
		{"no client", 201, `{}`, &fault.KMFailed, "client_id"},
		{"a client id that would leave its path", 201, `{"client_id":"../admin"}`, &fault.KMFailed, "client_id"},
		{"too much", 201, `{"client_id":"` + strings.Repeat("a", answerLimit) + `"}`, &fault.KMFailed, "reached"},
	} {
		status, body = c.status, c.body
		_, err := open.Register(t.Context(), m, &Client{Name: "app"})
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || !errors.Is(err, c.want) || !strings.Contains(f.Detail, c.text) || len(f.Detail) > 500 || strings.ContainsAny(f.Detail, "\r\n\x00") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestAddressesAreGuarded: no configured address leads where users may not send us.
func TestAddressesAreGuarded(t *testing.T) {
	s := newServer(t)
	closed := New(fetch.New(fetch.Options{}))
	m := s.manager("custom", map[string]string{"client_id": "id", "client_secret": "secret"})
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"register": func() error { _, err := closed.Register(ctx, m, &Client{Name: "a"}); return err },
		"update":   func() error { _, err := closed.Update(ctx, m, &Client{ID: "a", Access: "x"}); return err },
		"delete":   func() error { return closed.Delete(ctx, m, &Client{ID: "a", Access: "x"}) },
		"token":    func() error { _, err := closed.Token(ctx, m, "id", "secret", nil); return err },
		"revoke":   func() error { return closed.Revoke(ctx, m, "id", "secret", "t") },
		"discover": func() error { _, _, err := closed.Discover(ctx, s.URL, "custom"); return err },
	} {
		if err := call(); !errors.Is(err, &fault.BadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(s.asked) > 0 {
		t.Errorf("reached: %q", s.asked)
	}
}

func TestDiscover(t *testing.T) {
	s := newServer(t)
	doc := ""
	s.say = func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = io.WriteString(w, doc)
		return true
	}
	for _, bad := range []string{"", "<html>", "[]", `{"issuer":"x"}`, `{"token_endpoint":"x"}`} {
		doc = bad
		if _, ok, err := open.Discover(t.Context(), s.URL, "custom"); ok || err != nil {
			t.Errorf("%q: %v, %v", bad, ok, err)
		}
	}
	doc = `{"issuer":"i","token_endpoint":"t","jwks_uri":"j","revocation_endpoint":"r","registration_endpoint":"g","grant_types_supported":["client_credentials"]}`
	km, ok, err := open.Discover(t.Context(), s.URL, "Okta")
	if err != nil || !ok || km.Issuer != "i" || km.Endpoints["displayTokenEndpoint"] != "t" || km.Endpoints["clientRegistrationEndpoint"] != "g" ||
		km.ConsumerKeyClaim != "cid" || km.ScopesClaim != "scp" || string(km.Certificates) != `{"type":"JWKS","value":"j"}` {
		t.Errorf("got %+v, %v, %v", km, ok, err)
	}
}

func TestSettingsAreOpened(t *testing.T) {
	km := &apim.KeyManager{Name: "n", Type: "Okta", Properties: map[string]string{"client_id": "id"}, Secrets: map[string]apim.Sealed{"apiKey": "sealed"}}
	m, err := Of(km, func(s string) ([]byte, error) { return []byte("clear of " + s), nil })
	if err != nil || m.Settings["apiKey"] != "clear of sealed" || m.Settings["client_id"] != "id" {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := Of(km, func(string) ([]byte, error) { return nil, io.ErrUnexpectedEOF }); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an unreadable secret: %v", err)
	}
	if _, err := Of(&apim.KeyManager{Type: "default"}, nil); !errors.Is(err, &fault.KMUnsupported) {
		t.Errorf("the resident type: %v", err)
	}
}
