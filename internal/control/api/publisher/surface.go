// Package publisher is the publisher's REST surface, version 4: wire forms and
// thin handlers over package publish.
package publisher

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/publish"
	"github.com/cardea-apim/cardea/internal/rest"
	"github.com/cardea-apim/cardea/openapi"
)

// Base is where the surface lives.
const Base = "/api/am/publisher/v4"

// Options make the surface.
type Options struct {
	Service      *publish.Service
	Authenticate func(ctx context.Context, r *http.Request) (*apim.Actor, error)
	Receipts     rest.Receipts
	// Gateways tells how many gateways hold a live lease for an environment, for
	// answers that have no receipt of their own; nil counts none.
	Gateways func(ctx context.Context, environment string, api apim.APIID) (live, failed int)
	// InternalKey makes a key to try an API with; nil refuses.
	InternalKey  func(ctx context.Context, api *apim.API) (key string, validity time.Duration, err error)
	DevportalURL string
	// GatewayTypes are the kinds of gateways the settings offer; nil: Regular.
	GatewayTypes []string
	Log          *slog.Logger
}

type server struct {
	Options
	pub *publish.Service
}

// New makes the handler, Base included.
func New(o Options) (http.Handler, error) {
	if o.GatewayTypes == nil {
		o.GatewayTypes = []string{"Regular"}
	}
	s := &server{Options: o, pub: o.Service}
	return rest.NewSurface(rest.Options{
		Doc: openapi.Publisher, Base: Base, Handlers: s.handlers(),
		Authenticate: o.Authenticate, Receipts: o.Receipts, MaxBody: 16 << 20, Log: o.Log,
	})
}

func (s *server) handlers() map[string]rest.Handler {
	return map[string]rest.Handler{
		"getSettings": s.getSettings,
		"listApis":    s.listAPIs, "createApi": s.createAPI, "getApi": s.getAPI, "updateApi": s.updateAPI, "deleteApi": s.deleteAPI,
		"getApiSwagger": s.getSwagger, "updateApiSwagger": s.updateSwagger,
		"importOpenapi": s.importOpenAPI, "validateOpenapi": s.validateOpenAPI, "validateApi": s.validateAPI,
		"copyApi": s.copyAPI, "search": s.search,
		"changeApiLifecycle": s.changeLifecycle, "getApiLifecycleHistory": s.lifecycleHistory,
		"getApiLifecycleState": s.lifecycleState, "deleteApiLifecycleStatePendingTasks": s.deletePendingTasks,
		"listApiRevisions": s.listRevisions, "createApiRevision": s.createRevision, "getApiRevision": s.getRevision,
		"deleteApiRevision": s.deleteRevision, "listApiDeployments": s.listDeployments, "updateApiDeployment": s.updateDeployment,
		"deployApiRevision": s.deployRevision, "undeployApiRevision": s.undeployRevision, "restoreApiRevision": s.restoreRevision,
		"getApiThumbnail": s.getThumbnail, "updateApiThumbnail": s.updateThumbnail,
		"listApiSubscriptionPolicies": s.subscriptionPolicies, "listApiResourcePaths": s.resourcePaths,
		"generateApiKey": s.generateKey,
		"listScopes":     s.listScopes, "createScope": s.createScope, "getScope": s.getScope, "updateScope": s.updateScope,
		"deleteScope": s.deleteScope, "checkScope": s.checkScope, "getScopeUsage": s.scopeUsage,
		"checkRole": s.checkRole, "checkMeRole": s.checkMyRole,
		"listSubscriptions": s.listSubscriptions, "blockSubscription": s.blockSubscription, "unblockSubscription": s.unblockSubscription,
		"listThrottlingPolicies": s.listPolicies, "getThrottlingPolicy": s.getPolicy,
		"listThrottlingPoliciesStreamingSubscription": s.listStreamingPolicies,
		"listKeyManagers":      s.listKeyManagers,
		"listApiCategories":    s.listCategories,
		"getLinterCustomRules": s.linterRules,
	}
}

func apiID(r *http.Request) apim.APIID { return apim.APIID(rest.Path(r, "apiId")) }
