package connector

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest/fetch"
)

// Sender makes calls to configured addresses. *fetch.Client is one.
type Sender interface {
	Send(ctx context.Context, r *fetch.Request) (*fetch.Answer, error)
}

// Connector speaks to the key managers of others.
type Connector struct{ http Sender }

// New makes a connector that calls by s.
func New(s Sender) *Connector { return &Connector{http: s} }

// Manager is a key manager as its administrator configured it, with its
// secrets in clear.
type Manager struct {
	Name      string
	Endpoints map[string]string
	Settings  map[string]string
	kind      Type
}

// Of opens the settings of km. Open reads what is sealed.
func Of(km *apim.KeyManager, open func(sealed string) ([]byte, error)) (*Manager, error) {
	kind, ok := TypeOf(km.Type)
	if !ok {
		return nil, fault.KMUnsupported.Withf("Key Manager type %s is not known", km.Type)
	}
	m := &Manager{Name: km.Name, Endpoints: km.Endpoints, Settings: map[string]string{}, kind: kind}
	maps.Copy(m.Settings, km.Properties)
	for name, sealed := range km.Secrets {
		clear, err := open(string(sealed))
		if err != nil {
			return nil, fmt.Errorf("open setting %s of key manager %s: %w", name, km.Name, err)
		}
		m.Settings[name] = string(clear)
	}
	return m, nil
}

// answerLimit bounds what is read of an answer, in bytes.
const answerLimit = 1 << 20

// endpoint is a configured address.
func (m *Manager) endpoint(name string) (string, error) {
	if e := strings.TrimSpace(m.Endpoints[name]); e != "" && e != "none" {
		return e, nil
	}
	return "", fault.KMConnector.Withf("Key Manager %s has no %s", m.Name, name)
}

// call sends a request and reads a JSON answer into out, which may be nil.
func (c *Connector) call(ctx context.Context, m *Manager, method, address, authorization, mediaType string, body []byte, out any) error {
	h := http.Header{"Accept": {"application/json"}}
	if mediaType != "" {
		h.Set("Content-Type", mediaType)
	}
	if authorization != "" {
		h.Set("Authorization", authorization)
	}
	res, err := c.http.Send(ctx, &fetch.Request{Method: method, URL: address, Header: h, Body: body, Limit: answerLimit})
	if errors.Is(err, fetch.ErrRefused) {
		return fault.BadRequest.Withf("An address of the key manager %s is not allowed", m.Name)
	}
	if err != nil {
		return fault.KMFailed.Withf("Key Manager %s cannot be reached", m.Name).Because(err)
	}
	if res.Status < 200 || res.Status > 299 {
		return refusal(m, res)
	}
	if out == nil || res.Status == http.StatusNoContent {
		return nil
	}
	if err := json.Unmarshal(res.Body, out); err != nil {
		return fault.KMFailed.Withf("Key Manager %s answered with what is no JSON", m.Name).Because(err)
	}
	return nil
}

// refused is a refusal by the other side, with its status and error code.
type refused struct {
	status int
	code   string
	error
}

func (r refused) Unwrap() error { return r.error }

// refusal tells what the other side said no to. Its words are shown, bounded
// and without control characters: they name what to change.
func refusal(m *Manager, res *fetch.Answer) error {
	var e struct {
		Code string `json:"error"`
		Text string `json:"error_description"`
	}
	if json.Unmarshal(res.Body, &e) != nil {
		e.Code, e.Text = "", ""
	}
	said := strings.TrimSpace(tidy(e.Code) + ": " + tidy(e.Text))
	if e.Code == "" {
		said = fmt.Sprintf("status %d", res.Status)
	}
	var row error = fault.KMFailed.Withf("Key Manager %s refused: %s", m.Name, said)
	if res.Status == http.StatusBadRequest {
		row = fault.BadRequest.Withf("Key Manager %s refused: %s", m.Name, said)
	}
	return refused{res.Status, e.Code, row}
}

func tidy(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 300 {
		return string(r[:300])
	}
	return s
}

// Status is the HTTP status by which the other side refused, 0 of any other error.
func Status(err error) int {
	if r, ok := errors.AsType[refused](err); ok {
		return r.status
	}
	return 0
}

// authorization is what the registration endpoint of m wants to be shown.
func (c *Connector) authorization(ctx context.Context, m *Manager) (string, error) {
	s := m.Settings
	user, password := s["Username"], s["Password"]
	if user == "" {
		user, password = s["username"], s["password"]
	}
	how := m.kind.access
	if how == anyAccess {
		switch {
		case s["initial_access_token"] != "":
			return "Bearer " + s["initial_access_token"], nil
		case s["client_id"] != "" && s["client_secret"] != "":
			how = clientAccess
		case user != "":
			how = userAccess
		default:
			return "", nil // open registration
		}
	}
	switch how {
	case userAccess:
		if user == "" {
			return "", fault.KMConnector.Withf("Key Manager %s has no user for client registration", m.Name)
		}
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)), nil
	case sswsAccess:
		return "SSWS " + s["apiKey"], nil
	}
	form := url.Values{}
	if m.kind.scope != "" {
		form.Set("scope", m.kind.scope)
	}
	if m.kind.auth0 {
		form.Set("audience", s["audience"])
	}
	t, err := c.clientCredentials(ctx, m, s["client_id"], s["client_secret"], form)
	if err != nil {
		return "", err
	}
	return "Bearer " + t.Access, nil
}

// basic is the Basic credential of a client (RFC 6749 §2.3.1: both parts are
// form-encoded first).
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// Token is an access token of the other side.
type Token struct {
	Access   string
	Scopes   []string
	Validity time.Duration
}

// Token gets a client one by client credentials.
func (c *Connector) Token(ctx context.Context, m *Manager, id, secret string, scopes []string) (Token, error) {
	form := url.Values{}
	if len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	if a := m.Settings["token_audience"]; a != "" {
		form.Set("audience", a)
	}
	if r := m.Settings["token_resource"]; r != "" {
		form.Set("resource", r)
	}
	return c.clientCredentials(ctx, m, id, secret, form)
}

func (c *Connector) clientCredentials(ctx context.Context, m *Manager, id, secret string, form url.Values) (Token, error) {
	address, err := m.endpoint("tokenEndpoint")
	if err != nil {
		return Token{}, err
	}
	form.Set("grant_type", "client_credentials")
	var out struct {
		Access string      `json:"access_token"`
		Scope  string      `json:"scope"`
		Life   json.Number `json:"expires_in"`
	}
	if err := c.call(ctx, m, http.MethodPost, address, basic(id, secret), "application/x-www-form-urlencoded", []byte(form.Encode()), &out); err != nil {
		return Token{}, err
	}
	if out.Access == "" {
		return Token{}, fault.KMFailed.Withf("Key Manager %s answered without an access token", m.Name)
	}
	life, _ := out.Life.Float64() // unknown counts as 0
	if out.Scope == "" {
		out.Scope = form.Get("scope") // as asked for (RFC 6749 §5.1)
	}
	return Token{out.Access, strings.Fields(out.Scope), time.Duration(min(max(life, 0), 1<<31)) * time.Second}, nil
}

// Revoke makes a token of a client worthless (RFC 7009).
func (c *Connector) Revoke(ctx context.Context, m *Manager, id, secret, token string) error {
	address, err := m.endpoint("revokeEndpoint")
	if err != nil {
		return err
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	return c.call(ctx, m, http.MethodPost, address, basic(id, secret), "application/x-www-form-urlencoded", []byte(form.Encode()), nil)
}
