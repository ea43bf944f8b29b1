package e2e

import "testing"

// compatDevportal pins the catalogue, applications and subscriptions.
func compatDevportal(t *testing.T, w *world) {
	w.run(t, []fact{
		{name: "settings", do: "GET $dev/settings", status: 200, want: want{"grantTypes": contains("client_credentials"), "IsAnonymousModeEnabled": true, "IsPasswordChangeEnabled": true, "apiGatewayEndpoint": present, "applicationSharingEnabled": false, "identityProvider.external": false}},
		{name: "settings without a token", as: "anonymous", do: "GET $dev/settings", status: 200},
		{name: "catalogue without a token", as: "anonymous", do: "GET $dev/apis", status: 200, want: want{"count": 1, "list.0.name": "Menu", "list.0.lifeCycleStatus": "PUBLISHED"}},
		{name: "an API without a token", as: "anonymous", do: "GET $dev/apis/$menu", status: 200, want: want{
			"endpointURLs.0.environmentName": "Default", "endpointURLs.0.URLs.http": contains("/menu/1.0.0"), "endpointURLs.0.URLs.https": contains("https://localhost:"),
			"tiers.#": 3, "isSubscriptionAvailable": true, "avgRating": present, "endpointURLs.0.environmentType": "hybrid", "keyManagers": contains("all"), "lifeCycleStatus": "PUBLISHED",
		}},
		{name: "its definition without the publisher's extensions", as: "anonymous", do: "GET $dev/apis/$menu/swagger", status: 200, want: want{"paths./only.get": present, "x-wso2-basePath": absent, "x-wso2-cors": absent, "paths./only.get.x-throttling-tier": absent, "servers.0.url": present}},
		{name: "definition of an environment", as: "anonymous", do: "GET $dev/apis/$menu/swagger?environmentName=Default", status: 200, want: want{"servers.0.url": contains("/menu/1.0.0")}},
		{name: "an API that is only created, even with a token", do: "GET $dev/apis/$whole", status: 403},
		{name: "an unknown API", as: "anonymous", do: "GET $dev/apis/nothing", status: 404},
		{name: "tags differ in case and blanks", as: "anonymous", do: "GET $dev/tags", status: 200, want: want{"count": 3, "list.0.count": 1}},
		{name: "find by tag", as: "anonymous", do: "GET $dev/apis?query=tag:API_x", status: 200, want: want{"count": 1}},
		{name: "find by name and version", as: "anonymous", do: "GET $dev/apis?query=name:menu%20version:2", status: 200, want: want{"count": 0}},
		{name: "plans of an API", do: "GET $dev/apis/$menu/subscription-policies", status: 200},
		{name: "tenants", as: "anonymous", do: "GET $dev/tenants?state=active", status: 200},
		{name: "categories", as: "anonymous", do: "GET $dev/api-categories", status: 200, want: want{"count": 0}},
		{name: "key managers", do: "GET $dev/key-managers", status: 200, want: want{"list.0.name": "Resident Key Manager", "list.0.type": "default", "list.0.enabled": true, "list.0.availableGrantTypes": contains("client_credentials"), "list.0.tokenEndpoint": contains("/oauth2/token"), "list.0.applicationConfiguration.#": 7}},
		{name: "key managers of a tenant that the caller names", do: "GET $dev/key-managers", header: []string{"X-WSO2-Tenant: carbon.super"}, status: 200},
		{name: "application tiers", do: "GET $dev/throttling-policies/application", status: 200, want: want{"count": 4}},
		{name: "one application tier", do: "GET $dev/throttling-policies/application/10PerMin", status: 200, want: want{"name": "10PerMin", "requestCount": 10}},
		{name: "application attributes", do: "GET $dev/settings/application-attributes", status: 200, want: want{"count": 0}},

		{name: "applications need a token", as: "anonymous", do: "GET $dev/applications", status: 401},
		{name: "the first call makes DefaultApplication", as: "subscriber", do: "GET $dev/applications", status: 200, want: want{"count": 1, "list.0.name": "DefaultApplication", "list.0.throttlingPolicy": "Unlimited", "list.0.status": "APPROVED"}},
		{name: "application", as: "subscriber", do: "POST $dev/applications", body: `{"name":"Client","throttlingPolicy":"Unlimited"}`, status: 201, want: want{"applicationId": present, "tokenType": "JWT", "status": "APPROVED", "owner": "subscriber", "groups.#": 0, "attributes": map[string]any{}, "subscriptionCount": 0, header("Location"): contains("/applications/")}, save: save{"app": "applicationId"}},
		{name: "a name is taken: the code is 409", as: "subscriber", do: "POST $dev/applications", body: `{"name":"Client","throttlingPolicy":"Unlimited"}`, status: 409, want: want{"code": 409, "description": contains("An application already exists with name Client")}},
		{name: "another owner may use it", do: "POST $dev/applications", body: `{"name":"Client","throttlingPolicy":"10PerMin"}`, status: 201, save: save{"other": "applicationId"}},
		{name: "an unknown tier", as: "subscriber", do: "POST $dev/applications", body: `{"name":"Tier","throttlingPolicy":"Nothing"}`, status: 400, want: want{"code": 900305, "message": "The tier name is invalid."}},
		{name: "no tier", as: "subscriber", do: "POST $dev/applications", body: `{"name":"Tier"}`, status: 400},
		{name: "groups are dropped without sharing", as: "subscriber", do: "POST $dev/applications", body: `{"name":"Grouped","throttlingPolicy":"Unlimited","groups":["g"],"unknown":1}`, status: 201, want: want{"groups.#": 0}, save: save{"grouped": "applicationId"}},
		{name: "find an application", as: "subscriber", do: "GET $dev/applications?query=Client", status: 200, want: want{"count": 1, "list.0.applicationId": "$app"}},
		{name: "a page of applications", as: "subscriber", do: "GET $dev/applications?limit=1&sortBy=name&sortOrder=asc", status: 200, want: want{"count": 1, "pagination.total": 3, "list.0.name": "Client"}},
		{name: "somebody else's application", as: "subscriber", do: "GET $dev/applications/$other", status: 403},
		{name: "an unknown application", as: "subscriber", do: "GET $dev/applications/nothing", status: 404},
		{name: "change", as: "subscriber", do: "PUT $dev/applications/$app", body: `{"name":"Client","throttlingPolicy":"20PerMin","description":"d"}`, status: 200, want: want{"throttlingPolicy": "20PerMin", "description": "d", header("ETag"): present}},
		{name: "reset a limit", as: "subscriber", do: "POST $dev/applications/$app/reset-throttle-policy", body: `{"userName":"subscriber"}`, status: 200},

		{name: "subscribe", as: "subscriber", do: "POST $dev/subscriptions", body: `{"applicationId":"$app","apiId":"$menu","throttlingPolicy":"Gold"}`, status: 201, want: want{"subscriptionId": present, "status": "UNBLOCKED", "apiInfo.name": "Menu", "applicationInfo.name": "Client", "throttlingPolicy": "Gold", "requestedThrottlingPolicy": "Gold"}, save: save{"sub": "subscriptionId"}},
		{name: "subscribe twice", as: "subscriber", do: "POST $dev/subscriptions", body: `{"applicationId":"$app","apiId":"$menu","throttlingPolicy":"Gold"}`, status: 409, want: want{"code": 900336}},
		{name: "a plan that is not offered", as: "subscriber", do: "POST $dev/subscriptions", body: `{"applicationId":"$grouped","apiId":"$menu","throttlingPolicy":"Silver"}`, status: 400},
		{name: "an API that is not published", as: "subscriber", do: "POST $dev/subscriptions", body: `{"applicationId":"$app","apiId":"$whole","throttlingPolicy":"Gold"}`, status: 403},
		{name: "several at once, one refused", as: "subscriber", do: "POST $dev/subscriptions/multiple", body: `[{"applicationId":"$grouped","apiId":"$menu","throttlingPolicy":"Bronze"},{"applicationId":"$app","apiId":"nothing","throttlingPolicy":"Gold"}]`, status: 200, want: want{"#": 2, "0.status": "UNBLOCKED", "1.status": "REJECTED"}, save: save{"sub2": "0.subscriptionId"}},
		{name: "subscriptions of an application", as: "subscriber", do: "GET $dev/subscriptions?applicationId=$app", status: 200, want: want{"count": 1, "list.0.subscriptionId": "$sub"}},
		{name: "subscriptions of an API", as: "subscriber", do: "GET $dev/subscriptions?apiId=$menu", status: 200, want: want{"count": 2}},
		{name: "subscriptions of nothing in particular", as: "subscriber", do: "GET $dev/subscriptions", status: 400},
		{name: "change the plan", as: "subscriber", do: "PUT $dev/subscriptions/$sub", body: `{"applicationId":"$app","apiId":"$menu","throttlingPolicy":"Gold","requestedThrottlingPolicy":"Bronze"}`, status: 200, want: want{"throttlingPolicy": "Bronze"}},
		{name: "an invalid plan is ignored", as: "subscriber", do: "PUT $dev/subscriptions/$sub", body: `{"applicationId":"$app","apiId":"$menu","throttlingPolicy":"Bronze","requestedThrottlingPolicy":"Nothing"}`, status: 200, want: want{"throttlingPolicy": "Bronze"}},
		{name: "what the one-click page asks", as: "subscriber", do: "GET $dev/subscriptions/$menu/additionalInfo", status: 200},
		{name: "the publisher sees who is subscribed", do: "GET $pub/subscriptions?apiId=$menu", status: 200, want: want{"count": 2}},
		{name: "block", as: "publisher", do: "POST $pub/subscriptions/block-subscription?subscriptionId=$sub2&blockState=BLOCKED", status: 200},
		{name: "it is blocked", as: "subscriber", do: "GET $dev/subscriptions/$sub2", status: 200, want: want{"status": "BLOCKED"}},
		{name: "unblock", as: "publisher", do: "POST $pub/subscriptions/unblock-subscription?subscriptionId=$sub2", status: 200},
		{name: "an API with subscriptions stays", do: "DELETE $pub/apis/$menu", status: 409},
		{name: "unsubscribe", as: "subscriber", do: "DELETE $dev/subscriptions/$sub2", status: 200},
		{name: "unsubscribe again", as: "subscriber", do: "DELETE $dev/subscriptions/$sub2", status: 404},
		{name: "delete an application", as: "subscriber", do: "DELETE $dev/applications/$grouped", status: 200},
		{name: "it is gone", as: "subscriber", do: "GET $dev/applications/$grouped", status: 404},
		{name: "no tenant in the path", do: "GET /t/carbon.super/api/am/devportal/v3/apis", status: 404},
	})
}

// compatKeys pins OAuth keys, their secrets, and API keys.
func compatKeys(t *testing.T, w *world) {
	keys := "$dev/applications/$app"
	w.run(t, []fact{
		{name: "a code grant wants a callback", as: "subscriber", do: "POST " + keys + "/generate-keys", body: `{"keyType":"SANDBOX","grantTypesToBeSupported":["authorization_code"],"callbackUrl":""}`, status: 400, want: want{
			"description": contains("The callback url must have at least one URI value when using Authorization code or implicit grant types."),
		}},
		{
			name: "generate", as: "subscriber", do: "POST " + keys + "/generate-keys", body: `{"keyType":"PRODUCTION","keyManager":"Resident Key Manager","grantTypesToBeSupported":["client_credentials","password","refresh_token"],"callbackUrl":"","scopes":["am_application_scope","default"],"validityTime":3600,"additionalProperties":{}}`,
			status: 200, want: want{
				"consumerKey": present, "consumerSecret": present, "keyMappingId": present, "keyManager": "Resident Key Manager", "keyState": "APPROVED", "keyType": "PRODUCTION", "mode": "CREATED", "token.accessToken": present, "token.validityTime": 3600,
				"supportedGrantTypes": []string{"client_credentials", "password", "refresh_token"}, "additionalProperties.pkceMandatory": present, "consumerSecrets.#": present,
			},
			save: save{"key": "consumerKey", "keysecret": "consumerSecret", "mapping": "keyMappingId"},
		},
		{name: "generate again", as: "subscriber", do: "POST " + keys + "/generate-keys", body: `{"keyType":"PRODUCTION","grantTypesToBeSupported":["client_credentials"]}`, status: 409},
		{name: "map onto existing keys", as: "subscriber", do: "POST " + keys + "/map-keys", body: `{"consumerKey":"$key","consumerSecret":"$keysecret","keyManager":"Resident Key Manager","keyType":"PRODUCTION"}`, status: 409, want: want{"description": contains("Key Mappings already exists")}},
		{name: "an unknown key manager", as: "subscriber", do: "POST " + keys + "/generate-keys", body: `{"keyType":"SANDBOX","keyManager":"Nobody","grantTypesToBeSupported":["client_credentials"]}`, status: 400, want: want{"code": 901403}},
		{name: "a negative lifetime", as: "subscriber", do: "POST " + keys + "/generate-keys", body: `{"keyType":"SANDBOX","grantTypesToBeSupported":["client_credentials"],"additionalProperties":{"application_access_token_expiry_time":"-5"}}`, status: 400, want: want{"code": 900970}},
		{name: "oauth keys", as: "subscriber", do: "GET " + keys + "/oauth-keys", status: 200, want: want{"count": 1, "list.0.keyMappingId": "$mapping"}},
		{name: "keys, older path", as: "subscriber", do: "GET " + keys + "/keys", status: 200, want: want{"count": 1}},
		{name: "an oauth key", as: "subscriber", do: "GET " + keys + "/oauth-keys/$mapping", status: 200, want: want{"consumerKey": "$key"}},
		{name: "change grants and callback", as: "subscriber", do: "PUT " + keys + "/oauth-keys/$mapping", body: `{"keyMappingId":"$mapping","keyType":"PRODUCTION","supportedGrantTypes":["client_credentials"],"callbackUrl":"https://example.org/cb","additionalProperties":{}}`, status: 200, want: want{"supportedGrantTypes": []string{"client_credentials"}, "callbackUrl": "https://example.org/cb"}},
		{name: "another secret needs nothing", as: "subscriber", do: "POST " + keys + "/oauth-keys/$mapping/generate-secret", body: `{}`, status: 201, want: want{"secretId": present, "secretValue": present}, save: save{"newid": "secretId", "newsecret": "secretValue"}},
		{name: "secrets are masked", as: "subscriber", do: "GET " + keys + "/oauth-keys/$mapping/secrets", status: 200, want: want{"count": 2, "list.0.secretValue": contains("*")}, save: save{"firstid": "list.0.secretId"}},
		{name: "token", as: "subscriber", do: "POST " + keys + "/oauth-keys/$mapping/generate-token", body: `{"consumerSecret":"$keysecret","validityPeriod":600,"scopes":[],"revokeToken":null,"additionalProperties":{}}`, status: 200, want: want{"accessToken": present, "validityTime": 600, "tokenScopes.#": present}, save: save{"apptoken": "accessToken"}},
		{name: "API key", as: "subscriber", do: "POST " + keys + "/api-keys/PRODUCTION/generate", body: `{"keyName":"k","validityPeriod":-1,"additionalProperties":{"permittedIP":"","permittedReferer":""}}`, status: 200, want: want{"apikey": present, "validityPeriod": -1, "keyName": "k"}, save: save{"apikey": "apikey"}},
		{name: "API keys", as: "subscriber", do: "GET " + keys + "/api-keys/PRODUCTION", status: 200, want: want{"list.0.keyUUID": present, "list.0.keyName": "k", "list.0.apikey": absent}, save: save{"keyuuid": "list.0.keyUUID"}},
		{name: "revoke an API key", as: "subscriber", do: "POST " + keys + "/api-keys/PRODUCTION/revoke", body: `{"keyUUID":"$keyuuid"}`, status: 200},
		{name: "key type in the path", as: "subscriber", do: "POST " + keys + "/api-keys/OTHER/generate", body: `{"keyName":"k","validityPeriod":-1}`, status: 400},
	})
	grant := "grant_type=client_credentials"
	w.run(t, []fact{
		{name: "every secret works", as: "anonymous", do: "POST /oauth2/token", header: []string{w.basic("$key", "$newsecret"), formType}, body: grant, status: 200, want: want{"scope": "default"}},
		{name: "a grant that was taken away", as: "anonymous", do: "POST /oauth2/token", header: []string{w.basic("$key", "$newsecret"), formType}, body: "grant_type=password&username=admin&password=admin", status: 400, want: want{"error": "unauthorized_client"}},
		{name: "revoke a secret by its id", as: "subscriber", do: "POST " + keys + "/oauth-keys/$mapping/revoke-secret", body: `{"secretId":"$firstid"}`, status: 204},
		{name: "clean up", as: "subscriber", do: "POST " + keys + "/oauth-keys/$mapping/clean-up", status: 200},
		{name: "the client is gone with its keys", as: "anonymous", do: "POST /oauth2/token", header: []string{w.basic("$key", "$newsecret"), formType}, body: grant, status: 401, want: want{"error": "invalid_client"}},
		{name: "generate anew", as: "subscriber", do: "POST " + keys + "/generate-keys", body: `{"keyType":"PRODUCTION","grantTypesToBeSupported":["client_credentials"]}`, status: 200, save: save{"mapping": "keyMappingId", "key": "consumerKey", "keysecret": "consumerSecret"}},
		{name: "delete keys", as: "subscriber", do: "DELETE " + keys + "/oauth-keys/$mapping", status: 200},
	})
}
