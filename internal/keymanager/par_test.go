package keymanager_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestPAR(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "ann")
	c, secret := codeClient(w, func(c *apim.Client) { c.SkipConsent = true })
	other, _ := codeClient(w, nil)
	push := func(change ...string) reply {
		_, form, _ := strings.Cut(ask(c, change...), "?")
		return w.do("POST", "/oauth2/par", form, "Authorization", basicOf(string(c.ID), secret))
	}
	pushed := func() string {
		a := push()
		if a.status != http.StatusCreated || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("push: %d %s", a.status, a.body)
		}
		return a.json(t)["request_uri"].(string)
	}
	from := func(id apim.ClientID, uri string) string {
		return "/oauth2/authorize?" + query("client_id", string(id), "request_uri", uri).Encode()
	}
	uri := pushed()
	if at := w.browser().signIn(from(other.ID, uri), "ann", "password", ""); at.Query().Get("oauthErrorCode") != "invalid_request_uri" {
		t.Errorf("another client's name: %s", at)
	}
	if at := w.browser().signIn(from(c.ID, uri), "ann", "password", ""); at.Query().Get("code") == "" || at.Query().Get("state") != "s t" {
		t.Errorf("pushed: %s", at)
	}
	if at := w.browser().do("GET", from(c.ID, uri), nil).location(t); at.Query().Get("oauthErrorCode") != "invalid_request_uri" {
		t.Errorf("a second time: %s", at)
	}
	uri = pushed()
	w.clock.add(2 * time.Minute)
	if at := w.browser().do("GET", from(c.ID, uri), nil).location(t); at.Query().Get("oauthErrorCode") != "invalid_request_uri" {
		t.Errorf("late: %s", at)
	}
	for name, change := range map[string][]string{
		"redirect": {"redirect_uri", "https://evil.example/"}, "type": {"response_type", "x"}, "nested": {"request_uri", uri},
	} {
		if a := push(change...); a.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	_, form, _ := strings.Cut(ask(c), "?")
	if a := w.do("POST", "/oauth2/par", form); a.status != http.StatusUnauthorized {
		t.Errorf("without a secret: %d", a.status)
	}
}
