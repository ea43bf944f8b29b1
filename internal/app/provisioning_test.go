package app

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
)

// provision sends a request and gives the status and the body.
func provision(r *running, w who, method, path, kind, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	must(r.t, err)
	if w != nil {
		w(req)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	res, err := insecure.Do(req)
	must(r.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must(r.t, err)
	return res.StatusCode, string(b)
}

func TestProvisioningOverTheWire(t *testing.T) {
	r := run(t)
	dir := r.app.people.directory
	_, err := dir.CreateTenant(t.Context(), identity.NewTenant{Domain: "shop.example", Admin: "sam", Password: "sam", Email: "sam@shop.example"})
	must(t, err)
	admin, sam := user("admin", "admin"), user("sam@shop.example", "sam")
	const me, js = "/api/identity/user/v1.0/me", "application/json"
	body := func(name string) string {
		return `{"user":{"username":"` + name + `","password":"margherita","claims":[]}}`
	}
	for _, c := range []struct {
		what       string
		w          who
		path, kind string
		body       string
		want       int
	}{
		{"sign-up", admin, me, js, body("new-comer"), 201},
		{"the same name again", admin, me, js, body("New-Comer"), 409},
		{"nobody", nil, me, js, body("x"), 401},
		{"in a tenant", sam, "/t/shop.example" + me, js, body("new-comer"), 201},
		{"from another tenant", sam, me, js, body("x"), 401},
		{"into another tenant", admin, "/t/shop.example" + me, js, body("x"), 401},
		{"a name with a tenant", admin, me, js, body("x@shop.example"), 400},
		{"a name with a store", admin, me, js, body("Internal/x"), 400},
		{"the administrator's role", admin, me, js, `{"user":{"username":"x","password":"x","claims":[{"uri":"http://wso2.org/claims/role","value":"admin"}]}}`, 400},
		{"no password", admin, me, js, `{"user":{"username":"x"}}`, 400},
		{"a form", admin, me, "text/plain", body("x"), 415},
		{"no JSON", admin, me, js, `{`, 400},
		{"depth", admin, me, js, strings.Repeat(`[`, 100), 400},
		{"size", admin, me, js, `{"a":"` + strings.Repeat("x", 300<<10) + `"}`, 413},
	} {
		if code, got := provision(r, c.w, http.MethodPost, c.path, c.kind, c.body); code != c.want {
			t.Errorf("%s: %d %s, want %d", c.what, code, got, c.want)
		}
	}
	u, err := dir.User(t.Context(), apim.SuperTenant, "new-comer")
	must(t, err)
	if got := strings.Join(u.Roles, " "); got != "Internal/subscriber Internal/selfsignup" {
		t.Errorf("roles %s", got)
	}

	// A token with the scope, and one without it.
	for scope, want := range map[string]int{"internal_user_mgt_list": 200, "apim:api_view": 403} {
		if code, got := provision(r, bearerFor(r, "admin", "admin", scope), http.MethodGet, "/scim2/Users", "", ""); code != want {
			t.Errorf("scope %s: %d %s, want %d", scope, code, got, want)
		}
	}
	// Whoever asks for the scope gets it; without the permission it is worth nothing.
	for scope, path := range map[string]string{"internal_user_mgt_list": "/scim2/Users", "apim:admin internal_role_mgt_list": "/scim2/Roles"} {
		if code, got := provision(r, bearerFor(r, "new-comer", "margherita", scope), http.MethodGet, path, "", ""); code != 403 {
			t.Errorf("scope %s of a subscriber: %d %s", scope, code, got)
		}
	}
	if code, got := provision(r, nil, http.MethodGet, "/services/Version", "", ""); code != 200 {
		t.Errorf("Version: %d %s", code, got)
	}
	if code, _ := provision(r, nil, http.MethodPost, "/services/TenantMgtAdminService", "text/xml", "<a/>"); code != 401 {
		t.Errorf("a service without credentials: %d", code)
	}
}

// bearerFor adds a user's token with scopes, got by the password grant.
func bearerFor(r *running, name, password, scope string) who {
	r.t.Helper()
	admin := user("admin", "admin")
	code, got := provision(r, admin, http.MethodPost, "/client-registration/v0.17/register", "application/json",
		`{"clientName":"c`+strings.Map(func(c rune) rune {
			if c >= 'a' && c <= 'z' {
				return c
			}
			return -1
		}, name+scope)+`","owner":"admin","grantType":"password refresh_token","saasApp":true}`)
	if code/100 != 2 {
		r.t.Fatalf("register: %d %s", code, got)
	}
	var cl struct{ ClientID, ClientSecret string }
	must(r.t, json.Unmarshal([]byte(got), &cl))
	form := url.Values{"grant_type": {"password"}, "username": {name}, "password": {password}, "scope": {scope}}
	code, got = provision(r, user(cl.ClientID, cl.ClientSecret), http.MethodPost, "/oauth2/token", "application/x-www-form-urlencoded", form.Encode())
	var tok struct {
		AccessToken string `json:"access_token"`
	}
	must(r.t, json.Unmarshal([]byte(got), &tok))
	if code != 200 || tok.AccessToken == "" {
		r.t.Fatalf("token: %d %s", code, got)
	}
	return func(q *http.Request) { q.Header.Set("Authorization", "Bearer "+tok.AccessToken) }
}
