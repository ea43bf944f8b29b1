package e2e

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestBadOAuthRequestsAreRefused sends the token endpoints what no client should.
func TestBadOAuthRequestsAreRefused(t *testing.T) {
	t.Parallel()
	p := node(t, Node{})
	c := admin(t, p)
	reg := must[*Answer](t)(send(dcr(t, c, `{"clientName":"bad_oauth","owner":"admin","grantType":"password client_credentials refresh_token","saasApp":true}`)))
	var client struct{ ClientID, ClientSecret string }
	ok(t, reg.JSON(&client))
	good := "Basic " + basicOf(client.ClientID, client.ClientSecret)
	const form, js = "application/x-www-form-urlencoded", "application/json"
	deep := strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000)
	for name, r := range map[string]struct{ auth, kind, body string }{
		"nothing":               {"", form, ""},
		"no grant":              {good, form, "scope=x"},
		"unknown grant":         {good, form, "grant_type=magic"},
		"grant twice":           {good, form, "grant_type=client_credentials&grant_type=password"},
		"broken escape":         {good, form, "grant_type=%zz"},
		"NUL":                   {good, form, "grant_type=password&username=a%00b&password=x"},
		"not UTF-8":             {good, form, "grant_type=password&username=%ff%fe&password=x"},
		"many parameters":       {good, form, "grant_type=client_credentials" + strings.Repeat("&a=b", 10000)},
		"huge":                  {good, form, "grant_type=client_credentials&scope=" + strings.Repeat("a", 1<<20)},
		"many scopes":           {good, form, "grant_type=client_credentials&scope=" + strings.Repeat("apim%3Ax+", 7000)},
		"wrong media type":      {good, "text/xml", "<grant/>"},
		"broken media type":     {good, ";;;", "grant_type=client_credentials"},
		"JSON array":            {good, js, "[]"},
		"JSON nested":           {good, js, `{"grant_type":{"a":1}}`},
		"JSON deep":             {good, js, deep},
		"JSON twice":            {good, js, `{"grant_type":"password","grant_type":"client_credentials"}`},
		"JSON and more":         {good, js, `{"grant_type":"client_credentials"} {}`},
		"JSON truncated":        {good, js, `{"grant_type":`},
		"Basic no base64":       {"Basic !!!", form, "grant_type=client_credentials"},
		"Basic no colon":        {"Basic " + "YWJj", form, "grant_type=client_credentials"},
		"Basic empty":           {"Basic ", form, "grant_type=client_credentials"},
		"Basic huge":            {"Basic " + strings.Repeat("QUFB", 8000), form, "grant_type=client_credentials"},
		"Basic not UTF-8":       {"Basic " + "//79Ov8=", form, "grant_type=client_credentials"},
		"wrong secret":          {"Basic " + basicOf(client.ClientID, "x"), form, "grant_type=client_credentials"},
		"two methods":           {good, form, "grant_type=client_credentials&client_id=" + client.ClientID + "&client_secret=" + client.ClientSecret},
		"two clients":           {good, form, "grant_type=client_credentials&client_id=other"},
		"refresh no token":      {good, form, "grant_type=refresh_token"},
		"refresh garbage":       {good, form, "grant_type=refresh_token&refresh_token=" + strings.Repeat("z", 50000)},
		"password missing":      {good, form, "grant_type=password&username=admin"},
		"password wrong":        {good, form, "grant_type=password&username=admin&password=x"},
		"password huge":         {good, form, "grant_type=password&username=admin&password=" + strings.Repeat("p", 60000)},
		"user of nowhere":       {good, form, "grant_type=password&username=a%40nowhere.example&password=x"},
		"grant not implemented": {good, form, "grant_type=authorization_code&code=x"},
	} {
		for _, path := range []string{"/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"} {
			t.Run(name+path, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Base+path, strings.NewReader(r.body))
				ok(t, err)
				req.Header.Set("Content-Type", r.kind)
				if r.auth != "" {
					req.Header.Set("Authorization", r.auth)
				}
				a := must[*Answer](t)(send(req))
				if name == "many scopes" && path == "/oauth2/token" && a.Status == http.StatusOK {
					return // scopes that cannot be granted are dropped
				}
				if a.Status < 400 || a.Status > 499 {
					t.Fatalf("status %d: %.300s", a.Status, a.Body)
				}
				var e struct{ Error string }
				if a.JSON(&e) != nil || e.Error == "" {
					t.Errorf("no OAuth error: %.300s", a.Body)
				}
			})
		}
	}
	for name, body := range map[string]string{
		"empty": "", "array": "[]", "null": "null", "truncated": "{", "deep": deep, "wrong types": `{"clientName":5}`, "no name": `{}`,
		"huge": `{"clientName":"` + strings.Repeat("x", 1<<20) + `"}`, "name with a script": `{"clientName":"<script>","owner":"admin"}`,
		"NUL in name": `{"clientName":"a\u0000","owner":"admin"}`, "another owner": `{"clientName":"o1","owner":"nobody"}`,
		"script as callback": `{"clientName":"o2","owner":"admin","callbackUrl":"javascript:alert(1)"}`,
		"bad pattern":        `{"clientName":"o3","owner":"admin","callbackUrl":"regexp=((("}`,
	} {
		t.Run("registration/"+name, func(t *testing.T) {
			expectProblem(t, must[*Answer](t)(send(dcr(t, c, body))))
		})
	}
	if _, err := Login(t.Context(), p.Management(), "admin", "admin"); err != nil {
		t.Errorf("the administrator cannot sign in after all this: %v", err)
	}
	if rss := residentMB(t, p.Pid()); rss > 400 {
		t.Errorf("the process holds %d MB after all this", rss)
	}
}

func dcr(t *testing.T, c *Client, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.Base+"/client-registration/v0.17/register", strings.NewReader(body))
	ok(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.SetBasicAuth(c.User, c.Pass)
	return req
}

func basicOf(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
}

// TestGuessingIsSlowed: wrong passwords are delayed from the fifth on, for one
// account and address, and the right one works again after the delay.
func TestGuessingIsSlowed(t *testing.T) {
	t.Parallel()
	p := node(t, Node{})
	try := func(user, password string) *Answer {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Management()+Publisher+"/settings", nil)
		ok(t, err)
		req.SetBasicAuth(user, password)
		return must[*Answer](t)(send(req))
	}
	for i := range 6 {
		if a := try("admin", "wrong"+strconv.Itoa(i)); a.Status != http.StatusUnauthorized {
			t.Fatalf("status %d", a.Status)
		}
	}
	if a := try("admin", "admin"); a.Status != http.StatusUnauthorized {
		t.Errorf("the right password is taken during the delay: %d", a.Status)
	}
	eventually(t, 10*time.Second, "the administrator signs in after the delay", func(context.Context) bool { return try("admin", "admin").Status == http.StatusOK })
}
