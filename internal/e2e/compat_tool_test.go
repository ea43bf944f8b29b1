package e2e

import "testing"

// compatTool walks the journeys of the original's command line tool: signing
// in, listing, changing states, undeploying, and getting keys.
func compatTool(t *testing.T, w *world) {
	const scopes = "apim:app_import_export+apim:api_import_export+apim:api_product_import_export+apim:app_manage+apim:sub_manage+apim:api_view+apim:api_delete+apim:app_owner_change+apim:subscribe+apim:api_publish+apim:admin+apim:policies_import_export+apim:mcp_server_view+apim:mcp_server_list_view+apim:mcp_server_create+apim:mcp_server_delete+apim:mcp_server_publish+apim:mcp_server_manage+apim:mcp_server_import_export"
	w.run(t, []fact{
		{
			name: "register", as: "anonymous", do: "POST " + register, header: []string{w.basic("admin", "admin")},
			body:   `{"clientName":"rest_api_import_export_admin","callbackUrl":"www.google.lk","grantType":"password refresh_token","saasApp":true,"owner":"admin","tokenScope":"Production"}`,
			status: 200, want: want{header("Content-Type"): "application/json"}, save: save{"id": "clientId", "secret": "clientSecret"},
		},
	})
	w.run(t, []fact{
		{
			name: "sign in", as: "anonymous", do: "POST /oauth2/token", header: []string{w.basic("$id", "$secret"), formType}, body: "grant_type=password&username=admin&password=admin&scope=" + scopes, status: 200,
			want: want{"scope": contains("apim:api_view")}, save: save{"tooltoken": "access_token"},
		},
		{name: "a user with fewer roles signs in all the same", as: "anonymous", do: "POST /oauth2/token?grant_type=password&username=devops&password=password&scope=" + scopes, header: []string{w.basic("$id", "$secret"), formType}, status: 200, want: want{"scope": contains("apim:api_import_export")}},
	})
	w.clients["tool"] = &Client{Base: w.node.Management(), Token: w.vars["tooltoken"]}
	w.run(t, []fact{
		{name: "get apis", as: "tool", do: "GET $pub/apis?limit=25", status: 200, want: want{"count": present, "list.0.id": present, "list.0.context": present, "list.0.provider": present, "list.0.lifeCycleStatus": present}},
		{name: "get apis -q", as: "tool", do: "GET $pub/apis?query=name:Menu&limit=25", status: 200, want: want{"list.0.id": "$menu"}},
		{name: "get apps", as: "tool", do: "GET $adm/applications?limit=25", status: 200, want: want{"list.0.applicationId": present, "list.0.name": present, "list.0.owner": present, "list.0.status": present}},
		{name: "get apps -o", as: "tool", do: "GET $adm/applications?user=subscriber", status: 200, want: want{"list.0.owner": "subscriber"}},
		{name: "get policies rate-limiting", as: "tool", do: "GET $adm/throttling/policies/search?query=type:all", status: 200, want: want{"list.0.policyName": present, "count": present}},
		{name: "get api-revisions: search", as: "tool", do: "GET $pub/search?query=name:%22Menu%22%20version:%221.0.0%22", status: 200, want: want{"list.0.id": "$menu"}},
		{name: "get api-revisions", as: "tool", do: "GET $pub/apis/$menu/revisions/?query=deployed:true", status: 200, want: want{"count": 1, "list.0.displayName": "Revision 2"}},
		{name: "change-status", as: "tool", do: "POST $pub/apis/change-lifecycle/?action=Block&apiId=$menu", status: 200},
		{name: "change it back", as: "tool", do: "POST $pub/apis/change-lifecycle?action=Re-Publish&apiId=$menu", status: 200},
		{name: "get keys: the plan", as: "tool", do: "GET $pub/apis/$menu", status: 200, want: want{"policies.0": "Unlimited"}},
		{name: "get keys: not a product", as: "tool", do: "GET $pub/api-products/$menu", status: 404},
		{name: "get keys: tiers", as: "tool", do: "GET $dev/throttling-policies/application", status: 200, want: want{"list.0.name": present}},
		{name: "get keys: is there an application", as: "tool", do: "GET $dev/applications?query=default-apictl-app", status: 200, want: want{"count": 0}},
		{name: "get keys: make one", as: "tool", do: "POST $dev/applications", body: `{"name":"default-apictl-app","throttlingPolicy":"Unlimited","description":"","tokenType":"JWT"}`, status: 201, save: save{"toolapp": "applicationId"}},
		{name: "get keys: subscriptions", as: "tool", do: "GET $dev/subscriptions?apiId=$menu", status: 200},
		{name: "get keys: subscribe", as: "tool", do: "POST $dev/subscriptions", body: `{"apiId":"$menu","applicationId":"$toolapp","throttlingPolicy":"Unlimited"}`, status: 201},
		{name: "get keys: application", as: "tool", do: "GET $dev/applications/$toolapp", status: 200, want: want{"applicationId": "$toolapp"}},
		{name: "get keys: keys", as: "tool", do: "GET $dev/applications/$toolapp/keys", status: 200, want: want{"count": 0}},
		{
			name: "get keys: generate", as: "tool", do: "POST $dev/applications/$toolapp/generate-keys", body: `{"keyType":"PRODUCTION","grantTypesToBeSupported":["refresh_token","password","client_credentials"],"callbackUrl":"","scopes":["am_application_scope","default"],"validityTime":3600}`, status: 200,
			save: save{"id": "consumerKey", "secret": "consumerSecret"},
		},
	})
	w.run(t, []fact{
		{name: "get keys: token", as: "anonymous", do: "POST /oauth2/token", header: []string{w.basic("$id", "$secret"), formType}, body: "grant_type=client_credentials&scope=", status: 200, want: want{"access_token": present}, save: save{"calltoken": "access_token"}},
		{name: "delete app: find it", as: "tool", do: "GET $adm/applications?user=admin&name=default-apictl-app", status: 200, want: want{"list.0.applicationId": "$toolapp"}},
		{name: "undeploy", as: "tool", do: "POST $pub/apis/$menu/undeploy-revision?revisionNumber=2", body: `[{"name":"Default","vhost":"localhost","displayOnDevportal":true}]`, status: 201},
		{name: "undeployed", as: "tool", do: "GET $pub/apis/$menu/revisions?query=deployed:true", status: 200, want: want{"count": 0}},
		{name: "deploy for the next", do: "POST $pub/apis/$menu/deploy-revision?revisionId=$rev", body: `[{"name":"Default","vhost":"localhost","displayOnDevportal":true}]`, status: 201},
		{name: "undeploy everywhere", as: "tool", do: "POST $pub/apis/$menu/undeploy-revision?revisionNumber=1&allEnvironments=true", body: `[]`, status: 201},
		{name: "sign out", as: "anonymous", do: "POST /oauth2/revoke", header: []string{w.basic("$id", "$secret"), formType}, body: "token=$calltoken&token_type_hint=access_token", status: 200},
		{name: "delete app", as: "tool", do: "DELETE $adm/applications/$toolapp", status: 200},
	})
}
