package e2e

import (
	"net/url"
	"strings"
	"testing"
)

const pizzaDefinition = `{
  "openapi": "3.0.1",
  "info": {"title": "Menu", "version": "7.1", "description": "What there is"},
  "servers": [{"url": "https://backend.example.org/v7"}],
  "paths": {
    "/zulu": {"get": {"summary": "Last first", "responses": {"200": {"description": "ok"}}}},
    "/menu": {"get": {"x-throttling-tier": "10KPerMin", "x-auth-type": "None", "responses": {"200": {"description": "ok"}}},
      "post": {"responses": {"201": {"description": "made"}}}},
    "/menu/{id}": {"get": {"parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}], "responses": {"200": {"description": "ok"}}}}
  }
}`

func upload(parts ...string) []Part {
	var out []Part
	for i := 0; i+1 < len(parts); i += 2 {
		p := Part{Name: parts[i], Data: []byte(parts[i+1])}
		if parts[i] == "file" {
			p.File = "swagger.json"
		}
		out = append(out, p)
	}
	return out
}

// compatDefinitions pins import, validation and replacement of definitions.
func compatDefinitions(t *testing.T, w *world) {
	const props = `{"name":"Menu","version":"1.0.0","context":"/menu","policies":["Unlimited"],"endpointConfig":{"endpoint_type":"http","production_endpoints":{"url":"$backend"}}}`
	noPaths := strings.ReplaceAll(tinyDefinition, `"paths": {`, `"paths": {}, "x-was": {`)
	w.run(t, []fact{
		{name: "a good definition", do: "POST $pub/apis/validate-openapi?returnContent=true", body: upload("file", pizzaDefinition), status: 200, want: want{
			"isValid": true, "info.name": "Menu", "info.version": "7.1",
			"info.openAPIVersion": "3.0.1", "info.endpoints.0": "https://backend.example.org/v7", "content": present,
		}},
		{name: "content only when asked for", do: "POST $pub/apis/validate-openapi", body: upload("file", pizzaDefinition), status: 200, want: want{"isValid": true, "content": absent}},
		{name: "inline", do: "POST $pub/apis/validate-openapi", body: upload("inlineAPIDefinition", pizzaDefinition), status: 200, want: want{"isValid": true}},
		{name: "no paths: 200 and not valid", do: "POST $pub/apis/validate-openapi", body: upload("file", noPaths), status: 200, want: want{"isValid": false, "errors.0.code": present, "errors.0.description": present}},
		{name: "no definition: 200 and not valid", do: "POST $pub/apis/validate-openapi", body: upload("file", "hello"), status: 200, want: want{"isValid": false}},
		{
			name: "import", do: "POST $pub/apis/import-openapi", body: upload("file", pizzaDefinition, "additionalProperties", props), status: 201, want: want{
				"name": "Menu", "version": "1.0.0", "context": "/menu",
				"operations.#": 4, "operations.0.target": "/zulu", "operations.1.target": "/menu", "operations.1.verb": "GET", "operations.1.throttlingPolicy": "10KPerMin", "operations.1.authType": "None", "operations.2.throttlingPolicy": "Unlimited",
			},
			save: save{"menu": "id"},
		},
		{name: "import without paths", do: "POST $pub/apis/import-openapi", body: upload("file", noPaths, "additionalProperties", props), status: 400},
		{name: "import without properties", do: "POST $pub/apis/import-openapi", body: upload("file", pizzaDefinition), status: 400},
		{name: "import under a taken name", do: "POST $pub/apis/import-openapi", body: upload("file", pizzaDefinition, "additionalProperties", props), status: 409, want: want{"code": 900250}},
		{
			name: "an archive without a master file is the pinned 500", do: "POST $pub/apis/import-openapi", body: []Part{{Name: "file", File: "a.zip", Data: []byte(emptyZip)}, {Name: "additionalProperties", Data: []byte(`{"name":"Zip","version":"1","context":"/zip"}`)}},
			status: 500, want: want{"code": 900967, "description": "Error occurred while validating API Definition"},
		},
		{name: "such an archive is not valid", do: "POST $pub/apis/validate-openapi", body: []Part{{Name: "file", File: "a.zip", Data: []byte(emptyZip)}}, status: 200, want: want{"isValid": false, "errors.0.code": "900755"}},
		{name: "such an archive replaces nothing", do: "PUT $pub/apis/$menu/swagger", body: []Part{{Name: "file", File: "a.zip", Data: []byte(emptyZip)}}, status: 400, want: want{"code": 900755}},
		{name: "publisher's copy", do: "GET $pub/apis/$menu/swagger", status: 200, want: want{"paths./zulu": present, "info.version": "7.1"}},
		{name: "a bad replacement", do: "PUT $pub/apis/$menu/swagger", body: upload("apiDefinition", noPaths), status: 400},
		{name: "a bad replacement changed nothing", do: "GET $pub/apis/$menu", status: 200, want: want{"operations.#": 4}},
		{name: "a replacement answers the definition", do: "PUT $pub/apis/$menu/swagger", body: upload("apiDefinition", strings.ReplaceAll(pizzaDefinition, `"/zulu"`, `"/yankee"`)), status: 200, want: want{"paths": present, "info.title": present}},
		{name: "it replaced all resources, in order", do: "GET $pub/apis/$menu", status: 200, want: want{"operations.#": 4, "operations.0.target": "/yankee"}},
		{name: "operations by PUT remake the definition", do: "PUT $pub/apis/$menu", body: `{"name":"Menu","context":"/menu","version":"1.0.0","policies":["Unlimited"],"endpointConfig":{"endpoint_type":"http","production_endpoints":{"url":"$backend"}},"operations":[{"target":"/only","verb":"GET"}]}`, status: 200, want: want{"operations.#": 1}},
		{name: "the remade definition", do: "GET $pub/apis/$menu/swagger", status: 200, want: want{"paths./only.get": present, "paths./menu": absent}},
		{name: "definition of nothing", do: "GET $pub/apis/nothing/swagger", status: 404, want: want{"code": 900308}},
	})
}

// emptyZip is a zip archive with no entries.
const emptyZip = "PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// compatRevisions pins revisions, deployments and the lifecycle.
func compatRevisions(t *testing.T, w *world) {
	const here = `[{"name":"Default","vhost":"localhost","displayOnDevportal":true}]`
	w.run(t, []fact{
		{name: "revision of an unknown API is the pinned 500", do: "POST $pub/apis/nothing/revisions", body: `{}`, status: 500, want: want{"code": 900967, "description": "Error while adding new API Revision for API : nothing"}},
		{name: "first revision, without a description", do: "POST $pub/apis/$menu/revisions", body: `{}`, status: 201, want: want{"displayName": "Revision 1", "id": present, "apiInfo.id": "$menu", "deploymentInfo.#": 0, "createdTime": present}, save: save{"rev": "id"}},
		{name: "second revision", do: "POST $pub/apis/$menu/revisions", body: `{"description":"two"}`, status: 201, want: want{"displayName": "Revision 2", "description": "two"}, save: save{"rev2": "id"}},
		{name: "revisions", do: "GET $pub/apis/$menu/revisions", status: 200, want: want{"count": 2}},
		{name: "an API by the id of its revision", do: "GET $pub/apis/$rev", status: 200, want: want{"isRevision": true, "revisionedApiId": "$menu", "revisionId": 1}},
		{name: "deploy to an unknown environment", do: "POST $pub/apis/$menu/deploy-revision?revisionId=$rev", body: `[{"name":"us-region","vhost":"localhost","displayOnDevportal":true}]`, status: 400, want: want{"code": 900504, "description": contains("Gateway Environment with name 'name 'us-region'' not found")}},
		{name: "deploy to a wrong host", do: "POST $pub/apis/$menu/deploy-revision?revisionId=$rev", body: `[{"name":"Default","vhost":"elsewhere","displayOnDevportal":true}]`, status: 400},
		{name: "deploy answers 201", do: "POST $pub/apis/$menu/deploy-revision?revisionId=$rev", body: here, status: 201, want: want{
			"0.name": "Default", "0.vhost": "localhost", "0.status": "APPROVED", "0.displayOnDevportal": true, "0.liveGatewayCount": 1, "0.deployedGatewayCount": 1, "0.failedGatewayCount": 0,
			header("Cardea-Receipt"): contains("complete=true"),
		}},
		{name: "deployed revisions", do: "GET $pub/apis/$menu/revisions?query=deployed:true", status: 200, want: want{"count": 1, "list.0.id": "$rev", "list.0.deploymentInfo.0.name": "Default"}},
		{name: "revisions that are not deployed", do: "GET $pub/apis/$menu/revisions?query=deployed:false", status: 200, want: want{"count": 1, "list.0.id": "$rev2"}},
		{name: "another revision takes the place", do: "POST $pub/apis/$menu/deploy-revision?revisionId=$rev2", body: here, status: 201},
		{name: "only one runs", do: "GET $pub/apis/$menu/revisions?query=deployed:true", status: 200, want: want{"count": 1, "list.0.id": "$rev2"}},
		{name: "deployments", do: "GET $pub/apis/$menu/deployments", status: 200},
		{name: "hide a deployment", do: "PUT $pub/apis/$menu/deployments/RGVmYXVsdA==", body: `{"name":"Default","vhost":"localhost","displayOnDevportal":false}`, status: 200, want: want{"displayOnDevportal": false}},
		{name: "show it again", do: "PUT $pub/apis/$menu/deployments/RGVmYXVsdA==", body: `{"name":"Default","vhost":"localhost","displayOnDevportal":true}`, status: 200, want: want{"displayOnDevportal": true}},
		{name: "a deployed revision stays", do: "DELETE $pub/apis/$menu/revisions/$rev2", status: 400, want: want{"code": 900348}},
		{name: "deploy an unknown revision", do: "POST $pub/apis/$menu/deploy-revision?revisionId=nothing", body: here, status: 404, want: want{"code": 900347, "description": "Requested API Revision with id nothing not found"}},
		{name: "deploy for an unknown API", do: "POST $pub/apis/nothing/deploy-revision?revisionId=$rev", body: here, status: 404, want: want{"code": 900308}},
		{name: "restore an unknown revision", do: "POST $pub/apis/$menu/restore-revision?revisionId=nothing", status: 404, want: want{"code": 900347}},
		{name: "delete an unknown revision", do: "DELETE $pub/apis/$menu/revisions/nothing", status: 404, want: want{"code": 900347}},
		{name: "restore answers 201", do: "POST $pub/apis/$menu/restore-revision?revisionId=$rev", status: 201, want: want{"id": "$menu", "isRevision": false}},
		{name: "undeploy from an unknown environment", do: "POST $pub/apis/$menu/undeploy-revision?revisionId=$rev2", body: `[{"name":"us-region","vhost":"localhost","displayOnDevportal":true}]`, status: 400},
		{name: "third", do: "POST $pub/apis/$menu/revisions", body: `{}`, status: 201},
		{name: "fourth", do: "POST $pub/apis/$menu/revisions", body: `{}`, status: 201},
		{name: "fifth", do: "POST $pub/apis/$menu/revisions", body: `{}`, status: 201, save: save{"rev5": "id"}},
		{name: "no sixth", do: "POST $pub/apis/$menu/revisions", body: `{}`, status: 400, want: want{"code": 900351}},
		{name: "delete one", do: "DELETE $pub/apis/$menu/revisions/$rev5", status: 200},
		{name: "numbers are not given twice", do: "POST $pub/apis/$menu/revisions", body: `{}`, status: 201, want: want{"displayName": "Revision 6"}},

		{name: "state", do: "GET $pub/apis/$menu/lifecycle-state", status: 200, want: want{"state": "Created", "availableTransitions.#": 2, "checkItems.#": 2}},
		{name: "publish without plans", do: "POST $pub/apis/change-lifecycle?action=Publish&apiId=$whole", status: 400, want: want{"code": 903224}},
		{
			name: "publish", do: "POST $pub/apis/change-lifecycle?action=Publish&apiId=$menu&lifecycleChecklist=Deprecate%20old%20versions%20after%20publishing%20the%20API:true,Requires%20re-subscription%20when%20publishing%20the%20API:false",
			status: 200, want: want{"workflowStatus": "APPROVED", "lifecycleState.state": "Published", "lifecycleState.availableTransitions.#": 4},
		},
		{name: "state of the API in capitals", do: "GET $pub/apis/$menu", status: 200, want: want{"lifeCycleStatus": "PUBLISHED"}},
		{name: "no such transition", do: "POST $pub/apis/change-lifecycle?action=Retire&apiId=$menu", status: 400},
		{name: "block", do: "POST $pub/apis/change-lifecycle?action=Block&apiId=$menu", status: 200, want: want{"lifecycleState.state": "Blocked", "lifecycleState.availableTransitions.#": 2}},
		{name: "publish again", do: "POST $pub/apis/change-lifecycle?action=Re-Publish&apiId=$menu", status: 200, want: want{"lifecycleState.state": "Published"}},
		{name: "history", do: "GET $pub/apis/$menu/lifecycle-history", status: 200, want: want{"count": 4, "list.1.postState": "Published", "list.1.user": "admin"}},
		{name: "state of an unknown API", do: "POST $pub/apis/change-lifecycle?action=Publish&apiId=nothing", status: 404, want: want{"code": 900308}},
		{name: "find by state", do: "GET $pub/apis?query=status:PUBLISHED", status: 200, want: want{"count": 1, "list.0.id": "$menu"}},
		{
			name: "plans taken away make it open to every application", do: "PUT $pub/apis/$menu", body: `{"name":"Menu","context":"/menu","version":"1.0.0","policies":[],"endpointConfig":{"endpoint_type":"http","production_endpoints":{"url":"$backend"}},"operations":[{"target":"/only","verb":"GET"}]}`,
			status: 200, want: want{"policies": []string{"DefaultSubscriptionless"}},
		},
		{
			name: "plans given back", do: "PUT $pub/apis/$menu", body: `{"name":"Menu","context":"/menu","version":"1.0.0","policies":["Unlimited","Gold","Bronze"],"tags":["API_x","api_x","api x"],"endpointConfig":{"endpoint_type":"http","production_endpoints":{"url":"$backend"}},"operations":[{"target":"/only","verb":"GET"}]}`,
			status: 200, want: want{"policies": []string{"Unlimited", "Gold", "Bronze"}, "tags": []string{"API_x", "api_x", "api x"}},
		},
	})
}

// compatStates walks every state and looks from the portal.
func compatStates(t *testing.T, w *world) {
	move := func(action string, state string, events float64) fact {
		return fact{name: action, do: "POST $pub/apis/change-lifecycle?action=" + url.QueryEscape(action) + "&apiId=$walk", status: 200, want: want{"lifecycleState.state": state, "lifecycleState.availableTransitions.#": events}}
	}
	portal := func(name string, status int) fact {
		return fact{name: name + " in the portal", do: "GET $dev/apis/$walk", status: status}
	}
	w.run(t, []fact{
		{name: "create", do: "POST $pub/apis", body: `{"name":"Walk","context":"/walk","version":"1","policies":["Unlimited"],"tags":["walking"],"endpointConfig":{"endpoint_type":"http","production_endpoints":{"url":"$backend"}}}`, status: 201, save: save{"walk": "id"}},
		portal("created", 403),
		move("Deploy as a Prototype", "Prototyped", 3),
		portal("prototyped", 200),
		{name: "tags of a prototype are in the cloud", do: "GET $dev/tags", status: 200, want: want{"": contains(`"walking"`)}},
		move("Demote to Created", "Created", 2),
		move("Publish", "Published", 4),
		{name: "subscribe", do: "POST $dev/subscriptions", body: `{"applicationId":"$other","apiId":"$walk","throttlingPolicy":"Unlimited"}`, status: 201, save: save{"walksub": "subscriptionId"}},
		move("Demote to Created", "Created", 2),
		{name: "a demotion keeps subscriptions", do: "GET $pub/subscriptions?apiId=$walk", status: 200, want: want{"count": 1}},
		move("Publish", "Published", 4),
		move("Block", "Blocked", 2),
		portal("blocked", 200),
		move("Deprecate", "Deprecated", 1),
		portal("deprecated", 200),
		move("Retire", "Retired", 0),
		portal("retired", 403),
		{name: "retired is not listed", do: "GET $dev/apis?query=name:Walk", status: 200, want: want{"count": 0}},
		{name: "retirement ends subscriptions", do: "GET $pub/subscriptions?apiId=$walk", status: 200, want: want{"count": 0}},
		{name: "delete", do: "DELETE $pub/apis/$walk", status: 200},

		{name: "a third-party API", do: "POST $pub/apis", body: `{"name":"Theirs","context":"/theirs","version":"1","policies":["Unlimited"],"advertiseInfo":{"advertised":true,"apiExternalProductionEndpoint":"https://example.org","originalDevPortalUrl":"https://example.org/portal","apiOwner":"admin","vendor":"WSO2"}}`, status: 201, want: want{"advertiseInfo.advertised": true}, save: save{"walk": "id"}},
		{name: "has no revisions", do: "POST $pub/apis/$walk/revisions", body: `{}`, status: 400, want: want{"code": 903225}},
		{name: "and goes", do: "DELETE $pub/apis/$walk", status: 200},
	})
}
