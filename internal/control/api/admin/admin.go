// Package admin is the wire of the administration API, version 4: names of
// members, paging and statuses. What happens is decided by package govern
// (reference: admin).
package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/rest"
	"github.com/cardea-apim/cardea/openapi"
)

// Base is where the surface is served.
const Base = "/api/am/admin/v4"

// Options make the surface. Service and Authenticate are required.
type Options struct {
	Service      *govern.Service
	Authenticate func(ctx context.Context, r *http.Request) (*apim.Actor, error)
	Receipts     rest.Receipts
	// Analytics says whether the analytics role is on.
	Analytics bool
	Log       *slog.Logger
}

type server struct {
	Options
	svc    *govern.Service
	scopes []string            // of this surface
	tags   map[string]scopeDoc // of every scope our documents name
}

// New makes the surface.
func New(o Options) (http.Handler, error) {
	if o.Service == nil || o.Authenticate == nil {
		return nil, errors.New("make admin surface: Service or Authenticate is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{Options: o, svc: o.Service}
	if err := s.readScopes(); err != nil {
		return nil, err
	}
	return rest.NewSurface(rest.Options{
		Doc: openapi.Admin, Base: Base, Handlers: s.handlers(), Authenticate: o.Authenticate, Receipts: o.Receipts, Log: o.Log,
	})
}

func (s *server) handlers() map[string]rest.Handler {
	return map[string]rest.Handler{
		"getSettings": s.getSettings,

		"searchThrottlingPolicies": s.searchPolicies,
		"exportThrottlingPolicy":   s.exportPolicy,
		"importThrottlingPolicy":   s.importPolicy,
		"listApplicationPolicies":  s.listPolicies(apim.AppLevel),
		"createApplicationPolicy":  s.createPolicy(apim.AppLevel),
		"getApplicationPolicy":     s.getPolicy(apim.AppLevel),
		"updateApplicationPolicy":  s.updatePolicy(apim.AppLevel),
		"deleteApplicationPolicy":  s.deletePolicy(apim.AppLevel),
		"listSubscriptionPolicies": s.listPolicies(apim.SubLevel),
		"createSubscriptionPolicy": s.createPolicy(apim.SubLevel),
		"getSubscriptionPolicy":    s.getPolicy(apim.SubLevel),
		"updateSubscriptionPolicy": s.updatePolicy(apim.SubLevel),
		"deleteSubscriptionPolicy": s.deletePolicy(apim.SubLevel),
		"listAdvancedPolicies":     s.listPolicies(apim.APILevel),
		"createAdvancedPolicy":     s.createPolicy(apim.APILevel),
		"getAdvancedPolicy":        s.getPolicy(apim.APILevel),
		"updateAdvancedPolicy":     s.updatePolicy(apim.APILevel),
		"deleteAdvancedPolicy":     s.deletePolicy(apim.APILevel),

		"listEnvironments":        s.listEnvironments,
		"createEnvironment":       s.createEnvironment,
		"getEnvironment":          s.getEnvironment,
		"updateEnvironment":       s.updateEnvironment,
		"deleteEnvironment":       s.deleteEnvironment,
		"listEnvironmentGateways": s.listGateways,

		"listKeyManagers":  s.listKeyManagers,
		"createKeyManager": s.createKeyManager,
		"getKeyManager":    s.getKeyManager,
		"updateKeyManager": s.updateKeyManager,
		"deleteKeyManager": s.deleteKeyManager,

		"discoverKeyManager": s.discoverKeyManager,

		"listApplications":       s.listApplications,
		"deleteApplication":      s.deleteApplication,
		"changeApplicationOwner": s.changeOwner,

		"listSystemScopes":       s.listScopes,
		"updateSystemScopes":     s.updateScopes,
		"getSystemScope":         s.getScope,
		"listRoleAliases":        s.listAliases,
		"updateRoleAliases":      s.updateAliases,
		"listRoleAliasesShort":   s.listAliases,
		"updateRoleAliasesShort": s.updateAliases,
		"getTenantConfig":        s.getTenantConf,
		"updateTenantConfig":     s.updateTenantConf,
		"getTenantConfigSchema":  s.getTenantConfSchema,
	}
}

// list is a list without paging.
type list[T any] struct {
	Count int `json:"count"`
	List  []T `json:"list"`
}

func listOf[T any](items []T) list[T] {
	if items == nil {
		items = []T{}
	}
	return list[T]{len(items), items}
}

func some(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// ifMatch checks the revision a client says it edits.
func ifMatch(r *http.Request) func(int64) error {
	return func(rev int64) error { return rest.Match(r, rev) }
}
