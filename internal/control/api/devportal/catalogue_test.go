package devportal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestCatalogue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.api("open", func(a *apim.API) { a.Tags = []string{"food", "Food"}; a.Description = "pizza and more" })
	w.api("proto", func(a *apim.API) { a.State = apim.Prototyped })
	w.api("draft", func(a *apim.API) { a.State = apim.Created })
	w.api("retired", func(a *apim.API) { a.State = apim.Retired })
	w.api("old", func(a *apim.API) { a.State = apim.Deprecated })
	w.api("inside", func(a *apim.API) { a.Visibility = "PRIVATE" })
	w.api("partners", func(a *apim.API) {
		a.Visibility = "RESTRICTED"
		a.VisibleRoles = []string{"partner"}
		a.Tags = []string{"secret"}
	})
	w.api("theirs", func(a *apim.API) { a.Tenant = "other.org"; a.Context = "/t/other.org/theirs" })

	for _, c := range []struct{ user, tenant, want string }{
		{"", "", "open proto"},
		{"alice", "", "inside open proto"},
		{"bob", "", "inside open partners proto"},
		{"carol", "", "inside open partners proto"},
		{"zoe@other.org", "", "theirs"},
		{"zoe@other.org", "carbon.super", "open proto"},
		{"", "other.org", "theirs"},
	} {
		got := w.call(c.user, 200, "GET", "/apis", "", "X-WSO2-Tenant", c.tenant)
		if names(got, "name") != c.want {
			t.Errorf("list as %q of tenant %q: %q, want %q", c.user, c.tenant, names(got, "name"), c.want)
		}
	}
	for _, c := range []struct {
		user, id string
		status   int
		code     int
	}{
		{"", "partners", 404, 900308},
		{"alice", "partners", 404, 900308},
		{"alice", "nowhere", 404, 900308},
		{"alice", "theirs", 404, 900308},
		{"", "theirs", 404, 900308},
		{"", "inside", 404, 900308},
		{"alice", "draft", 403, 900340},
		{"alice", "retired", 403, 900340},
	} {
		w.refused(c.user, c.status, c.code, "GET", "/apis/"+c.id, "")
		w.refused(c.user, c.status, c.code, "GET", "/apis/"+c.id+"/swagger", "")
	}
	w.call("bob", 200, "GET", "/apis/partners", "")
	w.call("carol", 200, "GET", "/apis/partners", "")
	w.call("alice", 200, "GET", "/apis/old", "")
	w.call("", 200, "GET", "/apis/theirs", "", "X-WSO2-Tenant", "other.org")
	w.refused("", 404, 404, "GET", "/apis", "", "X-WSO2-Tenant", "nobody.org")

	for q, want := range map[string]string{
		"pro": "proto", "name:open": "open", `name:%22op%22`: "", "tag:food": "open", "tags:Food+name:prot": "",
		"description:pizza": "open", "name:open+name:proto": "open proto", "status:PROTOTYPED": "proto", "unknown:x": "",
		"provider:carol+version:1.0+name:open": "open",
	} {
		if got := names(w.call("", 200, "GET", "/apis?query="+q, ""), "name"); got != want {
			t.Errorf("query %s: %q, want %q", q, got, want)
		}
	}
	page := w.call("bob", 200, "GET", "/apis?limit=2&offset=1", "")
	if names(page, "name") != "open partners" || page["pagination"].(object)["total"] != 4.0 || page["count"] != 2.0 {
		t.Errorf("page: %v", page)
	}
	w.call("bob", 400, "GET", "/apis?limit=-1", "")
	w.call("bob", 400, "GET", "/apis?limit=x", "")
	w.refused("mallory", 401, 401, "GET", "/apis", "")

	if got := names(w.call("", 200, "GET", "/tags", ""), "value"); got != "Food food" {
		t.Errorf("tags of nobody: %q", got)
	}
	if got := names(w.call("bob", 200, "GET", "/tags", ""), "value"); got != "Food food secret" {
		t.Errorf("tags of a partner: %q", got)
	}
	if got := w.call("", 200, "GET", "/api-categories", ""); got["count"] != 0.0 {
		t.Errorf("categories: %v", got)
	}

	conf, err := w.db.TenantConfs.Get(t.Context(), apim.In("other.org"), "other.org")
	if err != nil {
		t.Fatal(err)
	}
	conf.JSON = `{"EnableAnonymous":false}`
	if err := w.db.TenantConfs.Update(apim.WithActor(t.Context(), actors["carol"]), apim.In("other.org"), conf); err != nil {
		t.Fatal(err)
	}
	w.refused("", 401, 401, "GET", "/apis", "", "X-WSO2-Tenant", "other.org")
	w.call("", 200, "GET", "/apis", "")
}

func TestEndpointsAndDefinition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ref, err := w.db.Blobs.Put(t.Context(), []byte("openapi: 3.0.1\ninfo: {title: Pizza, version: '1.0'}\nx-wso2-basePath: /hidden\nservers: [{url: https://internal.example}]\npaths:\n  /menu:\n    get: {responses: {'200': {description: ok}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.api("pizza", func(a *apim.API) { a.Definition, a.Default = ref, true })
	servers := func(query string) string {
		t.Helper()
		doc := w.call("", 200, "GET", "/apis/pizza/swagger"+query, "")
		if doc["x-wso2-basePath"] != nil || doc["paths"].(object)["/menu"] == nil {
			t.Errorf("definition: %v", doc)
		}
		var out []string
		for _, s := range doc["servers"].([]any) {
			out = append(out, s.(object)["url"].(string))
		}
		return strings.Join(out, " ")
	}
	if got := servers(""); got != "https://localhost:8243/pizza/1.0 http://localhost:8280/pizza/1.0" {
		t.Errorf("servers of an API that is deployed nowhere: %v", got)
	}
	ctx := apim.WithActor(t.Context(), actors["carol"])
	in := apim.In(apim.SuperTenant)
	eu := &apim.Environment{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "eu", Name: "eu", Type: "production", VHosts: []apim.VHost{{Host: "a.eu", HTTPPort: 80, HTTPSPort: 443}, {Host: "b.eu", HTTPPort: 81, HTTPSPort: 444}}}
	if err := w.db.Environments.Create(ctx, in, eu); err != nil {
		t.Fatal(err)
	}
	for env, shown := range map[string]bool{"Default": false, "eu": true} {
		d := &apim.Deployment{Meta: apim.Meta{Tenant: apim.SuperTenant}, API: "pizza", Environment: env, VHost: "b.eu", OnDevportal: shown, DeployedAt: time.Now()}
		if err := w.db.Deployments.Create(ctx, in, d); err != nil {
			t.Fatal(err)
		}
	}
	ends := w.call("", 200, "GET", "/apis/pizza", "")["endpointURLs"].([]any)
	if len(ends) != 1 {
		t.Fatalf("endpointURLs: %v", ends)
	}
	e := ends[0].(object)
	if u := e["URLs"].(object); e["environmentName"] != "eu" || u["https"] != "https://b.eu:444/pizza/1.0" || u["http"] != "http://b.eu:81/pizza/1.0" || u["ws"] != nil {
		t.Errorf("endpointURLs: %v", e)
	}
	if u := e["defaultVersionURLs"].(object); u["https"] != "https://b.eu:444/pizza" {
		t.Errorf("default version: %v", u)
	}
	if got := servers(""); got != "https://b.eu:444/pizza/1.0 http://b.eu:81/pizza/1.0" {
		t.Errorf("servers: %v", got)
	}
	if got := servers("?environmentName=Default"); !strings.HasPrefix(got, "https://localhost:8243/") {
		t.Errorf("servers of a named environment: %v", got)
	}
	w.refused("", 404, 900506, "GET", "/apis/pizza/swagger?environmentName=us", "")
	w.call("", 204, "GET", "/apis/pizza/thumbnail", "")
}

func TestPoliciesAndSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := apim.WithActor(t.Context(), actors["carol"])
	p := &apim.ThrottlePolicy{Meta: apim.Meta{Tenant: apim.SuperTenant}, Level: apim.SubLevel, Name: "Vip", PermissionType: "ALLOW", PermissionRoles: []string{"partner"}}
	if err := w.db.Policies.Create(ctx, apim.In(apim.SuperTenant), p); err != nil {
		t.Fatal(err)
	}
	w.api("pizza", func(a *apim.API) { a.Plans = []string{"Gold", "Vip"} })
	if got := names(w.call("alice", 200, "GET", "/throttling-policies/application", ""), "name"); got != "10PerMin 20PerMin 50PerMin Unlimited" {
		t.Errorf("application policies: %q", got)
	}
	plans := names(w.call("alice", 200, "GET", "/throttling-policies/subscription?limit=100", ""), "name")
	if strings.Contains(plans, "Unauthenticated") || strings.Contains(plans, "Vip") || !strings.Contains(plans, "Gold") {
		t.Errorf("plans: %q", plans)
	}
	w.call("bob", 200, "GET", "/throttling-policies/subscription/Vip", "")
	w.call("alice", 404, "GET", "/throttling-policies/subscription/Vip", "")
	w.call("alice", 404, "GET", "/throttling-policies/galaxy", "")
	gold := w.call("alice", 200, "GET", "/throttling-policies/subscription/Gold", "")
	if gold["requestCount"] != 5000.0 || gold["timeUnit"] != "min" || gold["tierPlan"] != "FREE" {
		t.Errorf("Gold: %v", gold)
	}
	for user, want := range map[string]int{"alice": 1, "bob": 2} {
		if got := w.call(user, 200, "GET", "/apis/pizza", "")["tiers"].([]any); len(got) != want {
			t.Errorf("tiers for %s: %v", user, got)
		}
		if got := w.call(user, 200, "GET", "/apis/pizza/subscription-policies", "")[""].([]any); len(got) != want {
			t.Errorf("subscription policies for %s: %v", user, got)
		}
	}
	w.call("", 200, "GET", "/settings", "") // strangers read them to show the portal
	w.refused("weak", 401, 401, "GET", "/settings", "")
	if s := w.call("alice", 200, "GET", "/settings", ""); s["IsAnonymousModeEnabled"] != true || len(s["grantTypes"].([]any)) == 0 {
		t.Errorf("settings: %v", s)
	}
	if got := names(w.call("", 200, "GET", "/tenants", ""), "domain"); got != "carbon.super other.org" {
		t.Errorf("tenants: %q", got)
	}
	w.call("alice", 200, "GET", "/me/organization-information", "")
	w.call("alice", 200, "GET", "/settings/application-attributes", "")
	w.call("alice", 200, "POST", "/me/change-password", `{"currentPassword":"old","newPassword":"new"}`)
	w.refused("alice", 400, 901451, "POST", "/me/change-password", `{"currentPassword":"bad","newPassword":"new"}`)
	w.refused("alice", 400, 901452, "POST", "/me/change-password", `{"currentPassword":"old","newPassword":""}`)
}
