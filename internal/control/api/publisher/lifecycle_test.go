package publisher_test

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
)

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func TestLifecycle(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", nil), 201)
	change := func(id, action string, status int) answer {
		t.Helper()
		return w.do("POST", "/apis/change-lifecycle?apiId="+id+"&action="+url.QueryEscape(action), nil, status)
	}
	if b := change(a.id(), "Publish", 400); b.JSON["code"] != 903224.0 {
		t.Errorf("without plans: %s", b.Body)
	}
	a.JSON["policies"] = []string{"Gold"}
	w.do("PUT", "/apis/"+a.id(), a.JSON, 200)
	st := w.do("GET", "/apis/"+a.id()+"/lifecycle-state", nil, 200)
	if s := string(st.Body); !strings.Contains(s, `"state":"Created"`) || !strings.Contains(s, `{"event":"Publish","targetState":"Published"},{"event":"Deploy as a Prototype","targetState":"Prototyped"}`) ||
		!strings.Contains(s, "Requires re-subscription when publishing the API") {
		t.Errorf("state %s", s)
	}
	b := change(a.id(), "Publish", 200)
	if b.JSON["workflowStatus"] != "APPROVED" || !strings.Contains(string(b.Body), `"state":"Published"`) {
		t.Errorf("publish %s", b.Body)
	}
	change(a.id(), "Retire", 400)
	change(a.id(), "Nonsense", 400)
	for _, x := range []string{"Publish", "Block", "Re-Publish", "Demote to Created", "Deploy as a Prototype", "Publish", "Deprecate", "Retire"} {
		change(a.id(), x, 200)
	}
	change(a.id(), "Publish", 400)
	if h := w.do("GET", "/apis/"+a.id()+"/lifecycle-history", nil, 200); h.JSON["count"] != 10.0 {
		t.Errorf("history %s", h.Body)
	}
	if w.do("GET", "/apis/"+a.id(), nil, 200).JSON["lifeCycleStatus"] != "RETIRED" {
		t.Error("state of the API")
	}
	w.refused("POST", "/apis/change-lifecycle?action=Publish&apiId=nope", nil, 404, 900308)
	w.do("POST", "/apis/change-lifecycle?apiId="+a.id(), nil, 400)
	w.do("POST", "/apis/change-lifecycle?action=Publish&lifecycleChecklist=x&apiId="+a.id(), nil, 400)
	w.do("DELETE", "/apis/"+a.id()+"/lifecycle-state/pending-tasks", nil, 200)
}

func TestTenantsOwnLifecycle(t *testing.T) {
	w := newWorld(t)
	conf := `{"LifeCycle":{"States":[{"State":"Created","CheckItems":["Ask legal"],"Transitions":[{"Event":"Promote","Target":"Promoted"}]},{"State":"Promoted","Transitions":[{"Event":"Publish","Target":"Published"}]}]}}`
	ctx := apim.WithActor(t.Context(), actors["admin"])
	if err := w.db.TenantConfs.Create(ctx, apim.In(apim.SuperTenant), &apim.TenantConf{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: apim.SuperTenant, JSON: conf}); err != nil {
		t.Fatal(err)
	}
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", nil), 201)
	w.do("POST", "/apis/change-lifecycle?action=Deprecate&apiId="+a.id(), nil, 400)
	if b := w.as("admin", "POST", "/apis/change-lifecycle?action=Promote&apiId="+a.id(), nil); b.Status != 200 || !strings.Contains(string(b.Body), `"state":"Promoted"`) || !strings.Contains(string(b.Body), `"event":"Publish"`) {
		t.Errorf("promote: %d %s", b.Status, b.Body)
	}
}

func TestSubscriptionlessAfterPublish(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", map[string]any{"policies": []string{"Gold"}}), 201)
	w.do("POST", "/apis/change-lifecycle?action=Publish&apiId="+a.id(), nil, 200)
	a.JSON["policies"] = []string{}
	if b := w.do("PUT", "/apis/"+a.id(), a.JSON, 200); b.JSON["policies"].([]any)[0] != "DefaultSubscriptionless" {
		t.Errorf("policies %v", b.JSON["policies"])
	}
}

func TestVersions(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", map[string]any{"policies": []string{"Gold"}, "isDefaultVersion": true}), 201)
	w.do("POST", "/apis/change-lifecycle?action=Publish&apiId="+a.id(), nil, 200)
	b := w.do("POST", "/apis/copy-api?newVersion=2.0&defaultVersion=true&apiId="+a.id(), nil, 201)
	if b.JSON["version"] != "2.0" || b.JSON["lifeCycleStatus"] != "CREATED" || b.JSON["context"] != "/pizza" || b.JSON["isDefaultVersion"] != true || b.id() == a.id() {
		t.Errorf("copy %s", b.Body)
	}
	if w.do("GET", "/apis/"+a.id(), nil, 200).JSON["isDefaultVersion"] != false {
		t.Error("two default versions")
	}
	w.refused("POST", "/apis/copy-api?newVersion=2.0&apiId="+a.id(), nil, 409, 900252)
	w.refused("POST", "/apis/copy-api?newVersion=3.0&apiId=nope", nil, 404, 900308)
	w.do("POST", "/apis/copy-api?newVersion=a%20b&apiId="+a.id(), nil, 400)
	list := url.QueryEscape("Deprecate old versions after publishing the API:true,Requires re-subscription when publishing the API:false")
	w.do("POST", "/apis/change-lifecycle?action=Publish&apiId="+b.id()+"&lifecycleChecklist="+list, nil, 200)
	if w.do("GET", "/apis/"+a.id(), nil, 200).JSON["lifeCycleStatus"] != "DEPRECATED" {
		t.Error("the old version was not deprecated")
	}
}

func TestRevisions(t *testing.T) {
	w := newWorld(t)
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1.0", nil), 201)
	p := "/apis/" + a.id()
	rev := w.do("POST", p+"/revisions", map[string]any{"description": "first"}, 201)
	if rev.JSON["displayName"] != "Revision 1" || rev.JSON["description"] != "first" {
		t.Errorf("revision %s", rev.Body)
	}
	if x := w.refused("POST", "/apis/nope/revisions", map[string]any{}, 500, 900967); x.JSON["description"] != "Error while adding new API Revision for API : nope" {
		t.Errorf("pinned %s", x.Body)
	}
	dep := w.do("POST", p+"/deploy-revision?revisionId="+rev.id(), []any{map[string]any{"name": "Default", "vhost": "localhost", "displayOnDevportal": true}}, 201)
	if s := string(dep.Body); !strings.Contains(s, `"liveGatewayCount":2,"deployedGatewayCount":2,"failedGatewayCount":0`) || !strings.HasPrefix(s, "[") {
		t.Errorf("deployments %s", s)
	}
	x := w.refused("POST", p+"/deploy-revision?revisionId="+rev.id(), []any{map[string]any{"name": "us-region"}}, 400, 900504)
	if x.JSON["description"] != "Gateway Environment with name 'name 'us-region'' not found" {
		t.Errorf("unknown environment %s", x.Body)
	}
	env := []any{map[string]any{"name": "Default", "vhost": "localhost"}}
	w.refused("POST", p+"/deploy-revision?revisionId="+rev.id(), []any{map[string]any{"name": "Default", "vhost": "evil.example"}}, 400, 400)
	w.refused("POST", p+"/deploy-revision?revisionId=nope", env, 404, 900347)
	w.refused("POST", "/apis/nope/deploy-revision?revisionId="+rev.id(), env, 404, 900308)
	w.refused("DELETE", p+"/revisions/"+rev.id(), nil, 400, 900348)

	// The id of a revision reads as the API it was.
	a.JSON["description"] = "later"
	w.do("PUT", p, a.JSON, 200)
	was := w.do("GET", "/apis/"+rev.id(), nil, 200)
	if was.JSON["isRevision"] != true || was.JSON["revisionedApiId"] != a.id() || was.JSON["description"] != nil || was.JSON["revisionId"] != 1.0 {
		t.Errorf("revision as API %s", was.Body)
	}
	w.do("GET", "/apis/"+rev.id()+"/swagger", nil, 200)
	if r := w.do("POST", p+"/restore-revision?revisionId="+rev.id(), nil, 201); r.JSON["description"] != nil || r.id() != a.id() {
		t.Errorf("restored %s", r.Body)
	}
	w.refused("POST", p+"/restore-revision?revisionId=nope", nil, 404, 900347)

	second := w.do("POST", p+"/revisions", nil, 201)
	w.do("POST", p+"/deploy-revision?revisionId="+second.id(), env, 201)
	on := w.do("GET", p+"/revisions?query=deployed:true", nil, 200)
	if on.JSON["count"] != 1.0 || !strings.Contains(string(on.Body), second.id()) {
		t.Errorf("the second revision did not replace the first: %s", on.Body)
	}
	if off := w.do("GET", p+"/revisions?query=deployed:false", nil, 200); off.JSON["count"] != 1.0 {
		t.Errorf("not deployed %s", off.Body)
	}
	if d := w.do("PUT", p+"/deployments/"+b64("Default"), map[string]any{"vhost": "gw.example.com", "displayOnDevportal": false}, 200); d.JSON["vhost"] != "gw.example.com" || d.JSON["displayOnDevportal"] != false {
		t.Errorf("deployment %s", d.Body)
	}
	if l := w.do("GET", p+"/deployments", nil, 200); len(l.JSON["list"].([]any)) != 1 {
		t.Errorf("deployments %s", l.Body)
	}
	w.do("DELETE", p+"/revisions/"+rev.id(), nil, 200)
	w.refused("GET", p+"/revisions/"+rev.id(), nil, 404, 900347)
	w.refused("POST", p+"/undeploy-revision?revisionId="+second.id(), []any{map[string]any{"name": "nope"}}, 400, 900504)
	w.do("POST", p+"/undeploy-revision?revisionNumber=2&allEnvironments=true", []any{}, 201)
	if on := w.do("GET", p+"/revisions?query=deployed:true", nil, 200); on.JSON["count"] != 0.0 {
		t.Errorf("still deployed %s", on.Body)
	}
	for i := range 4 {
		if r := w.do("POST", p+"/revisions", nil, 201); r.JSON["displayName"] != "Revision "+string(rune('3'+i)) {
			t.Errorf("numbers do not go on: %s", r.Body)
		}
	}
	w.refused("POST", p+"/revisions", nil, 400, 900351)
	w.do("POST", p+"/revisions", map[string]any{"description": strings.Repeat("x", 256)}, 400)
	w.do("DELETE", p, nil, 200)

	third := w.do("POST", "/apis", pizza("Third", "/third", "1", map[string]any{"advertiseInfo": map[string]any{"advertised": true}}), 201)
	w.refused("POST", "/apis/"+third.id()+"/revisions", nil, 400, 903225)
}

func TestScopesAndRoles(t *testing.T) {
	w := newWorld(t)
	s := w.do("POST", "/scopes", map[string]any{"name": "eat", "bindings": []string{"eaters"}}, 201)
	w.refused("POST", "/scopes", map[string]any{"name": "eat"}, 409, 900982)
	w.refused("POST", "/scopes", map[string]any{"name": "x", "bindings": []string{"nope"}}, 400, 900610)
	w.do("POST", "/scopes", map[string]any{"displayName": "x"}, 400)
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1", map[string]any{
		"scopes":     []any{map[string]any{"shared": true, "scope": map[string]any{"name": "eat"}}, map[string]any{"scope": map[string]any{"name": "own"}}},
		"operations": []any{map[string]any{"target": "/a", "verb": "GET", "scopes": []string{"eat"}}},
	}), 201)
	w.refused("DELETE", "/scopes/"+s.id(), nil, 409, 900985)
	if u := w.do("PUT", "/scopes/"+s.id(), map[string]any{"name": "eat", "displayName": "Eat!", "bindings": []string{"admin"}}, 200); u.JSON["displayName"] != "Eat!" {
		t.Errorf("updated %s", u.Body)
	}
	if b := w.do("GET", "/apis/"+a.id(), nil, 200); !strings.Contains(string(b.Body), `"bindings":["admin"]`) {
		t.Errorf("the API still has the old roles: %s", b.Body)
	}
	if u := w.do("GET", "/scopes/"+s.id()+"/usage", nil, 200); !strings.Contains(string(u.Body), `"target":"/a"`) {
		t.Errorf("usage %s", u.Body)
	}
	if l := w.do("GET", "/scopes", nil, 200); l.JSON["count"] != 1.0 {
		t.Errorf("list %s", l.Body)
	}
	w.do("HEAD", "/scopes/"+b64("eat"), nil, 200)
	w.do("HEAD", "/scopes/"+b64("own"), nil, 200)
	w.do("HEAD", "/scopes/"+b64("none"), nil, 404)
	w.do("HEAD", "/roles/"+b64("eaters"), nil, 200)
	w.do("HEAD", "/roles/"+b64("none"), nil, 404)
	w.do("HEAD", "/roles/a.b", nil, 404)
	w.do("HEAD", "/me/roles/"+b64("admin"), nil, 200)
	w.do("HEAD", "/me/roles/"+b64("eaters"), nil, 404)
	w.do("DELETE", "/apis/"+a.id(), nil, 200)
	w.do("DELETE", "/scopes/"+s.id(), nil, 200)
	w.refused("GET", "/scopes/"+s.id(), nil, 404, 900981)
}

func TestDefinitions(t *testing.T) {
	w := newWorld(t)
	props := `{"name":"Menu","context":"/menu","version":"1","policies":["Gold"]}`
	a := w.do("POST", "/apis/import-openapi", newForm("@file", openapi3, "additionalProperties", props), 201)
	ops := a.JSON["operations"].([]any)
	if len(ops) != 2 || ops[0].(map[string]any)["throttlingPolicy"] != "10KPerMin" || ops[1].(map[string]any)["throttlingPolicy"] != "Unlimited" {
		t.Errorf("operations %v", ops)
	}
	edited := strings.Replace(openapi3, "Old", "New", 1)
	put := w.do("PUT", "/apis/"+a.id()+"/swagger", newForm("apiDefinition", edited), 200)
	if string(put.Body) != edited {
		t.Errorf("put answered %s", put.Body)
	}
	for name, doc := range map[string]string{"no paths": `{"openapi":"3.0.0","info":{"title":"x","version":"1"},"paths":{}}`, "nonsense": "nonsense"} {
		if b := w.as("admin", "PUT", "/apis/"+a.id()+"/swagger", newForm("apiDefinition", doc)); b.Status != 400 {
			t.Errorf("%s: %d", name, b.Status)
		}
		if b := w.as("admin", "POST", "/apis/import-openapi", newForm("@file", doc, "additionalProperties", `{"name":"N","context":"/n","version":"1"}`)); b.Status != 400 {
			t.Errorf("import %s: %d", name, b.Status)
		}
		v := w.do("POST", "/apis/validate-openapi", newForm("@file", doc), 200)
		if v.JSON["isValid"] != false || len(v.JSON["errors"].([]any)) == 0 {
			t.Errorf("validate %s: %s", name, v.Body)
		}
	}
	if got := w.do("GET", "/apis/"+a.id()+"/swagger", nil, 200); string(got.Body) != edited {
		t.Errorf("a refused definition changed the stored one: %s", got.Body)
	}
	v := w.do("POST", "/apis/validate-openapi?returnContent=true", newForm("inlineAPIDefinition", openapi3), 200)
	if v.JSON["isValid"] != true || v.JSON["content"] != openapi3 || !strings.Contains(string(v.Body), `"endpoints":["https://api.example.com/v1"]`) || !strings.Contains(string(v.Body), `"openAPIVersion":"3.0.3"`) {
		t.Errorf("validate %s", v.Body)
	}
	yaml := "swagger: '2.0'\ninfo:\n  title: Old\n  version: 1.10\nhost: h.example\nbasePath: /base\nschemes: [https]\npaths:\n  /a:\n    get:\n      responses: {}\n"
	y := w.do("POST", "/apis/import-openapi", newForm("@file", yaml, "additionalProperties", `{}`), 201)
	if y.JSON["name"] != "Old" || y.JSON["version"] != "1.10" || y.JSON["context"] != "/base" {
		t.Errorf("from YAML %s", y.Body)
	}
	if got := w.do("GET", "/apis/"+y.id()+"/swagger", nil, 200); string(got.Body) != yaml {
		t.Errorf("YAML bytes changed: %s", got.Body)
	}
	w.do("POST", "/apis/import-openapi", newForm("@file", zipped(t, "root/swagger.json", openapi3), "additionalProperties", `{"name":"Z","context":"/z","version":"1"}`), 201)
	w.refused("POST", "/apis/import-openapi", newForm("@file", zipped(t, "a/b/readme.txt", "x"), "additionalProperties", `{"name":"Y","context":"/y","version":"1"}`), 500, 900967)
	w.do("POST", "/apis/import-openapi", newForm("additionalProperties", props), 400)
	w.do("POST", "/apis/import-openapi", newForm("@file", openapi3, "additionalProperties", `{"name":5}`), 400)
	w.do("POST", "/apis/import-openapi", `{}`, 415)
	if b := w.as("admin", "POST", "/apis/import-openapi", "--x\r\ngarbage", "Content-Type", "multipart/form-data; boundary=x"); b.Status != 400 {
		t.Errorf("broken multipart: %d", b.Status)
	}
	w.refused("GET", "/apis/nope/swagger", nil, 404, 900308)
	w.refused("PUT", "/apis/nope/swagger", newForm("apiDefinition", openapi3), 404, 900308)
}

func TestPoliciesAndSettings(t *testing.T) {
	w := newWorld(t)
	if l := w.do("GET", "/throttling-policies/subscription", nil, 200); l.JSON["count"] != 5.0 || strings.Contains(string(l.Body), "Unauthenticated") || !strings.Contains(string(l.Body), `"requestCount":5000`) {
		t.Errorf("plans %s", l.Body)
	}
	if l := w.do("GET", "/throttling-policies/api", nil, 200); l.JSON["count"] != 2.0 {
		t.Errorf("advanced %s", l.Body)
	}
	if l := w.do("GET", "/throttling-policies/streaming/subscription", nil, 200); l.JSON["count"] != 1.0 || !strings.Contains(string(l.Body), `"policyName":"AsyncGold"`) {
		t.Errorf("streaming %s", l.Body)
	}
	if p := w.do("GET", "/throttling-policies/subscription/Gold", nil, 200); p.JSON["name"] != "Gold" || p.JSON["tierPlan"] != "FREE" {
		t.Errorf("policy %s", p.Body)
	}
	w.do("GET", "/throttling-policies/subscription/Nope", nil, 404)
	w.do("GET", "/throttling-policies/nope", nil, 400)
	if s := w.do("GET", "/settings", nil, 200); len(s.JSON["environment"].([]any)) != 1 || s.JSON["defaultAdvancePolicy"] != "Unlimited" || len(s.JSON["scopes"].([]any)) < 10 {
		t.Errorf("settings %s", s.Body)
	}
	if k := w.do("GET", "/key-managers", nil, 200); k.JSON["count"] != 1.0 {
		t.Errorf("key managers %s", k.Body)
	}
	w.do("GET", "/api-categories", nil, 200)
	if l := w.do("GET", "/linter-custom-rules", nil, 200); string(l.Body) != "{}" {
		t.Errorf("rules %s", l.Body)
	}
	a := w.do("POST", "/apis", pizza("Pizza", "/pizza", "1", map[string]any{"policies": []string{"Gold", "Silver"}}), 201)
	if l := w.do("GET", "/apis/"+a.id()+"/subscription-policies", nil, 200); strings.Count(string(l.Body), `"name"`) != 2 {
		t.Errorf("plans of the API %s", l.Body)
	}
	if l := w.do("GET", "/apis/"+a.id()+"/resource-paths", nil, 200); l.JSON["count"] != 5.0 {
		t.Errorf("paths %s", l.Body)
	}
	if k := w.do("POST", "/apis/"+a.id()+"/generate-key", nil, 200); k.JSON["apikey"] != "key" || k.JSON["validityTime"] != 60.0 {
		t.Errorf("key %s", k.Body)
	}
	w.do("POST", "/apis/nope/generate-key", nil, 404)
	if d := w.as("", "GET", "/openapi.yaml", nil); d.Status != 200 || !strings.Contains(string(d.Body), "operationId: listApis") {
		t.Errorf("document %d", d.Status)
	}
}

func TestRacingWritesAreNeverLost(t *testing.T) {
	w := newWorld(t)
	const n = 12
	status := make(chan int, n)
	for range n {
		go func() { status <- w.as("admin", "POST", "/apis", pizza("Race", "/race", "1", nil)).Status }()
	}
	won := 0
	for range n {
		switch s := <-status; s {
		case 201:
			won++
		case 409:
		default:
			t.Errorf("status %d", s)
		}
	}
	if won != 1 {
		t.Errorf("%d creations won, want 1", won)
	}
	id := w.do("GET", "/apis", nil, 200).JSON["list"].([]any)[0].(map[string]any)["id"].(string)
	for range n {
		go func() { status <- w.as("admin", "POST", "/apis/"+id+"/revisions", map[string]any{}).Status }()
	}
	made := 0
	for range n {
		switch s := <-status; s {
		case 201:
			made++
		case 400:
		default:
			t.Errorf("status %d", s)
		}
	}
	if made != 5 {
		t.Errorf("%d revisions were made, want 5", made)
	}
}
