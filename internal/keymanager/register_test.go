package keymanager_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
)

func register(w *world, user, password, body string) reply {
	w.t.Helper()
	return w.do("POST", "/client-registration/v0.17/register", body, "Content-Type", "application/json", "Authorization", basicOf(user, password))
}

func TestRegistrationAnswersLikeTheOriginal(t *testing.T) {
	w := newWorld(t)
	body := `{"callbackUrl":"www.example.org","clientName":"rest_api_x","owner":"admin","grantType":"client_credentials password refresh_token","saasApp":true,"tokenType":"JWT","tokenScope":"Production","unknown":{"a":1}}`
	a := register(w, "admin", "admin", body)
	if a.status != 200 || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s %s", a.status, a.header, a.body)
	}
	m := a.json(t)
	id, secret := m["clientId"].(string), m["clientSecret"].(string)
	want := `{"clientId":"` + id + `","clientName":"rest_api_x","callBackURL":"www.example.org","clientSecret":"` + secret + `","isSaasApplication":true,"appOwner":"admin","jsonString":"{\"redirect_uris\":\"www.example.org\",\"client_name\":\"rest_api_x\",\"grant_types\":\"client_credentials password refresh_token\"}","jsonAppAttribute":"{}","applicationUUID":null,"tokenType":"JWT"}`
	if a.body != want {
		t.Errorf("new\n got %s\nwant %s", a.body, want)
	}
	a = register(w, "admin@carbon.super", "admin", `{"clientName":"rest_api_x","owner":"admin@carbon.super","grantType":"password","callbackUrl":"https://other"}`)
	want = `{"clientId":"` + id + `","clientName":"rest_api_x","callBackURL":"www.example.org","clientSecret":"` + secret + `","isSaasApplication":true,"appOwner":null,"jsonString":"{\"grant_types\":\"client_credentials password refresh_token\"}","jsonAppAttribute":"{}","applicationUUID":null,"tokenType":"JWT"}`
	if a.body != want {
		t.Errorf("again\n got %s\nwant %s", a.body, want)
	}
	tok := w.do("POST", "/oauth2/token?grant_type=password&username=admin&password=admin&scope=apim:api_view", "", "Authorization", basicOf(id, secret))
	if tok.status != 200 {
		t.Fatalf("token: %d %s", tok.status, tok.body)
	}
	_, claims := claimsOf(t, tok.json(t)["access_token"].(string))
	if !strings.Contains(claims, `@carbon.super","aut"`) {
		t.Errorf("sub of a registered JWT client has no tenant: %s", claims)
	}
}

func TestRegistrationDropsGrantsThatNeedACallback(t *testing.T) {
	w := newWorld(t)
	m := register(w, "admin", "admin", `{"clientName":"a","owner":"admin","grantType":"password authorization_code implicit refresh_token"}`).json(t)
	if m["jsonString"] != `{"client_name":"a","grant_types":"password refresh_token"}` || m["callBackURL"] != nil || m["tokenType"] != "DEFAULT" || m["isSaasApplication"] != false {
		t.Errorf("got %v", m)
	}
}

func TestRegistrationRefuses(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "alice", "Internal/creator")
	w.user(apim.SuperTenant, "bob", "Internal/creator")
	if a := register(w, "alice", "password", `{"clientName":"hers","owner":"alice","grantType":"password"}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for _, c := range []struct {
		name, user, password, body string
		status                     int
		want                       string
	}{
		{"wrong password", "alice", "x", `{}`, 401, `{"code":401,"message":"","description":"Unauthenticated request","moreInfo":""}`},
		{"credentials before the body", "alice", "x", `{`, 401, `{"code":401,"message":"","description":"Unauthenticated request","moreInfo":""}`},
		{"another owner", "alice", "password", `{"clientName":"x","owner":"bob","grantType":"password"}`, 400, `{"code":400,"message":"Bad Request","description":"Logged in user 'alice' and application owner 'bob' should be same.","moreInfo":""}`},
		{"owner of another tenant", "alice", "password", `{"clientName":"x","owner":"alice@t1.com","grantType":"password"}`, 400, `{"code":400,"message":"Bad Request","description":"Logged in user 'alice' and application owner 'alice@t1.com' should be same.","moreInfo":""}`},
		{"a name of another's client", "bob", "password", `{"clientName":"hers","owner":"bob","grantType":"password"}`, 403, `{"code":403,"message":"Forbidden","description":"Access is forbidden to the application","moreInfo":""}`},
		{"the admin for the wrong owner", "admin", "admin", `{"clientName":"hers","owner":"admin","grantType":"password"}`, 403, `{"code":403,"message":"Forbidden","description":"Access is forbidden to the application","moreInfo":""}`},
		{"name outside the pattern", "alice", "password", `{"clientName":"a/b","owner":"alice","grantType":"password"}`, 400, `{"code":500,"message":"Bad Request","description":"OAuth app 'a/b' creation or updating failed. Dynamic Client Registration Service not available.","moreInfo":""}`},
		{"no name", "alice", "password", `{"owner":"alice","grantType":"password"}`, 400, `{"code":500,"message":"Bad Request","description":"OAuth app '' creation or updating failed. Dynamic Client Registration Service not available.","moreInfo":""}`},
		{"unknown owner", "admin", "admin", `{"clientName":"x","owner":"nobody","grantType":"password"}`, 400, `{"code":500,"message":"Bad Request","description":"OAuth app 'x' creation or updating failed. Dynamic Client Registration Service not available.","moreInfo":""}`},
		{"no JSON", "alice", "password", `clientName=x`, 400, `{"code":400,"message":"Bad Request","description":"The request body is not well-formed: an object is expected","moreInfo":""}`},
		{"wrong type", "alice", "password", `{"clientName":5}`, 400, `{"code":400,"message":"Bad Request","description":"The request body is not well-formed: member clientName is of the wrong type","moreInfo":""}`},
		{"script as callback", "alice", "password", `{"clientName":"y","owner":"alice","grantType":"password","callbackUrl":"javascript:alert(1)"}`, 400, `{"code":400,"message":"Bad Request","description":"The scheme of the callback URL is not allowed.","moreInfo":""}`},
		{"fragment in the callback", "alice", "password", `{"clientName":"y","owner":"alice","grantType":"password","callbackUrl":"https://a/#b"}`, 400, `{"code":400,"message":"Bad Request","description":"The callback URL must not have a fragment.","moreInfo":""}`},
		{"huge", "alice", "password", `{"clientName":"` + strings.Repeat("x", 1<<20) + `"}`, 413, `{"code":413,"message":"Payload Too Large","description":"The request body is too large.","moreInfo":""}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.t = t
			a := register(w, c.user, c.password, c.body)
			if a.status != c.status || a.body != c.want {
				t.Errorf("got  %d %s\nwant %d %s", a.status, a.body, c.status, c.want)
			}
			if got := a.header.Get("Content-Type"); got != "application/json" {
				t.Errorf("media type %q", got)
			}
		})
	}
}

func TestTheSuperAdminRegistersForOwnersOfOtherTenants(t *testing.T) {
	w := newWorld(t)
	_, err := w.dir.CreateTenant(w.ctx, identity.NewTenant{Domain: "t1.com", Admin: "boss", Password: "secret", Email: "a@t1.com"})
	w.must(err)
	a := register(w, "admin", "admin", `{"clientName":"x","owner":"boss@t1.com","grantType":"password"}`)
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	id := apim.ClientID(a.json(t)["clientId"].(string))
	c, err := w.km.Client(w.ctx, apim.In("t1.com"), id)
	w.must(err)
	if c.Owner != "boss" || c.Tenant != "t1.com" {
		t.Errorf("got %+v", c)
	}
	if again := register(w, "boss@t1.com", "secret", `{"clientName":"x","owner":"boss@t1.com","grantType":"password"}`); again.json(t)["clientId"] != string(id) {
		t.Errorf("the owner gets another client: %s", again.body)
	}
}

func TestConcurrentRegistrationsMakeOneClient(t *testing.T) {
	w := newWorld(t)
	ids := make([]string, 10)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			a := register(w, "admin", "admin", `{"clientName":"same","owner":"admin","grantType":"password"}`)
			var m struct{ ClientID, ClientSecret string }
			if json.Unmarshal([]byte(a.body), &m) == nil {
				ids[i] = m.ClientID + m.ClientSecret
			}
			if ids[i] == "" {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("got %q", ids)
		}
	}
}
