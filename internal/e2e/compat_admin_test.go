package e2e

import (
	"encoding/base64"
	"strings"
	"testing"
)

// compatAdmin pins limits, environments, key managers, applications, scopes and
// the tenant configuration.
func compatAdmin(t *testing.T, w *world) {
	const count = `"defaultLimit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"timeUnit":"min","unitTime":1,"requestCount":7}}`
	id64 := base64.RawURLEncoding.EncodeToString([]byte("apim:api_create"))
	w.run(t, []fact{
		{name: "settings", do: "GET $adm/settings", status: 200, want: want{"scopes": contains("apim:admin"), "keyManagerConfiguration.#": present}},
		{name: "application tiers of a first start", do: "GET $adm/throttling/policies/application", status: 200, want: want{"count": 4, "list.0.type": "ApplicationThrottlePolicy"}},
		{name: "API limits of a first start", do: "GET $adm/throttling/policies/advanced", status: 200, want: want{"count": 4}},
		{name: "create an application tier", do: "POST $adm/throttling/policies/application", body: `{"policyName":"Seven","displayName":"Seven","description":"d",` + count + `}`, status: 201, want: want{"policyId": present, "policyName": "Seven", "type": "ApplicationThrottlePolicy", "defaultLimit.requestCount.requestCount": 7, "defaultLimit.requestCount.timeUnit": "min", header("Location"): present}, save: save{"seven": "policyId"}},
		{name: "a name is taken", do: "POST $adm/throttling/policies/application", body: `{"policyName":"Seven",` + count + `}`, status: 409},
		{name: "trailing slash and query", do: "GET $adm/throttling/policies/search/?query=type:app", status: 200, want: want{"list.#": present, "list.0.type": present}},
		{name: "search by name", do: "GET $adm/throttling/policies/search?query=name:Seven%20type:app", status: 200, want: want{"list.0.policyName": "Seven", "list.0.uuid": "$seven"}},
		{name: "search all", do: "GET $adm/throttling/policies/search?query=type:all", status: 200, want: want{"list.0.policyName": present}},
		{name: "read", do: "GET $adm/throttling/policies/application/$seven", status: 200, want: want{"policyName": "Seven"}},
		{name: "change", do: "PUT $adm/throttling/policies/application/$seven", body: `{"policyName":"Seven","description":"e",` + count + `}`, status: 200, want: want{"description": "e"}},
		{name: "export names the policy second", do: "GET $adm/throttling/policies/export?name=Seven&type=app&format=json", status: 200, want: want{"type": "throttling policy", "subtype": "application policy", "version": "v4.7.0", "data.policyName": "Seven", "data.isDeployed": false}},
		{name: "delete", do: "DELETE $adm/throttling/policies/application/$seven", status: 200},
		{name: "delete again", do: "DELETE $adm/throttling/policies/application/$seven", status: 404},
		{name: "read what is gone", do: "GET $adm/throttling/policies/application/$seven", status: 404},
		{name: "business plan with its defaults", do: "POST $adm/throttling/policies/subscription", body: `{"policyName":"Plan7","displayName":"Plan7",` + count + `}`, status: 201, want: want{"stopOnQuotaReach": true, "billingPlan": "FREE", "rateLimitCount": -1, "rateLimitTimeUnit": "NA"}, save: save{"plan7": "policyId"}},
		{name: "bytes, with a unit that says nothing", do: "PUT $adm/throttling/policies/subscription/$plan7", body: `{"policyName":"Plan7","defaultLimit":{"type":"BANDWIDTHLIMIT","bandwidth":{"timeUnit":"min","unitTime":1,"dataAmount":5,"dataUnit":""}}}`, status: 200, want: want{"defaultLimit.bandwidth.dataAmount": 5, "defaultLimit.bandwidth.dataUnit": ""}},
		{name: "delete the plan", do: "DELETE $adm/throttling/policies/subscription/$plan7", status: 200},
		{name: "type and object must match: the pinned 500", do: "POST $adm/throttling/policies/subscription", body: `{"policyName":"Bad","defaultLimit":{"type":"EVENTCOUNTLIMIT","requestCount":{"timeUnit":"min","unitTime":1,"requestCount":7}}}`, status: 500},
		{name: "conditions", do: "POST $adm/throttling/policies/advanced", body: `{"policyName":"Cond",` + count + `,"conditionalGroups":[{"description":"g","conditions":[{"type":"IPCONDITION","invertCondition":false,"ipCondition":{"ipConditionType":"IPSPECIFIC","specificIP":"10.0.0.1"}}],"limit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"timeUnit":"min","unitTime":1,"requestCount":1}}}]}`, status: 201, want: want{"conditionalGroups.0.conditions.0.type": "IPCONDITION", "conditionalGroups.0.limit.requestCount.requestCount": 1}, save: save{"cond": "policyId"}},
		{name: "an API uses it", do: "POST $pub/apis", body: `{"name":"Limited","context":"/limited","version":"1","apiThrottlingPolicy":"Cond"}`, status: 201, save: save{"limited": "id"}},
		{name: "a limit in use stays", do: "DELETE $adm/throttling/policies/advanced/$cond", status: 403},
		{name: "the API goes", do: "DELETE $pub/apis/$limited", status: 200},
		{name: "the limit goes", do: "DELETE $adm/throttling/policies/advanced/$cond", status: 200},

		{name: "environments of a first start", do: "GET $adm/environments", status: 200, want: want{"count": 1, "list.0.name": "Default", "list.0.isReadOnly": true, "list.0.type": "hybrid", "list.0.vhosts.0.host": "localhost"}, save: save{"default": "list.0.id"}},
		{name: "an environment with default ports", do: "POST $adm/environments", body: `{"name":"us-region","displayName":"US","type":"hybrid","vhosts":[{"host":"us.example.org"}]}`, status: 201, want: want{"id": present, "provider": "wso2", "vhosts.0.httpPort": 8280, "vhosts.0.httpsPort": 8243, "vhosts.0.wsPort": 9099, "vhosts.0.wssPort": 8099, "vhosts.0.websubHttpPort": 9021, "vhosts.0.websubHttpsPort": 8021, "isReadOnly": false}, save: save{"env": "id"}},
		{name: "a name is taken", do: "POST $adm/environments", body: `{"name":"Default","vhosts":[{"host":"x.example.org"}]}`, status: 400},
		{name: "no host", do: "POST $adm/environments", body: `{"name":"eu","vhosts":[]}`, status: 400},
		{name: "a host twice", do: "POST $adm/environments", body: `{"name":"eu","vhosts":[{"host":"a.org"},{"host":"a.org"}]}`, status: 400, want: want{"code": 900509}},
		{name: "characters of a name", do: "POST $adm/environments", body: `{"name":"e u","vhosts":[{"host":"a.org"}]}`, status: 400},
		{name: "an empty display name", do: "POST $adm/environments", body: `{"name":"eu","displayName":"","vhosts":[{"host":"a.org"}]}`, status: 400},
		{name: "change replaces the hosts", do: "PUT $adm/environments/$env", body: `{"name":"us-region","displayName":"USA","vhosts":[{"host":"b.example.org","httpPort":80}]}`, status: 200, want: want{"vhosts.#": 1, "vhosts.0.host": "b.example.org", "vhosts.0.httpPort": 80}},
		{name: "gateways of an environment", do: "GET $adm/environments/$default/gateways", status: 200, want: want{"count": 1, "list.0.status": "ACTIVE"}},
		{name: "Default cannot be changed", do: "PUT $adm/environments/$default", body: `{"name":"Default","vhosts":[{"host":"b.example.org"}]}`, status: 400},
		{name: "Default cannot be deleted", do: "DELETE $adm/environments/$default", status: 400},
		{name: "an unknown environment", do: "DELETE $adm/environments/nothing", status: 404},
		{name: "delete an environment", do: "DELETE $adm/environments/$env", status: 200},

		{name: "key managers", do: "GET $adm/key-managers", status: 200, want: want{"count": 1, "list.0.name": "Resident Key Manager"}, save: save{"km": "list.0.id"}},
		{name: "delete an unknown key manager", do: "DELETE $adm/key-managers/nothing", status: 404},
		{name: "applications of everybody", do: "GET $adm/applications?limit=100", status: 200, want: want{"list.#": present}},
		{name: "applications of one owner", do: "GET $adm/applications?user=subscriber&name=Client", status: 200, want: want{"count": 1, "list.0.applicationId": "$app", "list.0.owner": "subscriber"}},
		{name: "to an unknown owner: the pinned 500", do: "POST $adm/applications/$app/change-owner?owner=nobody", status: 500},
		{name: "to another owner with such a name: the pinned 500", do: "POST $adm/applications/$app/change-owner?owner=admin", status: 500},
		{name: "scopes and their roles", do: "GET $adm/system-scopes", status: 200, want: want{"list.0.name": present, "list.0.roles": present}},
		{name: "does a user hold a scope", do: "GET $adm/system-scopes/" + id64 + "?username=creator", status: 200},
		{name: "a user does not hold a scope", do: "GET $adm/system-scopes/" + id64 + "?username=subscriber", status: 404, want: want{"code": 901500}},
		{name: "role aliases", do: "PUT $adm/system-scopes/role-aliases", body: `{"count":1,"list":[{"role":"Internal/creator","aliases":["designer"]}]}`, status: 200, want: want{"list.0.aliases": []string{"designer"}}},
		{name: "no aliases", do: "PUT $adm/system-scopes/role-aliases", body: `{"count":0,"list":[]}`, status: 200, want: want{"count": 0}},
		{name: "tenant configuration", do: "GET $adm/tenant-config", status: 200, want: want{"RESTAPIScopes.Scope.0.Name": present}},
		{name: "a configuration that is none", do: "PUT $adm/tenant-config", body: `{}`, status: 400, want: want{"code": 902001}},
		{name: "its schema", do: "GET $adm/tenant-config-schema", status: 200, want: want{"properties": present}},
		{name: "a creator may not read environments", as: "creator", do: "GET $adm/environments", status: 401},
		{name: "a subscriber may not read limits", as: "subscriber", do: "GET $adm/throttling/policies/application", status: 401, want: want{"code": 401, "description": "Unauthenticated request"}},
		{name: "a creator may not create limits", as: "creator", do: "POST $adm/throttling/policies/application", body: `{}`, status: 401},
		{name: "a creator may not change the configuration", as: "creator", do: "PUT $adm/tenant-config", body: `{}`, status: 401},
	})
}

// compatRoles pins what each role opens: a refusal is 401, decided before the
// body is looked at.
func compatRoles(t *testing.T, w *world) {
	w.run(t, []fact{
		{name: "a creator creates", as: "creator", do: "POST $pub/apis", body: `{"name":"ByCreator","context":"/bycreator","version":"1","policies":["Unlimited"]}`, status: 201, want: want{"provider": "creator"}, save: save{"mine": "id"}},
		{name: "a creator does not publish", as: "creator", do: "POST $pub/apis/change-lifecycle?action=Publish&apiId=$mine", status: 401},
		{name: "a publisher does not create", as: "publisher", do: "POST $pub/apis", body: `{"name":`, status: 401, want: want{"code": 401, "message": "", "description": "Unauthenticated request"}},
		{name: "a publisher publishes", as: "publisher", do: "POST $pub/apis/change-lifecycle?action=Publish&apiId=$mine", status: 200, want: want{"lifecycleState.state": "Published"}},
		{name: "a publisher does not delete", as: "publisher", do: "DELETE $pub/apis/$mine", status: 401},
		{name: "a publisher makes no shared scope", as: "publisher", do: "POST $pub/scopes", body: `{"name":"x"}`, status: 401},
		{name: "a creator makes no shared scope", as: "creator", do: "POST $pub/scopes", body: `{"name":"x"}`, status: 401},
		{name: "a subscriber does not see the publisher", as: "subscriber", do: "GET $pub/apis", status: 401},
		{name: "a subscriber does not see its settings", as: "subscriber", do: "GET $pub/settings", status: 401},
		{name: "a creator has no applications", as: "creator", do: "GET $dev/applications", status: 401},
		{name: "a publisher makes no application", as: "publisher", do: "POST $dev/applications", body: `{"name":"X","throttlingPolicy":"Unlimited"}`, status: 401},
		{name: "a publisher does not subscribe", as: "publisher", do: "POST $dev/subscriptions", body: `{}`, status: 401},
		{name: "devops has applications", as: "devops", do: "GET $dev/applications", status: 200},
		{name: "devops creates no API", as: "devops", do: "POST $pub/apis", body: `{}`, status: 401},
		{name: "basic credentials open what the roles open", as: "anonymous", do: "GET $pub/apis", header: []string{w.basic("creator", "password")}, status: 200},
		{name: "and no more", as: "anonymous", do: "GET $pub/apis", header: []string{w.basic("subscriber", "password")}, status: 401},
		{name: "a creator deletes", as: "creator", do: "DELETE $pub/apis/$mine", status: 200},

		{name: "restricted to roles", do: "POST $pub/apis", body: `{"name":"Hidden","context":"/hidden","version":"1","policies":["Unlimited"],"visibility":"RESTRICTED","visibleRoles":["Internal/devops"]}`, status: 201, save: save{"hidden": "id"}},
		{name: "publish it", do: "POST $pub/apis/change-lifecycle?action=Publish&apiId=$hidden", status: 200},
		{name: "not there for a caller without the role", as: "subscriber", do: "GET $dev/apis/$hidden", status: 404},
		{name: "not there for nobody", as: "anonymous", do: "GET $dev/apis/$hidden", status: 404},
		{name: "nor its definition", as: "anonymous", do: "GET $dev/apis/$hidden/swagger", status: 404},
		{name: "there for the role", as: "devops", do: "GET $dev/apis/$hidden", status: 200},
		{name: "there for a creator", as: "creator", do: "GET $dev/apis/$hidden", status: 200},
		{name: "access control", do: "POST $pub/apis", body: `{"name":"Guarded","context":"/guarded","version":"1","accessControl":"RESTRICTED","accessControlRoles":["admin"]}`, status: 201, save: save{"guarded": "id"}},
		{name: "refused to a creator without the role", as: "creator", do: "GET $pub/apis/$guarded", status: 403},
		{name: "not in the creator's list", as: "creator", do: "GET $pub/apis?query=name:Guarded", status: 200, want: want{"count": 0}},
		{name: "in the administrator's list", do: "GET $pub/apis?query=name:Guarded", status: 200, want: want{"count": 1}},
	})
}

// compatTenants pins what separates tenants, and our own surface of users and
// tenants.
func compatTenants(t *testing.T, w *world) {
	w.run(t, []fact{
		{name: "a tenant", do: "POST $own/tenants", body: `{"domain":"tenant1.com","admin":"admin","password":"admin","email":"a@tenant1.com"}`, status: 201, want: want{"domain": "tenant1.com", "active": true}},
		{name: "the domain is taken", do: "POST $own/tenants", body: `{"domain":"tenant1.com","admin":"admin","password":"admin","email":"a@tenant1.com"}`, status: 409},
		{name: "characters of a domain", do: "POST $own/tenants", body: `{"domain":"Abc.com","admin":"admin","password":"admin","email":"a@tenant1.com"}`, status: 400, want: want{"description": contains("Abc.com contains one or more illegal characters")}},
		{name: "tenants", do: "GET $own/tenants", status: 200, want: want{"count": 2}},
		{name: "a user of the tenant", do: "POST $own/users", body: `{"name":"sub@tenant1.com","password":"password","roles":["internal/subscriber"]}`, status: 201, want: want{"name": "sub@tenant1.com", "roles": []string{"Internal/subscriber"}}},
		{name: "a name is taken", do: "POST $own/users", body: `{"name":"SUBSCRIBER","password":"password"}`, status: 409},
		{name: "an unknown role", do: "POST $own/users", body: `{"name":"x","password":"password","roles":["nobody"]}`, status: 400, want: want{"code": 900610}},
		{name: "unknown members are refused here", do: "POST $own/users", body: `{"name":"x","password":"password","rolez":[]}`, status: 400},
		{name: "users of the tenant", do: "GET $own/users?tenant=tenant1.com", status: 200, want: want{"count": 2, "list.0.name": "admin@tenant1.com", "list.0.password": absent}},
		{name: "users of the platform", do: "GET $own/users", status: 200, want: want{"count": 5}},
		{name: "users of no tenant", do: "GET $own/users?tenant=nowhere.com", status: 404},
		{name: "a user, not for others", as: "creator", do: "GET $own/users", status: 401},
		{name: "nobody locks himself out", do: "PATCH $own/users/admin", body: `{"roles":[]}`, status: 400},
		{name: "nobody deletes himself", do: "DELETE $own/users/admin", status: 400},
		{name: "roles", do: "GET $own/roles", status: 200, want: want{"list": contains("Internal/creator")}},
	})
	w.clients["tenant admin"] = must[*Client](t)(Login(t.Context(), w.node.Management(), "admin@tenant1.com", "admin"))
	w.clients["tenant user"] = must[*Client](t)(Login(t.Context(), w.node.Management(), "sub@tenant1.com", "password"))
	w.run(t, []fact{
		{name: "the tenant's administrator is none of the platform", as: "tenant admin", do: "GET $own/users", status: 401},
		{
			name: "an API of the tenant", as: "tenant admin", do: "POST $pub/apis", body: `{"name":"Pizza","context":"/pizza","version":"1.0.0","policies":["Unlimited"],"endpointConfig":{"endpoint_type":"http","production_endpoints":{"url":"$backend"}}}`, status: 201,
			want: want{"context": "/t/tenant1.com/pizza", "provider": "admin@tenant1.com"}, save: save{"theirs": "id"},
		},
		{name: "it is theirs alone", do: "GET $pub/apis/$theirs", status: 404},
		{name: "their list", as: "tenant admin", do: "GET $pub/apis", status: 200, want: want{"count": 1}},
		{name: "their environments", as: "tenant admin", do: "GET $pub/settings", status: 200, want: want{"environment.0.name": "Default"}},
		{name: "their limits", as: "tenant admin", do: "GET $adm/throttling/policies/application", status: 200, want: want{"count": 4}},
		{name: "publish", as: "tenant admin", do: "POST $pub/apis/change-lifecycle?action=Publish&apiId=$theirs", status: 200},
		{name: "nobody sees it without the header", as: "anonymous", do: "GET $dev/apis/$theirs", status: 404},
		{name: "everybody sees it with the header", as: "anonymous", do: "GET $dev/apis/$theirs", header: []string{"X-WSO2-Tenant: tenant1.com"}, status: 200, want: want{"context": "/t/tenant1.com/pizza"}},
		{name: "their catalogue", as: "anonymous", do: "GET $dev/apis", header: []string{"X-WSO2-Tenant: tenant1.com"}, status: 200, want: want{"count": 1}},
		{name: "an unknown tenant", as: "anonymous", do: "GET $dev/apis", header: []string{"X-WSO2-Tenant: nowhere.com"}, status: 404},
		{name: "their user sees it", as: "tenant user", do: "GET $dev/apis/$theirs", status: 200},
		{name: "their user's application", as: "tenant user", do: "POST $dev/applications", body: `{"name":"Client","throttlingPolicy":"Unlimited"}`, status: 201, want: want{"owner": "sub@tenant1.com"}, save: save{"theirapp": "applicationId"}},
		{name: "not for us", as: "subscriber", do: "GET $dev/applications/$theirapp", status: 404},
		{name: "introspection in their path", as: "anonymous", do: "POST /t/tenant1.com/oauth2/introspect", header: []string{w.basic("admin@tenant1.com", "admin"), formType}, body: "token=" + w.clients["tenant user"].Token, status: 200, want: want{"active": true}},
		{name: "with wrong credentials", as: "anonymous", do: "POST /t/tenant1.com/oauth2/introspect", header: []string{w.basic("admin@tenant1.com", "no"), formType}, body: "token=" + w.clients["tenant user"].Token, status: 401},
		{name: "switched off", do: "PATCH $own/tenants/tenant1.com", body: `{"active":false}`, status: 200, want: want{"active": false}},
		{name: "its tokens open nothing", as: "tenant user", do: "GET $dev/applications", status: 401},
		{name: "its users do not sign in", as: "anonymous", do: "POST " + register, header: []string{w.basic("sub@tenant1.com", "password")}, body: `{"clientName":"x","owner":"sub@tenant1.com"}`, status: 401},
		{name: "switched on", do: "PATCH $own/tenants/tenant1.com", body: `{"active":true}`, status: 200},
		{name: "new password", do: "PATCH $own/users/sub@tenant1.com", body: `{"password":"other"}`, status: 200},
		{name: "a new password ends the tokens", as: "tenant user", do: "GET $dev/applications", status: 401},
		{name: "delete a user", do: "DELETE $own/users/sub@tenant1.com", status: 204},
		{name: "delete him again", do: "DELETE $own/users/sub@tenant1.com", status: 404},
	})
}

// compatGovern pins what administrators change less often: key managers, and
// limits as files.
func compatGovern(t *testing.T, w *world) {
	const km = `"type":"custom","displayName":"Mine","issuer":"https://idp.example.org","tokenEndpoint":"https://idp.example.org/token","revokeEndpoint":"https://idp.example.org/revoke","introspectionEndpoint":"https://idp.example.org/introspect","clientRegistrationEndpoint":"https://idp.example.org/register","consumerKeyClaim":"azp","scopesClaim":"scope","certificates":{"type":"JWKS","value":"https://idp.example.org/jwks"},"availableGrantTypes":["client_credentials"],"enabled":true,"tokenType":"DIRECT"`
	policy := `{"type":"throttling policy","subtype":"application policy","version":"v4.7.0","data":{"policyName":"Filed","displayName":"Filed","description":"d","isDeployed":false,"type":"ApplicationThrottlePolicy","defaultLimit":{"type":"REQUESTCOUNTLIMIT","requestCount":{"timeUnit":"min","unitTime":1,"requestCount":3}}}}`
	filed := func() []Part { return []Part{{Name: "file", File: "p.json", Data: []byte(policy)}} }
	w.run(t, []fact{
		{name: "a key manager", do: "POST $adm/key-managers", body: `{"name":"Mine",` + km + `,"additionalProperties":{"client_id":"id","client_secret":"geheim"}}`, status: 201, want: want{"id": present, "name": "Mine", "type": "custom", "additionalProperties.client_secret": "*****", "additionalProperties.client_id": "id"}, save: save{"km2": "id"}},
		{name: "a name is taken", do: "POST $adm/key-managers", body: `{"name":"Mine",` + km + `}`, status: 409},
		{name: "secrets stay hidden", do: "GET $adm/key-managers/$km2", status: 200, want: want{"additionalProperties.client_secret": "*****"}},
		{name: "switch it off", do: "PUT $adm/key-managers/$km2", body: `{"name":"Mine",` + strings.Replace(km, `"enabled":true`, `"enabled":false`, 1) + `,"additionalProperties":{"client_id":"id","client_secret":"*****"}}`, status: 200, want: want{"enabled": false}},
		{name: "the type stays", do: "PUT $adm/key-managers/$km2", body: `{"name":"Mine",` + strings.Replace(km, `"type":"custom"`, `"type":"Auth0"`, 1) + `}`, status: 400},
		{name: "another tenant's", as: "tenant admin", do: "GET $adm/key-managers/$km2", status: 404},
		{name: "delete it", do: "DELETE $adm/key-managers/$km2", status: 200},
		{name: "an unknown one", do: "GET $adm/key-managers/nothing", status: 404},

		{name: "import a limit", do: "POST $adm/throttling/policies/import", body: filed(), status: 201},
		{name: "import it again", do: "POST $adm/throttling/policies/import?overwrite=false", body: filed(), status: 409},
		{name: "overwrite it", do: "POST $adm/throttling/policies/import?overwrite=true", body: filed(), status: 200},
		{name: "it is there", do: "GET $adm/throttling/policies/search?query=name:Filed", status: 200, want: want{"list.0.policyName": "Filed"}},
		{name: "export of nothing", do: "GET $adm/throttling/policies/export?name=Nothing&type=app", status: 404},
	})
}

// compatPassword pins how users change their own password.
func compatPassword(t *testing.T, w *world) {
	w.run(t, []fact{
		{name: "wrong current password", as: "subscriber", do: "POST $dev/me/change-password", body: `{"currentPassword":"no","newPassword":"next"}`, status: 400, want: want{"code": 901451}},
		{name: "change", as: "subscriber", do: "POST $dev/me/change-password", body: `{"currentPassword":"password","newPassword":"next"}`, status: 200},
		{name: "the token stays good", as: "subscriber", do: "GET $dev/applications", status: 200},
		{name: "the old password is refused", as: "anonymous", do: "POST " + register, header: []string{w.basic("subscriber", "password")}, body: `{"clientName":"y","owner":"subscriber"}`, status: 401, want: want{"description": "Unauthenticated request"}},
		{name: "the new one is not", as: "anonymous", do: "POST " + register, header: []string{w.basic("subscriber", "next")}, body: `{"clientName":"y","owner":"subscriber"}`, status: 200},
	})
}

// compatUsers drives cardea user against the node.
func compatUsers(t *testing.T, w *world) {
	at := []string{"--server", w.node.Management(), "--home", w.node.Home, "--user", "admin", "--password", "admin"}
	for _, step := range []struct {
		name, want string
		env, args  []string
		code       int
	}{
		{name: "add, with a password of its own", args: []string{"user", "add", "anna", "--roles", "Internal/creator,Internal/publisher"}, want: "Internal/creator,Internal/publisher"},
		{name: "add, with a given password", env: []string{"CARDEA_NEW_PASSWORD=geheim99"}, args: []string{"user", "add", "berta"}, want: "(from CARDEA_NEW_PASSWORD)"},
		{name: "taken", args: []string{"user", "add", "anna"}, want: "there is a user anna already", code: 1},
		{name: "roles", args: []string{"user", "roles", "anna", "Internal/devops"}, want: "Internal/devops"},
		{name: "list", args: []string{"user", "list"}, want: "Internal/devops"},
		{name: "delete", args: []string{"user", "delete", "anna", "berta"}, want: "deleted berta"},
		{name: "gone", args: []string{"user", "delete", "anna"}, want: "there is no user anna", code: 1},
		{name: "no name", args: []string{"user", "delete"}, want: "wants NAME", code: 2},
	} {
		t.Run(step.name, func(t *testing.T) {
			out, code := command(t, step.env, append(step.args, at...)...)
			if code != step.code || !strings.Contains(out, step.want) {
				t.Errorf("exit code %d, want %d; printed %q, want %q in it", code, step.code, out, step.want)
			}
		})
	}
}
