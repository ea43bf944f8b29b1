package keymanager_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestResponseTypes(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "ann")
	c, secret := codeClient(w, func(c *apim.Client) { c.SkipConsent = true })
	b := w.browser()
	b.signIn(ask(c), "ann", "password", "")
	for kind, members := range map[string][]string{
		"token": {"access_token", "token_type", "expires_in", "scope"}, "id_token": {"id_token"},
		"id_token token": {"access_token", "id_token"}, "token id_token": {"access_token", "id_token"},
		"code token": {"code", "access_token"}, "code id_token": {"code", "id_token"},
		"code id_token token": {"code", "id_token", "access_token"}, "none": {},
	} {
		at := b.do("GET", ask(c, "response_type", kind), nil).location(t)
		v := at.Query()
		if kind != "none" {
			if at.RawQuery != "" {
				t.Errorf("%s: answered in the query: %s", kind, at)
			}
			v, _ = url.ParseQuery(at.Fragment)
		}
		for _, name := range []string{"code", "access_token", "id_token"} {
			if v.Has(name) != slices.Contains(members, name) {
				t.Errorf("%s: member %s: %s", kind, name, at)
			}
		}
		for _, name := range members {
			if v.Get(name) == "" {
				t.Errorf("%s: no %s", kind, name)
			}
		}
		if id := v.Get("id_token"); id != "" {
			_, body := claimsOf(t, id)
			if strings.Contains(body, `"c_hash"`) != v.Has("code") || strings.Contains(body, `"at_hash"`) != v.Has("access_token") {
				t.Errorf("%s: %s", kind, body)
			}
		}
		if code := v.Get("code"); code != "" {
			w.granted(c, secret, "grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
		}
	}
	page := b.do("GET", ask(c, "response_mode", "form_post"), nil)
	if page.status != http.StatusOK || !strings.Contains(page.body, `action="`+callback+`"`) || !strings.Contains(page.body, `name="code"`) ||
		!strings.Contains(page.header.Get("Content-Security-Policy"), "form-action 'self' https://app.example;") {
		t.Errorf("form_post: %v %s", page.header, page.body)
	}
}

func TestRedirects(t *testing.T) {
	w := newWorld(t)
	for name, x := range map[string]struct {
		registered, asked string
		ok                bool
	}{
		"literal":             {callback, callback, true},
		"case":                {callback, "https://app.example/CB", false},
		"added query":         {callback, callback + "?x=1", false},
		"user info":           {callback, "https://app.example@evil.example/cb", false},
		"list":                {"https://a.example/x,https://b.example/y", "https://b.example/y", true},
		"alternatives":        {"regexp=(https://a.example/x|https://b.example/y)", "https://b.example/y", true},
		"a dot is no joker":   {"regexp=(https://a.example/x|https://b.example/y)", "https://bxexample/y", false},
		"pattern":             {`regexp=https://a\.example/[a-z]+`, "https://a.example/abc", true},
		"anchored":            {`regexp=https://a\.example/[a-z]+`, "https://a.example/abc/../d", false},
		"anchored start":      {`regexp=https://a\.example/[a-z]+`, "https://evil.example/https://a.example/abc", false},
		"alternation":         {`regexp=https://a\.example/x.*|https://b\.example/`, "https://b.example/evil", false},
		"pattern, dangerous":  {"regexp=.*", "javascript:alert(1)", false},
		"pattern, fragment":   {"regexp=.*", "https://a.example/#x", false},
		"pattern, back slash": {"regexp=.*", `https://a.example\@evil.example/`, false},
		"loopback port":       {"http://127.0.0.1/cb", "http://127.0.0.1:4711/cb", true},
		"loopback path":       {"http://127.0.0.1/cb", "http://127.0.0.1:4711/cd", false},
		"loopback name":       {"http://localhost/cb", "http://localhost:4711/cb", false},
		"other port":          {"https://a.example/cb", "https://a.example:4711/cb", false},
		"private scheme":      {"com.example.app:/cb", "com.example.app:/cb", true},
		"no scheme":           {"www.example.org", "www.example.org", false},
	} {
		c, _ := codeClient(w, func(c *apim.Client) { c.Callback = x.registered })
		to := w.browser().do("GET", ask(c, "redirect_uri", x.asked, "prompt", "none"), nil).header.Get("Location")
		if ok := strings.HasPrefix(to, x.asked+"?"); ok != x.ok {
			t.Errorf("%s: %s", name, to)
		}
	}
}
