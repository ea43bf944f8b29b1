package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/e2e"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/openapi"
)

const (
	pub = e2e.Publisher
	dev = e2e.Devportal
	adm = e2e.Admin
)

// running is a whole product in this process.
type running struct {
	t    *testing.T
	app  *App
	base string
	gw   string
	log  *safeBuffer
	stop func()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// run starts the product, with a log of everything, until the test ends. set
// are keys of the configuration and their values.
func run(t *testing.T, set ...string) *running {
	t.Helper()
	if testing.Short() {
		t.Skip("runs the whole product")
	}
	offset, err := e2e.FreeOffset()
	must(t, err)
	keys := map[string]string{"server.offset": strconv.Itoa(offset)}
	for kv := range slices.Chunk(set, 2) {
		keys[kv[0]] = kv[1]
	}
	cfg, err := config.Load(config.Source{Home: filepath.Join(t.TempDir(), "home"), Set: keys})
	must(t, err)
	r := &running{t: t, log: &safeBuffer{}, base: cfg.BaseURL, gw: "http://localhost:" + strconv.Itoa(8280+offset)}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.app, err = New(t.Context(), cfg, Options{Version: "test", Stdout: r.log, Log: log})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.app.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the product ended with %v", err)
		}
	})
	t.Cleanup(r.stop)
	for deadline := time.Now().Add(20 * time.Second); !r.app.Ready(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not ready: %s", r.log)
		}
	}
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var insecure = &http.Client{
	Timeout:       20 * time.Second,
	Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxIdleConnsPerHost: 8},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// who adds credentials to a request.
type who func(*http.Request)

func user(name, password string) who { return func(r *http.Request) { r.SetBasicAuth(name, password) } }

func bearer(token string) who {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}
func nobody(*http.Request) {}

// ask makes a request; body may be nil, a url.Values, or anything JSON can hold.
func (r *running) ask(as who, method, target string, body any) (int, []byte) {
	r.t.Helper()
	var in io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case url.Values:
		in, kind = strings.NewReader(b.Encode()), "application/x-www-form-urlencoded"
	case *bytes.Buffer:
		in, kind = b, "multipart/form-data; boundary=part"
	default:
		j, err := json.Marshal(b)
		must(r.t, err)
		in, kind = bytes.NewReader(j), "application/json"
	}
	if strings.HasPrefix(target, "/") {
		target = r.base + target
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, target, in)
	must(r.t, err)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	as(req)
	res, err := insecure.Do(req)
	must(r.t, err)
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	must(r.t, err)
	return res.StatusCode, out
}

type object = map[string]any

// want is ask with an expected kind of success and a decoded object.
func (r *running) want(as who, method, target string, body any) object {
	r.t.Helper()
	status, out := r.ask(as, method, target, body)
	if status < 200 || status > 299 {
		r.t.Fatalf("%s %s: status %d: %.600s", method, target, status, out)
	}
	v := object{}
	if len(bytes.TrimSpace(out)) > 0 && out[0] == '{' {
		must(r.t, json.Unmarshal(out, &v))
	}
	return v
}

func member(o object, name string) string {
	s, _ := o[name].(string)
	return s
}

// estate is what one tenant owns, and the secrets it met on the way.
type estate struct {
	ids     map[string]string // by path parameter and surface, such as dev/applicationId
	secrets map[string]string
	names   []string
}

// settle makes one of everything as one tenant's administrator.
func (r *running) settle(as who, mark, backend string) *estate {
	r.t.Helper()
	e := &estate{ids: map[string]string{}, secrets: map[string]string{}}
	hide := func(what, v string) string {
		if v == "" {
			r.t.Fatalf("no %s", what)
		}
		e.secrets[what] = v
		return v
	}
	endpoint := hide("endpoint password", mark+"-endpoint-pass-7391")
	doc := `{"openapi":"3.0.1","info":{"title":"` + mark + `","version":"1"},"paths":{"/a":{"get":{"responses":{"200":{"description":"ok"}}}}}}`
	props, err := json.Marshal(object{
		"name": mark + "API", "version": "1.0.0", "context": "/" + mark, "policies": []string{"Unlimited"},
		"securityScheme": []string{"oauth2", "api_key", "oauth_basic_auth_api_key_mandatory"}, "visibility": "PUBLIC",
		"endpointConfig": object{
			"endpoint_type": "http", "production_endpoints": object{"url": backend}, "sandbox_endpoints": object{"url": backend},
			"endpoint_security": object{"production": object{"enabled": true, "type": "BASIC", "username": "ep", "password": endpoint}},
		},
	})
	must(r.t, err)
	form := &bytes.Buffer{}
	w := multipart.NewWriter(form)
	must(r.t, w.SetBoundary("part"))
	f, err := w.CreateFormFile("file", "a.json")
	must(r.t, err)
	_, err = f.Write([]byte(doc))
	must(r.t, err)
	must(r.t, w.WriteField("additionalProperties", string(props)))
	must(r.t, w.Close())
	api := member(r.want(as, "POST", pub+"/apis/import-openapi", form), "id")
	rev := member(r.want(as, "POST", pub+"/apis/"+api+"/revisions", object{"description": "x"}), "id")
	r.want(as, "POST", pub+"/apis/"+api+"/deploy-revision?revisionId="+rev, []object{{"name": "Default", "vhost": "localhost", "displayOnDevportal": true}})
	r.want(as, "POST", pub+"/apis/change-lifecycle?action=Publish&apiId="+api, nil)
	hide("internal key", member(r.want(as, "POST", pub+"/apis/"+api+"/generate-key", nil), "apikey"))
	app := member(r.want(as, "POST", dev+"/applications", object{"name": mark + "App", "throttlingPolicy": "Unlimited", "tokenType": "JWT"}), "applicationId")
	keys := r.want(as, "POST", dev+"/applications/"+app+"/generate-keys", object{"keyType": "PRODUCTION", "grantTypesToBeSupported": []string{"client_credentials", "password", "refresh_token"}, "validityTime": 3600})
	hide("consumer secret", member(keys, "consumerSecret"))
	e.ids["keyMappingId"], e.ids["consumerKey"] = member(keys, "keyMappingId"), member(keys, "consumerKey")
	if tok, is := keys["token"].(map[string]any); is {
		hide("first token", member(tok, "accessToken"))
	}
	sub := r.want(as, "POST", dev+"/subscriptions", object{"applicationId": app, "apiId": api, "throttlingPolicy": "Unlimited"})
	secret := hide("regenerated secret", member(r.want(as, "POST", dev+"/applications/"+app+"/keys/PRODUCTION/regenerate-secret", nil), "consumerSecret"))
	hide("generated token", member(r.want(as, "POST", dev+"/applications/"+app+"/keys/PRODUCTION/generate-token", object{"consumerSecret": secret, "validityPeriod": 3600}), "accessToken"))
	token := member(r.want(user(e.ids["consumerKey"], secret), "POST", "/oauth2/token", url.Values{"grant_type": {"client_credentials"}}), "access_token")
	hide("access token", token)
	hide("application API key", member(r.want(as, "POST", dev+"/applications/"+app+"/api-keys/PRODUCTION/generate", object{"keyName": "k1", "validityPeriod": 3600}), "apikey"))
	hide("API key", member(r.want(as, "POST", dev+"/apis/"+api+"/api-keys/generate", object{"keyName": "k2", "keyType": "PRODUCTION", "validityPeriod": 3600}), "apikey"))
	kmSecret := hide("key manager secret", mark+"-km-secret-5521")
	km := r.want(as, "POST", adm+"/key-managers", object{
		"name": mark + "KM", "displayName": mark, "type": "WSO2-IS", "enabled": true, "issuer": "https://" + mark + ".example/realm",
		"clientRegistrationEndpoint": "https://idp.example/reg", "introspectionEndpoint": "https://idp.example/introspect", "tokenEndpoint": "https://idp.example/token",
		"revokeEndpoint": "https://idp.example/revoke", "certificates": object{"type": "JWKS", "value": "https://idp.example/jwks"},
		"additionalProperties": object{"Username": "cid", "Password": kmSecret},
	})
	e.ids["keyManagerId"] = member(km, "id")
	env := r.want(as, "POST", adm+"/environments", object{"name": mark + "Env", "displayName": mark, "vhosts": []object{{"host": mark + ".example", "httpPort": 80, "httpsPort": 443, "wsPort": 9099, "wssPort": 8099}}})
	e.ids["environmentId"] = member(env, "id")
	pol := r.want(as, "POST", adm+"/throttling/policies/application", object{"policyName": mark + "Pol", "displayName": mark, "defaultLimit": object{"type": "REQUESTCOUNTLIMIT", "requestCount": object{"timeUnit": "min", "unitTime": 1, "requestCount": 10}}})
	e.ids["adm/policyId"] = member(pol, "policyId")
	scope := r.want(as, "POST", pub+"/scopes", object{"name": mark + "scope", "displayName": mark, "description": "x", "bindings": []string{"admin"}})
	e.ids["scopeId"] = member(scope, "id")
	e.ids["apiId"], e.ids["revisionId"], e.ids["deploymentId"], e.ids["applicationId"], e.ids["subscriptionId"] = api, rev, rev, app, member(sub, "subscriptionId")
	e.names = []string{mark + "API", mark + "App", mark + "KM", mark + "Env", mark + "Pol", mark + "scope"}
	for k, v := range e.ids {
		if v == "" {
			r.t.Fatalf("no %s", k)
		}
	}
	return e
}

type op struct {
	surface, method, path, id string
	open                      bool // without any scope
	optional                  bool // nobody may call it, but credentials must carry its scope
	params                    openapi3.Parameters
}

// operations lists every operation of the three documents.
func operations(t *testing.T) []op {
	t.Helper()
	var out []op
	for base, doc := range map[string][]byte{pub: openapi.Publisher, dev: openapi.Devportal, adm: openapi.Admin} {
		d, err := openapi3.NewLoader().LoadFromData(doc)
		must(t, err)
		for path, item := range d.Paths.Map() {
			for method, o := range item.Operations() {
				sec := o.Security
				if sec == nil {
					sec = &d.Security
				}
				open, optional := true, false
				for _, alternative := range *sec {
					optional = optional || len(alternative) == 0
					for _, scopes := range alternative {
						open = open && len(scopes) == 0
					}
				}
				out = append(out, op{base, method, path, o.OperationID, open, optional, append(slices.Clone(item.Parameters), o.Parameters...)})
			}
		}
	}
	slices.SortFunc(out, func(a, b op) int {
		return strings.Compare(a.surface+a.path+a.method, b.surface+b.path+b.method)
	})
	return out
}

// target fills the operation's path, and the query parameters that name
// things, with what an estate owns.
func (o op) target(e *estate) string {
	path := o.path
	lookup := func(name string) string {
		switch {
		case name == "policyId" && o.surface == adm:
			return e.ids["adm/policyId"]
		case name == "policyLevel":
			return "application"
		case name == "policyId" || name == "policyName":
			return e.names[4]
		case name == "keyType":
			return "PRODUCTION"
		case name == "scopeName":
			return e.names[5]
		case name == "roleId":
			return "YWRtaW4="
		case name == "consumerSecretId":
			return "x"
		}
		return e.ids[name]
	}
	for strings.Contains(path, "{") {
		i, j := strings.Index(path, "{"), strings.Index(path, "}")
		v := lookup(path[i+1 : j])
		if v == "" {
			v = "none"
		}
		path = path[:i] + url.PathEscape(v) + path[j+1:]
	}
	q := url.Values{}
	for _, p := range o.params {
		if p.Value == nil || p.Value.In != "query" {
			continue
		}
		if v := lookup(p.Value.Name); v != "" && strings.HasSuffix(p.Value.Name, "Id") {
			q.Set(p.Value.Name, v)
		}
		switch p.Value.Name {
		case "action":
			q.Set("action", "Deprecate")
		case "newVersion":
			q.Set("newVersion", "9.0.0")
		case "owner":
			q.Set("owner", "admin")
		case "blockState":
			q.Set("blockState", "BLOCKED")
		case "name":
			q.Set("name", e.names[4])
		case "type":
			q.Set("type", "app")
		case "policyId":
			q.Set("policyId", e.ids["adm/policyId"])
		}
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return o.surface + path
}

// openToAnybody are the operations the contract opens; the list is reviewed.
var openToAnybody = []string{
	"getApi", "getApiSubscriptionPolicies", "getApiSwagger", "getApiThumbnail", "getSettings", "getSubscriptionAdditionalInfo", "getThrottlingPolicy",
	"listApiCategories", "listApis", "listTags", "listTenants", "listThrottlingPolicies",
}

func TestEveryOperationNeedsItsScope(t *testing.T) {
	r := run(t)
	e := &estate{ids: map[string]string{}, names: slices.Repeat([]string{"x"}, 6)}
	root := user("admin", "admin")
	// A client's own token carries no scope of the management APIs unless asked for.
	reg := r.want(root, "POST", "/client-registration/v0.17/register", object{"clientName": "no scope", "owner": "admin", "grantType": "client_credentials password"})
	as := user(member(reg, "clientId"), member(reg, "clientSecret"))
	poor := member(r.want(as, "POST", "/oauth2/token", url.Values{"grant_type": {"client_credentials"}}), "access_token")
	other := member(r.want(as, "POST", "/oauth2/token", url.Values{"grant_type": {"password"}, "username": {"admin"}, "password": {"admin"}, "scope": {"apim:policies_import_export openid"}}), "access_token")
	var open []string
	for _, o := range operations(t) {
		if o.open || o.optional {
			open = append(open, o.id)
			if o.surface != dev {
				t.Errorf("%s %s%s is open", o.method, o.surface, o.path)
			}
		}
		if o.open {
			continue
		}
		for name, as := range map[string]who{"nobody": nobody, "no scope": bearer(poor), "another scope": bearer(other), "garbage": bearer("a.b.c"), "wrong password": user("nobody-"+o.id, "x")} {
			if name == "nobody" && o.optional {
				continue
			}
			if name == "another scope" && strings.Contains(o.path, "throttling/policies/") {
				continue // that scope opens export and import
			}
			status, body := r.ask(as, o.method, o.target(e), nil)
			if status != http.StatusUnauthorized {
				t.Errorf("%s %s%s as %s: status %d: %.200s", o.method, o.surface, o.path, name, status, body)
			}
		}
	}
	slices.Sort(open)
	if open = slices.Compact(open); !slices.Equal(open, openToAnybody) {
		t.Errorf("open operations are %v", open)
	}

	// Our own interface is for administrators of the whole product.
	for _, path := range []string{"GET /api/cardea/v1/nodes", "GET /api/cardea/v1/audits", "POST /api/cardea/v1/nodes/tokens", "GET /api/cardea/v1/info", "GET /api/cardea/v1/receipts/1.1", "GET /api/cardea/v1/analytics/totals", "GET /api/cardea/v1/decisions/x"} {
		method, path, _ := strings.Cut(path, " ")
		for name, as := range map[string]who{"nobody": nobody, "garbage": bearer("a.b.c"), "no scope": bearer(poor)} {
			if status, body := r.ask(as, method, path, nil); status != http.StatusUnauthorized && (status != http.StatusForbidden || name != "no scope") {
				t.Errorf("%s %s as %s: status %d: %.200s", method, path, name, status, body)
			}
		}
	}
	behindProxy := func(q *http.Request) { q.Header.Set("X-Forwarded-For", "203.0.113.9") }
	if status, _ := r.ask(behindProxy, "GET", "/metrics", nil); status != http.StatusUnauthorized {
		t.Errorf("metrics through a proxy: status %d", status)
	}
	both := func(q *http.Request) { root(q); behindProxy(q) }
	if status, _ := r.ask(both, "GET", "/metrics", nil); status != http.StatusOK {
		t.Errorf("metrics for the administrator: status %d", status)
	}
}

func TestTenantsAreIsolated(t *testing.T) {
	r := run(t)
	_, err := r.app.people.directory.CreateTenant(apim.WithActor(t.Context(), &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true}),
		identity.NewTenant{Domain: "two.example", Admin: "boss", Password: "Boss-pass-1", Email: "boss@two.example", FirstName: "B", LastName: "B"})
	must(t, err)
	root, boss := user("admin", "admin"), user("boss@two.example", "Boss-pass-1")
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer backend.Close()
	mine, theirs := r.settle(root, "alpha", backend.URL), r.settle(boss, "beta", backend.URL)

	for _, c := range []struct {
		name   string
		as     who
		own    who
		victim *estate
	}{
		{"tenant two on carbon.super", boss, root, mine}, {"carbon.super on tenant two", root, boss, theirs},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := r.state(c.own, c.victim)
			for _, o := range operations(t) {
				target := o.target(c.victim)
				var body any = object{}
				if o.method == "PUT" { // what the owner would send
					if status, b := r.ask(c.own, "GET", target, nil); status == http.StatusOK && b[0] == '{' {
						body = json.RawMessage(b)
					}
				}
				switch o.id {
				case "createSubscription":
					body = object{"applicationId": c.victim.ids["applicationId"], "apiId": c.victim.ids["apiId"], "throttlingPolicy": "Unlimited"}
				case "createSubscriptions":
					body = []object{{"applicationId": c.victim.ids["applicationId"], "apiId": c.victim.ids["apiId"], "throttlingPolicy": "Unlimited"}}
				case "deployApiRevision", "undeployApiRevision":
					body = []object{{"name": "Default", "vhost": "localhost"}}
				case "changePassword", "updateTenantConfig", "updateSystemScopes", "updateRoleAliases", "updateRoleAliasesShort":
					continue // of the caller's own
				case "mapApplicationKeys":
					body = object{"consumerKey": c.victim.ids["consumerKey"], "consumerSecret": "x", "keyType": "PRODUCTION"}
				case "generateApplicationKeys":
					body = object{"keyType": "SANDBOX", "grantTypesToBeSupported": []string{"client_credentials"}}
				case "associateApiApiKey", "associateApplicationApiKey":
					body = object{"keyUUID": "x", "apiUUID": c.victim.ids["apiId"], "applicationUUID": c.victim.ids["applicationId"]}
				}
				if o.method == "GET" || o.method == "HEAD" {
					body = nil
				}
				status, out := r.ask(c.as, o.method, target, body)
				addressed := strings.Contains(o.path, "Id}") && !strings.Contains(o.path, "{roleId}") || strings.Contains(target, "apiId=")
				if addressed && status < 300 {
					t.Errorf("%s %s: status %d: %.300s", o.method, target, status, out)
				}
				if status >= 500 && !fault.MayAnswer500(o.method, o.path) {
					t.Errorf("%s %s: status %d: %.300s", o.method, target, status, out)
				}
				for _, name := range c.victim.names {
					if status < 300 && bytes.Contains(out, []byte(name)) {
						t.Errorf("%s %s tells of %s: %.300s", o.method, target, name, out)
					}
				}
				for what, s := range c.victim.secrets {
					if bytes.Contains(out, []byte(s)) {
						t.Errorf("%s %s tells the %s", o.method, target, what)
					}
				}
			}
			if after := r.state(c.own, c.victim); after != before {
				t.Errorf("the owner's things changed:\n%s\nwere\n%s", after, before)
			}
		})
	}

	t.Run("tokens", func(t *testing.T) {
		// The other tenant's client cannot end a token. (It may look at one: the
		// original allows introspection across tenants by default.)
		token := mine.secrets["access token"]
		as := user(theirs.ids["consumerKey"], theirs.secrets["regenerated secret"])
		r.ask(as, "POST", "/oauth2/revoke", url.Values{"token": {token}})
		if status, out := r.ask(bearer(token), "GET", r.gw+"/alpha/1.0.0/a", nil); status != http.StatusOK {
			t.Errorf("after the other tenant's revocation: status %d: %s", status, out)
		}
		if status, _ := r.ask(bearer(theirs.secrets["access token"]), "GET", r.gw+"/alpha/1.0.0/a", nil); status == http.StatusOK {
			t.Error("a token of one tenant opens an API of the other")
		}
		key := func(q *http.Request) { q.Header.Set("ApiKey", theirs.secrets["API key"]) }
		if status, _ := r.ask(key, "GET", r.gw+"/alpha/1.0.0/a", nil); status == http.StatusOK {
			t.Error("an API key of one tenant opens an API of the other")
		}
		internal := func(q *http.Request) { q.Header.Set("Internal-Key", theirs.secrets["internal key"]) }
		if status, _ := r.ask(internal, "GET", r.gw+"/alpha/1.0.0/a", nil); status == http.StatusOK {
			t.Error("an internal key of one tenant opens an API of the other")
		}
	})
	for _, path := range []string{"/api/cardea/v1/nodes", "/api/cardea/v1/info"} {
		if status, out := r.ask(boss, "GET", path, nil); status != http.StatusUnauthorized {
			t.Errorf("%s for a tenant's administrator: status %d: %s", path, status, out)
		}
	}
}

// state is what the owner sees of the things others must not change.
func (r *running) state(as who, e *estate) string {
	var b strings.Builder
	for _, path := range []string{
		pub + "/apis/" + e.ids["apiId"], pub + "/apis/" + e.ids["apiId"] + "/swagger", pub + "/apis/" + e.ids["apiId"] + "/deployments", pub + "/apis/" + e.ids["apiId"] + "/revisions",
		pub + "/scopes/" + e.ids["scopeId"], dev + "/applications/" + e.ids["applicationId"], dev + "/applications/" + e.ids["applicationId"] + "/oauth-keys",
		dev + "/applications/" + e.ids["applicationId"] + "/api-keys/PRODUCTION", dev + "/subscriptions/" + e.ids["subscriptionId"], pub + "/subscriptions?apiId=" + e.ids["apiId"],
		adm + "/key-managers/" + e.ids["keyManagerId"], adm + "/environments/" + e.ids["environmentId"], adm + "/throttling/policies/application/" + e.ids["adm/policyId"],
	} {
		status, out := r.ask(as, "GET", path, nil)
		var v any
		if json.Unmarshal(out, &v) == nil {
			out, _ = json.Marshal(v)
		}
		fmt.Fprintf(&b, "%s %d %s\n", path, status, out)
	}
	return b.String()
}

func TestNoSecretIsKeptOrToldInClear(t *testing.T) {
	r := run(t)
	root := user("admin", "admin")
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer backend.Close()
	e := r.settle(root, "gamma", backend.URL)
	ctx := apim.WithActor(t.Context(), &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true})
	for _, name := range []string{"carol", "dave"} {
		e.secrets["password of "+name] = name + "-secret-pass-88"
		_, err := r.app.people.directory.CreateUser(ctx, apim.SuperTenant, identity.NewUser{Name: name, Password: name + "-secret-pass-88", Roles: []string{"Internal/subscriber"}})
		must(t, err)
	}
	reg := r.want(root, "POST", "/client-registration/v0.17/register", object{"clientName": "secrets", "owner": "admin", "grantType": "password refresh_token", "saasApp": true})
	e.secrets["registered secret"] = member(reg, "clientSecret")
	client := user(member(reg, "clientId"), member(reg, "clientSecret"))
	got := r.want(client, "POST", "/oauth2/token", url.Values{"grant_type": {"password"}, "username": {"carol"}, "password": {e.secrets["password of carol"]}, "scope": {"openid apim:subscribe"}})
	e.secrets["user token"], e.secrets["refresh token"], e.secrets["id token"] = member(got, "access_token"), member(got, "refresh_token"), member(got, "id_token")
	got = r.want(client, "POST", "/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {e.secrets["refresh token"]}})
	e.secrets["second refresh token"] = member(got, "refresh_token")
	r.want(client, "POST", "/oauth2/revoke", url.Values{"token": {member(got, "refresh_token")}})
	e.secrets["new password"] = "carol-newer-pass-99"
	r.want(user("carol", e.secrets["password of carol"]), "POST", dev+"/me/change-password", object{"currentPassword": e.secrets["password of carol"], "newPassword": e.secrets["new password"]})
	join := r.want(root, "POST", "/api/cardea/v1/nodes/tokens", object{"roles": []string{"gateway"}})
	e.secrets["join token"] = member(join, "token")[strings.LastIndexByte(member(join, "token"), '.')+1:]
	e.secrets["wrong password"] = "guessed-wrong-4477"
	r.ask(user("admin", "guessed-wrong-4477"), "GET", pub+"/apis", nil)
	r.ask(client, "POST", "/oauth2/token", url.Values{"grant_type": {"password"}, "username": {"dave"}, "password": {"guessed-wrong-4477"}})
	// Calls that go well and calls that are refused.
	for _, as := range []who{bearer(e.secrets["access token"]), bearer(e.secrets["user token"]), func(q *http.Request) { q.Header.Set("ApiKey", e.secrets["API key"]) }} {
		r.ask(as, "GET", r.gw+"/gamma/1.0.0/a", nil)
		r.ask(as, "GET", r.gw+"/gamma/1.0.0/none", nil)
		r.ask(as, "GET", r.gw+"/none/1.0.0/a?access_token="+e.secrets["user token"], nil)
	}
	// Once told at their making, never again by a look.
	for _, path := range []string{
		pub + "/apis/" + e.ids["apiId"], pub + "/apis/" + e.ids["apiId"] + "/swagger", dev + "/apis/" + e.ids["apiId"], dev + "/apis/" + e.ids["apiId"] + "/swagger",
		dev + "/applications/" + e.ids["applicationId"] + "/api-keys/PRODUCTION", dev + "/apis/" + e.ids["apiId"] + "/api-keys", adm + "/key-managers/" + e.ids["keyManagerId"], adm + "/key-managers",
	} {
		status, out := r.ask(root, "GET", path, nil)
		for what, s := range e.secrets {
			if bytes.Contains(out, []byte(s)) {
				t.Errorf("%s (%d) tells the %s", path, status, what)
			}
		}
	}
	audits, err := r.app.db.Audits(ctx, apim.Across(apim.Platform), apim.Query{})
	must(t, err)
	if len(audits.Items) < 10 {
		t.Fatalf("%d audit rows", len(audits.Items))
	}
	for _, a := range audits.Items {
		for what, s := range e.secrets {
			if bytes.Contains(a.Before, []byte(s)) || bytes.Contains(a.After, []byte(s)) {
				t.Errorf("audit of %s %s holds the %s", a.Action, a.Kind, what)
			}
		}
		for _, sealed := range []string{`"argon2id:v=`, `"sealed:v1:`} {
			if bytes.Contains(a.After, []byte(sealed)) || bytes.Contains(a.Before, []byte(sealed)) {
				t.Errorf("audit of %s %s holds what begins with %s: %s", a.Action, a.Kind, sealed, a.After)
			}
		}
		vs, err := r.app.db.Versions(ctx, apim.Across(apim.Platform), a.Kind, a.Object)
		must(t, err)
		for _, v := range vs {
			if v.Doc == "" {
				continue
			}
			doc, err := r.app.db.Blobs.Get(ctx, v.Doc)
			must(t, err)
			for what, s := range e.secrets {
				if bytes.Contains(doc, []byte(s)) {
					t.Errorf("version of %s holds the %s", a.Kind, what)
				}
			}
		}
	}
	home := r.app.home.dir
	r.stop()
	log := r.log.String()
	if !strings.Contains(log, "serving") {
		t.Fatal("no log")
	}
	for what, s := range e.secrets {
		if i := strings.Index(log, s); i >= 0 {
			t.Errorf("the log holds the %s: %.300s", what, log[max(0, i-200):])
		}
	}
	must(t, filepath.WalkDir(home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for what, s := range e.secrets {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s holds the %s", path, what)
			}
		}
		i, err := d.Info()
		if err == nil && i.Mode().Perm()&0o077 != 0 && filepath.Ext(path) != ".pem" { // certificates are public
			t.Errorf("%s is open to others: %v", path, i.Mode())
		}
		return err
	}))
}
