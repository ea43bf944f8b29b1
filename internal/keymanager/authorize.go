package keymanager

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// responseTypes are the response types served, their words in order.
var responseTypes = []string{"code", "token", "id_token", "id_token token", "code token", "code id_token", "code id_token token", "none"}

// stateLife is how long a person may take to sign in and consent.
const stateLife = 10 * time.Minute

// authRequest is an authorization request that was found good, as it is kept
// while the person signs in and consents.
type authRequest struct {
	Client    apim.ClientID `json:"client"`
	Redirect  string        `json:"redirect"`
	Type      string        `json:"type"`
	Mode      string        `json:"mode"`
	Scopes    []string      `json:"scopes,omitempty"`
	State     string        `json:"state,omitempty"`
	HasState  bool          `json:"has_state,omitempty"`
	Nonce     string        `json:"nonce,omitempty"`
	Challenge string        `json:"challenge,omitempty"`
	Plain     bool          `json:"plain,omitempty"`
	Prompt    []string      `json:"prompt,omitempty"`
	MaxAge    int64         `json:"max_age"` // seconds; -1: any
	Hint      string        `json:"hint,omitempty"`
	Subject   string        `json:"subject,omitempty"` // of the id_token_hint
	Tenant    apim.TenantID `json:"tenant"`            // of the path

	Browser apim.Digest `json:"browser,omitempty"` // of the cookie that binds it to a browser
	LoginAt time.Time   `json:"login_at,omitzero"` // when the person signed in for this request
	User    apim.UserID `json:"user,omitempty"`    // who is asked for consent
}

func (a *authRequest) wants(word string) bool { return slices.Contains(strings.Fields(a.Type), word) }

func (a *authRequest) prompts(word string) bool {
	return slices.Contains(a.Prompt, word)
}

// shownError is an error of the authorization endpoint that must not be sent to
// the client, because the client or its address is not known to be good.
type shownError struct{ code, text string }

func (e *shownError) Error() string { return e.code + ": " + e.text }

// sentError is an error that the client is told through the browser.
type sentError struct {
	req        *authRequest
	code, text string
}

func (e *sentError) Error() string { return e.code + ": " + e.text }

const (
	textLost     = "Invalid authorization request"
	textRepeated = "Invalid authorization request with repeated parameters"
)

// authorizeEndpoint is RFC 6749 §3.1 with OpenID Connect Core §3. A request
// with sessionDataKey comes back from the sign-in page, one with
// sessionDataKeyConsent from the consent page.
func (k *KeyManager) authorizeEndpoint(q *request) error {
	noStore(q.w)
	p, err := readParams(q)
	if err != nil {
		if errors.Is(err, errRepeated) {
			return k.showError(q, &shownError{"invalid_request", textRepeated})
		}
		return err
	}
	switch {
	case p["sessionDataKeyConsent"] != "":
		err = k.decided(q, p)
	case p["sessionDataKey"] != "":
		err = k.resumed(q, p["sessionDataKey"])
	default:
		var a *authRequest
		if a, err = k.newRequest(q, p); err == nil {
			err = k.proceed(q, "", a)
		}
	}
	if e, ok := errors.AsType[*shownError](err); ok {
		return k.showError(q, e)
	}
	if e, ok := errors.AsType[*sentError](err); ok {
		return k.send(q, e.req, url.Values{"error": {e.code}, "error_description": {e.text}})
	}
	return err
}

// newRequest validates the parameters of a request that begins, in the order
// of the reference: repeated parameters, client, its state, redirect URI, and
// then everything that the client itself may be told.
func (k *KeyManager) newRequest(q *request, p params) (*authRequest, error) {
	if uri := p["request_uri"]; strings.HasPrefix(uri, parPrefix) {
		return k.pushed(q, uri, p["client_id"])
	}
	return k.checkRequest(q.r.Context(), q.tenant, p)
}

// proceed takes a request as far as it gets without the person: to the sign-in
// page, to the consent page, or to its answer. key is of its stored form, empty
// while it has none.
func (k *KeyManager) proceed(q *request, key string, a *authRequest) error {
	ctx := q.r.Context()
	c, err := k.authorizeClient(ctx, string(a.Client))
	if err != nil {
		return err
	}
	s, u, err := k.sessionFor(q, c)
	if err != nil {
		return err
	}
	if s == nil || !k.fresh(a, s, c, u) {
		if a.prompts("none") {
			return &sentError{a, "login_required", "Authentication required"}
		}
		if key, err = k.keep(q, key, a); err != nil {
			return err
		}
		at := url.Values{"sessionDataKey": {key}, "relyingParty": {string(c.ID)}, "type": {"oidc"}}
		return k.redirect(q, k.page(q, "login.do")+"?"+at.Encode())
	}
	granted, err := k.grantScopes(ctx, c.Tenant, u.Tenant, k.o.Directory.RolesOf(u), a.Scopes)
	if err != nil {
		if e, ok := errors.AsType[*oauthError](err); ok {
			return &sentError{a, e.code, e.text}
		}
		return err
	}
	ask := !c.SkipConsent
	if ask && !a.prompts("consent") {
		known, err := k.consented(ctx, u, c, granted)
		if err != nil {
			return err
		}
		ask = !known
	}
	if a.prompts("consent") {
		ask = true
	}
	if ask {
		if a.prompts("none") {
			return &sentError{a, "consent_required", "Consent required"}
		}
		a.User = u.ID
		if key, err = k.keep(q, key, a); err != nil {
			return err
		}
		at := url.Values{"sessionDataKeyConsent": {key}}
		return k.redirect(q, k.page(q, "oauth2_consent.do")+"?"+at.Encode())
	}
	return k.finish(q, key, a, s, u, c, granted)
}

// fresh reports whether a session satisfies what the request says about the
// sign-in.
func (k *KeyManager) fresh(a *authRequest, s *session, c *apim.Client, u *apim.User) bool {
	if a.Subject != "" && a.Subject != k.subjectName(subject{client: c, userID: u.ID, tenant: u.Tenant}) {
		return false
	}
	if !a.LoginAt.IsZero() && !s.doc.AuthTime.Before(a.LoginAt) {
		return true
	}
	if a.prompts("login") || a.prompts("select_account") {
		return false
	}
	return a.MaxAge < 0 || k.o.Now().Sub(s.doc.AuthTime) <= time.Duration(min(a.MaxAge, 1<<31))*time.Second
}

// keep stores the request for the pages, bound to the browser by a cookie, and
// returns its key.
func (k *KeyManager) keep(q *request, key string, a *authRequest) (string, error) {
	now := k.o.Now()
	if key == "" {
		key = token.NewSecret()
		nonce := token.NewSecret()
		a.Browser = apim.Digest(token.Digest(nonce))
		http.SetCookie(q.w, k.cookie(nonceCookie+key, nonce, "/", int(stateLife/time.Second)))
	}
	doc, err := json.Marshal(a)
	if err != nil {
		return "", fmt.Errorf("keep authorization request: %w", err)
	}
	err = k.o.Ephemera.Put(q.r.Context(), &apim.Ephemeral{
		Kind: apim.EphemeralState, Hash: apim.Digest(token.Digest(key)), Tenant: a.Tenant, Client: string(a.Client),
		Created: now, Expires: now.Add(stateLife), Doc: doc,
	})
	if err != nil {
		return "", fmt.Errorf("keep authorization request: %w", err)
	}
	return key, nil
}

const nonceCookie = "sessionNonceCookie-"

// kept finds a stored request of this browser.
func (k *KeyManager) kept(q *request, key string) (*authRequest, error) {
	lost := &shownError{"invalid_request", textLost}
	if len(key) > 128 {
		return nil, lost
	}
	e, err := k.o.Ephemera.Get(q.r.Context(), apim.EphemeralState, apim.Digest(token.Digest(key)))
	if errors.Is(err, &fault.Missing) || (err == nil && !e.Used.IsZero()) {
		return nil, lost
	}
	if err != nil {
		return nil, fmt.Errorf("find authorization request: %w", err)
	}
	a := &authRequest{}
	if err := json.Unmarshal(e.Doc, a); err != nil {
		return nil, fmt.Errorf("read authorization request: %w", err)
	}
	cookie, err := q.r.Cookie(nonceCookie + key)
	if err != nil || !sameText(token.Digest(cookie.Value), string(a.Browser)) || a.Tenant != q.tenant || !k.o.Now().Before(e.Expires) {
		return nil, lost
	}
	return a, nil
}

// resumed goes on after the sign-in page.
func (k *KeyManager) resumed(q *request, key string) error {
	a, err := k.kept(q, key)
	if err != nil {
		return err
	}
	return k.proceed(q, key, a)
}
