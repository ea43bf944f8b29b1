package keymanager_test

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/keymanager"
)

func TestTokenEndpointRefuses(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "alice", "Internal/subscriber")
	all, secret := w.client("admin", nil)
	public, _ := w.client("admin", func(c *apim.Client) { c.Public = true })
	only, onlySecret := w.client("admin", func(c *apim.Client) { c.Grants = []string{"client_credentials"} })
	code, codeSecret := w.client("admin", func(c *apim.Client) { c.Grants = []string{"iwa:ntlm"} })
	idle, idleSecret := w.client("admin", func(c *apim.Client) { c.Inactive = true })
	ok := basicOf(string(all.ID), secret)
	form := "application/x-www-form-urlencoded"
	for _, c := range []struct {
		name, auth, media, body string
		status                  int
		code, text              string
	}{
		{"parameter twice", ok, form, "grant_type=client_credentials&grant_type=password", 400, "invalid_request", "Invalid request with repeated parameters."},
		{"JSON member twice", ok, "application/json", `{"grant_type":"password","grant_type":"password"}`, 400, "invalid_request", "Invalid request with repeated parameters."},
		{"no grant", ok, form, "scope=a", 400, "invalid_request", "Missing grant_type parameter value"},
		{"unknown grant", ok, form, "grant_type=magic", 400, "invalid_request", "Unsupported grant_type value"},
		{"grant is looked at before the client", "", form, "grant_type=magic", 400, "invalid_request", "Unsupported grant_type value"},
		{"no client", "", form, "grant_type=client_credentials", 401, "invalid_client", "Client credentials are invalid."},
		{"two ways of authentication", ok, form, "grant_type=client_credentials&client_id=" + string(all.ID) + "&client_secret=" + secret, 400, "invalid_request", "The client MUST NOT use more than one authentication method per request."},
		{"another client id in the body", ok, form, "grant_type=client_credentials&client_id=other", 401, "invalid_client", "Client credentials are invalid."},
		{"wrong secret", basicOf(string(all.ID), "x"), form, "grant_type=client_credentials", 401, "invalid_client", "Client credentials are invalid."},
		{"empty secret", basicOf(string(all.ID), ""), form, "grant_type=client_credentials", 401, "invalid_client", "Client credentials are invalid."},
		{"unknown client", basicOf("nobody", "x"), form, "grant_type=client_credentials", 401, "invalid_client", "Client credentials are invalid."},
		{"unreadable Basic", "Basic !!!", form, "grant_type=client_credentials", 401, "invalid_client", "Client credentials are invalid."},
		{"confidential client without a secret", "", form, "grant_type=password&username=alice&password=password&client_id=" + string(all.ID), 401, "invalid_client", "Client credentials are invalid."},
		{"public client and client credentials", "", form, "grant_type=client_credentials&client_id=" + string(public.ID), 401, "invalid_client", "Client credentials are invalid."},
		{"client not active", basicOf(string(idle.ID), idleSecret), form, "grant_type=client_credentials", 401, "invalid_client", "Oauth application is not in active state"},
		{"grant not enabled", basicOf(string(only.ID), onlySecret), form, "grant_type=password&username=alice&password=password", 400, "unauthorized_client", "The authenticated client is not authorized to use this authorization grant type"},
		{"grant without handler", basicOf(string(code.ID), codeSecret), form, "grant_type=iwa:ntlm&code=x", 400, "unsupported_grant_type", "Unsupported grant type : iwa:ntlm, is used."},
		{"wrong password", ok, form, "grant_type=password&username=alice&password=wrong", 400, "invalid_grant", "Authentication failed"},
		{"unknown user", ok, form, "grant_type=password&username=nobody&password=wrong", 400, "invalid_grant", "Authentication failed"},
		{"user of an unknown tenant", ok, form, "grant_type=password&username=alice@nowhere.com&password=password", 400, "invalid_grant", "Authentication failed"},
		{"unknown refresh token", ok, form, "grant_type=refresh_token&refresh_token=x", 400, "invalid_grant", "Valid refresh token data not found"},
		{"broken form", ok, form, "grant_type=%zz", 400, "invalid_request", "The request body is not well-formed."},
		{"broken JSON", ok, "application/json", `{"grant_type":`, 400, "invalid_request", "The request body is not well-formed."},
		{"JSON with an object inside", ok, "application/json", `{"grant_type":{"a":1}}`, 400, "invalid_request", "The request body is not well-formed."},
		{"JSON with more behind", ok, "application/json", `{"grant_type":"password"}x`, 400, "invalid_request", "The request body is not well-formed."},
		{"JSON no object", ok, "application/json", `[1]`, 400, "invalid_request", "The request body is not well-formed."},
		{"another media type", ok, "text/xml", `<a/>`, 415, "invalid_request", "The media type of the request body is not supported."},
		{"huge body", ok, form, "grant_type=" + strings.Repeat("a", 1<<20), 413, "invalid_request", "The request body is too large."},
		{"NUL in a value", ok, form, "grant_type=password&username=%00&password=x", 400, "invalid_request", "The request body is not well-formed."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			header := []string{"Content-Type", c.media}
			if c.auth != "" {
				header = append(header, "Authorization", c.auth)
			}
			a := w.do("POST", "/oauth2/token", c.body, header...)
			want := `{"error_description":"` + c.text + `","error":"` + c.code + `"}`
			if a.status != c.status || a.body != want {
				t.Errorf("got  %d %s\nwant %d %s", a.status, a.body, c.status, want)
			}
			challenge := a.header.Get("WWW-Authenticate")
			if c.status == 401 && challenge != "Basic realm=localhost" || c.status != 401 && challenge != "" {
				t.Errorf("challenge %q", challenge)
			}
			if a.header.Get("Cache-Control") != "" {
				t.Error("an error answer carries no-store")
			}
		})
	}
}

var masks = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`[A-Za-z0-9_-]{86}`), "THUMBPRINT"},
}

func mask(s string, c *apim.Client) string {
	s = strings.ReplaceAll(s, string(c.ID), "CLIENT")
	for _, m := range masks {
		s = m.re.ReplaceAllString(s, m.to)
	}
	return s
}

func TestTokensAreThoseOfTheOriginal(t *testing.T) {
	w := newWorld(t, func(o *keymanager.Options) { o.Algorithm = "RS256" })
	c, secret := w.client("admin", nil)
	a := w.token(c, secret, "grant_type", "client_credentials")
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
		if got := a.header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	m := a.json(t)
	if m["scope"] != "default" || m["token_type"] != "Bearer" || m["expires_in"] != 3600.0 || m["refresh_token"] != nil || m["id_token"] != nil {
		t.Errorf("got %v", m)
	}
	head, body := claimsOf(t, m["access_token"].(string))
	if got, want := mask(head, c), `{"kid":"THUMBPRINT_RS256","x5t":"THUMBPRINT","typ":"at+jwt","alg":"RS256"}`; got != want {
		t.Errorf("header\n got %s\nwant %s", got, want)
	}
	want := `{"sub":"UUID","aut":"APPLICATION","aud":"CLIENT","nbf":1800000000,"azp":"CLIENT","entity_id":"CLIENT","scope":"default","iss":"https://localhost:9443/oauth2/token","exp":1800003600,"iat":1800000000,"jti":"UUID","client_id":"CLIENT"}`
	if got := mask(body, c); got != want {
		t.Errorf("client credentials\n got %s\nwant %s", got, want)
	}

	m = w.granted(c, secret, "grant_type", "password", "username", "admin", "password", "admin", "scope", "openid apim:api_view")
	_, body = claimsOf(t, m["access_token"].(string))
	want = `{"sub":"UUID","aut":"APPLICATION_USER","aud":"CLIENT","nbf":1800000000,"azp":"CLIENT","entity_id":"UUID","scope":"openid apim:api_view","iss":"https://localhost:9443/oauth2/token","exp":1800003600,"iat":1800000000,"jti":"UUID","client_id":"CLIENT"}`
	if got := mask(body, c); got != want {
		t.Errorf("password\n got %s\nwant %s", got, want)
	}
	head, body = claimsOf(t, m["refresh_token"].(string))
	if got, want := mask(head, c), `{"kid":"THUMBPRINT_RS256","x5t":"THUMBPRINT","typ":"rt+jwt","alg":"RS256"}`; got != want {
		t.Errorf("header of refresh token\n got %s\nwant %s", got, want)
	}
	want = `{"sub":"UUID","aud":"https://localhost:9443/oauth2/token","azp":"CLIENT","entity_id":"UUID","iss":"https://localhost:9443/oauth2/token","token_type":"refresh_token","exp":1800086400,"iat":1800000000,"jti":"UUID","client_id":"CLIENT","rt_scope":"openid apim:api_view"}`
	if got := mask(body, c); got != want {
		t.Errorf("refresh token\n got %s\nwant %s", got, want)
	}
	_, body = claimsOf(t, m["id_token"].(string))
	body = regexp.MustCompile(`"at_hash":"[A-Za-z0-9_-]{22}"`).ReplaceAllString(body, `"at_hash":"HASH"`)
	want = `{"sub":"UUID","aud":"CLIENT","nbf":1800000000,"azp":"CLIENT","iss":"https://localhost:9443/oauth2/token","exp":1800003600,"iat":1800000000,"jti":"UUID","amr":["password"],"at_hash":"HASH"}`
	if got := mask(body, c); got != want {
		t.Errorf("id token\n got %s\nwant %s", got, want)
	}
}

func TestTheGrantMayComeInTheQueryOrAsJSON(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", nil)
	auth := basicOf(string(c.ID), secret)
	for name, a := range map[string]reply{
		"query of an empty form": w.do("POST", "/oauth2/token?grant_type=password&username=admin&password=admin&scope=apim:api_view+apim:api_create", "", "Authorization", auth, "Content-Type", "application/x-www-form-urlencoded"),
		"JSON":                   w.do("POST", "/oauth2/token", `{"grant_type":"password","username":"admin","password":"admin","scope":"apim:api_view apim:api_create","validity_period":3600}`, "Authorization", auth, "Content-Type", "application/json"),
		"form with the client":   w.do("POST", "/oauth2/token", "grant_type=password&username=admin@carbon.super&password=admin&scope=apim:api_view apim:api_create&client_id="+string(c.ID)+"&client_secret="+secret),
		"path of the tenant":     w.do("POST", "/t/carbon.super/oauth2/token/", "grant_type=password&username=ADMIN&password=admin&scope=apim:api_view apim:api_create", "Authorization", auth),
	} {
		if a.status != 200 || a.json(t)["scope"] != "apim:api_view apim:api_create" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	a := w.do("POST", "/oauth2/token?grant_type=password", "grant_type=password", "Authorization", auth)
	if !strings.Contains(a.body, "repeated") {
		t.Errorf("once in each place: %d %s", a.status, a.body)
	}
}

func TestScopesAreDroppedSilently(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "pub", "Internal/publisher")
	w.user(apim.SuperTenant, "sub", "Internal/subscriber")
	c, secret := w.client("sub", nil)
	for _, x := range []struct{ name, user, ask, want string }{
		{"none asked", "pub", "", "default"},
		{"own role", "pub", "apim:api_publish apim:subscribe apim:api_view", "apim:api_publish apim:api_view"},
		{"other role", "sub", "apim:api_publish apim:subscribe apim:api_view", "apim:subscribe"},
		{"nothing left", "sub", "apim:api_publish apim:admin", "default"},
		{"unknown scope", "sub", "something:else", "something:else"},
		{"allow-list", "sub", "openid device_42 apim:admin", "openid device_42"},
		{"repetition", "sub", "a b a", "a b"},
		{"scope of an API, role held", "pub", "orders:write", "orders:write"},
		{"scope of an API, role not held", "sub", "orders:write orders:read", "orders:read"},
	} {
		m := w.granted(c, secret, "grant_type", "password", "username", x.user, "password", "password", "scope", x.ask)
		if m["scope"] != x.want {
			t.Errorf("%s: got %q, want %q", x.name, m["scope"], x.want)
		}
	}
	m := w.granted(c, secret, "grant_type", "client_credentials", "scope", "apim:api_publish apim:subscribe")
	if m["scope"] != "apim:subscribe" {
		t.Errorf("client credentials are judged by the owner's roles: got %q", m["scope"])
	}
}

func TestTokensStaySmallEnoughToBeVerified(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", nil)
	all, err := w.dir.AllScopes(w.ctx, apim.SuperTenant, []string{"admin", "Internal/integration_dev"})
	w.must(err)
	m := w.granted(c, secret, "grant_type", "client_credentials", "scope", strings.Join(all, " "))
	if m["scope"] != strings.Join(all, " ") || len(all) != 156 {
		t.Errorf("%d scopes asked, granted %v", len(all), m["scope"])
	}
	if _, err := w.call("Bearer " + m["access_token"].(string)); err != nil {
		t.Errorf("a token with every scope: %v", err)
	}
	var long []string
	for i := range 500 {
		long = append(long, strings.Repeat("s", 60)+strconv.Itoa(i))
	}
	a := w.token(c, secret, "grant_type", "client_credentials", "scope", strings.Join(long, " "))
	if a.status != 400 || a.json(t)["error"] != "invalid_scope" {
		t.Errorf("%d %.200s", a.status, a.body)
	}
	a = w.token(c, secret, "grant_type", "client_credentials", "scope", strings.Repeat("a ", 1001))
	if a.status != 400 {
		t.Errorf("too many scopes: %d", a.status)
	}
}

func TestAdminGetsEveryScopeTheOriginalsToolsAskFor(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", nil)
	for _, set := range []string{
		"api_view api_create api_publish api_delete api_manage api_import_export subscription_manage client_certificates_add client_certificates_update shared_scope_manage common_operation_policy_manage policies_import_export api_generate_key gateway_policy_manage mcp_server_create mcp_server_manage mcp_server_publish mcp_server_view mcp_server_delete mcp_server_list_view",
		"app_manage sub_manage subscribe",
		"admin tier_view api_provider_change llm_provider_manage llm_provider_read",
		"api_list_view api_definition_view organization_read app_settings_change shared_scope_view",
	} {
		want := "apim:" + strings.ReplaceAll(set, " ", " apim:")
		m := w.granted(c, secret, "grant_type", "password", "username", "admin", "password", "admin", "scope", want)
		if m["scope"] != want {
			t.Errorf("got  %v\nwant %v", m["scope"], want)
		}
	}
}

func TestRefreshRotatesAndNeverWidens(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "pub", "Internal/publisher", "Internal/creator")
	c, secret := w.client("admin", nil)
	other, otherSecret := w.client("admin", nil)
	refresh := func(raw string, form ...string) reply {
		return w.token(c, secret, append([]string{"grant_type", "refresh_token", "refresh_token", raw}, form...)...)
	}
	m := w.granted(c, secret, "grant_type", "password", "username", "pub", "password", "password", "scope", "apim:api_publish apim:api_create")
	first := m["refresh_token"].(string)
	if a := w.token(other, otherSecret, "grant_type", "refresh_token", "refresh_token", first); !strings.Contains(a.body, "Consumer key does not match") {
		t.Errorf("token of another client: %d %s", a.status, a.body)
	}
	if a := refresh(first, "scope", "apim:api_publish apim:admin"); a.status != 400 || a.json(t)["error"] != "invalid_scope" {
		t.Errorf("widening: %d %s", a.status, a.body)
	}
	a := refresh(first, "scope", "apim:api_publish")
	if a.status != 200 || a.json(t)["scope"] != "apim:api_publish" {
		t.Fatalf("narrowing: %d %s", a.status, a.body)
	}
	second := a.json(t)["refresh_token"].(string)
	if second == first {
		t.Error("the refresh token is not renewed")
	}
	w.must(w.dir.UpdateUser(w.ctx, apim.SuperTenant, mustUser(w, "pub").ID, func(u *apim.User) error {
		u.Roles = []string{"Internal/publisher"}
		return nil
	}))
	a = refresh(second)
	if a.status != 200 || a.json(t)["scope"] != "apim:api_publish" {
		t.Errorf("a scope whose role is lost is granted again: %d %s", a.status, a.body)
	}
	third := a.json(t)["refresh_token"].(string)
	w.clock.add(25 * time.Hour)
	if a := refresh(third); !strings.Contains(a.body, "Refresh token is expired.") {
		t.Errorf("expired: %d %s", a.status, a.body)
	}
}

func mustUser(w *world, name string) *apim.User {
	u, err := w.dir.User(w.ctx, apim.SuperTenant, name)
	w.must(err)
	return u
}

func TestLateReuseEndsTheFamilyAndARaceDoesNot(t *testing.T) {
	for _, x := range []struct {
		name  string
		after time.Duration
		live  bool
	}{{"within two seconds", 2 * time.Second, true}, {"later", 3 * time.Second, false}} {
		t.Run(x.name, func(t *testing.T) {
			w := newWorld(t)
			c, secret := w.client("admin", nil)
			refresh := func(raw string) reply {
				return w.token(c, secret, "grant_type", "refresh_token", "refresh_token", raw)
			}
			m := w.granted(c, secret, "grant_type", "password", "username", "admin", "password", "admin")
			first := m["refresh_token"].(string)
			m = refresh(first).json(t)
			access, second := m["access_token"].(string), m["refresh_token"].(string)
			w.clock.add(x.after)
			if a := refresh(first); a.status != 400 || !strings.Contains(a.body, "Invalid refresh token state") {
				t.Errorf("reuse: %d %s", a.status, a.body)
			}
			_, err := w.call("Bearer " + access)
			if got := err == nil; got != x.live {
				t.Errorf("access token of the family is live: %v, want %v (%v)", got, x.live, err)
			}
			if a := refresh(second); (a.status == 200) != x.live {
				t.Errorf("successor: %d %s", a.status, a.body)
			}
		})
	}
}

func TestOfTwentyRacingRefreshesOneWins(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", nil)
	for range 5 {
		m := w.granted(c, secret, "grant_type", "password", "username", "admin", "password", "admin")
		raw := m["refresh_token"].(string)
		var wg sync.WaitGroup
		replies := make([]reply, 20)
		for i := range replies {
			wg.Go(func() { replies[i] = w.token(c, secret, "grant_type", "refresh_token", "refresh_token", raw) })
		}
		wg.Wait()
		var won []reply
		for _, a := range replies {
			switch a.status {
			case 200:
				won = append(won, a)
			case 400:
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		if len(won) != 1 {
			t.Fatalf("%d requests won", len(won))
		}
		next := won[0].json(t)["refresh_token"].(string)
		if a := w.token(c, secret, "grant_type", "refresh_token", "refresh_token", next); a.status != 200 {
			t.Errorf("the winner's token: %d %s", a.status, a.body)
		}
	}
}

func TestLifetimesOfTheClientOverrideTheDefaults(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", func(c *apim.Client) {
		c.AppExpiry, c.UserExpiry, c.RefreshExpiry = 10*time.Minute, 20*time.Minute, time.Minute
	})
	if m := w.granted(c, secret, "grant_type", "client_credentials"); m["expires_in"] != 600.0 {
		t.Errorf("application token: %v", m["expires_in"])
	}
	m := w.granted(c, secret, "grant_type", "password", "username", "admin", "password", "admin")
	if m["expires_in"] != 1200.0 {
		t.Errorf("user token: %v", m["expires_in"])
	}
	w.clock.add(time.Minute)
	if a := w.token(c, secret, "grant_type", "refresh_token", "refresh_token", m["refresh_token"].(string)); a.status != 400 {
		t.Errorf("refresh token outlives its expiry: %d", a.status)
	}
	tok, err := w.km.Token(w.ctx, apim.In(apim.SuperTenant), c.ID, []string{"x"}, -1)
	w.must(err)
	_, body := claimsOf(t, tok.Access)
	if !strings.Contains(body, `"exp":253402300799`) {
		t.Errorf("a token for ever: %s", body)
	}
}

func TestUsersOfOtherTenantsNeedASharedClient(t *testing.T) {
	w := newWorld(t)
	_, err := w.dir.CreateTenant(w.ctx, identity.NewTenant{Domain: "t1.com", Admin: "admin", Password: "secret", Email: "a@t1.com"})
	w.must(err)
	own, ownSecret := w.client("admin", nil)
	shared, sharedSecret := w.client("admin", func(c *apim.Client) { c.SaaS = true })
	form := []string{"grant_type", "password", "username", "admin@t1.com", "password", "secret", "scope", "apim:api_create"}
	if a := w.token(own, ownSecret, form...); a.status != 400 || a.json(t)["error_description"] != "Authentication failed" {
		t.Errorf("own: %d %s", a.status, a.body)
	}
	m := w.granted(shared, sharedSecret, form...)
	a, err := w.call("Bearer " + m["access_token"].(string))
	w.must(err)
	if a.User != "admin@t1.com" || a.Tenant != "t1.com" || !a.HasScope("apim:api_create") {
		t.Errorf("got %+v", a)
	}
	w.must(w.dir.SetActive(w.ctx, "t1.com", false))
	if _, err := w.call("Bearer " + m["access_token"].(string)); err == nil {
		t.Error("a user of an inactive tenant is let in")
	}
	if a := w.token(shared, sharedSecret, form...); a.status != 400 {
		t.Errorf("inactive tenant: %d %s", a.status, a.body)
	}
}

func TestEverySecretWorksUntilItIsRevoked(t *testing.T) {
	w := newWorld(t)
	c, one := w.client("admin", nil)
	s := apim.In(apim.SuperTenant)
	sec, two, err := w.km.AddSecret(w.ctx, s, c.ID, "second", time.Hour)
	w.must(err)
	status := func(secret string) int { return w.token(c, secret, "grant_type", "client_credentials").status }
	if status(one) != 200 || status(two) != 200 {
		t.Fatal("a live secret is refused")
	}
	w.must(w.km.RevokeSecret(w.ctx, s, c.ID, sec.ID))
	if status(one) != 200 || status(two) != 401 {
		t.Error("the wrong secret is refused")
	}
	_, three, err := w.km.AddSecret(w.ctx, s, c.ID, "", time.Hour)
	w.must(err)
	w.clock.add(time.Hour)
	if status(three) != 401 {
		t.Error("an expired secret works")
	}
	four, err := w.km.RegenerateSecret(w.ctx, s, c.ID)
	w.must(err)
	if status(one) != 401 || status(four) != 200 {
		t.Error("regenerating does not replace")
	}
	stored, err := w.km.Client(w.ctx, s, c.ID)
	w.must(err)
	for _, x := range stored.Secrets {
		if !strings.HasPrefix(string(x.Hash), "sha256:") || !strings.HasPrefix(string(x.Sealed), "sealed:") {
			t.Errorf("a secret lies open: %+v", x)
		}
	}
	w.must(w.km.DeleteClient(w.ctx, s, c.ID))
	if status(four) != 401 {
		t.Error("a deleted client gets tokens")
	}
}

func TestGuessingIsSlowedAndRightAnswersWaitToo(t *testing.T) {
	w := newWorld(t)
	w.addr = "203.0.113.9:1"
	w.user(apim.SuperTenant, "alice")
	c, secret := w.client("admin", nil)
	login := func(password string) reply {
		return w.token(c, secret, "grant_type", "password", "username", "alice", "password", password)
	}
	for range 5 {
		if a := login("wrong"); a.json(t)["error_description"] != "Authentication failed" {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if a := login("password"); a.status != 400 || !strings.Contains(a.body, "17003") {
		t.Errorf("right password during the delay: %d %s", a.status, a.body)
	}
	if _, err := w.call(basicOf("alice", "password")); err == nil {
		t.Error("Basic escapes the delay")
	}
	w.addr = "203.0.113.10:1"
	if a := login("password"); a.status != 200 {
		t.Errorf("from another address: %d %s", a.status, a.body)
	}
	w.addr = "203.0.113.9:1"
	w.clock.add(2 * time.Second)
	if a := login("password"); a.status != 200 {
		t.Errorf("after the delay: %d %s", a.status, a.body)
	}

	bad := func(secret string) reply { return w.token(c, secret, "grant_type", "client_credentials") }
	for range 5 {
		bad("wrong")
	}
	if a := bad(secret); a.status != 401 || a.header.Get("Retry-After") == "" {
		t.Errorf("right secret during the delay: %d %s", a.status, a.body)
	}
	w.clock.add(2 * time.Second)
	if a := bad(secret); a.status != 200 {
		t.Errorf("after the delay: %d %s", a.status, a.body)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	w := newWorld(t)
	for target, want := range map[string]int{
		"GET /oauth2/token": 405, "DELETE /client-registration/v0.17/register": 405, "POST /oauth2/jwks": 405,
		"GET /oauth2/authorise": 404, "DELETE /oauth2/authorize": 405, "GET /t/nowhere.com/oauth2/jwks": 404, "GET /t/": 404, "POST /client-registration/v0.18/register": 404,
		"GET /oauth2/jwks": 200, "GET /t/carbon.super/oauth2/jwks": 200, "HEAD /oauth2/jwks": 200,
	} {
		method, path, _ := strings.Cut(target, " ")
		if a := w.do(method, path, ""); a.status != want {
			t.Errorf("%s: got %d, want %d", target, a.status, want)
		}
	}
}

func TestDiscoveryListsOnlyWhatWorks(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", func(c *apim.Client) { c.Grants = keymanager.Grants() })
	for _, path := range []string{
		"/.well-known/openid-configuration", "/oauth2/token/.well-known/openid-configuration", "/oauth2/oidcdiscovery/.well-known/openid-configuration",
		"/t/carbon.super/oauth2/token/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/.well-known/oauth-authorization-server/oauth2/token",
	} {
		a := w.do("GET", path, "", "Host", "evil.example.com")
		if a.status != 200 || strings.Contains(a.body, "evil") {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		m := a.json(t)
		if m["issuer"] != "https://localhost:9443/oauth2/token" || m["authorization_response_iss_parameter_supported"] != true {
			t.Errorf("%s: %s", path, a.body)
		}
		for name, v := range m {
			if !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" {
				continue
			}
			at, ok := strings.CutPrefix(v.(string), "https://localhost:9443")
			if a := w.do("OPTIONS", at, ""); !ok || a.status != 405 {
				t.Errorf("%s: %s is %v, which answers %d", path, name, v, a.status)
			}
		}
		for _, g := range m["grant_types_supported"].([]any) {
			if g == "implicit" { // not of the token endpoint
				continue
			}
			if a := w.token(c, secret, "grant_type", g.(string)); strings.Contains(a.body, "unsupported_grant_type") {
				t.Errorf("%s: grant %v: %s", path, g, a.body)
			}
		}
	}
}

func TestNewKeysArePublishedBeforeTheyAreUsed(t *testing.T) {
	w := newWorld(t)
	c, secret := w.client("admin", nil)
	kid := func() string {
		head, _ := claimsOf(t, w.granted(c, secret, "grant_type", "client_credentials")["access_token"].(string))
		return head
	}
	before := kid()
	old := w.granted(c, secret, "grant_type", "client_credentials")["access_token"].(string)
	id, err := w.km.RotateKey(w.ctx)
	w.must(err)
	if jwks := w.do("GET", "/oauth2/jwks", ""); !strings.Contains(jwks.body, string(id)) {
		t.Error("the new key is not published")
	}
	if kid() != before {
		t.Error("the new key is used at once")
	}
	w.clock.add(10 * time.Minute)
	if got := kid(); !strings.Contains(got, string(id)) {
		t.Errorf("the new key is not used in time: %s", got)
	}
	if _, err := w.call("Bearer " + old); err != nil {
		t.Errorf("a token of the old key: %v", err)
	}
	w.clock.add(31 * 24 * time.Hour)
	if jwks := w.do("GET", "/oauth2/jwks", ""); strings.Count(jwks.body, `"kid"`) != 1 {
		t.Errorf("the old key stays for ever: %s", jwks.body)
	}
}

func TestAuthenticate(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "pub", "Internal/publisher")
	c, secret := w.client("admin", nil)
	a, err := w.call(basicOf("pub@carbon.super", "password"))
	w.must(err)
	if a.User != "pub" || !a.HasScope("apim:api_publish") || a.HasScope("apim:api_create") || !a.Has("Internal/everyone") || a.Client != "" {
		t.Errorf("Basic: %+v", a)
	}
	m := w.granted(c, secret, "grant_type", "password", "username", "pub", "password", "password", "scope", "apim:api_publish openid")
	access := m["access_token"].(string)
	a, err = w.call("Bearer " + access)
	w.must(err)
	if a.User != "pub" || !slices.Equal(a.Scopes, []string{"apim:api_publish", "openid"}) || a.Client != string(c.ID) || a.Addr != "127.0.0.1" {
		t.Errorf("Bearer: %+v", a)
	}
	key, err := w.km.InternalKey(w.ctx, keymanager.InternalKey{UserName: "admin", KeyType: "SANDBOX"})
	w.must(err)
	for name, auth := range map[string]string{
		"nothing": "", "another scheme": "Digest x", "no token": "Bearer ", "garbage": "Bearer a.b.c",
		"refresh token": "Bearer " + m["refresh_token"].(string), "id token": "Bearer " + m["id_token"].(string),
		"internal key": "Bearer " + key, "wrong password": basicOf("pub", "x"), "client credentials as Basic": basicOf(string(c.ID), secret),
		"tampered": "Bearer " + access[:len(access)-4] + "AAAA",
	} {
		if a, err := w.call(auth); err == nil {
			t.Errorf("%s is let in: %+v", name, a)
		} else if f := err.Error(); !strings.Contains(f, "401") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.must(w.dir.UpdateUser(w.ctx, apim.SuperTenant, mustUser(w, "pub").ID, func(u *apim.User) error { u.Locked = true; return nil }))
	if _, err := w.call("Bearer " + access); err == nil {
		t.Error("a locked user's token is let in")
	}
	if _, err := w.call(basicOf("pub", "password")); err == nil {
		t.Error("a locked user is let in")
	}
}
