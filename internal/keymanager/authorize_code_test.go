package keymanager_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

func TestCodeRefused(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "ann")
	c, secret := codeClient(w, func(c *apim.Client) { c.SkipConsent = true })
	other, otherSecret := codeClient(w, nil)
	b := w.browser()
	code := b.signIn(ask(c), "ann", "password", "").Query().Get("code")
	form := func(change ...string) []string {
		v := query("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier)
		for i := 0; i < len(change); i += 2 {
			v.Set(change[i], change[i+1])
		}
		var out []string
		for name, list := range v {
			out = append(out, name, list[0])
		}
		return out
	}
	refused := func(name string, a reply, text string) {
		t.Helper()
		m := a.json(t)
		if a.status != http.StatusBadRequest || m["error"] != "invalid_grant" || m["error_description"] != text {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	refused("unknown", w.token(c, secret, form("code", "x")...), "Invalid authorization code received from token request")
	refused("another client", w.token(other, otherSecret, form()...), "Invalid authorization code received from token request")
	refused("redirect", w.token(c, secret, form("redirect_uri", callback+"2")...), "Callback url mismatch")
	refused("verifier", w.token(c, secret, form("code_verifier", verifier+"x")...), "PKCE validation failed")
	refused("no verifier", w.token(c, secret, form("code_verifier", "")...), "PKCE validation failed")
	w.granted(c, secret, form()...) // none of these spent it

	code = b.do("GET", ask(c), nil).location(t).Query().Get("code")
	w.clock.add(6 * time.Minute)
	refused("late", w.token(c, secret, form()...), "Expired or Revoked authorization code received from token request")

	code = b.do("GET", ask(c, "code_challenge", "", "code_challenge_method", ""), nil).location(t).Query().Get("code")
	refused("a verifier without a challenge", w.token(c, secret, form()...), "PKCE validation failed")

	code = b.do("GET", ask(c), nil).location(t).Query().Get("code")
	w.clock.add(time.Second)
	w.must(w.dir.SetPassword(w.ctx, apim.SuperTenant, "ann", "password2"))
	refused("after a password reset", w.token(c, secret, form()...), "Expired or Revoked authorization code received from token request")
	if at := b.do("GET", ask(c, "prompt", "none"), nil).location(t); at.Query().Get("error") != "login_required" {
		t.Errorf("the session outlives a password reset: %s", at)
	}
}

// TestCodeRace redeems one code twenty times at once: one wins, and the others
// end what it was given.
func TestCodeRace(t *testing.T) {
	for name, database := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "db") },
		"postgres": func(t *testing.T) string { pgtest.Admin(t); return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOn(t, database(t))
			w.user(apim.SuperTenant, "ann")
			c, secret := codeClient(w, func(c *apim.Client) { c.SkipConsent = true })
			code := w.browser().signIn(ask(c), "ann", "password", "").Query().Get("code")
			body := query("grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier).Encode()
			var won atomic.Int32
			var tokens sync.Map
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					r := httptest.NewRequestWithContext(w.ctx, "POST", "/oauth2/token", strings.NewReader(body))
					r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
					r.Header.Set("Authorization", basicOf(string(c.ID), secret))
					rec := httptest.NewRecorder()
					w.h.ServeHTTP(rec, r)
					switch rec.Code {
					case http.StatusOK:
						won.Add(1)
						tokens.Store("won", rec.Body.String())
					case http.StatusBadRequest:
						if !strings.Contains(rec.Body.String(), "Inactive authorization code") {
							t.Errorf("a loser was told %s", rec.Body)
						}
					default:
						t.Errorf("answer %d %s", rec.Code, rec.Body)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Fatalf("%d winners", won.Load())
			}
			given, _ := tokens.Load("won")
			m := reply{body: given.(string)}.json(t)
			if _, err := w.call("Bearer " + m["access_token"].(string)); err == nil {
				t.Error("the access token outlived the replay of its code")
			}
			if a := w.token(c, secret, "grant_type", "refresh_token", "refresh_token", m["refresh_token"].(string)); a.status != http.StatusBadRequest {
				t.Errorf("the refresh token outlived the replay of its code: %d", a.status)
			}
		})
	}
}

// TestCodeOfOpaqueClient gives opaque tokens for a code, which end with its replay.
func TestCodeOfOpaqueClient(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "ann")
	c, secret := codeClient(w, func(c *apim.Client) { c.SkipConsent, c.TokenType = true, "OAUTH" })
	code := w.browser().signIn(ask(c), "ann", "password", "").Query().Get("code")
	form := []string{"grant_type", "authorization_code", "code", code, "redirect_uri", callback, "code_verifier", verifier}
	m := w.granted(c, secret, form...)
	bearer := "Bearer " + m["access_token"].(string)
	if a := w.do("GET", "/oauth2/userinfo", "", "Authorization", bearer); a.status != http.StatusOK || strings.Contains(bearer, ".") {
		t.Fatalf("userinfo of %s: %d %s", bearer, a.status, a.body)
	}
	if a := w.token(c, secret, form...); a.status != http.StatusBadRequest {
		t.Errorf("replay: %d %s", a.status, a.body)
	}
	if a := w.do("GET", "/oauth2/userinfo", "", "Authorization", bearer); a.status != http.StatusUnauthorized {
		t.Errorf("the token outlived the replay: %d", a.status)
	}
}

// TestPublicClient redeems with PKCE in the place of a secret.
func TestPublicClient(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "ann")
	c, _ := codeClient(w, func(c *apim.Client) { c.SkipConsent, c.Public, c.PKCEMandatory = true, true, true })
	code := w.browser().signIn(ask(c), "ann", "password", "").Query().Get("code")
	redeem := func(verifier string) reply {
		return w.do("POST", "/oauth2/token", query("grant_type", "authorization_code", "client_id", string(c.ID), "code", code, "redirect_uri", callback, "code_verifier", verifier).Encode())
	}
	if a := redeem(strings.Repeat("x", 43)); a.status != http.StatusBadRequest {
		t.Errorf("a guessed verifier: %d %s", a.status, a.body)
	}
	first := redeem(verifier)
	if first.status != http.StatusOK {
		t.Fatalf("redeem: %d %s", first.status, first.body)
	}
	// Who has only the code cannot end what its owner was given.
	if a := redeem(strings.Repeat("x", 43)); a.status != http.StatusBadRequest {
		t.Errorf("a thief: %d %s", a.status, a.body)
	}
	if _, err := w.call("Bearer " + first.json(t)["access_token"].(string)); err != nil {
		t.Errorf("a thief ended the token: %v", err)
	}
	if a := redeem(verifier); a.status != http.StatusBadRequest {
		t.Errorf("replay: %d %s", a.status, a.body)
	}
	if _, err := w.call("Bearer " + first.json(t)["access_token"].(string)); err == nil {
		t.Error("the token outlived the replay")
	}
}
