package admin_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/api/admin"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/store"
)

type clients struct{ db *store.DB }

func (k clients) Client(ctx context.Context, s apim.Scope, id apim.ClientID) (*apim.Client, error) {
	return k.db.Clients.Get(ctx, s, id)
}

func (k clients) UpdateClient(ctx context.Context, s apim.Scope, c *apim.Client) error {
	return k.db.Clients.Update(ctx, s, c)
}

type remover struct{ db *store.DB }

func (r remover) Remove(ctx context.Context, app *apim.Application) error {
	return r.db.Applications.Delete(ctx, apim.In(app.Tenant), app.ID)
}

type sealer struct{}

func (sealer) Seal(b []byte) string {
	return "sealed:v1:" + base64.StdEncoding.EncodeToString(b)
}

type world struct {
	t   *testing.T
	db  *store.DB
	h   http.Handler
	svc *govern.Service
}

var actors = map[string]*apim.Actor{
	"root":  {User: "root", UserID: "id-root", Tenant: apim.SuperTenant, Scopes: []string{"apim:admin"}},
	"boss":  {User: "boss@other.org", UserID: "id-boss", Tenant: "other.org", Scopes: []string{"apim:admin"}},
	"tiers": {User: "tiers", UserID: "id-tiers", Tenant: apim.SuperTenant, Scopes: []string{"apim:admin_tier_view"}},
	"alice": {User: "alice", UserID: "id-alice", Tenant: apim.SuperTenant, Scopes: []string{"apim:subscribe"}},
}

const other = apim.TenantID("other.org")

func newWorld(t *testing.T, unlimited bool) *world {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := apim.WithActor(t.Context(), &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true})
	db, err := store.Open(ctx, "sqlite:"+filepath.Join(t.TempDir(), "db"), store.Options{})
	must(err)
	t.Cleanup(func() { db.Close() })
	for i, d := range []apim.TenantID{apim.SuperTenant, other} {
		must(db.Tenants.Create(ctx, apim.In(d), &apim.Tenant{Meta: apim.Meta{Tenant: d}, Domain: d, Number: int64(i), Active: true}))
		must(db.TenantConfs.Create(ctx, apim.In(d), &apim.TenantConf{Meta: apim.Meta{Tenant: d}, ID: d, JSON: identity.DefaultConf()}))
	}
	for _, n := range []string{"alice", "bob", "stranger"} {
		must(db.Users.Create(ctx, apim.In(apim.SuperTenant), &apim.User{
			Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: apim.UserID("id-" + n), Name: n,
			Roles: []string{"Internal/subscriber"}, Subscriber: n != "stranger",
		}))
	}
	dir, err := identity.New(identity.Options{Tenants: db.Tenants, Confs: db.TenantConfs, Users: db.Users, Roles: db.Roles, Tokens: db.Tokens, InTx: db.InTx})
	must(err)
	w := &world{t: t, db: db}
	w.svc, err = govern.New(govern.Options{
		InTx: db.InTx, Tenants: db.Tenants, Users: db.Users, APIs: db.APIs, Deployments: db.Deployments, Policies: db.Policies,
		Environments: db.Environments, KeyManagers: db.KeyManagers, Applications: db.Applications, Subscriptions: db.Subscriptions,
		KeyMappings: db.KeyMappings, Confs: dir, Remover: remover{db}, Clients: clients{db}, Seal: sealer{}, Host: "apim.example", GatewayHost: "localhost",
		Ports: govern.Ports{Management: 9444, HTTP: 8281, HTTPS: 8244, WS: 9100, WSS: 8100, WebsubHTTP: 9022, WebsubHTTPS: 8022}, Unlimited: unlimited,
		Gateways: func(context.Context) ([]apim.GatewayNode, error) {
			return []apim.GatewayNode{
				{ID: "gw1", Labels: []string{"Default"}, LastSeen: time.Now().UnixMilli(), Ready: true},
				{ID: "gw2", Labels: []string{"Default"}, LastSeen: time.Now().Add(-time.Minute).UnixMilli()},
				{ID: "gw3", Labels: []string{"eu"}},
			}, nil
		},
	})
	must(err)
	must(w.svc.Bootstrap(ctx))
	must(w.svc.Bootstrap(ctx)) // every start runs it again
	w.h, err = admin.New(admin.Options{Service: w.svc, Authenticate: func(_ context.Context, r *http.Request) (*apim.Actor, error) {
		a := actors[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		if a == nil {
			return nil, &fault.NotAuthorized
		}
		return a, nil
	}})
	must(err)
	return w
}

type object = map[string]any

func (w *world) send(user string, want int, r *http.Request) object {
	w.t.Helper()
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+user)
	}
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	if rec.Code != want {
		w.t.Fatalf("%s %s as %q: status %d, want %d: %s", r.Method, r.URL, user, rec.Code, want, rec.Body)
	}
	var out object
	if json.Unmarshal(rec.Body.Bytes(), &out) != nil {
		return object{"": rec.Body.String()}
	}
	return out
}

func (w *world) call(user string, want int, method, path, body string) object {
	w.t.Helper()
	r := httptest.NewRequest(method, admin.Base+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	return w.send(user, want, r)
}

func (w *world) refused(user string, status, code int, method, path, body string) {
	w.t.Helper()
	got := w.call(user, status, method, path, body)
	if fmt.Sprint(got["code"]) != fmt.Sprint(code) {
		w.t.Fatalf("%s %s: code %v, want %d: %v", method, path, got["code"], code, got)
	}
}

func names(list object, member string) string {
	var out []string
	items, _ := list["list"].([]any)
	for _, it := range items {
		out = append(out, fmt.Sprint(it.(object)[member]))
	}
	return strings.Join(out, " ")
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) as(user string) context.Context { return apim.WithActor(w.t.Context(), actors[user]) }

const limit5 = `"defaultLimit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"requestCount":5,"timeUnit":"minutes","unitTime":1}}`

func TestPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	for kind, want := range map[string]string{
		"application":  "10PerMin 20PerMin 50PerMin Unlimited",
		"advanced":     "10KPerMin 20KPerMin 50KPerMin Unlimited",
		"subscription": "AIBronze AIGold AISilver AsyncBronze AsyncDefaultSubscriptionless AsyncGold AsyncSilver AsyncUnlimited AsyncWHBronze AsyncWHGold AsyncWHSilver AsyncWHUnlimited Bronze DefaultSubscriptionless Gold Silver Unauthenticated Unlimited",
	} {
		at := "/throttling/policies/" + kind
		if got := names(w.call("tiers", 200, "GET", at, ""), "policyName"); got != want {
			t.Errorf("%s: %q", kind, got)
		}
		body := func(name string) string { return `{"policyName":"` + name + `",` + limit5 + `}` }
		p := w.call("root", 201, "POST", at, body("Mine"))
		if l := p["defaultLimit"].(object)["requestCount"].(object); l["timeUnit"] != "minutes" || l["requestCount"] != 5.0 || p["isDeployed"] != true || p["displayName"] != "Mine" {
			t.Errorf("%s created: %v", kind, p)
		}
		one := at + "/" + p["policyId"].(string)
		w.refused("root", 409, 409, "POST", at, body("Mine"))
		w.call("boss", 201, "POST", at, body("Mine")) // names are per tenant
		w.refused("boss", 404, 404, "GET", one, "")
		w.refused("alice", 401, 401, "POST", at, `{`)
		w.refused("tiers", 401, 401, "DELETE", one, "")
		w.refused("", 401, 401, "GET", at, "")
		for _, bad := range []string{
			`{}`, `{"policyName":"x"}`, `{` + limit5 + `}`, `[]`, `{"policyName":"` + strings.Repeat("x", 61) + `",` + limit5 + `}`,
			`{"policyName":"x","defaultLimit":{"type":"NOLIMIT"}}`,
			`{"policyName":"x","defaultLimit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"requestCount":-1,"timeUnit":"min","unitTime":1}}}`,
			`{"policyName":"x","defaultLimit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"requestCount":"5","timeUnit":"min","unitTime":1}}}`,
		} {
			w.call("root", 400, "POST", at, bad)
		}
		w.refused("root", 500, 500, "POST", at, `{"policyName":"x","defaultLimit":{"type":"EVENTCOUNTLIMIT","requestCount":{"requestCount":5,"timeUnit":"min","unitTime":1}}}`)
		up := w.call("root", 200, "PUT", one, `{"policyName":"Renamed","description":"d","defaultLimit":{"type":"BANDWIDTHLIMIT","bandwidth":{"dataAmount":7,"dataUnit":"KB","timeUnit":"hour","unitTime":2}}}`)
		if up["policyName"] != "Mine" || up["defaultLimit"].(object)["bandwidth"].(object)["dataAmount"] != 7.0 {
			t.Errorf("%s updated: %v", kind, up)
		}
		w.call("root", 200, "GET", one, "")
		w.call("root", 404, "PUT", at+"/nowhere", body("x"))
		w.call("root", 200, "DELETE", one, "")
		w.refused("root", 404, 404, "DELETE", one, "")
	}
	if got := names(w.call("root", 200, "GET", "/throttling/policies/search?query=type:all+name:Unlimited", ""), "type"); got != "app sub api" && len(strings.Fields(got)) != 3 {
		t.Errorf("search: %q", got)
	}
	if got := names(w.call("root", 200, "GET", "/throttling/policies/search/?query=type:app", ""), "policyName"); got != "10PerMin 20PerMin 50PerMin Unlimited" {
		t.Errorf("search by type: %q", got)
	}
}

func TestPolicyRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	in := apim.In(apim.SuperTenant)
	full := w.call("root", 201, "POST", "/throttling/policies/subscription", `{"policyName":"Full","graphQLMaxDepth":3,"graphQLMaxComplexity":4,"rateLimitCount":9,"rateLimitTimeUnit":"sec","subscriberCount":2,
		"customAttributes":[{"name":"a","value":"b"}],"stopOnQuotaReach":false,"billingPlan":"COMMERCIAL","permissions":{"permissionType":"DENY","roles":["x"]},"monetization":{"monetizationPlan":"FIXEDRATE","properties":{}},
		"defaultLimit":{"type":"AIAPIQUOTALIMIT","aiApiQuota":{"requestCount":2147483647,"totalTokenCount":5,"timeUnit":"min","unitTime":1}}}`)
	back := w.call("root", 200, "GET", "/throttling/policies/subscription/"+full["policyId"].(string), "")
	if fmt.Sprint(full) != fmt.Sprint(back) || back["rateLimitCount"] != 9.0 || back["stopOnQuotaReach"] != false ||
		back["permissions"].(object)["permissionType"] != "DENY" || back["defaultLimit"].(object)["aiApiQuota"].(object)["requestCount"] != 2147483647.0 {
		t.Errorf("round trip: %v", back)
	}
	adv := w.call("root", 201, "POST", "/throttling/policies/advanced", `{"policyName":"Adv",`+limit5+`,"conditionalGroups":[{"description":"g","conditions":[
		{"type":"IPCONDITION","invertCondition":true,"ipCondition":{"ipConditionType":"IPRANGE","startingIP":"10.0.0.1","endingIP":"10.0.0.9"}},
		{"type":"HEADERCONDITION","headerCondition":{"headerName":"a","headerValue":"b"}}],"limit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"requestCount":1,"timeUnit":"min","unitTime":1}}}]}`)
	if g := adv["conditionalGroups"].([]any)[0].(object); len(g["conditions"].([]any)) != 2 {
		t.Errorf("groups: %v", g)
	}
	for _, bad := range []string{
		`{"conditions":[{"type":"MOON"}],"limit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"requestCount":1,"timeUnit":"min","unitTime":1}}}`,
		`{"conditions":[{"type":"HEADERCONDITION"}],"limit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"requestCount":1,"timeUnit":"min","unitTime":1}}}`,
		`{"conditions":[]}`,
	} {
		w.call("root", 400, "POST", "/throttling/policies/advanced", `{"policyName":"Bad",`+limit5+`,"conditionalGroups":[`+bad+`]}`)
	}
	find := func(kind, name string) string {
		p, err := w.db.Policies.First(t.Context(), in, apim.Where("level", kind).And("name", name))
		w.must(err)
		return p.ID
	}
	w.must(w.db.APIs.Create(w.as("root"), in, &apim.API{
		Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "a", Name: "a", Version: "1", ContextTemplate: "/a",
		APIPolicy: "10KPerMin", Operations: []apim.Operation{{Target: "/x", Verb: "GET", Policy: "20KPerMin"}},
	}))
	w.must(w.db.Applications.Create(w.as("root"), in, &apim.Application{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "app", Name: "app", Owner: "alice", Policy: "10PerMin"}))
	w.must(w.db.Subscriptions.Create(w.as("root"), in, &apim.Subscription{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "s", Application: "app", API: "a", Policy: "Gold"}))
	for _, c := range [][3]string{{"advanced", "api", "10KPerMin"}, {"advanced", "api", "20KPerMin"}, {"application", "application", "10PerMin"}, {"subscription", "subscription", "Gold"}} {
		w.refused("root", 403, 403, "DELETE", "/throttling/policies/"+c[0]+"/"+find(c[1], c[2]), "")
	}
	conf := w.call("root", 200, "GET", "/tenant-config", "")
	conf["DefaultApplicationLevelTier"] = "20PerMin"
	doc, _ := json.Marshal(conf)
	w.call("root", 200, "PUT", "/tenant-config", string(doc))
	w.refused("root", 500, 500, "DELETE", "/throttling/policies/application/"+find("application", "20PerMin"), "")
}

func TestPolicyFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	r := httptest.NewRequest("GET", admin.Base+"/throttling/policies/export?name=Gold&type=sub&format=json", nil)
	r.Header.Set("Authorization", "Bearer root")
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r)
	file := rec.Body.String()
	if rec.Code != 200 || !strings.Contains(file, `"data":{"policyId":`) || !strings.Contains(file, `"subtype":"subscription policy"`) || !strings.Contains(file, `"isDeployed":false`) {
		t.Fatalf("exported: %s", file)
	}
	w.call("root", 404, "GET", "/throttling/policies/export?name=Nope", "")
	w.call("boss", 403, "GET", "/throttling/policies/export?name=Nope&type=global", "")
	up := func(user string, want int, name, content, query string) object {
		var b bytes.Buffer
		m := multipart.NewWriter(&b)
		f, err := m.CreateFormFile("file", name)
		w.must(err)
		_, err = f.Write([]byte(content))
		w.must(err)
		w.must(m.Close())
		r := httptest.NewRequest("POST", admin.Base+"/throttling/policies/import"+query, &b)
		r.Header.Set("Content-Type", m.FormDataContentType())
		return w.send(user, want, r)
	}
	up("root", 409, "Gold.json", file, "?overwrite=false")
	if got := up("root", 200, "Gold.json", file, "?overwrite=true")[""]; got != "Successfully updated Subscription Throttling Policy : Gold" {
		t.Errorf("updated: %v", got)
	}
	if got := up("root", 201, "New.json", strings.Replace(file, `"Gold"`, `"New"`, 1), "")[""]; got != "Successfully imported Subscription Throttling Policy : New" {
		t.Errorf("imported: %v", got)
	}
	up("root", 201, "A.yaml", "type: throttling policy\nsubtype: application policy\nversion: v4.7.0\ndata:\n  policyName: A\n  defaultLimit:\n    type: REQUESTCOUNTLIMIT\n    requestCount: {requestCount: 5, timeUnit: min, unitTime: 1}\n", "")
	up("root", 400, "A.yaml", "\t:", "")
	up("root", 400, "A.json", "{", "")
	up("root", 400, "A.json", `{"subtype":"moon"}`, "")
	up("boss", 403, "C.json", `{"subtype":"custom rule","data":{}}`, "")
	up("alice", 401, "Gold.json", file, "")
}

func TestUnlimitedOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, false)
	if got := names(w.call("root", 200, "GET", "/throttling/policies/application", ""), "policyName"); got != "10PerMin 20PerMin 50PerMin" {
		t.Errorf("policies without Unlimited: %q", got)
	}
}

func TestEnvironments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	list := w.call("root", 200, "GET", "/environments", "")
	d := list["list"].([]any)[0].(object)
	if vh := d["vhosts"].([]any)[0].(object); d["id"] != "Default" || d["isReadOnly"] != true || vh["httpsPort"] != 8244.0 || vh["host"] != "localhost" {
		t.Fatalf("Default: %v", d)
	}
	body := func(name, hosts string) string {
		return `{"name":"` + name + `","displayName":"EU","type":"production","vhosts":[` + hosts + `]}`
	}
	e := w.call("root", 201, "POST", "/environments", body("eu", `{"host":"a.eu"}`))
	if vh := e["vhosts"].([]any)[0].(object); vh["httpPort"] != 8280.0 || vh["wssPort"] != 8099.0 || e["gatewayType"] != "Regular" || e["permissions"].(object)["permissionType"] != "PUBLIC" {
		t.Errorf("created: %v", e)
	}
	for name, bad := range map[string]string{
		"no vhost": body("x", ""), "same host twice": body("x", `{"host":"a"},{"host":"A"}`), "bad name": body("a b", `{"host":"a"}`),
		"existing name": body("Default", `{"host":"a"}`), "also existing": body("eu", `{"host":"a"}`), "no name": `{"vhosts":[{"host":"a"}]}`,
		"empty display name": `{"name":"x","displayName":"","vhosts":[{"host":"a"}]}`, "port": body("x", `{"host":"a","httpPort":70000}`),
	} {
		t.Log(name)
		w.call("root", 400, "POST", "/environments", bad)
	}
	w.call("root", 201, "POST", "/environments", body("odd", `{"host":"under_score!"}`)) // the charset of a host is not checked
	at := "/environments/" + e["id"].(string)
	up := w.call("root", 200, "PUT", at, body("eu", `{"host":"b.eu","httpsPort":443}`))
	if vh := up["vhosts"].([]any); len(vh) != 1 || vh[0].(object)["host"] != "b.eu" {
		t.Errorf("updated: %v", up)
	}
	w.refused("root", 400, 900510, "PUT", at, body("us", `{"host":"b.eu"}`))
	w.refused("root", 400, 900508, "PUT", "/environments/Default", body("Default", `{"host":"b.eu"}`))
	w.refused("root", 400, 900508, "DELETE", "/environments/Default", "")
	w.refused("root", 404, 900506, "DELETE", "/environments/nowhere", "")
	w.refused("boss", 404, 900506, "DELETE", at, "")
	w.refused("boss", 404, 900506, "GET", at, "")
	w.refused("alice", 401, 401, "GET", "/environments", "")
	w.must(w.db.Deployments.Create(w.as("root"), apim.In(apim.SuperTenant), &apim.Deployment{Meta: apim.Meta{Tenant: apim.SuperTenant}, API: "a", Environment: "eu"}))
	w.call("root", 409, "DELETE", at, "")
	w.must(w.db.Deployments.Delete(w.as("root"), apim.In(apim.SuperTenant), "a/eu"))
	w.call("root", 200, "DELETE", at, "")
	if got := w.call("root", 200, "GET", "/environments/Default/gateways", ""); names(got, "status") != "ACTIVE EXPIRED" || names(got, "gatewayId") != "gw1 gw2" {
		t.Errorf("gateways: %v", got)
	}
	w.call("root", 404, "GET", "/environments/nowhere/gateways", "")
}

func TestKeyManagers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	list := w.call("root", 200, "GET", "/key-managers", "")
	if names(list, "name") != apim.ResidentKM {
		t.Fatalf("key managers: %v", list)
	}
	res := "/key-managers/" + list["list"].([]any)[0].(object)["id"].(string)
	km := w.call("root", 200, "GET", res, "")
	if km["issuer"] != "https://apim.example:9444/oauth2/token" || km["certificates"].(object)["value"] != "https://apim.example:9444/oauth2/jwks" {
		t.Errorf("resident: %v", km)
	}
	theirs := w.call("boss", 200, "GET", "/key-managers", "")["list"].([]any)[0].(object)["id"].(string)
	if got := w.call("boss", 200, "GET", "/key-managers/"+theirs, ""); got["issuer"] != km["issuer"] || got["certificates"].(object)["value"] != "https://apim.example:9444/t/other.org/oauth2/jwks" {
		t.Errorf("resident of another tenant: %v", got)
	}
	w.refused("root", 404, 404, "GET", "/key-managers/"+theirs, "")
	w.call("root", 400, "DELETE", res, "")
	body := func(name, kind, props string) string {
		return `{"name":"` + name + `","type":"` + kind + `","issuer":"https://idp","tokenEndpoint":"not a url","claimMapping":[{"remoteClaim":"a","localClaim":"b"}],"certificates":{"type":"JWKS","value":"https://idp/jwks"},"additionalProperties":{` + props + `}}`
	}
	k := w.call("root", 201, "POST", "/key-managers", body("kc", "KeyCloak", `"client_id":"me","client_secret":"s3cret","self_validate_jwt":true`))
	if p := k["additionalProperties"].(object); p["client_secret"] != "*****" || p["client_id"] != "me" || p["self_validate_jwt"] != "true" || k["tokenEndpoint"] != "not a url" || k["consumerKeyClaim"] != "azp" || k["enabled"] != true || len(k["claimMapping"].([]any)) != 1 {
		t.Errorf("created: %v", k)
	}
	at := "/key-managers/" + k["id"].(string)
	own := w.call("root", 201, "POST", "/key-managers", body("own", "custom", `"client_id":"me","client_secret":"s3cret","Password":"geheim","apiKey":"k"`))
	for name, want := range map[string]any{"client_id": "me", "client_secret": "*****", "Password": "*****", "apiKey": "*****"} {
		if got := own["additionalProperties"].(object)[name]; got != want {
			t.Errorf("property %s of a connector of one's own reads %v, want %v", name, got, want)
		}
	}
	w.call("root", 200, "DELETE", "/key-managers/"+own["id"].(string), "")
	w.call("root", 409, "POST", "/key-managers", body("kc", "KeyCloak", `"client_id":"me","client_secret":"x"`))
	w.refused("root", 400, 901401, "POST", "/key-managers", body("kc2", "KeyCloak", `"client_id":"me"`))
	w.refused("root", 400, 901401, "POST", "/key-managers", body("kc2", "KeyCloak", `"client_id":"me","client_secret":"*****"`))
	w.call("root", 400, "POST", "/key-managers", body("kc2", "Moon", ""))
	w.call("root", 400, "POST", "/key-managers", body("kc2", "default", ""))
	w.call("root", 400, "POST", "/key-managers", `{"name":"x"}`)
	for _, bad := range []string{
		`"certificates":{"type":"PEM","value":"nonsense"}`, `"certificates":{"type":"PEM","value":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}`,
		`"tokenValidation":[{"id":1,"enable":true,"type":"REGEX","value":"("}]`, `"tokenValidation":[{"id":1,"enable":true,"type":"JWT","value":"x"}]`,
		`"tokenValidation":[{"id":1,"enable":true,"type":"CUSTOM","value":"x"}]`, `"claimMapping":[{"remoteClaim":"a"}]`, `"tokenType":"SOMETIMES"`,
	} {
		w.call("root", 400, "POST", "/key-managers", `{"name":"x","type":"custom",`+bad+`}`)
	}
	w.call("root", 400, "POST", "/key-managers", body("is7", "WSO2-IS-7", `"api_resource_management_endpoint":"https://a","is7_roles_endpoint":"https://b","Authentication":"MutualTLS"`))
	w.call("root", 400, "POST", "/key-managers", `{"name":"x","type":"custom","certificates":{"type":"DER","value":"x"}}`)
	w.call("root", 400, "PUT", at, body("kc", "Okta", ""))
	w.call("root", 200, "PUT", at, body("kc", "KeyCloak", `"client_id":"you","client_secret":"*****"`))
	row, err := w.db.KeyManagers.Get(t.Context(), apim.In(apim.SuperTenant), k["id"].(string))
	if err != nil || row.Secrets["client_secret"] != apim.Sealed(sealer{}.Seal([]byte("s3cret"))) || row.Properties["client_secret"] != "" || row.JWKSURL != "https://idp/jwks" {
		t.Errorf("stored: %+v %v", row, err)
	}
	w.refused("boss", 404, 404, "DELETE", at, "")
	w.refused("alice", 401, 401, "GET", at, "")
	w.call("root", 200, "DELETE", at, "")
	w.refused("root", 404, 404, "DELETE", at, "")
	if s := w.call("root", 200, "GET", "/settings", ""); len(s["keyManagerConfiguration"].([]any)) < 8 || len(s["scopes"].([]any)) == 0 {
		t.Errorf("settings: %v", s)
	}
}

func TestApplications(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	in := apim.In(apim.SuperTenant)
	for _, a := range [][2]string{{"a1", "alice"}, {"a2", "alice"}, {"a1", "bob"}} {
		w.must(w.db.Applications.Create(w.as("root"), in, &apim.Application{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: apim.AppID(a[1] + a[0]), Name: a[0], Owner: a[1], OwnerID: apim.UserID("id-" + a[1])}))
	}
	w.must(w.db.Clients.Create(w.as("root"), in, &apim.Client{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "ck", Name: "ck", Owner: "alice"}))
	w.must(w.db.KeyMappings.Create(w.as("root"), in, &apim.KeyMapping{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "m", Application: "alicea2", ConsumerKey: "ck", Mode: "CREATED"}))
	for q, want := range map[string]string{"": "a1 a1 a2", "?user=alice": "a1 a2", "?name=A2": "a2", "?user=nobody": "", "?limit=1&offset=2": "a2", "?tenantDomain=other.org": ""} {
		if got := names(w.call("root", 200, "GET", "/applications"+q, ""), "name"); got != want {
			t.Errorf("list %s: %q", q, got)
		}
	}
	w.call("boss", 403, "GET", "/applications?tenantDomain=carbon.super", "")
	w.call("root", 200, "POST", "/applications/alicea2/change-owner?owner=bob", "")
	app, err := w.db.Applications.Get(t.Context(), in, "alicea2")
	w.must(err)
	c, err := w.db.Clients.Get(t.Context(), in, "ck")
	w.must(err)
	if app.Owner != "bob" || app.OwnerID != "id-bob" || c.Owner != "bob" {
		t.Errorf("owners: %s %s %s", app.Owner, app.OwnerID, c.Owner)
	}
	for name, owner := range map[string]string{"name clash": "bob", "unknown user": "nobody", "other tenant": "boss@other.org", "no subscriber": "stranger"} {
		t.Log(name)
		w.refused("root", 500, 500, "POST", "/applications/alicea1/change-owner?owner="+owner, "")
	}
	w.call("root", 400, "POST", "/applications/alicea1/change-owner", "")
	w.call("root", 404, "POST", "/applications/nowhere/change-owner?owner=bob", "")
	w.call("boss", 404, "DELETE", "/applications/alicea1", "")
	w.call("root", 200, "DELETE", "/applications/alicea1", "")
	w.call("root", 404, "DELETE", "/applications/alicea1", "")
}

func TestScopesAndConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	n := w.call("root", 200, "GET", "/system-scopes", "")["count"].(float64)
	up := w.call("root", 200, "PUT", "/system-scopes", `{"list":[{"name":"apim:subscribe","roles":["admin","vip"]}]}`)
	if up["count"] != n {
		t.Errorf("a partial list replaced all: %v of %v", up["count"], n)
	}
	at := func(scope string) string {
		return "/system-scopes/" + base64.RawURLEncoding.EncodeToString([]byte(scope)) + "?username=alice"
	}
	w.refused("root", 404, 901500, "GET", at("apim:subscribe"), "")
	w.call("root", 200, "GET", at("apim:api_key"), "")
	w.call("root", 400, "GET", "/system-scopes/***?username=alice", "")
	w.refused("root", 404, 901500, "GET", "/system-scopes/YQ", "") // the caller is who is asked about
	w.call("root", 400, "PUT", "/system-scopes", `{"list":[{"name":"a","roles":["x,y"]}]}`)
	for _, p := range []string{"/system-scopes/role-aliases", "/role-aliases"} {
		got := w.call("root", 200, "PUT", p, `{"count":1,"list":[{"role":"vip","aliases":["Internal/subscriber"]}]}`)
		if names(got, "aliases") != "[Internal/subscriber]" {
			t.Errorf("aliases: %v", got)
		}
		w.call("root", 200, "GET", at("apim:subscribe"), "")
		w.call("root", 200, "PUT", p, `{"count":0,"list":[]}`)
		if got := w.call("root", 200, "GET", p, ""); got["count"] != 0.0 {
			t.Errorf("aliases after clearing: %v", got)
		}
	}
	w.call("root", 400, "PUT", "/role-aliases", `{"list":[{"role":"","aliases":[]}]}`)

	w.refused("root", 400, 902001, "PUT", "/tenant-config", `{}`)
	w.refused("root", 400, 902001, "PUT", "/tenant-config", `{`)
	w.refused("alice", 401, 401, "PUT", "/tenant-config", `{}`)
	conf := w.call("root", 200, "GET", "/tenant-config", "")
	conf["Mine"] = "kept"
	doc, err := json.Marshal(conf)
	w.must(err)
	w.call("root", 200, "PUT", "/tenant-config", string(doc))
	if got := w.call("root", 200, "GET", "/tenant-config", ""); got["Mine"] != "kept" {
		t.Error("an unknown key was dropped")
	}
	if got := w.call("boss", 200, "GET", "/tenant-config", ""); got["Mine"] != nil {
		t.Error("the configuration of one tenant shows in another")
	}
	if got := w.call("root", 200, "GET", "/tenant-config-schema", ""); got["properties"] == nil {
		t.Error("no schema")
	}
}
