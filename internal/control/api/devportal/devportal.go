// Package devportal is the wire of the developer portal API, version 3: names
// of members, paging and statuses. What happens is decided by package
// subscribe (reference: devportal).
package devportal

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/subscribe"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
	"github.com/cardea-apim/cardea/openapi"
)

// Base is where the surface is served.
const Base = "/api/am/devportal/v3"

// Options make the surface. Service and Authenticate are required.
type Options struct {
	Service      *subscribe.Service
	Authenticate func(ctx context.Context, r *http.Request) (*apim.Actor, error)
	Receipts     rest.Receipts
	// Thumbnail reads the picture of an API; nil: none have one.
	Thumbnail func(ctx context.Context, ref apim.BlobRef) ([]byte, error)
	// GatewayURL is shown in the settings as the base of API addresses.
	GatewayURL string
	// Anonymous says whether callers without a token may read the catalogue.
	Anonymous bool
	// PasswordChange says whether users may change their own password here.
	PasswordChange bool
	Log            *slog.Logger
}

type server struct {
	Options
	svc *subscribe.Service
}

// New makes the surface.
func New(o Options) (http.Handler, error) {
	if o.Service == nil || o.Authenticate == nil {
		return nil, errors.New("make devportal surface: Service or Authenticate is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{Options: o, svc: o.Service}
	return rest.NewSurface(rest.Options{
		Doc: openapi.Devportal, Base: Base, Handlers: s.handlers(), Authenticate: o.Authenticate, Receipts: o.Receipts, Log: o.Log,
	})
}

func (s *server) handlers() map[string]rest.Handler {
	hs := map[string]rest.Handler{
		"listApis":                   s.listAPIs,
		"getApi":                     s.getAPI,
		"getApiSwagger":              s.getSwagger,
		"getApiThumbnail":            s.getThumbnail,
		"getApiSubscriptionPolicies": s.getAPIPolicies,
		"listTags":                   s.listTags,
		"listApiCategories":          s.listCategories,
		"listTenants":                s.listTenants,
		"listThrottlingPolicies":     s.listPolicies,
		"getThrottlingPolicy":        s.getPolicy,
		"getSettings":                s.getSettings,
		"listApplicationAttributes":  s.listAttributes,
		"changePassword":             s.changePassword,
		"getOrganizationInformation": s.getOrganization,

		"listApplications":               s.listApplications,
		"createApplication":              s.createApplication,
		"getApplication":                 s.getApplication,
		"updateApplication":              s.updateApplication,
		"deleteApplication":              s.deleteApplication,
		"resetApplicationThrottlePolicy": s.resetQuota,

		"listKeyManagers":                    s.listKeyManagers,
		"generateApplicationKeys":            s.generateKeys,
		"mapApplicationKeys":                 s.mapKeys,
		"listApplicationKeys":                s.listKeys,
		"listApplicationOauthKeys":           s.listKeys,
		"getApplicationKey":                  s.getKey,
		"getApplicationOauthKey":             s.getKey,
		"updateApplicationKey":               s.updateKey,
		"updateApplicationOauthKey":          s.updateKey,
		"deleteApplicationOauthKey":          s.deleteKey,
		"regenerateApplicationKeySecret":     s.regenerateSecret,
		"regenerateApplicationOauthSecret":   s.regenerateSecret,
		"cleanUpApplicationKey":              s.cleanUp,
		"cleanUpApplicationOauthKey":         s.cleanUp,
		"generateApplicationKeyToken":        s.generateToken,
		"generateApplicationOauthKeyToken":   s.generateToken,
		"generateApplicationOauthKeySecret":  s.generateSecret,
		"listApplicationOauthKeySecrets":     s.listSecrets,
		"revokeApplicationOauthKeySecret":    s.revokeSecret,
		"generateApplicationApiKey":          s.generateAppKey,
		"regenerateApplicationApiKey":        s.regenerateAppKey,
		"listApplicationApiKeys":             s.listAppKeys,
		"revokeApplicationApiKey":            s.revokeAppKey,
		"associateApplicationApiKey":         s.associateAppKey,
		"dissociateApplicationApiKey":        s.dissociateAppKey,
		"listApplicationApiKeyAssociations":  s.listAssociations,
		"listApplicationApiKeySubscriptions": s.listAssociable,
		"generateApiApiKey":                  s.generateAPIKey,
		"regenerateApiApiKey":                s.regenerateAPIKey,
		"listApiApiKeys":                     s.listAPIKeys,
		"revokeApiApiKey":                    s.revokeAPIKey,
		"associateApiApiKey":                 s.associateAPIKey,
		"dissociateApiApiKey":                s.dissociateAPIKey,

		"listSubscriptions":             s.listSubscriptions,
		"createSubscription":            s.createSubscription,
		"createSubscriptions":           s.createSubscriptions,
		"getSubscription":               s.getSubscription,
		"updateSubscription":            s.updateSubscription,
		"deleteSubscription":            s.deleteSubscription,
		"getSubscriptionAdditionalInfo": s.additionalInfo,
	}
	for id, h := range hs {
		hs[id] = s.greeting(h)
	}
	return hs
}

// greeting makes a subscriber of whoever calls with a portal's token, and
// refuses strangers where the installation or the tenant closes its catalogue.
func (s *server) greeting(h rest.Handler) rest.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		a := apim.ActorFrom(r.Context())
		switch {
		case a.Tenant == "":
			t, err := s.addressed(r)
			if err != nil {
				return err
			}
			c, err := s.svc.Settings(r.Context(), t)
			if err != nil {
				return err
			}
			if !s.Anonymous || !c.Anonymous {
				return &fault.NotAuthorized
			}
		case a.HasScope("apim:subscribe") || a.HasScope("apim:app_manage") || a.HasScope("apim:sub_manage"):
			if err := s.svc.Greet(r.Context()); err != nil {
				return err
			}
		}
		return h(w, r)
	}
}

// addressed is the tenant that X-WSO2-Tenant names, or the caller's own.
func (s *server) addressed(r *http.Request) (apim.TenantID, error) {
	return s.svc.Addressed(r.Context(), r.Header.Get("X-WSO2-Tenant"))
}

// ifMatch checks the revision a client says it edits.
func ifMatch(r *http.Request) func(int64) error {
	return func(rev int64) error { return rest.Match(r, rev) }
}
