package publisher_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestCreateGivesDefaults(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Pizza", "pizza", "1.0", map[string]any{"lifeCycleStatus": "PUBLISHED", "unknown": 1}), 201)
	for k, want := range map[string]any{
		"context": "/pizza", "lifeCycleStatus": "CREATED", "provider": "admin", "type": "HTTP", "visibility": "PUBLIC",
		"cacheTimeout": float64(300), "gatewayVendor": "wso2", "gatewayType": "wso2/synapse", "accessControl": "NONE",
		"endpointImplementationType": "ENDPOINT", "endpointConfig": nil, "isRevision": false,
	} {
		if got := a.JSON[k]; got != want {
			t.Errorf("%s: got %v, want %v", k, got, want)
		}
	}
	if got := a.JSON["securityScheme"].([]any); len(got) != 2 || got[0] != "oauth_basic_auth_api_key_mandatory" || got[1] != "oauth2" {
		t.Errorf("securityScheme %v", got)
	}
	if ops := a.JSON["operations"].([]any); len(ops) != 5 {
		t.Errorf("operations %v", ops)
	}
	if a.Header.Get("ETag") == "" || a.Header.Get("Location") == "" || a.Header.Get("Cardea-Receipt") == "" {
		t.Errorf("headers %v", a.Header)
	}
	b := w.do("GET", "/apis/"+a.id()+"/", nil, 200)
	if string(b.Body) != string(a.Body) {
		t.Errorf("read back\n%s\nwant\n%s", b.Body, a.Body)
	}
	d := w.do("GET", "/apis/"+a.id()+"/swagger", nil, 200)
	if !strings.Contains(string(d.Body), `"openapi": "3.0.1"`) {
		t.Errorf("definition %s", d.Body)
	}
	if got := w.as("tenant", "POST", "/apis", pizza("Pizza", "pizza", "1.0", nil)); got.JSON["context"] != "/t/t.com/pizza" {
		t.Errorf("tenant's context %s", got.Body)
	}
	if got := w.as("tenant", "GET", "/apis/"+a.id(), nil); got.Status != 404 {
		t.Errorf("another tenant read it: %d", got.Status)
	}
}

func TestCreateRefuses(t *testing.T) {
	w := newWorld(t)
	w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", nil), 201)
	tests := map[string]struct {
		body   any
		status int
		code   float64
	}{
		"same name":                  {pizza("Pizza", "/other", "1.0", nil), 409, 900250},
		"same name in another case":  {pizza("PIZZA", "/other", "2.0", nil), 409, 900250},
		"same context and version":   {pizza("Other", "/pizza", "1.0", nil), 409, 900251},
		"same context, other name":   {pizza("Other", "/pizza", "2.0", nil), 409, 900251},
		"other context, same name":   {pizza("Pizza", "/other", "2.0", nil), 400, 900346},
		"root context":               {pizza("X", "/", "1", nil), 400, 900346},
		"backtick":                   {pizza("X", "/a`b", "1", nil), 400, 900346},
		"version inside a segment":   {pizza("X", "/foo{version}", "1", nil), 400, 900346},
		"traversal":                  {pizza("X", "/a/../b", "1", nil), 400, 900346},
		"name missing":               {map[string]any{"context": "/x", "version": "1"}, 400, 400},
		"name with a slash":          {pizza("a/b", "/x", "1", nil), 400, 400},
		"name too long":              {pizza(strings.Repeat("n", 61), "/x", "1", nil), 400, 400},
		"blank in version":           {pizza("X", "/x", "1 0", nil), 400, 400},
		"name of a wrong type":       {`{"name":5,"context":"/x","version":"1"}`, 400, 400},
		"tags of a wrong type":       {pizza("X", "/x", "1", map[string]any{"tags": "a"}), 400, 400},
		"operations wrong inside":    {pizza("X", "/x", "1", map[string]any{"operations": []any{5}}), 400, 400},
		"not JSON":                   {`{"name":`, 400, 400},
		"an array":                   {`[]`, 400, 400},
		"nothing":                    {``, 400, 400},
		"deep":                       {`{"endpointConfig":` + strings.Repeat(`{"a":`, 500) + `1` + strings.Repeat(`}`, 501), 400, 400},
		"unknown plan":               {pizza("X", "/x", "1", map[string]any{"policies": []string{"Nope"}}), 400, 900305},
		"unknown operation policy":   {pizza("X", "/x", "1", map[string]any{"operations": []any{map[string]any{"target": "/a", "verb": "GET", "throttlingPolicy": "Nope"}}}), 400, 900305},
		"operation twice":            {pizza("X", "/x", "1", map[string]any{"operations": []any{map[string]any{"target": "/a", "verb": "GET"}, map[string]any{"target": "/a", "verb": "get"}}}), 400, 400},
		"unknown verb":               {pizza("X", "/x", "1", map[string]any{"operations": []any{map[string]any{"target": "/a", "verb": "EAT"}}}), 400, 400},
		"unknown role":               {pizza("X", "/x", "1", map[string]any{"visibility": "RESTRICTED", "visibleRoles": []string{"nope"}}), 400, 900610},
		"a role that cannot sign in": {pizza("X", "/x", "1", map[string]any{"visibility": "RESTRICTED", "visibleRoles": []string{"admin", "eaters"}}), 400, 900610},
		"restricted to nobody":       {pizza("X", "/x", "1", map[string]any{"accessControl": "RESTRICTED"}), 400, 900610},
		"unknown type":               {pizza("X", "/x", "1", map[string]any{"type": "FOO"}), 400, 900327},
		"ASYNC of one's own":         {pizza("X", "/x", "1", map[string]any{"type": "ASYNC"}), 400, 400},
		"odd endpoint":               {pizza("X", "/x", "1", map[string]any{"endpointConfig": map[string]any{"production_endpoints": map[string]any{"url": "file:///etc/passwd"}}}), 400, 900346},
		"endpoint that is a text":    {pizza("X", "/x", "1", map[string]any{"endpointConfig": "x"}), 400, 400},
		"scope of nobody":            {pizza("X", "/x", "1", map[string]any{"operations": []any{map[string]any{"target": "/a", "verb": "GET", "scopes": []string{"s"}}}}), 400, 400},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			w.refused("POST", "/apis", tt.body, tt.status, tt.code)
		})
	}
	if a := w.as("admin", "POST", "/apis", "x", "Content-Type", "text/plain"); a.Status != 415 {
		t.Errorf("text/plain: %d", a.Status)
	}
	if a := w.as("admin", "POST", "/apis", `{"name":"`+strings.Repeat("x", 17<<20)+`"}`); a.Status != 413 {
		t.Errorf("oversized: %d", a.Status)
	}
}

func TestUpdateKeepsWhatNeverChanges(t *testing.T) {
	w := newWorld(t)
	sec := map[string]any{
		"endpoint_type": "http", "production_endpoints": map[string]any{"url": "https://b.example.com"},
		"endpoint_security": map[string]any{"production": map[string]any{"enabled": true, "type": "BASIC", "username": "u", "password": "s3cret"}},
	}
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", map[string]any{"endpointConfig": sec}), 201)
	if strings.Contains(string(a.Body), "s3cret") || strings.Contains(string(a.Body), "sealed:") || !strings.Contains(string(a.Body), `"password":""`) {
		t.Errorf("secret in %s", a.Body)
	}
	stored, err := w.db.APIs.Get(t.Context(), apim.In(apim.SuperTenant), apim.APIID(a.id()))
	if err != nil || !strings.Contains(string(stored.Endpoint), "sealed:") || strings.Contains(string(stored.Endpoint), "s3cret") {
		t.Errorf("stored %s, %v", stored.Endpoint, err)
	}
	m := a.JSON
	m["name"], m["version"], m["context"], m["provider"], m["lifeCycleStatus"] = "Other", "9", "/else", "evil", "RETIRED"
	m["description"], m["tags"] = "new", []string{"hot"}
	b := w.do("PUT", "/apis/"+a.id(), m, 200, "If-Match", a.Header.Get("ETag"))
	for k, want := range map[string]any{"name": "Pizza", "version": "1.0", "context": "/pizza", "provider": "admin", "lifeCycleStatus": "CREATED", "description": "new"} {
		if b.JSON[k] != want {
			t.Errorf("%s: got %v, want %v", k, b.JSON[k], want)
		}
	}
	again, err := w.db.APIs.Get(t.Context(), apim.In(apim.SuperTenant), apim.APIID(a.id()))
	if err != nil || string(again.Endpoint) != string(stored.Endpoint) {
		t.Errorf("an empty secret did not keep the old one:\n%s\n%s", again.Endpoint, stored.Endpoint)
	}
	w.do("PUT", "/apis/"+a.id(), m, 412, "If-Match", a.Header.Get("ETag"))
	w.do("PUT", "/apis/"+a.id(), m, 200, "If-Match", `"some-other-form"`)
	m["endpointConfig"] = nil
	if c := w.do("PUT", "/apis/"+a.id(), m, 200); c.JSON["endpointConfig"] != nil {
		t.Errorf("null did not clear: %v", c.JSON["endpointConfig"])
	}
	w.refused("PUT", "/apis/nope", m, 404, 900308)
}

func TestUpdateCarriesOperationsIntoTheDefinition(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis/import-openapi", newForm("@file", openapi3, "additionalProperties", `{"name":"Menu","context":"/menu","version":"1"}`), 201)
	d := w.do("GET", "/apis/"+a.id()+"/swagger", nil, 200)
	if string(d.Body) != openapi3 {
		t.Fatalf("bytes changed:\n%s", d.Body)
	}
	m := a.JSON
	m["description"] = "only words"
	w.do("PUT", "/apis/"+a.id(), m, 200)
	if d := w.do("GET", "/apis/"+a.id()+"/swagger", nil, 200); string(d.Body) != openapi3 {
		t.Fatalf("an unrelated edit changed the definition:\n%s", d.Body)
	}
	ops := m["operations"].([]any)
	ops[0].(map[string]any)["authType"] = "None"
	m["operations"] = append(ops[:1], map[string]any{"target": "/new", "verb": "DELETE"})
	w.do("PUT", "/apis/"+a.id(), m, 200)
	got := string(w.do("GET", "/apis/"+a.id()+"/swagger", nil, 200).Body)
	for _, want := range []string{`"summary": "Old"`, `"x-number": 1.10`, `"/new"`, `"x-auth-type": "None"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "/order/{id}") {
		t.Errorf("the removed operation is still in\n%s", got)
	}
}

func TestDeleteNotWhileSubscribed(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", map[string]any{"policies": []string{"Gold"}}), 201)
	ctx := apim.WithActor(t.Context(), actors["admin"])
	sc := apim.In(apim.SuperTenant)
	app := &apim.Application{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "app-1", Name: "App", Owner: "admin"}
	if err := w.db.Applications.Create(ctx, sc, app); err != nil {
		t.Fatal(err)
	}
	sub := &apim.Subscription{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "sub-1", Application: app.ID, API: apim.APIID(a.id()), Policy: "Gold", State: "UNBLOCKED"}
	if err := w.db.Subscriptions.Create(ctx, sc, sub); err != nil {
		t.Fatal(err)
	}
	w.refused("DELETE", "/apis/"+a.id(), nil, 409, 409)
	l := w.do("GET", "/subscriptions?apiId="+a.id(), nil, 200)
	if l.JSON["count"] != 1.0 || !strings.Contains(string(l.Body), `"subscriptionStatus":"UNBLOCKED"`) || !strings.Contains(string(l.Body), `"name":"App"`) {
		t.Errorf("subscriptions %s", l.Body)
	}
	w.do("POST", "/subscriptions/block-subscription?subscriptionId=sub-1&blockState=PROD_ONLY_BLOCKED", nil, 200)
	if got, _ := w.db.Subscriptions.Get(ctx, sc, "sub-1"); got.State != "PROD_ONLY_BLOCKED" {
		t.Errorf("state %s", got.State)
	}
	w.do("POST", "/subscriptions/unblock-subscription?subscriptionId=sub-1", nil, 200)
	w.do("POST", "/subscriptions/unblock-subscription?subscriptionId=nope", nil, 404)
	w.do("POST", "/subscriptions/block-subscription?subscriptionId=sub-1&blockState=MAYBE", nil, 400)
	w.do("POST", "/subscriptions/block-subscription", nil, 400)

	// Retiring takes the subscriptions away, and then the API can go.
	for _, action := range []string{"Publish", "Deprecate", "Retire"} {
		w.do("POST", "/apis/change-lifecycle?apiId="+a.id()+"&action="+action, nil, 200)
	}
	w.do("DELETE", "/apis/"+a.id(), nil, 200)
	w.refused("GET", "/apis/"+a.id(), nil, 404, 900308)
	w.refused("DELETE", "/apis/"+a.id(), nil, 404, 900308)
}

func TestListAndSearch(t *testing.T) {
	w := newWorld(t)
	for _, m := range []map[string]any{
		pizza("Alpha", "/alpha", "1.0", map[string]any{"tags": []string{"hot", "food"}, "description": "the first one"}),
		pizza("Beta", "/beta", "1.0", map[string]any{"tags": []string{"cold"}, "additionalProperties": []any{map[string]any{"name": "team", "value": "red"}}}),
		pizza("Gamma", "/gamma", "2.0", map[string]any{"policies": []string{"Gold"}, "operations": []any{map[string]any{"target": "/deep/er", "verb": "GET"}}}),
		pizza("Al_ha 100", "/percent", "3", nil),
	} {
		w.do("POST", "/apis", m, 201)
	}
	for q, want := range map[string]string{
		"":                                "Al_ha 100,Alpha,Beta,Gamma",
		"alp":                             "Alpha",
		"_ha":                             "Al_ha 100",
		"name:BETA":                       "Beta",
		`name:"Alpha"`:                    "Alpha",
		`name:"Alph"`:                     "",
		"name:alpha name:beta":            "Alpha,Beta",
		"version:1.0 tag:hot":             "Alpha",
		"tags:cold":                       "Beta",
		"name:alpha OR version:2.0":       "Alpha,Gamma",
		"name:a AND version:2.0":          "Gamma",
		"context:/gam":                    "Gamma",
		"description:first":               "Alpha",
		"status:created":                  "Al_ha 100,Alpha,Beta,Gamma",
		"status:PUBLISHED":                "",
		"provider:admin name:beta":        "Beta",
		"team:red":                        "Beta",
		"subcontext:deep":                 "Gamma",
		"type:HTTP version:2":             "Gamma",
		`type:"APIProduct"`:               "",
		"Al_ha 100":                       "Al_ha 100",
		"name:*lph*":                      "Alpha",
		"context:'; DROP TABLE apis; --'": "",
		`"unclosed`:                       "",
		":":                               "Al_ha 100,Alpha,Beta,Gamma",
	} {
		a := w.do("GET", "/apis?sortBy=apiName&sortOrder=asc&query="+url.QueryEscape(q), nil, 200)
		var names []string
		for _, i := range a.JSON["list"].([]any) {
			names = append(names, i.(map[string]any)["name"].(string))
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%q: got %q, want %q", q, got, want)
		}
	}
	p := w.do("GET", "/apis?limit=2&offset=1", nil, 200)
	pg := p.JSON["pagination"].(map[string]any)
	if p.JSON["count"] != 2.0 || pg["total"] != 4.0 || pg["next"] != "/apis?limit=2&offset=3" || pg["previous"] != "/apis?limit=2&offset=0" {
		t.Errorf("page %v %v", p.JSON["count"], pg)
	}
	if s := w.do("GET", "/search?query=deep", nil, 200); s.JSON["count"] != 1.0 || !strings.Contains(string(s.Body), `"type":"API"`) {
		t.Errorf("search %s", s.Body)
	}
	for _, bad := range []string{"limit=x", "offset=-1", "limit=99999999999999999999", "sortBy=evil", "sortOrder=up"} {
		w.do("GET", "/apis?"+bad, nil, 400)
	}
	w.do("POST", "/apis/validate?query=name:alpha", nil, 200)
	w.do("POST", "/apis/validate?query=context:/alpha", nil, 200)
	w.do("POST", "/apis/validate?query=name:nope", nil, 404)
	w.do("POST", "/apis/validate", nil, 400)
}

func TestAccessControlHides(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Secret", "/secret", "1", map[string]any{"accessControl": "RESTRICTED", "accessControlRoles": []string{"eaters"}}), 201)
	if got := w.as("creator", "GET", "/apis/"+a.id(), nil); got.Status != 403 || got.JSON["code"] != 900340.0 {
		t.Errorf("read: %d %s", got.Status, got.Body)
	}
	if got := w.as("creator", "GET", "/apis", nil); got.JSON["count"] != 0.0 {
		t.Errorf("list: %s", got.Body)
	}
	w.do("POST", "/apis", pizza("Open", "/open", "1", nil), 201)
	roles := actors["creator"].Roles
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := apim.WithActor(t.Context(), &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true})
	must(w.db.Roles.Create(ctx, apim.In(apim.SuperTenant), &apim.Role{Meta: apim.Meta{Tenant: apim.SuperTenant}, Name: roles[0] + "s"}))
	w.do("POST", "/apis", pizza("Almost", "/almost", "1", map[string]any{"accessControl": "RESTRICTED", "accessControlRoles": []string{roles[0] + "s"}}), 201)
	mine := w.do("POST", "/apis", pizza("Mine", "/mine", "1", map[string]any{"accessControl": "RESTRICTED", "accessControlRoles": []string{"eaters", strings.ToUpper(roles[0])}}), 201)
	list := func(query string) string {
		t.Helper()
		got := w.as("creator", "GET", "/apis?sortBy=apiName&sortOrder=asc"+query, nil)
		var names []string
		for _, v := range got.JSON["list"].([]any) {
			names = append(names, v.(map[string]any)["name"].(string))
		}
		return fmt.Sprint(names, got.JSON["pagination"].(map[string]any)["total"])
	}
	for query, want := range map[string]string{"": "[Mine Open] 2", "&limit=1&offset=1": "[Open] 2", "&query=name:mine": "[Mine] 1", "&query=content:secret": "[] 0"} {
		if got := list(query); got != want {
			t.Errorf("list %s: %s, want %s", query, got, want)
		}
	}
	w.do("PUT", "/apis/"+mine.id(), pizza("Mine", "/mine", "1", map[string]any{"accessControl": "RESTRICTED", "accessControlRoles": []string{"eaters"}}), 200)
	if got := list(""); got != "[Open] 1" {
		t.Errorf("after the role was taken off: %s", got)
	}
}

func TestAuthorizationComesFirst(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct{ user, method, path, body string }{
		{"", "GET", "/apis", ""},
		{"forged", "GET", "/apis", ""},
		{"nobody", "GET", "/apis", ""},
		{"nobody", "POST", "/apis", "{broken"},
		{"creator", "POST", "/scopes", `{}`},
		{"", "GET", "/apis/x;y=z", ""},
		{"admin", "GET", "/apis/x;y=<script>", ""},
	} {
		a := w.as(tt.user, tt.method, tt.path, tt.body)
		if a.Status != 401 || a.JSON["code"] != 401.0 || a.JSON["description"] != "Unauthenticated request" || strings.Contains(string(a.Body), "<script") {
			t.Errorf("%+v: %d %s", tt, a.Status, a.Body)
		}
	}
	if a := w.as("admin", "PATCH", "/apis", ""); a.Status != 405 || !strings.Contains(a.Header.Get("Allow"), "POST") {
		t.Errorf("PATCH: %d %v", a.Status, a.Header)
	}
	w.do("GET", "/nothing/here", nil, 404)
	w.do("GET", "/apis/%2e%2e", nil, 404)
}

func TestThumbnail(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", nil), 201)
	w.do("GET", "/apis/"+a.id()+"/thumbnail", nil, 204)
	png := "\x89PNG\r\n\x1a\nrest"
	w.do("PUT", "/apis/"+a.id()+"/thumbnail", newForm("@file", png), 201)
	g := w.do("GET", "/apis/"+a.id()+"/thumbnail", nil, 200)
	if string(g.Body) != png || g.Header.Get("Content-Type") != "image/png" || g.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got %q %v", g.Body, g.Header)
	}
	w.do("PUT", "/apis/"+a.id()+"/thumbnail", newForm("@file", "<html><script>"), 400)
	w.do("PUT", "/apis/"+a.id()+"/thumbnail", newForm(), 400)
	if b := w.do("PUT", "/apis/"+a.id(), a.JSON, 200); b.JSON["hasThumbnail"] != true {
		t.Error("an update lost the thumbnail")
	}
}

func TestImportFromURL(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/doc" {
			http.NotFound(rw, r)
			return
		}
		_, _ = rw.Write([]byte(openapi3))
	}))
	defer s.Close()
	w.do("POST", "/apis/import-openapi", newForm("url", s.URL+"/doc", "additionalProperties", `{"name":"U","context":"/u","version":"1"}`), 201)
	w.refused("POST", "/apis/import-openapi", newForm("url", s.URL+"/none", "additionalProperties", `{"name":"V","context":"/v","version":"1"}`), 400, 900756)
	w.refused("POST", "/apis/import-openapi", newForm("url", "file:///etc/passwd", "additionalProperties", `{"name":"V","context":"/v","version":"1"}`), 400, 900756)
}

func TestFindingsComeLater(t *testing.T) {
	w := newWorld(t)
	bad := strings.Replace(openapi3, `"summary": "Old"`, `"summary": "Old", "parameters": [{"name": "q", "in": "query", "schema": {"type": "integer"}, "example": "x"}]`, 1)
	a := w.do("POST", "/apis/import-openapi", newForm("inlineAPIDefinition", bad, "additionalProperties", `{"name":"F","context":"/f","version":"1"}`), 201)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { w.svc.Run(ctx); close(done) }()
	deadline := time.Now().Add(5 * time.Second)
	var b answer
	for time.Now().Before(deadline) {
		if b = w.do("GET", "/apis/"+a.id(), nil, 200); b.JSON["definitionFindings"] != nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-done
	if f, _ := b.JSON["definitionFindings"].([]any); len(f) == 0 || f[0].(map[string]any)["severity"] != "warning" || f[0].(map[string]any)["line"] != 7.0 {
		t.Errorf("findings %v", b.JSON["definitionFindings"])
	}
	if b.Header.Get("ETag") != a.Header.Get("ETag") {
		t.Error("findings moved the entity tag")
	}
}
