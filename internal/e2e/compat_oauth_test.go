package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// basic makes an Authorization header out of a name and a password, after $names
// were replaced.
func (w *world) basic(user, pass string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(w.fill(user)+":"+w.fill(pass)))
}

const (
	register = "/client-registration/v0.17/register"
	formType = "Content-Type: application/x-www-form-urlencoded"
)

// compatOAuth pins the registration of clients and the token endpoints.
func compatOAuth(t *testing.T, w *world) {
	adminUser := w.basic("admin", "admin")
	w.run(t, []fact{
		{
			name: "registration answers 200 with exactly application/json", as: "anonymous", do: "POST " + register, header: []string{adminUser},
			body:   `{"clientName":"compat_admin","callbackUrl":"www.google.lk","grantType":"password refresh_token client_credentials","saasApp":true,"owner":"admin","tokenScope":"Production"}`,
			status: 200, want: want{
				header("Content-Type"): "application/json", "clientName": "compat_admin", "callBackURL": "www.google.lk", "clientId": present, "clientSecret": present,
				"isSaasApplication": true, "appOwner": "admin", "jsonAppAttribute": "{}", "applicationUUID": absent, "jsonString": contains("grant_types"),
			}, save: save{"id": "clientId", "secret": "clientSecret"},
		},
		{
			name: "registration again gives the same client, without its owner and without the new grants", as: "anonymous", do: "POST " + register, header: []string{adminUser},
			body:   `{"clientName":"compat_admin","grantType":"implicit","saasApp":true,"owner":"admin"}`,
			status: 200, want: want{"clientId": "$id", "clientSecret": "$secret", "appOwner": absent},
		},
		{
			name: "owner with the tenant's name is the same owner", as: "anonymous", do: "POST " + register, header: []string{w.basic("creator", "password")},
			body: `{"clientName":"compat_creator","grantType":"password","saasApp":true,"owner":"creator@carbon.super"}`, status: 200,
		},
		{
			name: "registration with a trailing slash", as: "anonymous", do: "POST " + register + "/", header: []string{adminUser},
			body: `{"clientName":"compat_admin","owner":"admin"}`, status: 200, want: want{"clientId": "$id"},
		},
		{
			name: "somebody else's name as owner is refused", as: "anonymous", do: "POST " + register, header: []string{w.basic("creator", "password")},
			body: `{"clientName":"compat_other","grantType":"password","owner":"publisher"}`, status: 400, want: want{
				"code": 400, "message": "Bad Request",
				"description": "Logged in user 'creator' and application owner 'publisher' should be same.",
			},
		},
		{
			name: "a client of another owner is not handed out", as: "anonymous", do: "POST " + register, header: []string{w.basic("creator", "password")},
			body: `{"clientName":"compat_admin","grantType":"password","owner":"creator"}`, status: 403,
		},
		{
			name: "a name that is against the pattern: 400 with the code 500", as: "anonymous", do: "POST " + register, header: []string{adminUser},
			body: `{"clientName":"no/slash","owner":"admin"}`, status: 400, want: want{"code": 500, "message": "Bad Request", "description": contains("'no/slash' creation or updating failed")},
		},
		{
			name: "wrong password at registration", as: "anonymous", do: "POST " + register, header: []string{w.basic("admin", "nope")},
			body: `{"clientName":"x","owner":"admin"}`, status: 401, want: want{"description": "Unauthenticated request"},
		},
	})
	client := w.basic("$id", "$secret")
	forUser := "grant_type=password&username=admin&password=admin"
	w.run(t, []fact{
		{
			name: "password grant", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: forUser + "&scope=apim:api_view+apim:api_create", status: 200, want: want{
				header("Content-Type"): contains("application/json"), header("Cache-Control"): "no-store", header("Pragma"): "no-cache",
				"token_type": "Bearer", "expires_in": 3600, "scope": contains("apim:api_view"), "refresh_token": present, "id_token": absent,
			},
			save: save{"refresh": "refresh_token", "access": "access_token"},
		},
		{
			name: "grant in the query with an empty body", as: "anonymous", do: "POST /oauth2/token?" + forUser + "&scope=apim:api_view+apim:app_manage", header: []string{client, formType},
			status: 200, want: want{"scope": contains("apim:app_manage"), "access_token": present},
		},
		{
			name: "grant as JSON", as: "anonymous", do: "POST /oauth2/token", header: []string{client},
			body: `{"grant_type":"password","username":"admin","password":"admin","scope":"apim:api_view"}`, status: 200, want: want{"scope": "apim:api_view"},
		},
		{
			name: "client in the form", as: "anonymous", do: "POST /oauth2/token", header: []string{formType},
			body: "grant_type=client_credentials&client_id=$id&client_secret=$secret", status: 200, want: want{"scope": "default", "refresh_token": absent, "id_token": absent},
		},
		{
			name: "scopes that the roles do not carry are dropped", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType},
			body: "grant_type=password&username=subscriber&password=password&scope=apim:api_create+apim:subscribe+apim:admin", status: 200, want: want{"scope": "apim:subscribe"},
		},
		{
			name: "every scope dropped leaves default", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType},
			body: "grant_type=password&username=subscriber&password=password&scope=apim:api_create+apim:admin", status: 200, want: want{"scope": "default"},
		},
		{
			name: "an unregistered scope is granted as asked", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType},
			body: "grant_type=client_credentials&scope=some_scope+device_7", status: 200, want: want{"scope": contains("device_7")},
		},
		{
			name: "openid brings an id token", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType},
			body: forUser + "&scope=openid", status: 200, want: want{"id_token": present, "scope": "openid"}, save: save{"openid": "access_token"},
		},
		{
			name: "user with the tenant's name", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType},
			body: "grant_type=password&username=admin@carbon.super&password=admin&scope=apim:api_view", status: 200, want: want{"scope": "apim:api_view"},
		},
		{name: "tenant form of the path", as: "anonymous", do: "POST /t/carbon.super/oauth2/token", header: []string{client, formType}, body: forUser, status: 200, want: want{"scope": "default"}},
		{name: "trailing slash", as: "anonymous", do: "POST /oauth2/token/", header: []string{client, formType}, body: forUser, status: 200},

		{name: "wrong secret", as: "anonymous", do: "POST /oauth2/token", header: []string{w.basic("$id", "wrong"), formType}, body: forUser, status: 401, want: want{
			"error": "invalid_client", "error_description": "Client credentials are invalid.", header("WWW-Authenticate"): contains("Basic realm="),
		}},
		{name: "unknown client", as: "anonymous", do: "POST /oauth2/token", header: []string{w.basic("nobody", "x"), formType}, body: forUser, status: 401, want: want{
			"error": "invalid_client", "error_description": "Client credentials are invalid.",
		}},
		{name: "wrong password", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: "grant_type=password&username=admin&password=no", status: 400, want: want{
			"error": "invalid_grant", "error_description": contains("Authentication failed"), header("Cache-Control"): absent,
		}},
		{name: "no grant type", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: "scope=x", status: 400, want: want{
			"error": "invalid_request", "error_description": "Missing grant_type parameter value",
		}},
		{name: "unknown grant type", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: "grant_type=magic", status: 400, want: want{
			"error": "invalid_request", "error_description": "Unsupported grant_type value",
		}},
		{name: "parameter sent twice", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: forUser + "&scope=a&scope=b", status: 400, want: want{
			"error": "invalid_request", "error_description": "Invalid request with repeated parameters.",
		}},
		{name: "two ways of client authentication", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: forUser + "&client_id=$id&client_secret=$secret", status: 400, want: want{"error": "invalid_request"}},

		{name: "refresh token is used", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: "grant_type=refresh_token&refresh_token=$refresh", status: 200, want: want{
			"refresh_token": present, "scope": contains("apim:api_create"),
		}, save: save{"second": "refresh_token"}},
		{name: "refreshing cannot widen the scope", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: "grant_type=refresh_token&refresh_token=$second&scope=apim:api_view", status: 200, want: want{
			"scope": "apim:api_view",
		}},
		{name: "unknown refresh token", as: "anonymous", do: "POST /oauth2/token", header: []string{client, formType}, body: "grant_type=refresh_token&refresh_token=nothing", status: 400, want: want{"error": "invalid_grant"}},

		{name: "introspection by an administrator", as: "anonymous", do: "POST /oauth2/introspect", header: []string{adminUser, formType}, body: "token=$access", status: 200, want: want{
			"active": true, "username": contains("admin"), "client_id": "$id", "token_type": "JWT", "scope": contains("apim:api_view"),
		}},
		{name: "introspection of nonsense", as: "anonymous", do: "POST /oauth2/introspect", header: []string{adminUser, formType}, body: "token=nonsense", status: 200, want: want{"active": false}},
		{name: "introspection in the tenant's path", as: "anonymous", do: "POST /t/carbon.super/oauth2/introspect", header: []string{adminUser, formType}, body: "token=$access", status: 200, want: want{"active": true}},
		{name: "introspection with wrong credentials", as: "anonymous", do: "POST /oauth2/introspect", header: []string{w.basic("admin", "no"), formType}, body: "token=$access", status: 401},
		{name: "userinfo needs openid", as: "anonymous", do: "GET /oauth2/userinfo", header: []string{"Authorization: Bearer $access"}, status: 403, want: want{"error": "insufficient_scope"}},
		{name: "userinfo", as: "anonymous", do: "GET /oauth2/userinfo", header: []string{"Authorization: Bearer $openid"}, status: 200, want: want{"sub": present}},

		{name: "revoke without a token", as: "anonymous", do: "POST /oauth2/revoke", header: []string{client, formType}, body: "x=y", status: 400, want: want{"error": "invalid_request"}},
		{name: "revoke an unknown token", as: "anonymous", do: "POST /oauth2/revoke", header: []string{client, formType}, body: "token=unknown", status: 200, want: want{"": ""}},
		{name: "revoke by a wrong client", as: "anonymous", do: "POST /oauth2/revoke", header: []string{w.basic("$id", "no"), formType}, body: "token=$access", status: 401, want: want{"error": "invalid_client"}},
		{name: "logout of the command line tool", as: "anonymous", do: "POST /oauth2/revoke", header: []string{client, formType}, body: "token=$access&token_type_hint=access_token", status: 200, want: want{
			"": "", header("Cache-Control"): "no-store", header("Content-Length"): "0",
		}},
		{name: "a revoked token opens nothing", as: "anonymous", do: "GET $pub/apis", header: []string{"Authorization: Bearer $access"}, status: 401, want: want{"code": 401, "description": "Unauthenticated request"}},
		{name: "a revoked token is not active", as: "anonymous", do: "POST /oauth2/introspect", header: []string{adminUser, formType}, body: "token=$access", status: 200, want: want{"active": false}},
	})
	t.Run("claims of an application's token", func(t *testing.T) {
		a := must[*Answer](t)(w.token(t.Context(), url.Values{"grant_type": {"client_credentials"}}))
		var tok struct {
			AccessToken string `json:"access_token"`
		}
		ok(t, a.JSON(&tok))
		parts := strings.Split(tok.AccessToken, ".")
		if len(parts) != 3 {
			t.Fatalf("not a JWT: %.100s", tok.AccessToken)
		}
		var head, body map[string]any
		for i, into := range []*map[string]any{&head, &body} {
			ok(t, json.Unmarshal(must[[]byte](t)(base64.RawURLEncoding.DecodeString(parts[i])), into))
		}
		for claim, expected := range (want{
			"aut": "APPLICATION", "aud": w.vars["id"], "azp": w.vars["id"], "client_id": w.vars["id"], "entity_id": w.vars["id"], "scope": "default",
			"iss": w.node.Management() + "/oauth2/token", "sub": present, "jti": present, "nbf": present, "exp": present, "iat": present, "application": absent, "keytype": absent, "subscribedAPIs": absent,
		}) {
			if why := differs(body[claim], expected); why != "" {
				t.Errorf("claim %s %s", claim, why)
			}
		}
		for member, expected := range (want{"alg": "RS256", "typ": "at+jwt", "kid": contains("_RS256"), "x5t": present}) {
			if why := differs(head[member], expected); why != "" {
				t.Errorf("header %s %s", member, why)
			}
		}
		if body["nbf"] != body["iat"] {
			t.Errorf("nbf %v is not iat %v", body["nbf"], body["iat"])
		}
	})
}
