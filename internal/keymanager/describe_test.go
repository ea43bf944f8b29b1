package keymanager_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/keymanager"
)

func introspect(w *world, auth, raw string) reply {
	w.t.Helper()
	return w.do("POST", "/oauth2/introspect", "token="+url.QueryEscape(raw), "Authorization", auth)
}

const inactive = `{"active":false}`

func TestIntrospectionDescribesTokens(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", nil)
	admin := basicOf("admin", "admin")
	m := w.granted(c, secret, "grant_type", "password", "username", "admin", "password", "admin", "scope", "apim:api_view")
	want := `{"active":true,"nbf":1800000000,"scope":"apim:api_view","username":"admin@carbon.super","token_type":"JWT","client_id":"CLIENT","iat":1800000000,"exp":1800003600,"aut":"APPLICATION_USER","aud":"CLIENT","jti":"UUID","sub":"UUID","iss":"https://localhost:9443/oauth2/token"}`
	for _, auth := range []string{admin, basicOf(string(c.ID), secret)} {
		if a := introspect(w, auth, m["access_token"].(string)); a.status != 200 || mask(a.body, c) != want {
			t.Errorf("access token: %d\n got %s\nwant %s", a.status, mask(a.body, c), want)
		}
	}
	want = `{"active":true,"nbf":1800000000,"scope":"apim:api_view","username":"admin@carbon.super","token_type":"Refresh","client_id":"CLIENT","iat":1800000000,"exp":1800086400,"aut":"APPLICATION_USER"}`
	if a := introspect(w, admin, m["refresh_token"].(string)); mask(a.body, c) != want {
		t.Errorf("refresh token:\n got %s\nwant %s", a.body, want)
	}
	for name, raw := range map[string]string{
		"unknown": "x", "malformed": "a.b.c", "long": strings.Repeat("a", 20_000), "id token": strings.Replace(m["access_token"].(string), "e", "f", 1),
	} {
		if a := introspect(w, admin, raw); a.status != 200 || a.body != inactive {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := introspect(w, admin, ""); a.status != 400 || a.body != `{"error":"Invalid input"}` {
		t.Errorf("no token: %d %s", a.status, a.body)
	}
	w.clock.add(time.Hour)
	if a := introspect(w, admin, m["access_token"].(string)); a.body != inactive {
		t.Errorf("expired: %s", a.body)
	}
}

func TestIntrospectionIsNotForEverybody(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "alice", "Internal/publisher")
	_, err := w.dir.CreateTenant(w.ctx, identity.NewTenant{Domain: "t1.com", Admin: "admin", Password: "secret", Email: "a@t1.com"})
	w.must(err)
	c, secret := w.client("admin", nil)
	for name, auth := range map[string]string{
		"nobody": "", "no permission": basicOf("alice", "password"), "wrong password": basicOf("admin", "x"),
		"wrong secret": basicOf(string(c.ID), "x"), "admin of another tenant": basicOf("admin@t1.com", "secret"),
		"bearer without the scope": "Bearer " + w.granted(c, secret, "grant_type", "client_credentials")["access_token"].(string),
	} {
		if a := introspect(w, auth, "x"); a.status != 401 || !strings.Contains(a.body, "invalid_client") {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	a := w.do("POST", "/t/t1.com/oauth2/introspect", "token=x", "Authorization", basicOf("admin@t1.com", "secret"))
	if a.status != 200 || a.body != inactive {
		t.Errorf("tenant path with the tenant's admin: %d %s", a.status, a.body)
	}
	a = w.do("POST", "/t/t1.com/oauth2/introspect", "token=x", "Authorization", basicOf("admin", "admin"))
	if a.status != 401 {
		t.Errorf("tenant path with the super admin: %d %s", a.status, a.body)
	}
}

// The answer of a revocation waits for the gateways, once, and only when there
// is something to tell them.
func TestRevocationIsAwaited(t *testing.T) {
	var awaited [][]int64
	w := newWorld(t, func(o *keymanager.Options) {
		o.Await = func(_ context.Context, changes []int64) { awaited = append(awaited, changes) }
	})
	c, secret := w.client("admin", nil)
	raw := w.granted(c, secret, "grant_type", "client_credentials")["access_token"].(string)
	for _, tok := range []string{"x", raw} {
		if a := w.do("POST", "/oauth2/revoke", "token="+tok, "Authorization", basicOf(string(c.ID), secret)); a.status != 200 {
			t.Errorf("revoke: %d %s", a.status, a.body)
		}
	}
	if len(awaited) != 1 || len(awaited[0]) == 0 {
		t.Errorf("waited for %v, want the changes of the one real token", awaited)
	}
}

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", nil)
	other, otherSecret := w.client("admin", nil)
	revoke := func(c *apim.Client, secret, raw string) reply {
		return w.do("POST", "/oauth2/revoke", "token="+raw+"&token_type_hint=access_token", "Authorization", basicOf(string(c.ID), secret))
	}
	login := func() (access, refresh string) {
		m := w.granted(c, secret, "grant_type", "password", "username", "admin", "password", "admin")
		return m["access_token"].(string), m["refresh_token"].(string)
	}
	live := func(raw string) bool { _, err := w.call("Bearer " + raw); return err == nil }

	access, refresh := login()
	if a := revoke(other, otherSecret, access); a.status != 200 || !live(access) {
		t.Errorf("by another client: %d, live %v", a.status, live(access))
	}
	a := revoke(c, secret, access)
	if a.status != 200 || a.body != "" || a.header.Get("Content-Type") != "application/json" || a.header.Get("Content-Length") != "0" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("answer: %d %v %q", a.status, a.header, a.body)
	}
	if live(access) {
		t.Error("a revoked token is let in")
	}
	if a := introspect(w, basicOf("admin", "admin"), access); a.body != inactive {
		t.Errorf("introspection of a revoked token: %s", a.body)
	}
	if a := w.token(c, secret, "grant_type", "refresh_token", "refresh_token", refresh); a.status != 200 {
		t.Errorf("the refresh token goes with the access token: %d %s", a.status, a.body)
	}

	access, refresh = login()
	revoke(c, secret, refresh)
	if live(access) {
		t.Error("an access token outlives its revoked refresh token")
	}
	if a := w.token(c, secret, "grant_type", "refresh_token", "refresh_token", refresh); a.status != 400 {
		t.Errorf("a revoked refresh token works: %d", a.status)
	}

	for name, x := range map[string]struct {
		reply
		status int
		want   string
	}{
		"unknown token":  {revoke(c, secret, "x"), 200, ""},
		"twice":          {revoke(c, secret, access), 200, ""},
		"no token":       {revoke(c, secret, ""), 400, "Invalid revocation request"},
		"bad client":     {revoke(c, "x", access), 401, "Client Authentication failed."},
		"unknown client": {revoke(&apim.Client{ID: "x"}, "x", access), 401, "Client Authentication failed."},
	} {
		if x.reply.status != x.status || !strings.Contains(x.body, x.want) || (x.want == "" && x.body != "") {
			t.Errorf("%s: %d %s", name, x.reply.status, x.body)
		}
	}
	a = w.do("POST", "/oauth2/revoke", "token=x&callback=done", "Authorization", basicOf(string(c.ID), secret))
	if a.body != "done();" || a.header.Get("Content-Type") != "application/javascript" {
		t.Errorf("callback: %v %q", a.header, a.body)
	}
	a = w.do("POST", "/oauth2/revoke", "token=x&callback="+url.QueryEscape("alert(1)//"), "Authorization", basicOf(string(c.ID), secret))
	if a.body != "" {
		t.Errorf("a callback that is no name: %q", a.body)
	}
}

func TestPasswordsAndClientsEndTokens(t *testing.T) {
	w := newWorld(t)
	alice := w.user(apim.SuperTenant, "alice", "Internal/publisher")
	c, secret := w.client("admin", nil)
	password := "password"
	login := func() (access, refresh string) {
		t.Helper()
		m := w.granted(c, secret, "grant_type", "password", "username", "alice", "password", password)
		return m["access_token"].(string), m["refresh_token"].(string)
	}
	live := func(access, refresh string) (bool, bool) {
		_, err := w.call("Bearer " + access)
		return err == nil, w.token(c, secret, "grant_type", "refresh_token", "refresh_token", refresh).status == 200
	}
	access, refresh := login()
	actor := &apim.Actor{UserID: alice.ID, Tenant: apim.SuperTenant, Addr: "127.0.0.1"}
	w.must(w.dir.ChangePassword(w.ctx, actor, "password", "changed"))
	password = "changed"
	if a, r := live(access, refresh); !a || !r {
		t.Errorf("a user's own change ends tokens: access %v, refresh %v", a, r)
	}
	access, refresh = login()
	w.clock.add(time.Millisecond)
	w.must(w.dir.SetPassword(w.ctx, apim.SuperTenant, "alice", "reset"))
	if a, r := live(access, refresh); a || r {
		t.Errorf("an administrator's reset keeps tokens: access %v, refresh %v", a, r)
	}
	if _, err := w.call(basicOf("alice", "changed")); err == nil {
		t.Error("the old password works")
	}
	password = "reset"
	access, refresh = login() // in the same second
	if a, r := live(access, refresh); !a || !r {
		t.Errorf("a token issued after the reset is dead: access %v, refresh %v", a, r)
	}
	access, refresh = login()
	w.clock.add(time.Millisecond)
	stored, err := w.km.Client(w.ctx, apim.In(apim.SuperTenant), c.ID)
	w.must(err)
	stored.Inactive = true
	w.must(w.km.UpdateClient(w.ctx, apim.In(apim.SuperTenant), stored))
	if a, r := live(access, refresh); a || r {
		t.Errorf("tokens of an inactive client: access %v, refresh %v", a, r)
	}
	if a := introspect(w, basicOf("admin", "admin"), access); a.body != inactive {
		t.Errorf("introspection: %s", a.body)
	}
}

func TestUserinfo(t *testing.T) {
	w := newWorld(t)
	u := w.user(apim.SuperTenant, "alice")
	w.must(w.dir.UpdateUser(w.ctx, apim.SuperTenant, u.ID, func(u *apim.User) error {
		u.Claims = map[string]string{"http://wso2.org/claims/emailaddress": "a@b.co", "http://wso2.org/claims/givenname": "Alice"}
		return nil
	}))
	c, secret := w.client("admin", nil)
	access := func(scope string) string {
		return "Bearer " + w.granted(c, secret, "grant_type", "password", "username", "alice", "password", "password", "scope", scope)["access_token"].(string)
	}
	for _, x := range []struct {
		name, auth string
		status     int
		want       string
	}{
		{"no bearer", "", 400, `{"error_description":"Bearer token missing","error":"invalid_request"}`},
		{"Basic", basicOf("alice", "password"), 400, `{"error_description":"Bearer token missing","error":"invalid_request"}`},
		{"bad token", "Bearer x", 401, `{"error_description":"Access token validation failed","error":"invalid_token"}`},
		{"no openid", access("email"), 403, `{"error_description":"Access token does not have the openid scope","error":"insufficient_scope"}`},
		{"openid only", access("openid"), 200, `{"sub":"` + string(u.ID) + `"}`},
		{"with claims", access("openid email profile"), 200, `{"email":"a@b.co","given_name":"Alice","preferred_username":"alice","sub":"` + string(u.ID) + `"}`},
	} {
		a := w.do("GET", "/oauth2/userinfo", "", "Authorization", x.auth)
		if a.status != x.status || a.body != x.want {
			t.Errorf("%s: got %d %s, want %d %s", x.name, a.status, a.body, x.status, x.want)
		}
		if x.status != 200 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Bearer error="`) {
			t.Errorf("%s: challenge %q", x.name, a.header.Get("WWW-Authenticate"))
		}
	}
}
