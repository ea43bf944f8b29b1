package gateway

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
	"github.com/cardea-apim/cardea/internal/usage"
)

const (
	badDetail     = "Invalid Credentials. Make sure you have provided the correct security credentials"
	missingDetail = "Invalid Credentials. Make sure your API invocation call has a header: 'Authorization : Bearer ACCESS_TOKEN' or 'Authorization : Basic ACCESS_TOKEN' or 'apikey: API_KEY'"
	subDetail     = "User is NOT authorized to access the Resource. API Subscription validation failed."
)

func authBody(code, message, description string) string {
	return `{"code":"` + code + `","message":"` + message + `","description":"` + description + `"}`
}

func faultBody(code, message, description string) string {
	return `{"code":"` + code + `","type":"Status report","message":"` + message + `","description":"` + description + `"}`
}

func TestRefusals(t *testing.T) {
	bad := authBody("900901", "Invalid Credentials", badDetail)
	missing := authBody("900902", "Missing Credentials", missingDetail)
	forbidden := authBody("900908", "Resource forbidden ", subDetail)
	scoped := func(s string) func(*token.Claims) { return func(c *token.Claims) { c.Scope = s } }
	user := func(c *token.Claims) { c.Aut = token.AutUser }
	for _, c := range []struct {
		name   string
		api    func(*snapshot.API)
		extra  func(*world) []snapshot.Item
		verb   string
		path   string
		header func(*world) []string
		status int
		body   string
		rule   string
	}{
		{name: "no such API", path: "/nothing/1.0/x", status: 404, body: faultBody("404", "Not Found", "The requested resource is not available."), rule: "no-api"},
		{name: "no such resource", path: "/pizza/1.0/nothing", status: 404, body: faultBody("404", "Runtime Error", "No matching resource found for given API Request"), rule: "resource"},
		{name: "wrong verb, before authentication", verb: "DELETE", path: "/pizza/1.0/menu", status: 405, body: faultBody("405", "Runtime Error", "Method not allowed for given API resource"), rule: "method"},
		{name: "HEAD is a verb of its own", verb: "HEAD", path: "/pizza/1.0/menu", status: 405, rule: "method"},
		{name: "plain OPTIONS", verb: "OPTIONS", path: "/pizza/1.0/menu", status: 405, rule: "method"},
		{name: "dot segment", path: "/pizza/1.0/../menu", status: 400, rule: "bad-path"},
		{name: "encoded dot segment", path: "/pizza/1.0/%2e%2E/menu", status: 400, rule: "bad-path"},
		{name: "broken escape", path: "/pizza/1.0/%zz", status: 400, rule: "bad-path"},
		{name: "mis-cased tenant", path: "/t/Shop.com/pizza/1.0/menu", status: 500, rule: "tenant-case"},
		{name: "unknown tenant", path: "/t/nobody.com/pizza/1.0/menu", status: 404, rule: "no-api"},
		{
			name: "http on an https-only API", api: func(a *snapshot.API) { a.Transports = []string{"https"} }, path: "/pizza/1.0/menu", status: 403,
			body: faultBody("403", "Forbidden", "Unsupported Transport [ http ]. The requested resource is not available."), rule: "transport",
		},
		{
			name: "blocked API", api: func(a *snapshot.API) { a.State = "BLOCKED" }, path: "/pizza/1.0/menu", status: 503,
			body: `{"code":"700700","type":"API blocked","description":"This API has been blocked temporarily. Please try again later or contact the system administrators."}`, rule: "api-blocked",
		},
		{name: "blocked API, wrong verb first", api: func(a *snapshot.API) { a.State = "BLOCKED" }, verb: "DELETE", path: "/pizza/1.0/menu", status: 405, rule: "method"},
		{name: "retired API", api: func(a *snapshot.API) { a.State = "RETIRED" }, path: "/pizza/1.0/menu", status: 404, rule: "no-api"},
		{name: "created API without a key", api: func(a *snapshot.API) { a.State = "CREATED" }, path: "/pizza/1.0/open", status: 401, body: missing, rule: "no-credentials"},
		{name: "created API with a token", api: func(a *snapshot.API) { a.State = "CREATED" }, path: "/pizza/1.0/menu", header: tokenOf(), status: 403, body: forbidden, rule: "api-not-published"},

		{name: "no credentials", path: "/pizza/1.0/menu", status: 401, body: missing, rule: "no-credentials"},
		{
			name: "no credentials, own header names", api: func(a *snapshot.API) { a.Security.AuthHeader, a.Security.APIKeyHeader = "X-Auth", "X-Key" },
			path: "/pizza/1.0/menu", header: tokenOf(), status: 401, rule: "no-credentials",
			body: authBody("900902", "Missing Credentials", "Invalid Credentials. Make sure your API invocation call has a header: 'X-Auth : Bearer ACCESS_TOKEN' or 'X-Auth : Basic ACCESS_TOKEN' or 'X-Key: API_KEY'"),
		},
		{name: "scheme that is not enabled", api: func(a *snapshot.API) { a.Security.OAuth2 = false }, path: "/pizza/1.0/menu", header: tokenOf(), status: 401, body: missing, rule: "no-credentials"},
		{name: "opaque token", path: "/pizza/1.0/menu", header: fixed("Authorization: Bearer abcdef"), status: 401, body: bad, rule: "token-opaque"},
		{name: "malformed token", path: "/pizza/1.0/menu", header: fixed("Authorization: Bearer eyJa.b.c"), status: 401, body: bad, rule: "token-malformed"},
		{name: "expired token", path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.Expires = time.Now().Add(-time.Second) }), status: 401, body: bad, rule: "token-expired"},
		{name: "unknown issuer", path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.Issuer = "https://evil" }), status: 401, body: bad, rule: "token-issuer"},
		{name: "tampered token", path: "/pizza/1.0/menu", header: func(w *world) []string {
			s := w.token()
			i := len(s) - 10
			return []string{bearerOf(s[:i] + map[bool]string{true: "B", false: "A"}[s[i] == 'A'] + s[i+1:])}
		}, status: 401, body: bad, rule: "token-signature"},
		{name: "huge token", path: "/pizza/1.0/menu", header: fixed("Authorization: Bearer " + "eyJ" + strings.Repeat("a", 60000) + ".b.c"), status: 401, body: bad, rule: "token-length"},
		{name: "refresh token", path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.Type, c.TokenType = token.TypeRefresh, token.KindRefresh }), status: 401, body: bad, rule: "token-kind"},
		{name: "identity token of the resident issuer", path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.Type = token.TypeID }), status: 401, body: bad, rule: "token-type"},
		{name: "revoked token", path: "/pizza/1.0/menu", header: tokenOf(), extra: revoked("jti/jti-1", snapshot.Revocation{JTI: "jti-1"}), status: 401, body: bad, rule: "token-revoked"},
		{name: "password reset of the user", path: "/pizza/1.0/menu", header: tokenOf(), extra: revoked("sub/alice", snapshot.Revocation{Entity: "alice", NotBefore: time.Now()}), status: 401, body: bad, rule: "token-revoked"},
		{name: "key manager the API does not accept", api: func(a *snapshot.API) { a.KeyManagers = []string{"Okta"} }, path: "/pizza/1.0/menu", header: tokenOf(), status: 401, body: bad, rule: "key-manager"},
		{
			name: "audience", api: func(a *snapshot.API) { a.Audiences = []string{"https://pizza"} }, path: "/pizza/1.0/menu", header: tokenOf(), status: 403, rule: "audience",
			body: authBody("900914", "The access token does not allow you to access the requested resource", "The audience of the access token is not accepted by this API"),
		},
		{
			name: "application token on a user's resource", verb: "DELETE", path: "/pizza/1.0/order/7", header: tokenOf(), status: 401, rule: "token-user",
			body: authBody("900905", "Incorrect Access Token Type is provided", "The type of the access token does not fit the resource"),
		},
		{name: "user token on an application's resource", path: "/pizza/1.0/app", header: tokenOf(user), status: 401, rule: "token-user"},
		{name: "consumer key of nobody", path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.AuthorizedParty = "stranger" }), status: 403, body: forbidden, rule: "consumer-key"},
		{name: "not subscribed", path: "/pizza/1.0/menu", header: tokenOf(func(c *token.Claims) { c.AuthorizedParty = "key-2" }), status: 403, body: forbidden, rule: "no-subscription"},
		{
			name: "subscription blocked", extra: subscribed("BLOCKED"), path: "/pizza/1.0/menu", header: tokenOf(), status: 401, rule: "subscription-blocked",
			body: authBody("900907", "The requested API is temporarily blocked", "The subscription to this API is blocked"),
		},
		{name: "subscription blocked for production", extra: subscribed("PROD_ONLY_BLOCKED"), path: "/pizza/1.0/menu", header: tokenOf(), status: 401, rule: "subscription-blocked"},
		{
			name: "subscription on hold", extra: subscribed("ON_HOLD"), path: "/pizza/1.0/menu", header: tokenOf(), status: 401, rule: "subscription-inactive",
			body: authBody("900909", "The subscription to the API is inactive", "The subscription to this API is not active"),
		},
		{name: "subscription rejected", extra: subscribed("REJECTED"), path: "/pizza/1.0/menu", header: tokenOf(), status: 401, rule: "subscription-inactive"},
		{
			name: "scope", path: "/pizza/1.0/order/7", header: tokenOf(scoped("default order_write")), status: 403, rule: "scope",
			body: authBody("900910", "The access token does not allow you to access the requested resource", "User is NOT authorized to access the Resource. Scope validation failed."),
		},

		{name: "unknown API key", path: "/pizza/1.0/menu", header: fixed("apikey: nonsense"), status: 401, body: bad, rule: "api-key-unknown"},
		{name: "token as API key", path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"apikey: " + w.token()} }, status: 401, body: bad, rule: "api-key-length"},
		{name: "API key as token", path: "/pizza/1.0/menu", header: fixed("Authorization: Bearer good-key"), status: 401, body: bad, rule: "token-opaque"},
		{name: "API key where keys are not enabled", api: func(a *snapshot.API) { a.Security.APIKey = false }, path: "/pizza/1.0/menu", header: fixed("apikey: good-key"), status: 401, body: missing, rule: "no-credentials"},
		{name: "default key header when the API has its own", api: func(a *snapshot.API) { a.Security.APIKeyHeader = "X-Key" }, path: "/pizza/1.0/menu", header: fixed("apikey: good-key"), status: 401, rule: "no-credentials"},
		{name: "API key expired", extra: apiKey(snapshot.APIKey{API: "api-1", Application: "app-1", Expires: time.Unix(1, 0)}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 401, body: bad, rule: "api-key-expired"},
		{name: "API key of another API", extra: apiKey(snapshot.APIKey{API: "api-9", Application: "app-1"}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 403, body: forbidden, rule: "api-key-api"},
		{name: "API key from another address", extra: apiKey(snapshot.APIKey{API: "api-1", Application: "app-1", IPs: []string{"10.0.0.0/8", "2001:db8::1"}}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 403, body: forbidden, rule: "api-key-address"},
		{name: "API key without a referer", extra: apiKey(snapshot.APIKey{API: "api-1", Application: "app-1", Referers: []string{"shop.com/*"}}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 403, rule: "api-key-referer"},
		{name: "API key from another referer", extra: apiKey(snapshot.APIKey{API: "api-1", Application: "app-1", Referers: []string{"shop.com/*"}}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key", "Referer: evil.com/shop.com/"), status: 403, rule: "api-key-referer"},
		{name: "API key of nothing", extra: apiKey(snapshot.APIKey{}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 403, body: forbidden, rule: "api-key-api"},
		{name: "API key of an application that does not subscribe", extra: apiKey(snapshot.APIKey{Application: "app-2"}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 403, body: forbidden, rule: "no-subscription"},
		{name: "API key without an application", extra: apiKey(snapshot.APIKey{API: "api-1"}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 403, body: forbidden, rule: "api-key-application"},
		{name: "API key of an unsubscribed application", extra: apiKey(snapshot.APIKey{API: "api-1", Application: "app-2"}), path: "/pizza/1.0/menu", header: fixed("apikey: test-key"), status: 403, rule: "no-subscription"},
		{name: "bad token beside a missing key", path: "/pizza/1.0/menu", header: fixed("Authorization: Bearer eyJx.y.z"), status: 401, body: bad, rule: "token-malformed"},
		{name: "basic", api: func(a *snapshot.API) { a.Security.Basic = true }, path: "/pizza/1.0/menu", header: fixed("Authorization: Basic YTpi"), status: 401, body: bad, rule: "basic-not-verifiable"},
		{name: "client certificate is mandatory", api: func(a *snapshot.API) { a.Security.MutualTLS, a.Security.MutualTLSMandatory = true, true }, path: "/pizza/1.0/menu", header: tokenOf(), status: 401, body: bad, rule: "client-certificate"},

		{name: "internal key is no JWT", path: "/pizza/1.0/menu", header: fixed("Internal-Key: x"), status: 401, body: bad, rule: "internal-key"},
		{name: "access token as internal key", path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"Internal-Key: " + w.token()} }, status: 401, body: bad, rule: "internal-key"},
		{name: "internal key as bearer", path: "/pizza/1.0/menu", header: tokenOf(internal("api-1")), status: 401, body: bad, rule: "token-kind"},
		{name: "internal key of another API", path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"Internal-Key: " + w.token(internal("api-2"))} }, status: 403, body: forbidden, rule: "internal-key-api"},
		{name: "bad internal key does not fall back to a good token", path: "/pizza/1.0/menu", header: func(w *world) []string { return []string{"Internal-Key: x", bearerOf(w.token())} }, status: 401, rule: "internal-key"},

		{
			name: "sandbox key without a sandbox endpoint", api: func(a *snapshot.API) { a.Sandbox = nil }, path: "/pizza/1.0/menu", header: tokenOf(sandboxKey), status: 403, rule: "endpoint-of-key",
			body: faultBody("900901", "Runtime Error", "Sandbox key offered to the API with no sandbox endpoint"),
		},
		{
			name: "production key without a production endpoint", api: func(a *snapshot.API) { a.Production = nil }, path: "/pizza/1.0/menu", header: tokenOf(), status: 403, rule: "endpoint-of-key",
			body: faultBody("900901", "Runtime Error", "Production key offered to the API with no production endpoint"),
		},
		{
			name: "sandbox key on a production gateway", extra: environment("production"), path: "/pizza/1.0/menu", header: tokenOf(sandboxKey), status: 401, rule: "environment",
			body: "<error><message>Sandbox Key Provided for Production Gateway</message></error>",
		},
		{
			name: "production key on a sandbox gateway", extra: environment("sandbox"), path: "/pizza/1.0/menu", header: tokenOf(), status: 401, rule: "environment",
			body: "<error><message>Production Key Provided for Sandbox Gateway</message></error>",
		},
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
			if rec.Code != c.status {
				t.Errorf("status %d, want %d: %s", rec.Code, c.status, rec.Body)
			}
			if c.body != "" && rec.Body.String() != c.body {
				t.Errorf("body\n%s\nwant\n%s", rec.Body, c.body)
			}
			if strings.HasPrefix(rec.Body.String(), "{") && !json.Valid(rec.Body.Bytes()) {
				t.Errorf("body is not JSON: %s", rec.Body)
			}
			if got := rec.Header().Get("Access-Control-Allow-Origin"); got != "*" {
				t.Errorf("Access-Control-Allow-Origin %q, want *", got)
			}
			if verb != "HEAD" && rec.Header().Get("Content-Length") != strconv.Itoa(rec.Body.Len()) {
				t.Errorf("Content-Length %q of %d bytes", rec.Header().Get("Content-Length"), rec.Body.Len())
			}
			if challenge := rec.Header().Get("WWW-Authenticate"); (challenge != "") != (c.status == 401) {
				t.Errorf("WWW-Authenticate %q with status %d", challenge, c.status)
			}
			f, err := usage.OpenDecision([]byte("0123456789abcdef"), rec.Header().Get(DecisionHeader))
			if err != nil || f.Rule != c.rule || f.Status != c.status || f.Gateway != "gw1" {
				t.Errorf("decision %+v, %v; want rule %s", f, err, c.rule)
			}
			r := w.records.last()
			if r.Status != c.status || r.Code != f.Code || r.Decision == nil || r.Decision.Rule != c.rule || r.ID != rec.Header().Get(DecisionHeader) {
				t.Errorf("reported %+v with decision %+v", r, r.Decision)
			}
		})
	}
}

func tokenOf(change ...func(*token.Claims)) func(*world) []string {
	return func(w *world) []string { return []string{bearerOf(w.token(change...))} }
}

func fixed(h ...string) func(*world) []string { return func(*world) []string { return h } }

func sandboxKey(c *token.Claims) { c.AuthorizedParty = "key-sand" }

func internal(api string) func(*token.Claims) {
	return func(c *token.Claims) {
		c.TokenType, c.KeyType, c.APIs = token.KindInternal, "PRODUCTION", []token.APIRef{{ID: api}}
		c.AuthorizedParty, c.ClientID = "", ""
	}
}

func revoked(id string, r snapshot.Revocation) func(*world) []snapshot.Item {
	return func(w *world) []snapshot.Item {
		r.Expires = time.Now().Add(time.Hour)
		return []snapshot.Item{item(w.t, snapshot.KindRevocation, id, "", r)}
	}
}

func subscribed(state string) func(*world) []snapshot.Item {
	return func(w *world) []snapshot.Item {
		return []snapshot.Item{item(w.t, snapshot.KindSubscription, "app-1/api-1", "", subscription(state, "Unlimited"))}
	}
}

func apiKey(k snapshot.APIKey) func(*world) []snapshot.Item {
	return func(w *world) []snapshot.Item {
		k.Name, k.KeyType = "k", "PRODUCTION"
		return []snapshot.Item{item(w.t, snapshot.KindAPIKey, token.Hash("test-key"), "", k)}
	}
}

func environment(kind string) func(*world) []snapshot.Item {
	return func(w *world) []snapshot.Item {
		return []snapshot.Item{item(w.t, snapshot.KindEnvironment, "Default", "", snapshot.Environment{Name: "Default", Type: kind})}
	}
}

func TestChallengeNamesEveryScheme(t *testing.T) {
	w := pizzeria(t, func(a *snapshot.API) { a.Security.Basic = true })
	want := `Internal API Key realm="WSO2 API Manager", Bearer realm="WSO2 API Manager", Basic realm="WSO2 API Manager", ` +
		`API Key realm="WSO2 API Manager", error="invalid_token", error_description="The provided token is invalid"`
	if got := w.get("/pizza/1.0/menu").Header().Get("WWW-Authenticate"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRefusalsFollowTheTypeOfTheRequest(t *testing.T) {
	const fields = "<code>900902</code><message>Missing Credentials</message>"
	for _, c := range []struct {
		name, verb, contentType, kind, accept string
		wantType, within                      string
	}{
		{"JSON request", "POST", "application/json", "HTTP", "", "application/json; charset=UTF-8", `{"code":"900902"`},
		{"XML request", "POST", "application/xml; charset=utf-8", "HTTP", "", "application/xml; charset=UTF-8", "<jsonObject>" + fields},
		{"text/xml request", "POST", "text/xml", "HTTP", "", "application/xml; charset=UTF-8", "<jsonObject>" + fields},
		{"GET is JSON whatever it says", "GET", "application/xml", "HTTP", "", "application/json; charset=UTF-8", `{"code":"900902"`},
		{"Accept is not honoured", "GET", "", "HTTP", "application/xml", "application/json; charset=UTF-8", `{"code":"900902"`},
		{"no type", "POST", "", "HTTP", "", "application/json; charset=UTF-8", `{"code":"900902"`},
		{"SOAP", "POST", "text/xml", "SOAP", "", "text/xml; charset=UTF-8", "<faultcode>soapenv:Client</faultcode><faultstring>Authentication Failure</faultstring><detail>Missing Credentials</detail>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := pizzeria(t, func(a *snapshot.API) { a.Type = c.kind })
			rec := w.do(c.verb, "/pizza/1.0/menu", "", "Content-Type: "+c.contentType, "Accept: "+c.accept)
			if got := rec.Header().Get("Content-Type"); got != c.wantType || !strings.Contains(rec.Body.String(), c.within) {
				t.Errorf("%s %s", got, rec.Body)
			}
		})
	}
}

func TestWelcomePage(t *testing.T) {
	w := newWorld(t)
	rec := w.get("/")
	if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") || !strings.Contains(rec.Body.String(), "<h1>Welcome to APIM</h1>") {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if w.g.Ready() {
		t.Error("ready before the first snapshot")
	}
	w.apply(true)
	if !w.g.Ready() {
		t.Error("not ready after an empty snapshot")
	}
}
