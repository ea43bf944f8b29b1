package keymanager_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/keymanager"
)

const (
	callback = "https://app.example/cb"
	verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
)

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// browser keeps cookies and follows nothing by itself.
type browser struct {
	w       *world
	cookies map[string]string
}

func (w *world) browser() *browser { return &browser{w, map[string]string{}} }

func (b *browser) do(method, target string, form url.Values) reply {
	b.w.t.Helper()
	list := make([]string, 0, len(b.cookies))
	for name, value := range b.cookies {
		list = append(list, name+"="+value)
	}
	a := b.w.do(method, target, form.Encode(), "Cookie", strings.Join(list, "; "))
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
			b.w.t.Errorf("cookie %s is not guarded: %s", c.Name, c)
		}
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return a
}

func query(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if v.Set(pairs[i], pairs[i+1]); pairs[i+1] == "" {
			v.Del(pairs[i])
		}
	}
	return v
}

// ask is an authorization request of the client, with changes.
func ask(c *apim.Client, change ...string) string {
	v := query("client_id", string(c.ID), "redirect_uri", callback, "response_type", "code", "state", "s t", "scope", "openid profile",
		"code_challenge", challenge(), "code_challenge_method", "S256", "nonce", "n1")
	for i := 0; i < len(change); i += 2 {
		if v.Set(change[i], change[i+1]); change[i+1] == "" {
			v.Del(change[i])
		}
	}
	return "/oauth2/authorize?" + v.Encode()
}

var field = regexp.MustCompile(`name="(sessionDataKey|sessionDataKeyConsent|confirm)" value="([^"]+)"`)

// location is where an answer sends the browser.
func (a reply) location(t testing.TB) *url.URL {
	t.Helper()
	if a.status != http.StatusFound {
		t.Fatalf("answer %d, want a redirect: %s", a.status, a.body)
	}
	u, err := url.Parse(a.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// signIn drives a request by its forms, as a person would, up to the answer to
// the client.
func (b *browser) signIn(target, user, password, consent string) *url.URL {
	t := b.w.t
	t.Helper()
	at := b.do("GET", target, nil).location(t)
	for range 6 {
		if at.Host != "" || strings.HasSuffix(at.Path, "oauth2_error.do") {
			return at
		}
		page := b.do("GET", at.String(), nil)
		if page.status == http.StatusFound {
			at = page.location(t)
			continue
		}
		if csp := page.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "script-src") {
			t.Errorf("%s has the policy %q", at.Path, csp)
		}
		m := field.FindStringSubmatch(page.body)
		if page.status != http.StatusOK || m == nil {
			t.Fatalf("page %s: %d %s", at, page.status, page.body)
		}
		form := query(m[1], m[2])
		to := "/commonauth"
		if m[1] == "sessionDataKey" {
			form.Set("username", user)
			form.Set("password", password)
		} else {
			to = "/oauth2/authorize"
			form.Set("consent", consent)
		}
		prefix, _, _ := strings.Cut(at.Path, "/authenticationendpoint/")
		at = b.do("POST", prefix+to, form).location(t)
		if at.Query().Get("authFailure") != "" {
			return at
		}
	}
	t.Fatal("the flow does not end")
	return nil
}

func codeClient(w *world, change func(*apim.Client)) (*apim.Client, string) {
	return w.client("admin", func(c *apim.Client) {
		c.Grants = []string{"authorization_code", "implicit", "refresh_token"}
		c.Callback = callback
		if change != nil {
			change(c)
		}
	})
}

func TestCodeFlow(t *testing.T) {
	w := newWorld(t)
	u := w.user(apim.SuperTenant, "ann", "Internal/subscriber")
	c, secret := codeClient(w, nil)
	b := w.browser()
	at := b.signIn(ask(c), "ann", "password", "approve")
	v := at.Query()
	if !strings.HasPrefix(at.String(), callback+"?") || v.Get("state") != "s t" || v.Get("iss") != "https://localhost:9443/oauth2/token" || v.Get("session_state") == "" {
		t.Fatalf("answered at %s", at)
	}
	got := w.granted(c, secret, "grant_type", "authorization_code", "code", v.Get("code"), "redirect_uri", callback, "code_verifier", verifier)
	_, body := claimsOf(t, got["id_token"].(string))
	for _, want := range []string{`"sub":"` + string(u.ID) + `"`, `"nonce":"n1"`, `"auth_time":1800000000`, `"sid":`, `"at_hash":`, `"preferred_username":"ann"`} {
		if !strings.Contains(body, want) {
			t.Errorf("id token %s lacks %s", body, want)
		}
	}
	if got["scope"] != "openid profile" || got["refresh_token"] == nil {
		t.Errorf("token answer %v", got)
	}
	info := w.do("GET", "/oauth2/userinfo", "", "Authorization", "Bearer "+got["access_token"].(string)).json(t)
	if info["sub"] != string(u.ID) || info["preferred_username"] != "ann" {
		t.Errorf("userinfo %v", info)
	}

	// The session signs in again without a form; what was allowed once is asked again.
	first := b.do("GET", ask(c), nil).location(t)
	if !strings.HasSuffix(first.Path, "oauth2_consent.do") {
		t.Errorf("sent to %s, want the consent page", first)
	}
	b.signIn(ask(c), "", "", "approveAlways")
	if at := b.do("GET", ask(c, "prompt", "none"), nil).location(t); at.Query().Get("code") == "" {
		t.Errorf("a remembered consent is asked again: %s", at)
	}
	if at := b.do("GET", ask(c, "prompt", "none", "scope", "openid email"), nil).location(t); at.Query().Get("error") != "consent_required" {
		t.Errorf("more scopes than allowed: %s", at)
	}
	if at := b.signIn(ask(c, "prompt", "consent"), "", "", "deny"); at.Query().Get("error") != "access_denied" || at.Query().Get("state") != "s t" {
		t.Errorf("denied: %s", at)
	}
	w.clock.add(time.Minute)
	for name, change := range map[string][]string{"prompt": {"prompt", "login"}, "age": {"max_age", "30"}} {
		at := b.do("GET", ask(c, change...), nil).location(t)
		if !strings.HasSuffix(at.Path, "login.do") {
			t.Errorf("%s: sent to %s, want the sign-in page", name, at)
		}
		if at = b.signIn(ask(c, change...), "ann", "password", ""); at.Query().Get("code") == "" {
			t.Errorf("%s: %s", name, at)
		}
		w.clock.add(time.Minute)
	}
	w.clock.add(9 * time.Hour)
	if at := b.do("GET", ask(c, "prompt", "none"), nil).location(t); at.Query().Get("error") != "login_required" {
		t.Errorf("after the session's end: %s", at)
	}
}

func TestSignInRefused(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "ann")
	c, _ := codeClient(w, func(c *apim.Client) { c.SkipConsent = true })
	b := w.browser()
	at := b.signIn(ask(c, "login_hint", `"><script>`), "ann", "wrong", "")
	if at.Query().Get("authFailure") != "true" || b.cookies["commonAuthId"] != "" {
		t.Fatalf("wrong password: %s", at)
	}
	page := b.do("GET", at.String(), nil)
	if strings.Contains(page.body, "<script") || !strings.Contains(page.body, "is wrong") {
		t.Errorf("page %s", page.body)
	}
	// The form of one browser is worthless in another (login CSRF).
	key := at.Query().Get("sessionDataKey")
	stolen := w.browser().do("POST", "/commonauth", query("sessionDataKey", key, "username", "ann", "password", "password"))
	if to := stolen.location(t); !strings.HasSuffix(to.Path, "oauth2_error.do") || len(stolen.header.Values("Set-Cookie")) != 0 {
		t.Errorf("another browser was let in: %s", to)
	}
	// A planted session handle is not taken over.
	b.cookies["commonAuthId"] = "planted"
	b.do("POST", "/commonauth", query("sessionDataKey", key, "username", "ann", "password", "password"))
	if b.cookies["commonAuthId"] == "planted" {
		t.Error("the handle was not changed at sign-in")
	}
	before := b.cookies["commonAuthId"]
	b.signIn(ask(c, "prompt", "login"), "ann", "password", "")
	if b.cookies["commonAuthId"] == before {
		t.Error("the handle was not changed at the second sign-in")
	}
	old := w.browser()
	old.cookies["commonAuthId"] = before
	if at := old.do("GET", ask(c, "prompt", "none"), nil).location(t); at.Query().Get("error") != "login_required" {
		t.Errorf("the former handle is still good: %s", at)
	}
	// Guessing is slowed down.
	for range 6 {
		at = b.signIn(ask(c, "prompt", "login"), "ann", "wrong", "")
	}
	if at.Query().Get("authFailureMsg") != "login.delayed" {
		t.Errorf("after many failures: %s", at)
	}
}

func TestAuthorizeErrors(t *testing.T) {
	w := newWorld(t)
	c, _ := codeClient(w, nil)
	strict, _ := codeClient(w, func(c *apim.Client) {
		c.PKCEMandatory, c.PKCEPlain, c.Grants = true, true, []string{"authorization_code"}
	})
	gone, _ := codeClient(w, func(c *apim.Client) { c.Inactive = true })
	for name, x := range map[string]struct{ target, code, text string }{
		"no client":       {ask(c, "client_id", ""), "invalid_request", "Client Id is not present in the authorization request"},
		"unknown client":  {ask(c, "client_id", "nobody"), "invalid_client", "A valid OAuth client could not be found for client_id: nobody"},
		"inactive client": {ask(gone), "invalid_client", "Oauth application is not in active state."},
		"no redirect":     {ask(c, "redirect_uri", ""), "invalid_request", "Redirect URI is not present in the authorization request"},
		"other redirect":  {ask(c, "redirect_uri", callback+"/x"), "invalid_callback", "callback.not.match"},
		"repeated":        {ask(c) + "&state=x", "invalid_request", "Invalid authorization request with repeated parameters"},
		"lost":            {"/oauth2/authorize?sessionDataKey=x", "invalid_request", "Invalid authorization request"},
		"unknown pushed":  {ask(c, "request_uri", "urn:ietf:params:oauth:request_uri:x"), "invalid_request_uri", "The request_uri is unknown, used or expired."},
	} {
		to := w.browser().do("GET", x.target, nil).location(t)
		v := to.Query()
		if to.Host != "" || to.Path != "/authenticationendpoint/oauth2_error.do" || v.Get("oauthErrorCode") != x.code || v.Get("oauthErrorMsg") != x.text {
			t.Errorf("%s: %s", name, to)
		}
		if page := w.do("GET", to.String(), ""); page.status != http.StatusBadRequest || !strings.Contains(page.body, x.code) {
			t.Errorf("%s: page %d %s", name, page.status, page.body)
		}
	}
	for name, x := range map[string]struct{ target, code string }{
		"no type":            {ask(c, "response_type", ""), "invalid_request"},
		"unknown type":       {ask(c, "response_type", "code magic"), "unsupported_response_type"},
		"grant missing":      {ask(strict, "response_type", "token"), "unauthorized_client"},
		"mode":               {ask(c, "response_mode", "pigeon"), "invalid_request"},
		"tokens in query":    {ask(c, "response_type", "token", "response_mode", "query"), "invalid_request"},
		"no nonce":           {ask(c, "response_type", "id_token", "nonce", ""), "invalid_request"},
		"no PKCE":            {ask(strict, "code_challenge", "", "code_challenge_method", ""), "invalid_request"},
		"PKCE method":        {ask(c, "code_challenge_method", "S512"), "invalid_request"},
		"PKCE plain":         {ask(c, "code_challenge_method", "plain"), "invalid_request"},
		"PKCE default plain": {ask(c, "code_challenge_method", ""), "invalid_request"},
		"PKCE malformed":     {ask(c, "code_challenge", "short"), "invalid_request"},
		"method alone":       {ask(c, "code_challenge", ""), "invalid_request"},
		"request object":     {ask(c, "request", "x.y.z"), "request_not_supported"},
		"request_uri":        {ask(c, "request_uri", "https://evil.example/r"), "request_uri_not_supported"},
		"none and login":     {ask(c, "prompt", "none login"), "invalid_request"},
		"unknown prompt":     {ask(c, "prompt", "dance"), "invalid_request"},
		"max_age":            {ask(c, "max_age", "-1"), "invalid_request"},
		"foreign hint":       {ask(c, "id_token_hint", "a.e30.c"), "invalid_request"},
		"no session":         {ask(c, "prompt", "none"), "login_required"},
	} {
		to := w.browser().do("GET", x.target, nil).location(t)
		v := to.Query()
		if to.Fragment != "" {
			v, _ = url.ParseQuery(to.Fragment)
		}
		if !strings.HasPrefix(to.String(), callback) || v.Get("error") != x.code || v.Get("state") != "s t" || v.Get("iss") == "" || v.Get("error_description") == "" {
			t.Errorf("%s: %s", name, to)
		}
	}
}

// TestTenantsApart lets users of another tenant in only where the client is shared.
func TestTenantsApart(t *testing.T) {
	w := newWorld(t)
	c, _ := codeClient(w, func(c *apim.Client) { c.SkipConsent = true })
	shared, _ := codeClient(w, func(c *apim.Client) { c.SkipConsent, c.SaaS = true, true })
	_, err := w.dir.CreateTenant(w.ctx, identity.NewTenant{Domain: "t1.com", Admin: "carl", Password: "password", Email: "a@t1.com"})
	w.must(err)
	b := w.browser()
	if at := b.signIn(ask(c), "carl@t1.com", "password", ""); at.Query().Get("authFailure") != "true" {
		t.Errorf("a user of another tenant: %s", at)
	}
	if at := b.signIn("/t/t1.com"+ask(shared), "carl", "password", ""); at.Query().Get("code") == "" {
		t.Errorf("a shared client: %s", at)
	}
	if at := b.do("GET", ask(c, "prompt", "none"), nil).location(t); at.Query().Get("error") != "login_required" {
		t.Errorf("the session of another tenant: %s", at)
	}
}

func TestSwitchedOff(t *testing.T) {
	w := newWorld(t, func(o *keymanager.Options) { o.RefusedGrants = []string{"implicit", "authorization_code"} })
	c, secret := codeClient(w, nil)
	if at := w.browser().do("GET", ask(c), nil).location(t); at.Query().Get("error") != "unauthorized_client" {
		t.Errorf("answered %s", at)
	}
	if a := w.token(c, secret, "grant_type", "authorization_code", "code", "x"); a.json(t)["error"] != "unsupported_grant_type" {
		t.Errorf("answered %s", a.body)
	}
	if types := w.do("GET", "/.well-known/openid-configuration", "").json(t)["response_types_supported"].([]any); len(types) != 0 {
		t.Errorf("discovered %v", types)
	}
}

// TestTenantClient signs a tenant's user in at a client of the tenant, by its
// bare name, on the tenant's path and on the common one.
func TestTenantClient(t *testing.T) {
	w := newWorld(t)
	_, err := w.dir.CreateTenant(w.ctx, identity.NewTenant{Domain: "t1.com", Admin: "carl", Password: "password", Email: "a@t1.com"})
	w.must(err)
	c := &apim.Client{Name: "app", Owner: "carl", Grants: []string{"authorization_code"}, Callback: callback, TokenType: "JWT"}
	secret, err := w.km.CreateClient(w.ctx, apim.In("t1.com"), c)
	w.must(err)
	for _, prefix := range []string{"", "/t/t1.com"} {
		at := w.browser().signIn(prefix+ask(c), "carl", "password", "approve")
		m := w.granted(c, secret, "grant_type", "authorization_code", "code", at.Query().Get("code"), "redirect_uri", callback, "code_verifier", verifier)
		info := w.do("GET", prefix+"/oauth2/userinfo", "", "Authorization", "Bearer "+m["access_token"].(string)).json(t)
		if info["preferred_username"] != "carl@t1.com" {
			t.Errorf("%s: %v", prefix, info)
		}
	}
	if at := w.browser().signIn(ask(c), "admin", "admin", ""); at.Query().Get("authFailure") != "true" {
		t.Errorf("the super tenant's administrator: %s", at)
	}
	if page := w.do("GET", "/authenticationendpoint/login.do", ""); page.status != http.StatusFound {
		t.Errorf("the page without a request: %d", page.status)
	}
}
