package keymanager_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

func (w *world) introspect(raw string, header ...string) reply {
	w.t.Helper()
	return w.do("POST", "/oauth2/introspect", url.Values{"token": {raw}}.Encode(), append([]string{"Authorization", basicOf("admin", "admin")}, header...)...)
}

func TestOpaqueTokens(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "pub", "Internal/publisher")
	c, secret := w.client("admin", func(c *apim.Client) { c.TokenType = "OAUTH" })
	m := w.granted(c, secret, "grant_type", "password", "username", "pub", "password", "password", "scope", "apim:api_publish openid")
	raw := m["access_token"].(string)
	if strings.Contains(raw, ".") || len(raw) < 20 {
		t.Fatalf("not opaque: %s", raw)
	}
	if m["expires_in"] != 3600.0 || m["id_token"] == nil || m["refresh_token"] == nil {
		t.Errorf("answer: %v", m)
	}
	if _, err := w.db.Ephemera.Get(w.ctx, apim.EphemeralAccess, apim.Digest(raw)); err == nil {
		t.Error("the token is stored in clear")
	}
	a, err := w.call("Bearer " + raw)
	w.must(err)
	if a.User != "pub" || !a.HasScope("apim:api_publish") || a.HasScope("apim:api_create") {
		t.Errorf("caller: %+v", a)
	}
	d := w.introspect(raw).json(t)
	if d["active"] != true || d["token_type"] != "Bearer" || d["scope"] != "apim:api_publish openid" || d["client_id"] != string(c.ID) || d["username"] != "pub@carbon.super" || d["exp"].(float64)-d["iat"].(float64) != 3600 {
		t.Errorf("introspection: %v", d)
	}
	claims, err := w.km.Access(w.ctx, raw)
	w.must(err)
	if claims == nil || claims.ClientID != string(c.ID) || !claims.HasScope("openid") || claims.Type != token.TypeAccess {
		t.Errorf("for gateways: %+v", claims)
	}
	if u := w.do("GET", "/oauth2/userinfo", "", "Authorization", "Bearer "+raw); u.status != 200 {
		t.Errorf("userinfo: %d %s", u.status, u.body)
	}
}

func TestOpaqueTokensEnd(t *testing.T) {
	for name, end := range map[string]func(w *world, c *apim.Client, secret, raw string){
		"expired": func(w *world, _ *apim.Client, _, _ string) { w.clock.add(time.Hour) },
		"revoked": func(w *world, c *apim.Client, secret, raw string) {
			w.do("POST", "/oauth2/revoke", "token="+raw, "Authorization", basicOf(string(c.ID), secret))
		},
		"client deleted": func(w *world, c *apim.Client, _, _ string) {
			w.must(w.km.DeleteClient(w.ctx, apim.In(apim.SuperTenant), c.ID))
		},
		"user locked": func(w *world, _ *apim.Client, _, _ string) {
			w.must(w.dir.UpdateUser(w.ctx, apim.SuperTenant, mustUser(w, "pub").ID, func(u *apim.User) error { u.Locked = true; return nil }))
		},
		"password changed": func(w *world, _ *apim.Client, _, _ string) {
			w.clock.add(time.Second)
			w.must(w.dir.SetPassword(w.ctx, apim.SuperTenant, "pub", "another1"))
		},
		"client withdrawn": func(w *world, c *apim.Client, _, _ string) {
			w.must(w.km.UpdateClient(w.ctx, apim.In(apim.SuperTenant), withdrawn(w, c.ID)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.user(apim.SuperTenant, "pub", "Internal/publisher")
			c, secret := w.client("admin", func(c *apim.Client) { c.TokenType = "OAUTH" })
			raw := w.granted(c, secret, "grant_type", "password", "username", "pub", "password", "password")["access_token"].(string)
			if c, err := w.km.Access(w.ctx, raw); err != nil || c == nil {
				t.Fatalf("before: %v %v", c, err)
			}
			end(w, c, secret, raw)
			if c, err := w.km.Access(w.ctx, raw); err != nil || c != nil {
				t.Errorf("gateways are told %+v, %v", c, err)
			}
			if _, err := w.call("Bearer " + raw); err == nil {
				t.Error("it is still let in")
			}
			if d := w.introspect(raw); d.body != `{"active":false}` {
				t.Errorf("introspection: %s", d.body)
			}
		})
	}
}

func withdrawn(w *world, id apim.ClientID) *apim.Client {
	w.t.Helper()
	c, err := w.km.Client(w.ctx, apim.In(apim.SuperTenant), id)
	w.must(err)
	c.Inactive = true
	return c
}

func TestOpaqueTokensOfOthersAreNotRevoked(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", func(c *apim.Client) { c.TokenType = "OAUTH" })
	other, otherSecret := w.client("admin", nil)
	raw := w.granted(c, secret, "grant_type", "client_credentials")["access_token"].(string)
	if a := w.do("POST", "/oauth2/revoke", "token="+raw, "Authorization", basicOf(string(other.ID), otherSecret)); a.status != 200 {
		t.Errorf("revoke: %d %s", a.status, a.body)
	}
	if c, err := w.km.Access(w.ctx, raw); err != nil || c == nil {
		t.Errorf("another client's revocation: %v %v", c, err)
	}
	for name, bad := range map[string]string{"unknown": token.NewSecret(), "empty": "", "long": strings.Repeat("a", 10_000), "hash": string(token.Digest(raw))} {
		if c, err := w.km.Access(w.ctx, bad); err != nil || c != nil {
			t.Errorf("%s: %v %v", name, c, err)
		}
	}
}

func TestIntrospectionIsSignedWhenAsked(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", func(c *apim.Client) { c.TokenType = "OAUTH" })
	raw := w.granted(c, secret, "grant_type", "client_credentials")["access_token"].(string)
	a := w.introspect(raw, "Accept", "application/token-introspection+jwt, application/json;q=0.5")
	if a.header.Get("Content-Type") != "application/token-introspection+jwt" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	head, body := claimsOf(t, a.body)
	for _, want := range []string{`"typ":"token-introspection+jwt"`, `"token_introspection":{"active":true`, `"aud":"admin"`, `"iss":"https://localhost:9443/oauth2/token"`} {
		if !strings.Contains(head+body, want) {
			t.Errorf("no %s in %s %s", want, head, body)
		}
	}
	if _, err := w.call("Bearer " + a.body); err == nil {
		t.Error("an introspection passes as an access token")
	}
	if a := w.introspect(raw, "Accept", "application/json"); a.header.Get("Content-Type") != "application/json" {
		t.Errorf("JSON: %v", a.header)
	}
}
