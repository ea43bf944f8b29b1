package publish

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// AuthDefault is what an operation without a statement about it asks for.
const AuthDefault = "Application & Application User"

// fill gives everything that was left out its default (reference: publisher §3).
func (s *Service) fill(api *apim.API) {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&api.Type, "HTTP")
	def(&api.Visibility, "PUBLIC")
	def(&api.AccessControl, "NONE")
	def(&api.SubscriptionAvailability, "CURRENT_TENANT")
	def(&api.EndpointType, "ENDPOINT")
	def(&api.Audience, "PUBLIC")
	def(&api.GatewayType, "wso2/synapse")
	def(&api.GatewayVendor, "wso2")
	def(&api.AuthHeader, "Authorization")
	def(&api.APIKeyHeader, "ApiKey")
	if len(api.Transports) == 0 {
		api.Transports = []string{"http", "https"}
	}
	if len(api.KeyManagers) == 0 {
		api.KeyManagers = []string{"all"}
	}
	if len(api.VisibleOrganizations) == 0 {
		api.VisibleOrganizations = []string{"none"}
	}
	if api.CacheTimeout == 0 {
		api.CacheTimeout = 300
	}
	api.Security = normalSecurity(api.Security)
	if api.CORS == nil {
		api.CORS = defaultCORS()
	}
	if len(api.Advertise) == 0 {
		api.Advertise = json.RawMessage(`{"advertised":false,"apiExternalProductionEndpoint":null,"apiExternalSandboxEndpoint":null,"originalDevPortalUrl":null,"apiOwner":null,"vendor":"WSO2"}`)
	}
	if len(api.Websub) == 0 {
		api.Websub = json.RawMessage(`{"enable":false,"secret":"","signingAlgorithm":"SHA1","signatureHeader":"x-hub-signature"}`)
	}
	s.fillOperations(api)
}

func defaultCORS() *apim.CORS {
	return &apim.CORS{
		Origins: []string{"*"},
		Headers: []string{"authorization", "Access-Control-Allow-Origin", "Content-Type", "SOAPAction", "apikey", "Internal-Key"},
		Methods: []string{"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"},
	}
}

func normalSecurity(in []string) []string {
	if len(in) == 0 {
		return []string{"oauth_basic_auth_api_key_mandatory", "oauth2"}
	}
	out := slices.Clone(in)
	app := slices.ContainsFunc(out, func(s string) bool { return s == "oauth2" || s == "basic_auth" || s == "api_key" })
	if app && !slices.Contains(out, "oauth_basic_auth_api_key_mandatory") && !slices.Contains(out, "mutualssl") {
		out = append(out, "oauth_basic_auth_api_key_mandatory")
	}
	return out
}

// defaultTier is the policy of an operation that names none.
func (s *Service) defaultTier() string {
	if s.NoUnlimited {
		return "10KPerMin"
	}
	return "Unlimited"
}

func (s *Service) fillOperations(api *apim.API) {
	if len(api.Operations) == 0 {
		verbs := []string{"GET", "PUT", "POST", "DELETE", "PATCH"}
		switch api.Type {
		case "WS":
			verbs = []string{"SUBSCRIBE", "PUBLISH"}
		case "SSE", "WEBSUB", "WEBHOOK":
			verbs = []string{"SUBSCRIBE"}
		case "SOAP":
			verbs = []string{"POST"}
		case "GRAPHQL", "ASYNC":
			verbs = nil
		}
		for _, v := range verbs {
			api.Operations = append(api.Operations, apim.Operation{Target: "/*", Verb: v})
		}
	}
	for i := range api.Operations {
		o := &api.Operations[i]
		o.Verb = strings.ToUpper(o.Verb)
		if o.Auth == "" || o.Auth == "Any" {
			o.Auth = AuthDefault
		}
		if o.Policy == "" {
			o.Policy = s.defaultTier()
		}
		if o.ID == "" {
			o.ID = newID()
		}
	}
}
