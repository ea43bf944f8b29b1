package devportal_test

import (
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

func TestApplications(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.call("alice", 200, "GET", "/applications", "")
	if names(first, "name") != "DefaultApplication" || names(first, "throttlingPolicy") != "Unlimited" {
		t.Fatalf("first call of a user: %v", first)
	}
	def := first["list"].([]any)[0].(object)["applicationId"].(string)
	w.call("alice", 200, "DELETE", "/applications/"+def, "")
	if got := w.call("alice", 200, "GET", "/applications", ""); got["count"] != 0.0 {
		t.Errorf("DefaultApplication came back: %v", got)
	}

	id := w.app("alice", "shop")
	got := w.call("alice", 200, "GET", "/applications/"+id, "")
	if got["owner"] != "alice" || got["status"] != "APPROVED" || got["tokenType"] != "JWT" || got["visibility"] != "PRIVATE" {
		t.Errorf("application: %v", got)
	}
	w.refused("alice", 409, 409, "POST", "/applications", `{"name":"shop","throttlingPolicy":"Unlimited"}`)
	w.app("bob", "shop") // another owner's name is free
	w.refused("alice", 400, 900305, "POST", "/applications", `{"name":"x","throttlingPolicy":"Galaxy"}`)
	for _, bad := range []string{
		`{"throttlingPolicy":"Unlimited"}`, `{"name":"x"}`, `{"name":"","throttlingPolicy":"Unlimited"}`, `{"name":7,"throttlingPolicy":"Unlimited"}`,
		`{"name":"` + strings.Repeat("x", 101) + `","throttlingPolicy":"Unlimited"}`, `{`, ``, `[]`, `{"name":"x","throttlingPolicy":"Unlimited","tokenType":"X"}`,
		`{"name":"x","throttlingPolicy":"Unlimited","attributes":{"a":{}}}`,
	} {
		w.call("alice", 400, "POST", "/applications", bad)
	}
	w.refused("weak", 401, 401, "POST", "/applications", `{`)
	w.refused("", 401, 401, "GET", "/applications", "")

	for _, m := range []string{"GET", "DELETE"} {
		w.refused("bob", 403, 403, m, "/applications/"+id, "")
		w.refused("zoe@other.org", 404, 404, m, "/applications/"+id, "")
	}
	w.refused("bob", 403, 403, "PUT", "/applications/"+id, `{"name":"mine","throttlingPolicy":"Unlimited"}`)
	w.refused("alice", 404, 404, "GET", "/applications/nowhere", "")

	up := w.call("alice", 200, "PUT", "/applications/"+id, `{"name":"shop2","throttlingPolicy":"10PerMin","tokenType":"OAUTH","attributes":{"a":"b"},"groups":["g"]}`)
	if up["name"] != "shop2" || up["throttlingPolicy"] != "10PerMin" || up["attributes"].(object)["a"] != "b" || len(up["groups"].([]any)) != 0 {
		t.Errorf("updated: %v", up)
	}
	w.call("alice", 412, "PUT", "/applications/"+id, `{"name":"shop3","throttlingPolicy":"10PerMin"}`, "If-Match", `"c-1"`)
	w.call("alice", 200, "PUT", "/applications/"+id, `{"name":"shop3","throttlingPolicy":"10PerMin"}`, "If-Match", `"anything"`)
	w.app("alice", "a-first")
	if got := names(w.call("alice", 200, "GET", "/applications?sortBy=name&sortOrder=desc", ""), "name"); got != "shop3 a-first" {
		t.Errorf("sorted: %q", got)
	}
	if got := names(w.call("alice", 200, "GET", "/applications?query=FIRST", ""), "name"); got != "a-first" {
		t.Errorf("searched: %q", got)
	}
	w.call("alice", 200, "POST", "/applications/"+id+"/reset-throttle-policy", `{"userName":"alice"}`)
	w.call("alice", 400, "POST", "/applications/"+id+"/reset-throttle-policy", `{}`)
	app, err := w.db.Applications.Get(t.Context(), apim.In(apim.SuperTenant), apim.AppID(id))
	if err != nil || app.ResetAt["alice"].IsZero() {
		t.Errorf("reset left no trace: %v %v", app, err)
	}
	// Whatever the caller calls the user, every name a gateway counts them by is reset.
	for _, name := range []string{"bob@carbon.super", "BOB"} {
		id := w.app("alice", "reset of "+name)
		w.call("alice", 200, "POST", "/applications/"+id+"/reset-throttle-policy", `{"userName":"`+name+`"}`)
		app, err := w.db.Applications.Get(t.Context(), apim.In(apim.SuperTenant), apim.AppID(id))
		if err != nil {
			t.Fatal(err)
		}
		for _, counted := range []string{"bob", "bob@carbon.super", "id-bob", "id-bob@carbon.super"} {
			if app.ResetAt[counted].IsZero() {
				t.Errorf("reset of %s does not reach %s: %v", name, counted, app.ResetAt)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.app("alice", "shop")
	at := "/applications/" + id
	gen := func(kind, extra string) string {
		return `{"keyType":"` + kind + `","grantTypesToBeSupported":["client_credentials"]` + extra + `}`
	}

	for name, c := range map[string]struct {
		body string
		code int
	}{
		"callback needed":     {`{"keyType":"PRODUCTION","grantTypesToBeSupported":["authorization_code"]}`, 400},
		"script as callback":  {gen("PRODUCTION", `,"callbackUrl":"javascript:alert(1)"`), 400},
		"unknown key type":    {gen("STAGE", ""), 400},
		"no grants":           {`{"keyType":"PRODUCTION"}`, 400},
		"unknown key manager": {gen("PRODUCTION", `,"keyManager":"Nobody"`), 901403},
		"negative expiry":     {gen("PRODUCTION", `,"additionalProperties":{"id_token_expiry_time":-1}`), 900970},
		"text as expiry":      {gen("PRODUCTION", `,"additionalProperties":{"id_token_expiry_time":"soon"}`), 900970},
		"flag neither":        {gen("PRODUCTION", `,"additionalProperties":{"pkceMandatory":"maybe"}`), 900970},
		"unknown as number":   {gen("PRODUCTION", `,"additionalProperties":{"colour":"red"}`), 900970},
		"endless expiry":      {gen("PRODUCTION", `,"additionalProperties":{"application_access_token_expiry_time":99999999999}`), 901410},
	} {
		t.Log(name)
		w.refused("alice", 400, c.code, "POST", at+"/generate-keys", c.body)
	}
	k := w.call("alice", 200, "POST", at+"/generate-keys", gen("PRODUCTION", `,"validityTime":3600,"additionalProperties":{"application_access_token_expiry_time":"60","pkceMandatory":true}`))
	if k["keyState"] != "APPROVED" || k["mode"] != "CREATED" || k["keyManager"] != "Resident Key Manager" || k["consumerSecret"] == nil {
		t.Errorf("keys: %v", k)
	}
	if tok := k["token"].(object); tok["validityTime"] != 3600.0 || len(tok["tokenScopes"].([]any)) != 2 {
		t.Errorf("first token: %v", tok)
	}
	ck := apim.ClientID(k["consumerKey"].(string))
	c, err := w.db.Clients.Get(t.Context(), apim.In(apim.SuperTenant), ck)
	if err != nil || c.AppExpiry.Seconds() != 60 || !c.PKCEMandatory || c.Owner != "alice" {
		t.Errorf("client: %+v %v", c, err)
	}
	w.call("alice", 200, "PUT", at, `{"name":"shop","throttlingPolicy":"Unlimited","tokenType":"OAUTH"}`)
	if c, _ = w.db.Clients.Get(t.Context(), apim.In(apim.SuperTenant), ck); c.TokenType != "OAUTH" {
		t.Errorf("the client still issues %s", c.TokenType)
	}
	w.refused("alice", 409, 901409, "POST", at+"/generate-keys", gen("PRODUCTION", ""))
	w.refused("bob", 403, 403, "POST", at+"/generate-keys", gen("SANDBOX", ""))
	key := at + "/oauth-keys/" + k["keyMappingId"].(string)
	if got := w.call("alice", 200, "GET", key, ""); got["consumerSecret"] != k["consumerSecret"] || got["additionalProperties"].(object)["id_token_expiry_time"] != "N/A" {
		t.Errorf("read back: %v", got)
	}
	for _, p := range []string{"/keys", "/oauth-keys"} {
		if got := w.call("alice", 200, "GET", at+p, ""); got["count"] != 1.0 {
			t.Errorf("%s: %v", p, got)
		}
	}
	w.call("alice", 200, "GET", at+"/keys/PRODUCTION", "")
	w.call("alice", 404, "GET", at+"/keys/SANDBOX", "")
	w.call("bob", 403, "GET", key, "")
	w.call("alice", 404, "GET", at+"/oauth-keys/nowhere", "")

	w.call("alice", 200, "PUT", key, `{"supportedGrantTypes":["password"],"callbackUrl":"https://x.example/cb"}`)
	if c, _ = w.db.Clients.Get(t.Context(), apim.In(apim.SuperTenant), ck); c.Callback != "https://x.example/cb" || c.Grants[0] != "password" || !c.PKCEMandatory {
		t.Errorf("client after update: %+v", c)
	}
	w.call("alice", 400, "PUT", key, `{"supportedGrantTypes":["implicit"],"callbackUrl":""}`)

	secret := k["consumerSecret"].(string)
	tok := w.call("alice", 200, "POST", key+"/generate-token", `{"consumerSecret":"`+secret+`","validityPeriod":60,"scopes":["a"]}`)
	if tok["accessToken"] != "token-of-"+string(ck) {
		t.Errorf("token: %v", tok)
	}
	w.call("alice", 400, "POST", key+"/generate-token", `{"consumerSecret":"wrong"}`)
	w.call("bob", 403, "POST", key+"/generate-token", `{"consumerSecret":"`+secret+`"}`)

	two := w.call("alice", 201, "POST", key+"/generate-secret", `{"additionalProperties":{"description":"second","expiresIn":3600}}`)
	w.call("alice", 201, "POST", key+"/generate-secret", `{}`)
	list := w.call("alice", 200, "GET", key+"/secrets", "")
	if list["count"] != 3.0 || strings.Contains(names(list, "secretValue"), "clear") {
		t.Errorf("secrets: %v", list)
	}
	newest := list["list"].([]any)[2].(object)["secretId"].(string)
	w.call("alice", 400, "POST", key+"/revoke-secret", `{"secretId":"`+newest+`"}`)
	w.call("alice", 404, "POST", key+"/revoke-secret", `{"secretId":"nope"}`)
	w.call("alice", 400, "POST", key+"/revoke-secret", `{}`)
	w.call("alice", 204, "POST", key+"/revoke-secret", `{"secretId":"`+two["secretId"].(string)+`"}`)
	re := w.call("alice", 200, "POST", key+"/regenerate-secret", "")
	if re["consumerKey"] != string(ck) || re["consumerSecret"] == secret {
		t.Errorf("regenerated: %v", re)
	}
	w.call("alice", 200, "DELETE", key, "")
	if _, err := w.db.Clients.Get(t.Context(), apim.In(apim.SuperTenant), ck); err == nil {
		t.Error("the client outlived its keys")
	}

	own := &apim.Client{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "mine", Name: "mine", Owner: "alice"}
	foreign := &apim.Client{Meta: apim.Meta{Tenant: apim.SuperTenant}, ID: "bobs", Name: "bobs", Owner: "bob"}
	ctx := apim.WithActor(t.Context(), actors["alice"])
	for _, c := range []*apim.Client{own, foreign} {
		if _, err := w.km.CreateClient(ctx, apim.In(apim.SuperTenant), c); err != nil {
			t.Fatal(err)
		}
	}
	w.refused("alice", 403, 403, "POST", at+"/map-keys", `{"consumerKey":"bobs","keyType":"SANDBOX"}`)
	w.call("alice", 400, "POST", at+"/map-keys", `{"consumerKey":"bobs","consumerSecret":"guess","keyType":"SANDBOX"}`)
	w.call("alice", 400, "POST", at+"/map-keys", `{"consumerKey":"nobody","keyType":"SANDBOX"}`)
	m := w.call("alice", 200, "POST", at+"/map-keys", `{"consumerKey":"mine","keyType":"SANDBOX"}`)
	if m["mode"] != "MAPPED" || m["keyState"] != "COMPLETED" {
		t.Errorf("mapped: %v", m)
	}
	w.refused("alice", 409, 901409, "POST", at+"/map-keys", `{"consumerKey":"mine","keyType":"SANDBOX"}`)
	w.refused("alice", 409, 901409, "POST", at+"/map-keys", `{"consumerKey":"mine","keyType":"PRODUCTION"}`)
	w.call("alice", 200, "POST", at+"/keys/SANDBOX/clean-up", "")
	if _, err := w.db.Clients.Get(t.Context(), apim.In(apim.SuperTenant), "mine"); err != nil {
		t.Error("a mapped client went with its mapping")
	}
	if got := w.call("alice", 200, "GET", "/key-managers", ""); names(got, "tokenEndpoint") != "https://localhost:9443/oauth2/token" {
		t.Errorf("key managers: %v", got)
	}
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.api("pizza", nil)
	w.api("draft", func(a *apim.API) { a.State = apim.Created })
	w.api("old", func(a *apim.API) { a.State = apim.Deprecated })
	w.api("partners", func(a *apim.API) { a.Visibility = "RESTRICTED"; a.VisibleRoles = []string{"partner"} })
	w.api("theirs", func(a *apim.API) { a.Tenant = "other.org" })
	id := w.app("alice", "shop")
	body := func(app, api, plan string) string {
		return `{"applicationId":"` + app + `","apiId":"` + api + `","throttlingPolicy":"` + plan + `"}`
	}
	for _, c := range []struct {
		api, plan    string
		status, code int
	}{
		{"pizza", "Silver", 400, 400},
		{"pizza", "Galaxy", 400, 400},
		{"draft", "Gold", 403, 900340},
		{"old", "Gold", 404, 404},
		{"partners", "Gold", 404, 900308},
		{"nowhere", "Gold", 404, 900308},
		{"", "Gold", 400, 400},
	} {
		w.refused("alice", c.status, c.code, "POST", "/subscriptions", body(id, c.api, c.plan))
	}
	w.refused("alice", 403, 403, "POST", "/subscriptions", body(id, "theirs", "Gold"), "X-WSO2-Tenant", "other.org")
	w.refused("bob", 403, 403, "POST", "/subscriptions", body(id, "pizza", "Gold"))
	w.refused("zoe@other.org", 404, 404, "POST", "/subscriptions", body(id, "theirs", "Gold"))
	w.call("alice", 400, "POST", "/subscriptions", `{"apiId":"pizza","throttlingPolicy":"Gold"}`)
	w.refused("weak", 401, 401, "POST", "/subscriptions", body(id, "pizza", "Gold"))

	sub := w.call("alice", 201, "POST", "/subscriptions", body(id, "pizza", "Gold"))
	if sub["status"] != "UNBLOCKED" || sub["apiInfo"].(object)["name"] != "pizza" || sub["applicationInfo"].(object)["subscriptionCount"] != 1.0 {
		t.Errorf("subscription: %v", sub)
	}
	w.refused("alice", 409, 900336, "POST", "/subscriptions", body(id, "pizza", "Gold"))
	at := "/subscriptions/" + sub["subscriptionId"].(string)
	w.call("alice", 200, "GET", at, "")
	w.refused("bob", 403, 403, "GET", at, "")
	w.refused("zoe@other.org", 404, 404, "GET", at, "")
	w.refused("alice", 404, 404, "GET", "/subscriptions/nowhere", "")

	put := func(plan string) any {
		return w.call("alice", 200, "PUT", at, `{"applicationId":"`+id+`","throttlingPolicy":"Gold","requestedThrottlingPolicy":"`+plan+`"}`)["throttlingPolicy"]
	}
	if got := put("Galaxy"); got != "Gold" {
		t.Errorf("an invalid plan was not ignored: %v", got)
	}
	if got := put("Bronze"); got != "Bronze" {
		t.Errorf("plan: %v", got)
	}
	for q, want := range map[string]float64{"?applicationId=" + id: 1, "?apiId=pizza": 1, "?apiId=old": 0} {
		if got := w.call("alice", 200, "GET", "/subscriptions"+q, "")["count"]; got != want {
			t.Errorf("list %s: %v", q, got)
		}
	}
	if got := w.call("bob", 200, "GET", "/subscriptions?apiId=pizza", "")["count"]; got != 0.0 {
		t.Errorf("another user's subscriptions are listed: %v", got)
	}
	w.call("alice", 400, "GET", "/subscriptions", "")
	w.call("bob", 403, "GET", "/subscriptions?applicationId="+id, "")
	if got := w.call("alice", 200, "GET", "/subscriptions/pizza/additionalInfo", ""); names(got, "applicationName") != "shop" {
		t.Errorf("additional info: %v", got)
	}
	if got := w.call("", 200, "GET", "/subscriptions/pizza/additionalInfo", ""); got["count"] != 0.0 {
		t.Errorf("additional info for nobody: %v", got)
	}

	other := w.app("alice", "second")
	all := w.call("alice", 200, "POST", "/subscriptions/multiple", "["+body(other, "pizza", "Gold")+","+body(other, "pizza", "Gold")+","+body(other, "draft", "Gold")+"]")[""].([]any)
	var states []string
	for _, s := range all {
		states = append(states, s.(object)["status"].(string))
	}
	if strings.Join(states, " ") != "UNBLOCKED REJECTED REJECTED" {
		t.Errorf("multiple: %v", states)
	}
	w.call("alice", 400, "POST", "/subscriptions/multiple", `{}`)

	w.refused("bob", 403, 403, "DELETE", at, "")
	w.call("alice", 200, "DELETE", at, "")
	w.refused("alice", 404, 404, "DELETE", at, "")
	w.call("alice", 200, "DELETE", "/applications/"+other, "")
	if n, err := w.db.Subscriptions.Count(t.Context(), apim.In(apim.SuperTenant), apim.Query{}); n != 0 || err != nil {
		t.Errorf("%d subscriptions outlived their application: %v", n, err)
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.api("pizza", nil)
	w.api("draft", func(a *apim.API) { a.State = apim.Created })
	id := w.app("alice", "shop")
	at, app := "/apis/pizza/api-keys", "/applications/"+id+"/api-keys/PRODUCTION"
	k := w.call("alice", 200, "POST", at+"/generate", `{"keyName":"one","keyType":"PRODUCTION","validityPeriod":3600,"additionalProperties":{"permittedIP":"10.0.0.0/8, ::1","permittedReferer":"*.example.org/*"}}`)
	text, uuid := k["apikey"].(string), k["keyUUID"].(string)
	row, err := w.db.APIKeys.Get(t.Context(), apim.In(apim.SuperTenant), uuid)
	if err != nil || string(row.Hash) != token.Digest(text) || len(row.IPs) != 2 || row.Expires.IsZero() {
		t.Errorf("stored key: %+v %v", row, err)
	}
	for name, bad := range map[string]string{
		"address": `{"keyName":"x","additionalProperties":{"permittedIP":"300.1.1.1"}}`, "type": `{"keyName":"x","keyType":"STAGE"}`,
		"life": `{"keyName":"x","validityPeriod":0}`, "nested": `{"keyName":"x","additionalProperties":{"permittedIP":[]}}`,
	} {
		t.Log(name)
		w.call("alice", 400, "POST", at+"/generate", bad)
	}
	w.refused("alice", 409, 409, "POST", at+"/generate", `{"keyName":"one"}`)
	w.refused("alice", 403, 900340, "POST", "/apis/draft/api-keys/generate", `{"keyName":"x"}`)
	w.refused("alice", 404, 900308, "POST", "/apis/nowhere/api-keys/generate", `{"keyName":"x"}`)
	w.refused("zoe@other.org", 403, 403, "POST", at+"/generate", `{"keyName":"x"}`, "X-WSO2-Tenant", "carbon.super")
	list := w.call("alice", 200, "GET", at, "")
	if names(list, "keyUUID") != uuid || names(list, "validityPeriod") != "3600" {
		t.Errorf("list: %v", list)
	}
	if got := w.call("bob", 200, "GET", at, ""); got["count"] != 0.0 {
		t.Errorf("another user's keys are listed: %v", got)
	}
	ref := `{"keyUUID":"` + uuid + `"}`
	w.refused("bob", 404, 404, "POST", at+"/revoke", ref)
	w.refused("bob", 404, 404, "POST", at+"/regenerate", ref)
	re := w.call("alice", 200, "POST", at+"/regenerate", ref)
	if re["apikey"] == text || re["keyUUID"] != uuid || re["validityPeriod"] != 3600.0 {
		t.Errorf("regenerated: %v", re)
	}

	assoc := `{"keyUUID":"` + uuid + `","applicationUUID":"` + id + `"}`
	w.call("alice", 400, "POST", at+"/associate", assoc) // not subscribed
	sub := w.call("alice", 201, "POST", "/subscriptions", `{"applicationId":"`+id+`","apiId":"pizza","throttlingPolicy":"Gold"}`)
	if got := names(w.call("alice", 200, "GET", app+"/subscriptions", ""), "keyUUID"); got != uuid {
		t.Errorf("keys that could be associated: %q", got)
	}
	if got := w.call("alice", 200, "POST", at+"/associate", assoc); got["applicationName"] != "shop" || got["apiName"] != "pizza" {
		t.Errorf("association: %v", got)
	}
	if got := names(w.call("alice", 200, "GET", app+"/associations", ""), "apiName"); got != "pizza" {
		t.Errorf("associations: %q", got)
	}
	w.refused("alice", 409, 409, "POST", at+"/associate", `{"keyUUID":"`+uuid+`","applicationUUID":"`+w.app("alice", "two")+`"}`)
	w.call("alice", 200, "POST", at+"/dissociate", ref)
	w.call("alice", 400, "POST", at+"/dissociate", ref)
	w.call("alice", 200, "POST", app+"/associate", `{"keyUUID":"`+uuid+`","apiUUID":"pizza"}`)
	w.call("alice", 200, "DELETE", "/subscriptions/"+sub["subscriptionId"].(string), "")
	if row, _ = w.db.APIKeys.Get(t.Context(), apim.In(apim.SuperTenant), uuid); row.Application != "" {
		t.Error("the key stands for an application that is no longer subscribed")
	}
	w.call("alice", 200, "POST", at+"/revoke", ref)
	w.refused("alice", 404, 404, "POST", at+"/revoke", ref)
	w.call("alice", 400, "POST", at+"/revoke", `{}`)

	ak := w.call("alice", 200, "POST", app+"/generate", `{"keyName":"app","validityPeriod":-1}`)
	if ak["validityPeriod"] != -1.0 {
		t.Errorf("key for ever: %v", ak)
	}
	w.refused("bob", 403, 403, "POST", app+"/generate", `{"keyName":"app"}`)
	w.refused("bob", 403, 403, "GET", app, "")
	if got := w.call("alice", 200, "GET", "/applications/"+id+"/api-keys/SANDBOX", ""); got["count"] != 0.0 {
		t.Errorf("sandbox keys: %v", got)
	}
	w.call("alice", 200, "POST", app+"/regenerate", `{"keyUUID":"`+ak["keyUUID"].(string)+`"}`)
	w.call("alice", 400, "POST", app+"/revoke", `{}`)
	w.call("alice", 404, "POST", app+"/revoke", `{"apikey":"`+ak["apikey"].(string)+`"}`) // replaced above
	w.call("alice", 200, "POST", app+"/revoke", `{"keyUUID":"`+ak["keyUUID"].(string)+`"}`)
}
