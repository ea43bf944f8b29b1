package scim_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
)

func TestUserComesBackAsItWasSent(t *testing.T) {
	w := newWorld(t)
	id := w.user("anna")
	d := w.ok(200, "GET", "/scim2/Users/"+id, "")
	for path, got := range map[string]any{
		"Nowak": at(d, "name", "familyName"), "anna@example.org": at(d, "emails", 0, "value"), "home": at(d, "emails", 1, "type"),
		"Ovens":    at(d, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", "department"),
		"26118915": at(d, "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", "manager", "value"),
		"https://localhost:9443/scim2/Users/" + id: at(d, "meta", "location"),
	} {
		if got != path {
			t.Errorf("got %v, want %s", got, path)
		}
	}
	if _, shown := d["password"]; shown || d["active"] != true {
		t.Errorf("%v", d)
	}
	u, err := w.dir.User(t.Context(), apim.SuperTenant, "anna")
	must(t, err)
	if u.Claims[identity.ClaimEmail] != "anna@example.org" || u.Claims["http://wso2.org/claims/givenname"] != "Anna" {
		t.Errorf("claims %v", u.Claims)
	}
	if _, err := w.dir.Authenticate(t.Context(), "anna", apim.SuperTenant, "margherita", ""); err != nil {
		t.Errorf("the password does not work: %v", err)
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	w.user("anna")
	id := w.user("bert")
	w.user("carla")
	w.ok(200, "PATCH", "/scim2/Users/"+id, `{"Operations":[{"op":"replace","value":{"active":false}}]}`)
	for filter, want := range map[string]string{
		`userName eq "ANNA"`:                                            "anna",
		`userName sw "a"`:                                               "admin anna",
		`userName co "r" and not (userName ew "t")`:                     "carla",
		`active eq false`:                                               "bert",
		`emails[type eq "work" and value co "bert"]`:                    "bert",
		`emails.value eq "carla@example.org"`:                           "carla",
		`name.familyName pr and (active eq true)`:                       "anna carla",
		`userName eq "anna" or userName eq "bert"`:                      "anna bert",
		`urn:ietf:params:scim:schemas:core:2.0:User:userName eq "bert"`: "bert",
		`urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq "ovens"`:  "anna bert carla",
		`meta.created gt "2000-01-01T00:00:00Z" and groups.display eq "Internal/publisher"`: "admin",
		`id eq "` + id + `"`:      "bert",
		`userName ne "admin"`:     "anna bert carla",
		`nickName eq null`:        "admin anna bert carla",
		`userName eq "nobody"`:    "",
		`userName eq "an\u006ea"`: "anna",
	} {
		d := w.ok(200, "GET", "/scim2/Users?filter="+url.QueryEscape(filter), "")
		var got []string
		for _, r := range d["Resources"].([]any) {
			got = append(got, at(r, "userName").(string))
		}
		if strings.Join(got, " ") != want || d["totalResults"] != float64(len(got)) {
			t.Errorf("%s: %v of %v, want %s", filter, got, d["totalResults"], want)
		}
	}
	for _, filter := range []string{
		"userName", `userName eq`, `userName eq "a`, `(userName eq "a"`, `userName zz "a"`, `userName eq {"a":1}`, `emails[type eq "a"`,
		`urn:nope:User:a eq "b"`, `a.b.c eq "d"`, strings.Repeat("(", 5000), strings.Repeat(`not (`, 500) + `a pr` + strings.Repeat(")", 500),
		`userName eq "a" userName eq "b"`,
	} {
		code, d := w.as(admin, "GET", "/scim2/Users?filter="+url.QueryEscape(filter), "")
		if code != 400 || d["scimType"] == nil {
			t.Errorf("%.40s: %d %v", filter, code, d)
		}
	}
}

func TestPagesAndProjection(t *testing.T) {
	w := newWorld(t)
	for i := range 7 {
		w.user(fmt.Sprintf("user%d", i))
	}
	for q, want := range map[string]string{
		"startIndex=3&count=2": "8 user1 user2", "count=0": "8", "startIndex=8&count=5": "8 user6", "startIndex=100": "8",
		"startIndex=2&count=2&filter=" + url.QueryEscape(`userName sw "user"`): "7 user1 user2",
		"startIndex=-5&count=1": "8 admin",
	} {
		d := w.ok(200, "GET", "/scim2/Users?"+q, "")
		got := fmt.Sprint(d["totalResults"])
		for _, r := range d["Resources"].([]any) {
			got += " " + at(r, "userName").(string)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", q, got, want)
		}
	}
	d := w.ok(200, "GET", "/scim2/Users?count=1&startIndex=2&attributes=emails.value,name", "")
	r := at(d, "Resources", 0).(doc)
	if r["meta"] != nil || r["userName"] != "user0" || at(r, "emails", 1, "value") != "home@example.org" || at(r, "emails", 1, "type") != nil {
		t.Errorf("attributes: %v", r)
	}
	r = at(w.ok(200, "GET", "/scim2/Users?count=1&startIndex=2&excludedAttributes=emails,id", ""), "Resources", 0).(doc)
	if r["emails"] != nil || r["id"] == nil || r["name"] == nil {
		t.Errorf("excludedAttributes: %v", r)
	}
	d = w.ok(200, "POST", "/scim2/Users/.search", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],"filter":"userName eq \"user3\"","attributes":["userName"]}`)
	if d["totalResults"] != 1.0 || len(at(d, "Resources", 0).(doc)) != 3 {
		t.Errorf("search: %v", d)
	}
	d = w.ok(200, "POST", "/scim2/.search", `{"startIndex":8,"count":2}`)
	if at(d, "Resources", 0, "userName") != "user6" || at(d, "Resources", 1, "displayName") != "admin" || len(d["Resources"].([]any)) != 2 {
		t.Errorf("search: %v", d)
	}
}

func TestPatch(t *testing.T) {
	w := newWorld(t)
	id := w.user("anna")
	patch := func(ops string) (int, doc) {
		return w.as(admin, "PATCH", "/scim2/Users/"+id, `{"schemas":["urn:ietf:params:scim:api:messages:2.0:PatchOp"],"Operations":[`+ops+`]}`)
	}
	const ent = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	for _, c := range []struct {
		ops  string
		want any
		path []any
	}{
		{`{"op":"replace","path":"name.familyName","value":"Kowalska"}`, "Kowalska", []any{"name", "familyName"}},
		{`{"op":"Add","value":{"nickName":"An","name":{"middleName":"M"}}}`, "Anna", []any{"name", "givenName"}},
		{`{"op":"replace","path":"emails[type eq \"work\"].value","value":"new@example.org"}`, "new@example.org", []any{"emails", 0, "value"}},
		{`{"op":"add","path":"emails","value":[{"value":"third@example.org","type":"other","primary":true}]}`, false, []any{"emails", 0, "primary"}},
		{`{"op":"remove","path":"emails[type eq \"home\"]"}`, "third@example.org", []any{"emails", 1, "value"}},
		{`{"op":"add","path":"phoneNumbers[type eq \"mobile\"].value","value":"+48 1"}`, "mobile", []any{"phoneNumbers", 0, "type"}},
		{`{"op":"replace","value":{"` + ent + `:department":"Sales","active":"False"}}`, "Sales", []any{ent, "department"}},
		{`{"op":"replace","path":"` + ent + `:employeeNumber","value":"7"}`, "7", []any{ent, "employeeNumber"}},
		{`{"op":"remove","path":"nickName"}`, nil, []any{"nickName"}},
		{`{"op":"remove","path":"` + ent + `"}`, nil, []any{ent}},
		{`{"op":"replace","path":"urn:scim:wso2:schema:accountLocked","value":false}`, true, []any{"active"}},
		{`{"op":"replace","path":"urn:scim:wso2:schema:accountLocked","value":true}`, false, []any{"active"}},
		{`{"op":"replace","path":"active","value":true}`, true, []any{"active"}},
	} {
		code, d := patch(c.ops)
		if got := at(d, c.path...); code != 200 || got != c.want {
			t.Errorf("%s: %d %v, want %v: %v", c.ops, code, got, c.want, d)
		}
	}
	for ops, want := range map[string]string{
		`{"op":"replace","path":"id","value":"x"}`:             "mutability",
		`{"op":"replace","path":"userName","value":"other"}`:   "mutability",
		`{"op":"add","path":"groups","value":[{"value":"x"}]}`: "mutability",
		`{"op":"remove"}`: "noTarget",
		`{"op":"replace","path":"emails[type ne \"x\" and value eq \"y\"].value","value":"z"}`:                 "noTarget",
		`{"op":"replace","path":"nothing","value":"x"}`:                                                        "invalidPath",
		`{"op":"replace","path":"emails[","value":"x"}`:                                                        "invalidFilter",
		`{"op":"replace","path":"name.familyName.x","value":"x"}`:                                              "invalidPath",
		`{"op":"move","path":"name","value":"x"}`:                                                              "invalidSyntax",
		`{"op":"replace","path":"active","value":"maybe"}`:                                                     "invalidValue",
		`{"op":"replace","path":"nickName","value":{"a":1}}`:                                                   "invalidValue",
		`{"op":"replace","path":"emails","value":[{"value":"a","primary":true},{"value":"b","primary":true}]}`: "invalidValue",
		`{"op":"add","path":"nickName"}`:                                                                       "invalidValue",
		`{"op":"replace","path":"nickName","value":"` + strings.Repeat("x", 40_000) + `"}`:                     "invalidValue",
	} {
		if code, d := patch(ops); code != 400 || d["scimType"] != want {
			t.Errorf("%.80s: %d %v, want %s", ops, code, d, want)
		}
	}
}

func TestLockingEndsSignIn(t *testing.T) {
	w := newWorld(t)
	id := w.user("anna")
	login := func() error {
		_, err := w.dir.Authenticate(t.Context(), "anna", apim.SuperTenant, "margherita", "")
		return err
	}
	w.ok(200, "PATCH", "/scim2/Users/"+id, `{"Operations":[{"op":"replace","path":"active","value":false}]}`)
	if login() == nil {
		t.Error("a locked user signs in")
	}
	w.ok(200, "PATCH", "/scim2/Users/"+id, `{"Operations":[{"op":"replace","path":"active","value":true}]}`)
	if err := login(); err != nil {
		t.Error(err)
	}
	w.ok(200, "PATCH", "/scim2/Users/"+id, `{"Operations":[{"op":"replace","path":"password","value":"quattro"}]}`)
	if login() == nil {
		t.Error("the old password still works")
	}
	w.ok(204, "DELETE", "/scim2/Users/"+id, "")
	w.ok(404, "GET", "/scim2/Users/"+id, "")
}

func TestReplaceKeepsWhatScimDoesNotShow(t *testing.T) {
	w := newWorld(t)
	id := w.user("anna")
	must(t, w.dir.UpdateUser(t.Context(), apim.SuperTenant, apim.UserID(id), func(u *apim.User) error {
		u.Claims["http://example.org/own"] = "kept"
		return nil
	}))
	d := w.ok(200, "PUT", "/scim2/Users/"+id, `{"userName":"anna","displayName":"A"}`)
	if d["emails"] != nil || d["name"] != nil || d["displayName"] != "A" {
		t.Errorf("%v", d)
	}
	u, err := w.dir.User(t.Context(), apim.SuperTenant, "anna")
	must(t, err)
	if u.Claims["http://example.org/own"] != "kept" || u.Claims[identity.ClaimEmail] != "" {
		t.Errorf("claims %v", u.Claims)
	}
}

func TestGroupsAndRolesAreTheSame(t *testing.T) {
	w := newWorld(t)
	anna, bert := w.user("anna"), w.user("bert")
	g := w.ok(201, "POST", "/scim2/Groups", `{"displayName":"bakers","members":[{"value":"`+anna+`"}]}`)
	id := g["id"].(string)
	if at(g, "members", 0, "display") != "anna" {
		t.Errorf("%v", g)
	}
	w.ok(409, "POST", "/scim2/Groups", `{"displayName":"Bakers"}`)
	w.ok(400, "POST", "/scim2/Groups", `{"displayName":"cooks","members":[{"value":"nobody"}]}`)
	if d := w.ok(200, "GET", "/scim2/Groups?filter="+url.QueryEscape(`displayName eq "cooks"`), ""); d["totalResults"] != 0.0 {
		t.Errorf("a group that was refused is there: %v", d)
	}
	g = w.ok(200, "PATCH", "/scim2/Groups/"+id, `{"Operations":[{"op":"add","path":"members","value":[{"value":"`+bert+`"}]},{"op":"remove","path":"members[value eq \"`+anna+`\"]"}]}`)
	if at(g, "members", 0, "value") != bert || at(g, "members", 1) != nil {
		t.Errorf("%v", g)
	}
	if d := w.ok(200, "GET", "/scim2/Users/"+bert, ""); at(d, "groups", 0, "display") != "bakers" {
		t.Errorf("%v", d)
	}
	if d := w.ok(200, "GET", "/scim2/Groups?filter="+url.QueryEscape(`members.value eq "`+bert+`"`), ""); d["totalResults"] != 1.0 {
		t.Errorf("%v", d)
	}
	r := w.ok(200, "PATCH", "/scim2/v2/Roles/"+id, `{"Operations":[{"op":"replace","path":"permissions","value":["/permission/admin/login"]}]}`)
	if at(r, "permissions", 0) != "/permission/admin/login" || at(r, "users", 0, "value") != bert {
		t.Errorf("%v", r)
	}
	w.ok(200, "PUT", "/scim2/Roles/"+id, `{"displayName":"bakers","permissions":[]}`)
	w.ok(400, "PATCH", "/scim2/Groups/"+id, `{"Operations":[{"op":"replace","path":"displayName","value":"x"}]}`)
	w.ok(204, "DELETE", "/scim2/Roles/"+id, "")
	w.ok(404, "GET", "/scim2/Groups/"+id, "")
	d := w.ok(200, "GET", "/scim2/Groups?excludedAttributes=members&filter="+url.QueryEscape(`displayName sw "Internal/"`), "")
	if n := len(d["Resources"].([]any)); n < 7 || at(d, "Resources", 0, "members") != nil {
		t.Errorf("%v", d)
	}
}

func TestBulk(t *testing.T) {
	w := newWorld(t)
	d := w.ok(200, "POST", "/scim2/Bulk", `{"schemas":["urn:ietf:params:scim:api:messages:2.0:BulkRequest"],"failOnErrors":2,"Operations":[
		{"method":"POST","path":"/Users","bulkId":"a","data":{"userName":"anna","password":"margherita"}},
		{"method":"POST","path":"/Groups","bulkId":"g","data":{"displayName":"bakers","members":[{"value":"bulkId:a"}]}},
		{"method":"POST","path":"/Users","bulkId":"b","data":{"userName":"anna","password":"margherita"}},
		{"method":"PATCH","path":"/Users/bulkId:a","data":{"Operations":[{"op":"add","path":"title","value":"baker"}]}},
		{"method":"DELETE","path":"/Users/nobody"},
		{"method":"DELETE","path":"/Users/bulkId:a"}]}`)
	var got []string
	for _, o := range d["Operations"].([]any) {
		got = append(got, at(o, "status").(string))
	}
	if strings.Join(got, " ") != "201 201 409 200 404" {
		t.Errorf("%v: %v", got, d)
	}
	users := w.ok(200, "GET", "/scim2/Users?filter="+url.QueryEscape(`groups.display eq "bakers" and title eq "baker"`), "")
	if users["totalResults"] != 1.0 {
		t.Errorf("%v", users)
	}
	ops := strings.TrimSuffix(strings.Repeat(`{"method":"DELETE","path":"/Users/x"},`, 201), ",")
	w.ok(413, "POST", "/scim2/Bulk", `{"Operations":[`+ops+`]}`)
	d = w.ok(200, "POST", "/scim2/Bulk", `{"Operations":[{"method":"POST","path":"/Bulk","bulkId":"x","data":{"Operations":[{}]}},{"method":"GET","path":"/Users"},{"method":"DELETE","path":"/Users/bulkId:none"},7]}`)
	for _, o := range d["Operations"].([]any) {
		if s := at(o, "status").(string); s[0] != '4' {
			t.Errorf("%v", o)
		}
	}
}

func TestMalformedRequests(t *testing.T) {
	w := newWorld(t)
	id := w.user("anna")
	for body, want := range map[string]int{
		`{`: 400, `[]`: 400, `null`: 400, `{} {}`: 400, `{"userName":1,"password":"x"}`: 400, `{"password":"x"}`: 400,
		`{"schemas":["urn:x"],"userName":"x","password":"x"}`:       400,
		strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40): 400,
		`{"a":"` + strings.Repeat("x", 1<<20) + `"}`:                413,
		`{"userName":"x","password":"x","emails":"e"}`:              400,
		`{"userName":"x","password":"x","name":"e"}`:                400,
		`{"userName":"x\u0000","password":"x"}`:                     400,
		`{"userName":"anna","password":"x"}`:                        409,
	} {
		if code, d := w.as(admin, "POST", "/scim2/Users", body); code != want {
			t.Errorf("%.60s: %d %v, want %d", body, code, d, want)
		}
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/scim2/Nothing", 404},
		{"GET", "/scim2/Users/" + id + "/x", 404},
		{"POST", "/scim2/Users/" + id, 415},
		{"GET", "/scim2/Users/../Users", 404},
		{"DELETE", "/scim2/Users", 405},
		{"GET", "/scim2/Users?count=x", 400},
		{"GET", "/scim2/Users?attributes=a&excludedAttributes=b", 400},
		{"GET", "/scim2/Users/" + strings.Repeat("x", 100), 404},
		{"GET", "/scim2/Schemas/urn:none", 404},
		{"DELETE", "/scim2/Schemas", 405},
		{"GET", "/scim2/Users?x=%zz", 400},
	} {
		if code, d := w.as(admin, c.method, c.path, ""); code != c.want {
			t.Errorf("%s %s: %d %v, want %d", c.method, c.path, code, d, c.want)
		}
	}
}

func TestDescriptionsAreForEverybody(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/scim2/ServiceProviderConfig", "/scim2/Schemas", "/scim2/ResourceTypes", "/t/shop.example/scim2/Schemas/urn:ietf:params:scim:schemas:core:2.0:User"} {
		if code, d := w.as("", "GET", path, ""); code != 200 {
			t.Errorf("%s: %d %v", path, code, d)
		}
	}
}
