package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/cardea-apim/cardea/internal/token"
)

// compatBrowser lets golang.org/x/oauth2 and go-oidc drive the code flow with
// PKCE; a person is played by plain HTTP that sends the pages' own forms.
func compatBrowser(t *testing.T, w *world) {
	const callback = "http://127.0.0.1:1/callback"
	ctx := oidc.ClientContext(context.WithValue(t.Context(), oauth2.HTTPClient, Insecure), Insecure)
	base := w.node.Management()
	provider := must[*oidc.Provider](t)(oidc.NewProvider(ctx, base+"/oauth2/token"))
	var found struct {
		Methods []string `json:"code_challenge_methods_supported"`
		End     string   `json:"end_session_endpoint"`
		PAR     string   `json:"pushed_authorization_request_endpoint"`
		Iss     bool     `json:"authorization_response_iss_parameter_supported"`
	}
	ok(t, provider.Claims(&found))
	if len(found.Methods) == 0 || !found.Iss || found.End == "" || found.PAR == "" {
		t.Errorf("discovery lacks something: %+v", found)
	}
	id, secret := registerBrowserClient(t, base, callback)
	conf := &oauth2.Config{ClientID: id, ClientSecret: secret, Endpoint: provider.Endpoint(), RedirectURL: callback, Scopes: []string{"openid", "profile"}}
	jar := must[*cookiejar.Jar](t)(cookiejar.New(nil))
	person := &http.Client{Transport: Insecure.Transport, Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), callback) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	verifier := oauth2.GenerateVerifier()
	at := throughForms(t, person, conf.AuthCodeURL("the state", oidc.Nonce("the nonce"), oauth2.S256ChallengeOption(verifier)))
	if at.Query().Get("state") != "the state" || at.Query().Get("iss") != base+"/oauth2/token" {
		t.Fatalf("answered at %s", at)
	}
	code := at.Query().Get("code")
	if _, err := conf.Exchange(ctx, code, oauth2.VerifierOption(oauth2.GenerateVerifier())); err == nil {
		t.Error("another verifier redeemed the code")
	}
	tok := must[*oauth2.Token](t)(conf.Exchange(ctx, code, oauth2.VerifierOption(verifier)))
	raw := idToken(t, tok)
	verified := must[*oidc.IDToken](t)(provider.Verifier(&oidc.Config{ClientID: id}).Verify(ctx, raw))
	ok(t, verified.VerifyAccessToken(tok.AccessToken))
	if verified.Nonce != "the nonce" {
		t.Errorf("nonce %q", verified.Nonce)
	}
	info := must[*oidc.UserInfo](t)(provider.UserInfo(ctx, oauth2.StaticTokenSource(tok)))
	if info.Subject != verified.Subject {
		t.Errorf("userinfo is about %q, the id token about %q", info.Subject, verified.Subject)
	}
	stale := *tok
	stale.Expiry = stale.Expiry.AddDate(-1, 0, 0)
	fresh := must[*oauth2.Token](t)(conf.TokenSource(ctx, &stale).Token())
	if fresh.RefreshToken == tok.RefreshToken {
		t.Error("the refresh token was not changed")
	}

	// The session signs in without a form; a replay of its code ends what it gave.
	verifier = oauth2.GenerateVerifier()
	at = throughForms(t, person, conf.AuthCodeURL("s", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", "none")))
	second := must[*oauth2.Token](t)(conf.Exchange(ctx, at.Query().Get("code"), oauth2.VerifierOption(verifier)))
	if _, err := conf.Exchange(ctx, at.Query().Get("code"), oauth2.VerifierOption(verifier)); err == nil {
		t.Error("a code was redeemed twice")
	}
	if _, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(second)); err == nil {
		t.Error("the access token outlived the replay of its code")
	}

	t.Run("pushed", func(t *testing.T) {
		verifier := oauth2.GenerateVerifier()
		request := must[*url.URL](t)(url.Parse(conf.AuthCodeURL("pushed", oauth2.S256ChallengeOption(verifier))))
		form := request.Query()
		form.Set("client_secret", secret)
		var pushed struct {
			URI string `json:"request_uri"`
		}
		res := must[*http.Response](t)(Insecure.PostForm(found.PAR, form))
		readJSON(t, res, &pushed)
		at := throughForms(t, person, provider.Endpoint().AuthURL+"?"+url.Values{"client_id": {id}, "request_uri": {pushed.URI}}.Encode())
		must[*oauth2.Token](t)(conf.Exchange(ctx, at.Query().Get("code"), oauth2.VerifierOption(verifier)))
	})
	t.Run("signed out", func(t *testing.T) {
		out := throughForms(t, person, found.End+"?"+url.Values{"id_token_hint": {raw}, "post_logout_redirect_uri": {callback}, "state": {"bye"}}.Encode())
		if out.Query().Get("state") != "bye" {
			t.Errorf("sent to %s", out)
		}
		at := throughForms(t, person, conf.AuthCodeURL("s", oauth2.SetAuthURLParam("prompt", "none")))
		if at.Query().Get("error") != "login_required" {
			t.Errorf("still signed in: %s", at)
		}
	})
}

func registerBrowserClient(t *testing.T, base, callback string) (id, secret string) {
	t.Helper()
	body := `{"clientName":"browser_` + token.NewSecret()[:8] + `","owner":"admin","grantType":"authorization_code refresh_token","callbackUrl":"` + callback + `","saasApp":false}`
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/client-registration/v0.17/register", strings.NewReader(body)))
	req.SetBasicAuth("admin", "admin")
	req.Header.Set("Content-Type", "application/json")
	var out struct {
		ID     string `json:"clientId"`
		Secret string `json:"clientSecret"`
	}
	readJSON(t, must[*http.Response](t)(Insecure.Do(req)), &out)
	return out.ID, out.Secret
}

// readJSON reads an answer that must be a success.
func readJSON(t *testing.T, res *http.Response, into any) {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	ok(t, err)
	ok(t, res.Body.Close())
	if res.StatusCode/100 != 2 {
		t.Fatalf("answer %d %s", res.StatusCode, b)
	}
	ok(t, json.Unmarshal(b, into))
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]+)"`)
	formHidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)
)

// throughForms goes to an address as a browser, signs in as admin and consents
// where it is asked, and returns where the client is answered.
func throughForms(t *testing.T, person *http.Client, target string) *url.URL {
	t.Helper()
	res := must[*http.Response](t)(person.Get(target))
	for range 4 {
		b, err := io.ReadAll(res.Body)
		ok(t, err)
		ok(t, res.Body.Close())
		if res.StatusCode == http.StatusFound {
			return must[*url.URL](t)(res.Location())
		}
		action := formAction.FindSubmatch(b)
		if res.StatusCode != http.StatusOK || action == nil {
			t.Fatalf("%s: %d %s", res.Request.URL, res.StatusCode, b)
		}
		form := url.Values{"consent": {"approve"}}
		for _, m := range formHidden.FindAllSubmatch(b, -1) {
			form.Set(string(m[1]), string(m[2]))
		}
		if strings.Contains(string(b), `type="password"`) {
			form.Set("username", "admin")
			form.Set("password", "admin")
		}
		res = must[*http.Response](t)(person.PostForm(must[*url.URL](t)(res.Request.URL.Parse(string(action[1]))).String(), form))
	}
	t.Fatal("the forms do not end")
	return nil
}
