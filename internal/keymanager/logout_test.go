package keymanager_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestLogout(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "ann")
	w.user(apim.SuperTenant, "bob")
	c, secret := codeClient(w, func(c *apim.Client) { c.SkipConsent = true })
	in := func(user string) (*browser, string) {
		b := w.browser()
		code := b.signIn(ask(c), user, "password", "").Query().Get("code")
		m := w.granted(c, secret, "grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
		return b, m["id_token"].(string)
	}
	signedIn := func(b *browser) bool {
		return b.do("GET", ask(c, "prompt", "none"), nil).location(t).Query().Get("code") != ""
	}
	ann, id := in("ann")
	bob, _ := in("bob")
	handle := ann.cookies["commonAuthId"]
	out := "/oidc/logout?" + query("id_token_hint", id, "post_logout_redirect_uri", callback, "state", "x y").Encode()
	w.clock.add(2 * time.Hour) // the id token is old by now
	if page := bob.do("GET", out, nil); page.status != http.StatusOK || !signedIn(bob) {
		t.Errorf("the token of somebody else signs out: %d", page.status)
	}
	if to := ann.do("GET", out, nil).location(t); to.String() != callback+"?state=x+y" {
		t.Errorf("sent to %s", to)
	}
	ann.cookies["commonAuthId"] = handle
	if signedIn(ann) {
		t.Error("the handle is good after the sign-out")
	}
	page := bob.do("GET", "/oidc/logout", nil)
	m := field.FindStringSubmatch(page.body)
	if m == nil || !signedIn(bob) {
		t.Fatalf("no question: %s", page.body)
	}
	bob.do("POST", "/oidc/logout", query("confirm", "guess"))
	if !signedIn(bob) {
		t.Error("a guessed confirmation signs out")
	}
	if page := bob.do("POST", "/oidc/logout", query("confirm", m[2])); page.status != http.StatusOK || signedIn(bob) {
		t.Errorf("confirmed: %d %s", page.status, page.body)
	}
	for name, v := range map[string]url.Values{
		"unregistered":   query("id_token_hint", id, "post_logout_redirect_uri", "https://evil.example/"),
		"without client": query("post_logout_redirect_uri", callback),
		"forged hint":    query("id_token_hint", id+"x", "post_logout_redirect_uri", callback),
		"other client":   query("id_token_hint", id, "client_id", "other", "post_logout_redirect_uri", callback),
	} {
		if to := w.browser().do("GET", "/oidc/logout?"+v.Encode(), nil).location(t); !strings.HasSuffix(to.Path, "oauth2_error.do") {
			t.Errorf("%s: %s", name, to)
		}
	}
}
