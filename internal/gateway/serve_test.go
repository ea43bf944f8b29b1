package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

func TestServedCalls(t *testing.T) {
	for _, c := range []struct {
		name   string
		api    func(*snapshot.API)
		extra  func(*world) []snapshot.Item
		verb   string
		path   string
		header func(*world) []string
		target string
		host   string
	}{
		{name: "token", path: "/pizza/1.0/menu", header: tokenOf(), target: "/base/menu"},
		{name: "several schemes in one header", path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"Authorization: Basic YTpi, bearer " + w.token()} }, target: "/base/menu"},
		{name: "own auth header", api: func(a *snapshot.API) { a.Security.AuthHeader = "X-Auth" }, path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"x-auth: Bearer " + w.token()} }, target: "/base/menu"},
		{name: "sandbox key", path: "/pizza/1.0/menu", header: tokenOf(sandboxKey), target: "/menu", host: "sandbox.test"},
		{name: "API key in a header", path: "/pizza/1.0/menu", header: fixed("ApiKey: good-key"), target: "/base/menu"},
		{name: "API key in the query", path: "/pizza/1.0/menu?a=1&apikey=good-key&b=%20", target: "/base/menu?a=1&b=%20"},
		{name: "API key under its own name", api: func(a *snapshot.API) { a.Security.APIKeyHeader = "X-Key" }, path: "/pizza/1.0/menu?x-key=good-key", target: "/base/menu"},
		{name: "API key beside a bad token", path: "/pizza/1.0/menu", header: fixed("Authorization: Bearer nonsense", "apikey: good-key"), target: "/base/menu"},
		{name: "API key from its address", extra: apiKey(snapshot.APIKey{API: "api-1", Application: "app-1", IPs: []string{"192.0.2.0/24"}}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), target: "/base/menu"},
		{name: "API key from its referer", extra: apiKey(snapshot.APIKey{API: "api-1", Application: "app-1", Referers: []string{"*shop.com/*"}}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key", "Referer: https://shop.com/x"), target: "/base/menu"},
		{name: "API key without an application on a subscriptionless API", api: func(a *snapshot.API) { a.Security.Subscriptionless = true }, extra: apiKey(snapshot.APIKey{API: "api-1"}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), target: "/base/menu"},
		{name: "no authentication", path: "/pizza/1.0/open", target: "/base/open"},
		{name: "trailing slash", path: "/pizza/1.0/open/", target: "/base/open/"},
		{name: "one of the scopes", path: "/pizza/1.0/order/7", header: tokenOf(func(c *token.Claims) { c.Scope = "x admin" }), target: "/base/order/7"},
		{name: "user token", verb: "DELETE", path: "/pizza/1.0/order/7", header: tokenOf(func(c *token.Claims) { c.Aut = token.AutUser }), target: "/base/order/7"},
		{name: "original bytes of a segment", path: "/pizza/1.0/order/a%2Fb%20c,d;e=f?q=%2F&r", header: tokenOf(func(c *token.Claims) { c.Scope = "admin" }), target: "/base/order/a%2Fb%20c,d;e=f?q=%2F&r"},
		{name: "escaped context", path: "/p%69zza/1.0/%6Fpen", target: "/base/%6Fpen"},
		{name: "wildcard", path: "/pizza/1.0/files/a//b/c.txt", target: "/base/files/a//b/c.txt"},
		{name: "declared OPTIONS goes to the backend", verb: "OPTIONS", path: "/pizza/1.0/options", header: fixed("Origin: https://a", "Access-Control-Request-Method: GET"), target: "/base/options"},
		{name: "default version", api: func(a *snapshot.API) { a.Default, a.DefaultContext = true, "/pizza" }, path: "/pizza/open?x", target: "/base/open?x"},
		{name: "own version beside the default", api: func(a *snapshot.API) { a.Default, a.DefaultContext = true, "/pizza" }, path: "/pizza/1.0/open", target: "/base/open"},
		{name: "tenant's context", api: func(a *snapshot.API) { a.Context = "/t/shop.com/pizza/1.0" }, path: "/t/shop.com/pizza/1.0/open", target: "/base/open"},
		{name: "created API with an internal key", api: func(a *snapshot.API) { a.State = "CREATED" }, path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"Internal-Key: " + w.token(internal("api-1"))} }, target: "/base/menu"},
		{name: "internal key of a sandbox-only API", api: func(a *snapshot.API) { a.Production = nil }, path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"Internal-Key: " + w.token(internal("api-1"))} }, target: "/menu", host: "sandbox.test"},
		{name: "open resource of a sandbox-only API", api: func(a *snapshot.API) { a.Production = nil }, path: "/pizza/1.0/open", target: "/open", host: "sandbox.test"},
		{name: "prototype needs no subscription", api: func(a *snapshot.API) { a.State = "PROTOTYPED" }, path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.AuthorizedParty = "key-2" }), target: "/base/menu"},
		{name: "prototype serves sandbox keys from production", api: func(a *snapshot.API) { a.State = "PROTOTYPED" }, path: "/pizza/1.0/menu", header: tokenOf(sandboxKey), target: "/base/menu"},
		{name: "deprecated", api: func(a *snapshot.API) { a.State = "DEPRECATED" }, path: "/pizza/1.0/menu", header: tokenOf(), target: "/base/menu"},
		{name: "subscriptionless", api: func(a *snapshot.API) { a.Security.Subscriptionless = true }, path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.AuthorizedParty = "key-2" }), target: "/base/menu"},
		{name: "subscription waits for another tier", extra: subscribed("TIER_UPDATE_PENDING"), path: "/pizza/1.0/menu", header: tokenOf(), target: "/base/menu"},
		{name: "subscription waits for deletion", extra: subscribed("DELETE_PENDING"), path: "/pizza/1.0/menu", header: tokenOf(), target: "/base/menu"},
		{name: "only production blocked", extra: subscribed("PROD_ONLY_BLOCKED"), path: "/pizza/1.0/menu", header: tokenOf(sandboxKey), target: "/menu", host: "sandbox.test"},
		{name: "audience", api: func(a *snapshot.API) { a.Audiences = []string{"key-1"} }, path: "/pizza/1.0/menu", header: tokenOf(), target: "/base/menu"},
		{name: "token issued after the password reset", extra: revoked("sub/alice", snapshot.Revocation{Entity: "alice", NotBefore: time.Now().Add(-time.Hour)}), path: "/pizza/1.0/menu", header: tokenOf(), target: "/base/menu"},
		{name: "endpoint with a query", api: func(a *snapshot.API) { a.Production[0].URL = "https://backend.test:8443/?k=v" }, path: "/pizza/1.0/open?x=1", target: "/open?k=v&x=1", host: "backend.test:8443"},
		{name: "endpoint without a path, resource is the root", api: func(a *snapshot.API) {
			a.Production[0].URL = "http://backend.test"
			a.Operations = []snapshot.Operation{{Target: "/*", Verb: "GET", Auth: "None"}}
		}, path: "/pizza/1.0", target: "/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := pizzeria(t, c.api)
			if c.extra != nil {
				w.apply(false, c.extra(w)...)
			}
			var headers []string
			if c.header != nil {
				headers = c.header(w)
			}
			verb := c.verb
			if verb == "" {
				verb = "GET"
			}
			rec := w.do(verb, c.path, "", headers...)
			saw := backendSaw(t, rec)
			if saw.Target != c.target || saw.Method != verb {
				t.Errorf("backend saw %s %s, want %s %s", saw.Method, saw.Target, verb, c.target)
			}
			if host := c.host; host != "" && saw.Host != host {
				t.Errorf("backend saw host %s, want %s", saw.Host, host)
			}
			for _, name := range []string{"Internal-Key", "Apikey", "X-Auth", "X-Key"} {
				if v := saw.Header[name]; v != nil {
					t.Errorf("backend saw %s: %v", name, v)
				}
			}
			if v := strings.Join(saw.Header["Authorization"], ""); strings.Contains(strings.ToLower(v), "bearer") {
				t.Errorf("backend saw Authorization %q", v)
			}
			if rec.Header().Get(DecisionHeader) != "" || rec.Header().Get("X-Backend") != "yes" {
				t.Errorf("headers %v", rec.Header())
			}
			r := w.records.last()
			if r.Status != 200 || r.Code != 0 || r.Source.API != "api-1" || r.Verb != verb || r.Operation == "" {
				t.Errorf("reported %+v", r)
			}
		})
	}
}

func TestWhatTheBackendIsToldAboutTheCaller(t *testing.T) {
	w := pizzeria(t, nil)
	sent := []string{
		"Connection: close, X-Named", "X-Named: 1", "Keep-Alive: 1", "TE: trailers", "Upgrade: h2c", "Proxy-Authorization: x", "Expect: 100-continue",
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil", "X-Forwarded-Proto: https", "Forwarded: for=1.2.3.4", "X-WSO2-CLIENT-CERTIFICATE: x",
		"WSO2_AM_API_DEFAULT_VERSION: 1", "Accept: text/plain", "X-Two: a", "X-Two: b", "Cookie: c=d", "Host: shop.example:8280",
	}
	saw := backendSaw(t, w.get("/pizza/1.0/open", sent...))
	for _, gone := range []string{"Connection", "X-Named", "Keep-Alive", "Te", "Upgrade", "Proxy-Authorization", "Expect", "Forwarded", "X-Wso2-Client-Certificate", "Wso2_am_api_default_version"} {
		if v, ok := saw.Header[gone]; ok {
			t.Errorf("%s reached the backend: %v", gone, v)
		}
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Host": "shop.example:8280", "X-Forwarded-Proto": "http",
		"Accept": "text/plain", "X-Two": "a|b", "Cookie": "c=d",
	} {
		if got := strings.Join(saw.Header[name], "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if saw.Host != "backend.test" {
		t.Errorf("host %q", saw.Host)
	}
}

func TestForwardedHeadersOfATrustedProxyAreBelieved(t *testing.T) {
	w := pizzeria(t, nil, func(o *Options) { o.TrustedProxies = prefixes("192.0.2.0/24", "10.0.0.0/8") })
	for _, c := range []struct{ forwarded, client, told string }{
		{"", "192.0.2.7", "192.0.2.7"},
		{"1.2.3.4", "1.2.3.4", "1.2.3.4, 192.0.2.7"},
		{"9.9.9.9, 1.2.3.4, 10.1.1.1", "1.2.3.4", "9.9.9.9, 1.2.3.4, 10.1.1.1, 192.0.2.7"},
		{"10.2.2.2, 10.1.1.1", "10.2.2.2", "10.2.2.2, 10.1.1.1, 192.0.2.7"},
		{"1.2.3.4, nonsense", "192.0.2.7", "1.2.3.4, nonsense, 192.0.2.7"},
		{"[2001:db8::1]:443", "2001:db8::1", "[2001:db8::1]:443, 192.0.2.7"},
	} {
		var h []string
		if c.forwarded != "" {
			h = []string{"X-Forwarded-For: " + c.forwarded}
		}
		saw := backendSaw(t, w.get("/pizza/1.0/open", append(h, "X-Forwarded-Proto: https", "X-Forwarded-Host: public")...))
		if got := w.records.last().Client.String(); got != c.client {
			t.Errorf("%q: client %s, want %s", c.forwarded, got, c.client)
		}
		if got := strings.Join(saw.Header["X-Forwarded-For"], "|"); got != c.told {
			t.Errorf("%q: backend was told %q, want %q", c.forwarded, got, c.told)
		}
		if saw.Header["X-Forwarded-Proto"][0] != "https" || saw.Header["X-Forwarded-Host"][0] != "public" {
			t.Errorf("%v", saw.Header)
		}
	}
}

func TestEndpointSecurity(t *testing.T) {
	box := opener(func(s string) string { return strings.TrimPrefix(s, "sealed:") })
	for _, c := range []struct{ name, secret, header, want, target string }{
		{"basic", `{"type":"BASIC","username":"u","password":"p:ä\u0026"}`, "Authorization", "Basic dTpwOsOkJg==", "/base/open"},
		{"key in a header", `{"type":"APIKEY","keyName":"x-api","keyIn":"HEADER","keyValue":"s3"}`, "X-Api", "s3", "/base/open"},
		{"key in the query", `{"type":"APIKEY","keyName":"k","keyIn":"QUERY_PARAMETER","keyValue":"a&b"}`, "X-Api", "", "/base/open?k=a%26b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := pizzeria(t, func(a *snapshot.API) { a.Production[0].Sealed = "sealed:" + c.secret }, func(o *Options) { o.Box = box })
			saw := backendSaw(t, w.get("/pizza/1.0/open", "Authorization: Basic mine", "X-Api: "+c.want))
			if got := strings.Join(saw.Header[c.header], "|"); got != c.want || saw.Target != c.target {
				t.Errorf("backend saw %s %s: %q", saw.Target, c.header, got)
			}
		})
	}
}

type opener func(string) string

func (o opener) Open(s string) ([]byte, error) { return []byte(o(s)), nil }

func TestCORS(t *testing.T) {
	own := func(change func(*snapshot.CORS)) func(*snapshot.API) {
		return func(a *snapshot.API) {
			a.CORS = &snapshot.CORS{Enabled: true, Origins: []string{"https://shop.com", "https://*.pizza.it"}, Headers: []string{"x-a", "x-b"}, Methods: []string{"GET", "DELETE"}, Credentials: true}
			if change != nil {
				change(a.CORS)
			}
		}
	}
	for _, c := range []struct {
		name         string
		api          func(*snapshot.API)
		verb, path   string
		origin, want string
		asks         string
		status       int
		header       map[string]string
	}{
		{name: "preflight with the defaults", verb: "OPTIONS", path: "/pizza/1.0/menu", origin: "https://x", asks: "POST", status: 200, header: map[string]string{
			"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET,POST",
			"Access-Control-Allow-Headers": "authorization,Access-Control-Allow-Origin,Content-Type,SOAPAction,apikey,Internal-Key", "Access-Control-Allow-Credentials": "",
		}},
		{name: "preflight without the asked verb", verb: "OPTIONS", path: "/pizza/1.0/menu", origin: "https://x", status: 405, header: map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": ""}},
		{name: "preflight for a verb that is not there", verb: "OPTIONS", path: "/pizza/1.0/menu", origin: "https://x", asks: "DELETE", status: 405},
		{name: "preflight for a path that is not there", verb: "OPTIONS", path: "/pizza/1.0/none", origin: "https://x", asks: "GET", status: 404},
		{name: "preflight lists only verbs that are allowed too", api: own(nil), verb: "OPTIONS", path: "/pizza/1.0/order/1", origin: "https://shop.com", asks: "GET", status: 200, header: map[string]string{
			"Access-Control-Allow-Origin": "https://shop.com", "Access-Control-Allow-Methods": "GET,DELETE", "Access-Control-Allow-Headers": "x-a,x-b",
			"Access-Control-Allow-Credentials": "true", "Access-Control-Expose-Headers": "", "Vary": "Origin",
		}},
		{name: "preflight exposes headers", api: own(func(c *snapshot.CORS) { c.Expose = []string{"x-e"} }), verb: "OPTIONS", path: "/pizza/1.0/menu", origin: "https://shop.com", asks: "GET", status: 200, header: map[string]string{
			"Access-Control-Expose-Headers": "x-e", "Access-Control-Allow-Methods": "GET",
		}},
		{name: "ordinary call", verb: "GET", path: "/pizza/1.0/open", origin: "https://x", status: 200, header: map[string]string{
			"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "", "Access-Control-Allow-Headers": "",
		}},
		{name: "pattern", api: own(nil), verb: "GET", path: "/pizza/1.0/open", origin: "https://a.pizza.it", status: 200, header: map[string]string{"Access-Control-Allow-Origin": "https://a.pizza.it", "Access-Control-Allow-Credentials": "true"}},
		{name: "pattern is anchored and its dots are dots", api: own(nil), verb: "GET", path: "/pizza/1.0/open", origin: "https://a.pizzaxit.evil.com", status: 200, header: map[string]string{"Access-Control-Allow-Origin": ""}},
		{name: "origin that is not allowed is served all the same", api: own(nil), verb: "GET", path: "/pizza/1.0/open", origin: "https://evil.com", status: 200, header: map[string]string{"Access-Control-Allow-Origin": "", "Access-Control-Allow-Credentials": ""}},
		{name: "no credentials with any origin", api: own(func(c *snapshot.CORS) { c.Origins = []string{"*"} }), verb: "GET", path: "/pizza/1.0/open", origin: "https://x", status: 200, header: map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": ""}},
		{name: "refusal", api: own(nil), verb: "GET", path: "/pizza/1.0/menu", origin: "https://shop.com", status: 401, header: map[string]string{"Access-Control-Allow-Origin": "https://shop.com"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := pizzeria(t, c.api)
			h := []string{"Origin: " + c.origin}
			if c.asks != "" {
				h = append(h, "Access-Control-Request-Method: "+c.asks)
			}
			rec := w.do(c.verb, c.path, "", h...)
			if rec.Code != c.status {
				t.Errorf("status %d, want %d: %s", rec.Code, c.status, rec.Body)
			}
			for name, want := range c.header {
				if got := strings.Join(rec.Header()[http.CanonicalHeaderKey(name)], "|"); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

func TestCORSSwitchedOff(t *testing.T) {
	w := pizzeria(t, nil, func(o *Options) { o.CORS = &CORS{} })
	rec := w.do("OPTIONS", "/pizza/1.0/menu", "", "Origin: https://x", "Access-Control-Request-Method: GET")
	if rec.Code != 405 || rec.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%d %v", rec.Code, rec.Header())
	}
}

func TestVirtualHosts(t *testing.T) {
	w := newWorld(t)
	make := func(id, host, backend string) snapshot.Item {
		a := pizza()
		a.ID, a.Production[0].URL = id, "http://"+backend
		if host != "" {
			a.VHosts = []string{host}
		}
		return w.api(a)
	}
	w.apply(true, append(w.base(), make("api-1", "a.example", "a"), make("api-2", "B.example", "b"))...)
	for host, want := range map[string]string{"a.example:8280": "a", "b.EXAMPLE": "b", "127.0.0.1:8280": "a"} {
		if saw := backendSaw(t, w.get("/pizza/1.0/open", "Host: "+host)); saw.Host != want {
			t.Errorf("%s was served by %s, want %s", host, saw.Host, want)
		}
	}
	// The second goes; its host is then nobody's and the first serves it.
	w.apply(false, snapshot.Item{Key: snapshot.Key{Kind: snapshot.KindAPI, ID: "api-2", Env: "Default"}, Deleted: true})
	if saw := backendSaw(t, w.get("/pizza/1.0/open", "Host: b.example")); saw.Host != "a" {
		t.Errorf("served by %s, want a", saw.Host)
	}
}

func TestAuthorizationOfTheBackendPasses(t *testing.T) {
	w := pizzeria(t, nil)
	token := w.token()
	for _, c := range []struct{ name, path, sent, want string }{
		{"beside a token", "/pizza/1.0/menu", "Basic YTpi, Bearer " + token, "Basic YTpi"},
		{"where nothing is asked for", "/pizza/1.0/open", "Basic YTpi", "Basic YTpi"},
		{"a token never passes", "/pizza/1.0/open", "Bearer " + token, ""},
	} {
		saw := backendSaw(t, w.get(c.path, "Authorization: "+c.sent))
		if got := strings.Join(saw.Header["Authorization"], "|"); got != c.want {
			t.Errorf("%s: backend saw %q, want %q", c.name, got, c.want)
		}
	}
	basic := pizzeria(t, func(a *snapshot.API) { a.Security.Basic = true })
	if saw := backendSaw(t, basic.get("/pizza/1.0/open", "Authorization: Basic YTpi")); saw.Header["Authorization"] != nil {
		t.Errorf("a password for the gateway reached the backend: %v", saw.Header)
	}
	out := pizzeria(t, nil, func(o *Options) { o.OutboundAuthHeader = true })
	if saw := backendSaw(t, out.get("/pizza/1.0/menu", "Authorization: Bearer "+token)); len(saw.Header["Authorization"]) != 1 {
		t.Errorf("outbound auth header: %v", saw.Header["Authorization"])
	}
}
