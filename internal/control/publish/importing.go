package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/definition"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Fetched reads a definition from an address the user gave.
func (s *Service) Fetched(ctx context.Context, address string) ([]byte, error) {
	if s.Fetch == nil {
		return nil, fault.OpenAPIURL.With("Fetching definitions is switched off")
	}
	b, err := s.Fetch.Get(ctx, strings.TrimSpace(address), s.MaxDefinition)
	if err != nil {
		return nil, fault.OpenAPIURL.Withf("The definition at the given URL could not be read: %s", printable(err.Error())).Because(err)
	}
	return b, nil
}

// Import creates an API from a definition. What in says wins over what the
// definition says.
func (s *Service) Import(ctx context.Context, in *apim.API, doc *definition.Doc) (*apim.API, error) {
	info := doc.Info()
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&in.Name, strings.Map(func(r rune) rune {
		if strings.ContainsRune(nameForbids, r) {
			return -1
		}
		return r
	}, info.Title))
	def(&in.Version, info.Version)
	def(&in.Context, info.Context)
	def(&in.AuthHeader, info.AuthHeader)
	def(&in.APIKeyHeader, info.KeyHeader)
	def(&in.APIPolicy, info.Tier)
	if r := []rune(info.Description); in.Description == "" && len(r) <= 32766 {
		in.Description = info.Description
	}
	if in.Context == "" {
		return nil, fault.BadRequest.With("context: is required")
	}
	if len(in.Transports) == 0 {
		in.Transports = info.Transports
	}
	if len(in.Security) == 0 {
		in.Security = securityOf(info.Security)
	}
	if in.Endpoint == nil {
		in.Endpoint = endpointsOf(info)
	}
	if in.CORS == nil {
		in.CORS = corsOf(info.CORS)
	}
	in.Operations = s.operationsOf(doc, in.Operations)
	in.Scopes = scopesOf(doc, in.Scopes, in.Operations)
	return s.Create(ctx, in, doc)
}

// operationsOf are the resources of a definition. Settings that given (the
// caller's own list) or the definition has for one of them are kept.
func (s *Service) operationsOf(doc *definition.Doc, given []apim.Operation) []apim.Operation {
	mine := map[[2]string]apim.Operation{}
	for _, o := range given {
		mine[[2]string{o.Target, strings.ToUpper(o.Verb)}] = o
	}
	seen := map[[2]string]bool{}
	var out []apim.Operation
	for _, d := range doc.Operations() {
		k := [2]string{d.Path, d.Verb}
		if seen[k] {
			continue
		}
		seen[k] = true
		o, ok := mine[k]
		if !ok {
			o = apim.Operation{Policy: d.Tier, Auth: authOf(d), Scopes: d.Scopes}
		}
		o.Target, o.Verb, o.ID = d.Path, d.Verb, ""
		if o.Policy == "" {
			o.Policy = d.Tier
		}
		if len(o.Scopes) == 0 {
			o.Scopes = d.Scopes
		}
		out = append(out, o)
	}
	return out
}

func authOf(d definition.Operation) string {
	switch {
	case d.NoAuth, strings.EqualFold(d.Auth, "None"):
		return "None"
	case d.Auth == "Application User" || d.Auth == "Application_User":
		return "Application User"
	case d.Auth == "Application":
		return "Application"
	}
	return AuthDefault
}

// scopesOf are the scopes the definition declares, with given ones first, and
// those that operations use without a declaration.
func scopesOf(doc *definition.Doc, given []apim.APIScope, ops []apim.Operation) []apim.APIScope {
	out := slices.Clone(given)
	seen := map[string]bool{}
	for _, s := range out {
		seen[s.Name] = true
	}
	for _, s := range doc.Scopes() {
		if !seen[s.Name] && s.Name != "" {
			seen[s.Name] = true
			out = append(out, apim.APIScope{Name: s.Name, DisplayName: s.Name, Description: s.Description, Roles: s.Roles})
		}
	}
	for _, o := range ops {
		for _, n := range o.Scopes {
			if !seen[n] {
				seen[n] = true
				out = append(out, apim.APIScope{Name: n, DisplayName: n})
			}
		}
	}
	return out
}

func securityOf(raw json.RawMessage) []string {
	var v struct {
		Types    []string `json:"security-types"`
		Optional bool     `json:"optional"`
	}
	if json.Unmarshal(raw, &v) != nil || len(v.Types) == 0 {
		return nil
	}
	if !v.Optional {
		v.Types = append(v.Types, "oauth_basic_auth_api_key_mandatory")
	}
	return v.Types
}

func corsOf(raw json.RawMessage) *apim.CORS {
	var v struct {
		Enabled     bool     `json:"corsConfigurationEnabled"`
		Origins     []string `json:"accessControlAllowOrigins"`
		Credentials bool     `json:"accessControlAllowCredentials"`
		Headers     []string `json:"accessControlAllowHeaders"`
		Methods     []string `json:"accessControlAllowMethods"`
	}
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil {
		return nil
	}
	return &apim.CORS{Enabled: v.Enabled, Origins: v.Origins, Credentials: v.Credentials, Headers: v.Headers, Methods: v.Methods}
}

// endpointsOf makes an endpoint configuration out of the definition's own
// extensions. Plain servers are not taken: clients offer them for a choice.
func endpointsOf(info definition.Info) json.RawMessage {
	kind, out := "http", map[string]any{}
	for name, raw := range map[string]json.RawMessage{"production": info.Production, "sandbox": info.Sandbox} {
		var v struct {
			URLs []string `json:"urls"`
			Type string   `json:"type"`
		}
		if len(raw) == 0 || json.Unmarshal(raw, &v) != nil || len(v.URLs) == 0 {
			continue
		}
		list := []map[string]any{}
		for _, u := range v.URLs {
			list = append(list, map[string]any{"url": u, "template_not_supported": false})
		}
		switch strings.ToLower(v.Type) {
		case "load_balance", "loadbalance":
			kind = "load_balance"
			out[name+"_endpoints"] = list
		case "failover":
			kind = "failover"
			out[name+"_endpoints"], out[name+"_failovers"], out["failOver"] = list[0], list[1:], true
		default:
			out[name+"_endpoints"] = list[0]
		}
	}
	if len(out) == 0 {
		return nil
	}
	if kind == "load_balance" {
		out["algoCombo"] = "org.apache.synapse.endpoints.algorithms.RoundRobin"
	}
	out["endpoint_type"] = kind
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return b
}

// Definition is the definition of an API, or of a revision, as stored.
func (s *Service) Definition(ctx context.Context, id apim.APIID) (b []byte, contentType string, err error) {
	api, _, err := s.Get(ctx, id)
	if err != nil {
		return nil, "", err
	}
	if api.Definition == "" {
		return nil, "", fault.OpenAPIMissing.With("The API has no OpenAPI definition")
	}
	if b, err = s.Blobs.Get(ctx, api.Definition); err != nil {
		return nil, "", fmt.Errorf("load definition: %w", err)
	}
	contentType = "application/json"
	if api.DefinitionType == definition.YAML {
		contentType = "application/yaml"
	}
	return b, contentType, nil
}

// SetDefinition replaces the definition and with it the whole set of resources.
// A definition that does not pass changes nothing.
func (s *Service) SetDefinition(ctx context.Context, id apim.APIID, b []byte, guard func(*apim.API) error) (*apim.API, error) {
	if _, err := s.load(ctx, id); err != nil {
		return nil, err
	}
	doc, err := definition.Read(b)
	if err != nil {
		return nil, err
	}
	api, err := s.mutate(ctx, id, func(ctx context.Context, api *apim.API) error {
		if guard != nil {
			if err := guard(api); err != nil {
				return err
			}
		}
		old := *api
		n := old
		n.Operations = s.operationsOf(doc, nil)
		carry(n.Operations, old.Operations)
		n.Scopes = scopesOf(doc, sharedOnly(old.Scopes), n.Operations)
		s.fillOperations(&n)
		keepOperationIDs(&n, &old)
		s.fillOperations(&n)
		if err := s.adoptScopes(ctx, &n); err != nil {
			return err
		}
		if err := s.checkAll(ctx, &n, &old); err != nil {
			return err
		}
		if err := s.storeDefinition(ctx, &n, doc); err != nil {
			return err
		}
		*api = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.checkLater(api)
	return api, nil
}

// carry keeps what no definition can say: the policies of operations that stay.
func carry(now, before []apim.Operation) {
	old := map[[2]string]apim.Operation{}
	for _, o := range before {
		old[[2]string{o.Target, o.Verb}] = o
	}
	for i := range now {
		if o, ok := old[[2]string{now[i].Target, now[i].Verb}]; ok {
			now[i].Policies, now[i].Payload, now[i].Extra = o.Policies, o.Payload, o.Extra
		}
	}
}

func sharedOnly(in []apim.APIScope) []apim.APIScope {
	var out []apim.APIScope
	for _, s := range in {
		if s.Shared {
			out = append(out, s)
		}
	}
	return out
}

// check is a deep check to be done.
type check struct {
	tenant apim.TenantID
	id     apim.APIID
	ref    apim.BlobRef
}

// checkLater queues a deep check of the API's definition; with a full queue it
// is left out, for it only informs.
func (s *Service) checkLater(api *apim.API) {
	select {
	case s.checks <- check{api.Tenant, api.ID, api.Definition}:
	default:
		s.Log.Warn("definition check left out, too many are waiting", "api", api.ID)
	}
}

// Run does deep checks, one at a time, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-s.checks:
			if err := s.deepCheck(ctx, c); err != nil && ctx.Err() == nil {
				s.Log.WarnContext(ctx, "definition check failed", "api", c.id, "err", err)
			}
		}
	}
}

func (s *Service) deepCheck(ctx context.Context, c check) error {
	doc, err := s.readDefinition(ctx, c.ref)
	if err != nil {
		return err
	}
	found := doc.Check(ctx)
	if len(doc.Bytes) > 1<<20 {
		debug.FreeOSMemory() // the check of a large document takes a multiple of its size, and few come
	}
	ctx = apim.WithActor(ctx, &apim.Actor{User: "system", Tenant: c.tenant, System: true})
	_, err = s.mutate(ctx, c.id, func(_ context.Context, api *apim.API) error {
		if api.Definition != c.ref || slices.Equal(api.Findings, found) {
			return errNothing
		}
		api.Findings = found
		return nil
	})
	if errors.Is(err, errNothing) || errors.Is(err, &fault.APINotFound) {
		return nil
	}
	return err
}

var errNothing = errors.New("nothing to do")
