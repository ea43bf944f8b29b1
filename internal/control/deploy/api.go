package deploy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

const unlimited = "Unlimited"

// subscriptionless are the plans that stand for "no subscription needed".
var subscriptionless = []string{"DefaultSubscriptionless", "AsyncDefaultSubscriptionless"}

func apiKey(id apim.APIID, env string) snapshot.Key {
	return snapshot.Key{Kind: snapshot.KindAPI, ID: string(id), Env: env}
}

// apiItem translates a deployment: everything comes from the revision but the
// lifecycle state and the default-version flag, which act without a new one.
func apiItem(work *apim.API, rev *apim.Revision, d *apim.Deployment, vhosts []string, isDefault bool, box *seal.Box) (snapshot.Item, error) {
	c := &rev.Copy
	out := snapshot.API{
		ID: string(work.ID), Revision: string(rev.ID), RevisionNo: rev.Number,
		Tenant: string(work.Tenant), Name: c.Name, Version: c.Version, Provider: c.Provider, Type: c.Type,
		State:       string(work.State),
		BaseContext: c.Context,
		VHosts:      vhosts,
		Transports:  c.Transports,
		Security:    securityOf(c),
		Policies:    c.Plans,
		Audiences:   c.Audiences,
		KeyManagers: c.KeyManagers,
	}
	if len(out.KeyManagers) == 0 {
		out.KeyManagers = []string{"all"}
	}
	if len(out.Transports) == 0 {
		out.Transports = []string{"http", "https"}
	}
	var alias string
	out.Context, alias = contexts(c)
	if isDefault && alias != "" {
		out.Default, out.DefaultContext = true, alias
	}
	if c.CORS != nil && c.CORS.Enabled {
		out.CORS = &snapshot.CORS{
			Enabled: true, Origins: c.CORS.Origins, Credentials: c.CORS.Credentials,
			Headers: c.CORS.Headers, Methods: c.CORS.Methods, Expose: c.CORS.Expose,
		}
	}
	ep, err := parseEndpoints(c.Endpoint, box)
	if err != nil {
		return snapshot.Item{}, fmt.Errorf("api %s: %w: %w", work.ID, errUntranslatable, err)
	}
	out.Production, out.Sandbox, out.EndpointMode = ep.production, ep.sandbox, ep.mode
	if out.MaxTPS, err = maxTPS(c.MaxTPS); err != nil {
		return snapshot.Item{}, fmt.Errorf("api %s: %w: %w", work.ID, errUntranslatable, err)
	}
	if c.APIPolicy != "" && c.APIPolicy != unlimited {
		out.APIPolicy = c.APIPolicy // operations have none of their own then
	}
	out.Operations = operationsOf(c, out.APIPolicy != "")
	for _, s := range c.Scopes {
		if out.ScopeRoles == nil {
			out.ScopeRoles = map[string][]string{}
		}
		out.ScopeRoles[s.Name] = s.Roles
	}
	for _, p := range c.Properties {
		if out.Properties == nil {
			out.Properties = map[string]string{}
		}
		out.Properties[p.Name] = p.Value
	}
	return snapshot.Make(apiKey(work.ID, d.Environment), out)
}

// contexts gives the path under which the version is served, and the one that
// the default version of the name has besides; the latter is empty when
// nothing would be left of it.
func contexts(a *apim.API) (full, alias string) {
	tmpl := a.ContextTemplate
	if tmpl == "" {
		tmpl = strings.TrimSuffix(a.Context, "/") + "/{version}"
	}
	if !strings.HasPrefix(tmpl, "/") {
		tmpl = "/" + tmpl
	}
	prefix := ""
	if a.Tenant != "" && a.Tenant != apim.SuperTenant {
		prefix = "/t/" + string(a.Tenant)
		if tmpl != prefix && !strings.HasPrefix(tmpl, prefix+"/") {
			tmpl = prefix + tmpl
		}
	}
	full = strings.ReplaceAll(tmpl, "{version}", a.Version)
	var kept []string
	for seg := range strings.SplitSeq(tmpl, "/") {
		if seg != "{version}" {
			kept = append(kept, seg)
		}
	}
	alias = strings.Join(kept, "/")
	if alias == full || strings.Trim(strings.TrimPrefix(alias, prefix), "/") == "" {
		alias = ""
	}
	return full, alias
}

// securityOf reads the securityScheme list.
func securityOf(a *apim.API) snapshot.Security {
	s := snapshot.Security{AuthHeader: a.AuthHeader, APIKeyHeader: a.APIKeyHeader}
	for _, scheme := range a.Security {
		switch scheme {
		case "oauth2":
			s.OAuth2 = true
		case "api_key":
			s.APIKey = true
		case "basic_auth":
			s.Basic = true
		case "mutualssl":
			s.MutualTLS = true
		case "mutualssl_mandatory":
			s.MutualTLSMandatory = true
		case "oauth_basic_auth_api_key_mandatory":
			s.AppMandatory = true
		}
	}
	if !s.OAuth2 && !s.APIKey && !s.Basic && !s.MutualTLS {
		s.OAuth2 = true // never an open door
	}
	if !s.MutualTLS {
		s.AppMandatory, s.MutualTLSMandatory = true, false
	} else if !s.OAuth2 && !s.APIKey && !s.Basic {
		s.MutualTLSMandatory = true
	}
	s.Subscriptionless = len(a.Plans) > 0 && !slices.ContainsFunc(a.Plans, func(p string) bool { return !slices.Contains(subscriptionless, p) })
	return s
}

func operationsOf(a *apim.API, apiPolicy bool) []snapshot.Operation {
	out := make([]snapshot.Operation, 0, len(a.Operations))
	for _, o := range a.Operations {
		to := snapshot.Operation{Target: o.Target, Verb: strings.ToUpper(o.Verb), Auth: authOf(o.Auth), Scopes: o.Scopes}
		if !apiPolicy && o.Policy != unlimited {
			to.Policy = o.Policy
		}
		out = append(out, to)
	}
	return out
}

func authOf(auth string) string {
	switch strings.ToLower(strings.ReplaceAll(auth, "_", " ")) {
	case "none":
		return "None"
	case "application user":
		return "Application User"
	case "application":
		return "Application"
	}
	return "Any" // "Application & Application User", and whatever nobody knows
}

func maxTPS(raw json.RawMessage) (*snapshot.MaxTPS, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var in struct {
		Production     number `json:"production"`
		ProductionUnit string `json:"productionTimeUnit"`
		Sandbox        number `json:"sandbox"`
		SandboxUnit    string `json:"sandboxTimeUnit"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("read maxTps: %w", err)
	}
	out := &snapshot.MaxTPS{
		Production: max(0, int64(in.Production)), Sandbox: max(0, int64(in.Sandbox)),
		ProductionUnit: tpsUnit(in.ProductionUnit), SandboxUnit: tpsUnit(in.SandboxUnit),
	}
	if out.Production == 0 {
		out.ProductionUnit = ""
	}
	if out.Sandbox == 0 {
		out.SandboxUnit = ""
	}
	if *out == (snapshot.MaxTPS{}) {
		return nil, nil
	}
	return out, nil
}

func tpsUnit(u string) string {
	if u = strings.ToUpper(u); u == "MINUTE" || u == "HOUR" {
		return u
	}
	return "SECOND"
}
