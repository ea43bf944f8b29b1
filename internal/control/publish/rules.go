package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

const (
	nameForbids    = "~!@#;:%^*()+={}|\\<>\"',&$[]/"
	contextForbids = "`~!@#?:%^&*+=|\\<>\"',[]()$; \t\r\n"
)

func checkName(name string) error {
	n := utf8.RuneCountInString(name)
	switch {
	case strings.TrimSpace(name) == "" || n > 60:
		return fault.BadRequest.With("name: must have between 1 and 60 characters")
	case strings.ContainsAny(name, nameForbids) || hasControl(name):
		return fault.BadRequest.With("name: has characters that are not allowed")
	}
	return nil
}

func checkVersion(v string) error {
	n := utf8.RuneCountInString(v)
	switch {
	case n == 0 || n > 30:
		return fault.BadRequest.With("version: must have between 1 and 30 characters")
	case strings.ContainsAny(v, nameForbids+" \t\r\n") || hasControl(v) || v == "." || v == "..":
		return fault.BadRequest.With("version: has characters that are not allowed")
	}
	return nil
}

func hasControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

var errContext = fault.PropertiesInvalid.With("The API context is malformed")

// normalContext checks a context and gives it as returned to clients and as a
// template with the version in it.
func normalContext(t apim.TenantID, in string) (context, template string, err error) {
	c := in
	if !strings.HasPrefix(c, "/") {
		c = "/" + c
	}
	prefix := ""
	if t != apim.SuperTenant {
		prefix = "/t/" + string(t)
		if rest, ok := strings.CutPrefix(c, prefix); ok && strings.HasPrefix(rest, "/") {
			c = rest
		}
	}
	c = strings.TrimSuffix(c, "/")
	if c == "" || utf8.RuneCountInString(c) > 232 || strings.ContainsAny(c, contextForbids) || hasControl(c) ||
		strings.Contains(c, "/t/") || strings.HasSuffix(c, "/t") {
		return "", "", errContext
	}
	templated := false
	for _, seg := range strings.Split(c[1:], "/") {
		switch {
		case seg == "{version}":
			templated = true
		case seg == "" || seg == "." || seg == ".." || strings.ContainsAny(seg, "{}"):
			return "", "", errContext
		}
	}
	c = prefix + c
	if templated {
		return c, c, nil
	}
	return c, c + "/{version}", nil
}

var apiTypes = []string{"HTTP", "WS", "SOAPTOREST", "SOAP", "GRAPHQL", "WEBSUB", "SSE", "WEBHOOK", "ASYNC"}

// collide refuses names and contexts that other APIs of the tenant hold.
func (s *Service) collide(ctx context.Context, api *apim.API) error {
	sc := apim.In(api.Tenant)
	same, err := s.APIs.List(ctx, sc, apim.Where("name_folded", strings.ToLower(api.Name)))
	if err != nil {
		return fmt.Errorf("look for the name: %w", err)
	}
	for _, o := range same.Items {
		if o.ID == api.ID {
			continue
		}
		if o.Name != api.Name || o.Version == api.Version {
			return fault.APINameExists.Withf("API with name %s already exists", api.Name)
		}
	}
	ctxs, err := s.APIs.List(ctx, sc, apim.Where("context_template", api.ContextTemplate))
	if err != nil {
		return fmt.Errorf("look for the context: %w", err)
	}
	for _, o := range ctxs.Items {
		if o.ID != api.ID && (o.Version == api.Version || !strings.EqualFold(o.Name, api.Name)) {
			return fault.APIContextExists.Withf("API with context %s already exists", api.Context)
		}
	}
	for _, o := range same.Items {
		if o.ID != api.ID && o.ContextTemplate != api.ContextTemplate {
			return fault.PropertiesInvalid.Withf("API with name %s already exists with a different context", api.Name)
		}
	}
	return nil
}

// checkAll applies the rules that creation and update share. Old is nil at
// creation; what the old copy has and nobody changed is never refused, so that
// a plan or role deleted since does not block an edit.
func (s *Service) checkAll(ctx context.Context, api, old *apim.API) error {
	if !slices.Contains(apiTypes, api.Type) {
		return fault.APITypeInvalid.With("Unknown API type " + printable(api.Type))
	}
	if old == nil {
		old = &apim.API{}
	}
	if err := s.checkPlans(ctx, api, old); err != nil {
		return err
	}
	if err := s.checkRoles(ctx, api, old); err != nil {
		return err
	}
	if api.AccessControl == "RESTRICTED" && len(api.AccessControlRoles) == 0 {
		return fault.RolesInvalid.With("Access control roles are required for restricted APIs")
	}
	if api.Visibility == "RESTRICTED" && len(api.VisibleRoles) == 0 {
		return fault.RolesInvalid.With("Visible roles are required for restricted APIs")
	}
	for _, set := range []struct {
		name, value string
		allowed     []string
	}{
		{"visibility", api.Visibility, []string{"PUBLIC", "PRIVATE", "RESTRICTED", "CONTROLLED"}},
		{"accessControl", api.AccessControl, []string{"NONE", "RESTRICTED"}},
		{"subscriptionAvailability", api.SubscriptionAvailability, []string{"CURRENT_TENANT", "ALL_TENANTS", "SPECIFIC_TENANTS"}},
		{"endpointImplementationType", api.EndpointType, []string{"ENDPOINT", "INLINE", "MOCKED_OAS"}},
		{"advertiseInfo.vendor", vendorOf(api), []string{"WSO2", "AWS"}},
	} {
		if !slices.Contains(set.allowed, set.value) {
			return fault.BadRequest.Withf("%s: must be one of %s", set.name, strings.Join(set.allowed, ", "))
		}
	}
	for _, t := range api.Transports {
		if !slices.Contains([]string{"http", "https", "ws", "wss"}, strings.ToLower(t)) {
			return fault.BadRequest.With("transport: only http and https are allowed")
		}
	}
	if err := checkEndpoint(api.Endpoint); err != nil {
		return err
	}
	return s.checkOperations(ctx, api, old)
}

func (s *Service) checkPlans(ctx context.Context, api, old *apim.API) error {
	for _, p := range api.Plans {
		if slices.Contains(old.Plans, p) {
			continue
		}
		if err := s.checkTier(ctx, api.Tenant, apim.SubLevel, p); err != nil {
			return err
		}
	}
	if api.APIPolicy != "" && api.APIPolicy != old.APIPolicy {
		return s.checkTier(ctx, api.Tenant, apim.APILevel, api.APIPolicy)
	}
	return nil
}

func (s *Service) checkTier(ctx context.Context, t apim.TenantID, level apim.PolicyLevel, name string) error {
	if name == "Unlimited" && s.NoUnlimited {
		return fault.TierNameInvalid.With("The tier name is invalid.")
	}
	_, err := s.Policies.First(ctx, apim.In(t), apim.Where("level", string(level)).And("name", name))
	if missing(err) {
		return fault.TierNameInvalid.Withf("The tier name is invalid. Specified policy %s does not exist", printable(name))
	}
	if err != nil {
		return fmt.Errorf("look for policy: %w", err)
	}
	return nil
}

func (s *Service) checkRoles(ctx context.Context, api, old *apim.API) error {
	want := slices.Concat(api.VisibleRoles, api.AccessControlRoles)
	known := slices.Concat(old.VisibleRoles, old.AccessControlRoles)
	for _, sc := range api.Scopes {
		if !sc.Shared {
			want = append(want, sc.Roles...)
		}
	}
	for _, sc := range old.Scopes {
		known = append(known, sc.Roles...)
	}
	for _, r := range want {
		if slices.Contains(known, r) {
			continue
		}
		if err := s.checkRole(ctx, api.Tenant, r); err != nil {
			return err
		}
		if slices.Contains(api.VisibleRoles, r) {
			if err := s.checkCanSignIn(ctx, api.Tenant, r); err != nil {
				return err
			}
		}
	}
	return nil
}

const signIn = "/permission/admin/login"

// checkCanSignIn refuses roles in the portal's visibility that cannot sign in
// there; the publisher's access control takes any role.
func (s *Service) checkCanSignIn(ctx context.Context, t apim.TenantID, name string) error {
	if strings.EqualFold(name, "Internal/everyone") {
		return nil
	}
	r, err := s.Roles.First(ctx, apim.In(t), apim.Query{Where: []apim.Cond{{Col: "name", Op: apim.EqFold, Value: name}}})
	if err != nil {
		return fmt.Errorf("look for role: %w", err)
	}
	for _, p := range r.Permissions {
		if p == signIn || strings.HasPrefix(signIn, strings.TrimSuffix(p, "/")+"/") {
			return nil
		}
	}
	return fault.RolesInvalid.Withf("Invalid user roles found in %s", printable(name))
}

func (s *Service) checkRole(ctx context.Context, t apim.TenantID, name string) error {
	ok, err := s.RoleExists(ctx, t, name)
	if err == nil && !ok {
		return fault.RolesInvalid.Withf("Invalid user roles found in %s", printable(name))
	}
	return err
}

// RoleExists reports whether a tenant has a role; names ignore case.
func (s *Service) RoleExists(ctx context.Context, t apim.TenantID, name string) (bool, error) {
	if strings.EqualFold(name, "Internal/everyone") {
		return true, nil
	}
	_, err := s.Roles.First(ctx, apim.In(t), apim.Query{Where: []apim.Cond{{Col: "name", Op: apim.EqFold, Value: name}}})
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

var httpVerbs = []string{"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"}

func (s *Service) checkOperations(ctx context.Context, api, old *apim.API) error {
	known := map[string]bool{"": true}
	for _, o := range old.Operations {
		known[o.Policy] = true
	}
	attached := map[string]bool{}
	for _, sc := range api.Scopes {
		attached[sc.Name] = true
	}
	seen := map[[2]string]bool{}
	for i := range api.Operations {
		o := &api.Operations[i]
		if strings.ContainsAny(o.Target, "?# \t\r\n") || hasControl(o.Target) || len(o.Target) > 2048 {
			return fault.BadRequest.Withf("operations[%d].target: is not a path", i)
		}
		if api.Type == "HTTP" && (!strings.HasPrefix(o.Target, "/") || !slices.Contains(httpVerbs, o.Verb)) {
			return fault.BadRequest.Withf("operations[%d]: needs a target that starts with a slash and a known verb", i)
		}
		k := [2]string{o.Target, o.Verb}
		if seen[k] {
			return fault.BadRequest.Withf("operations[%d]: %s %s occurs twice", i, o.Verb, o.Target)
		}
		seen[k] = true
		if !known[o.Policy] || (o.Policy == "Unlimited" && s.NoUnlimited) {
			if err := s.checkTier(ctx, api.Tenant, apim.APILevel, o.Policy); err != nil {
				return err
			}
			known[o.Policy] = true
		}
		for _, sc := range o.Scopes {
			if !attached[sc] {
				return fault.BadRequest.Withf("operations[%d]: scope %s is not among the scopes of the API", i, printable(sc))
			}
		}
	}
	return nil
}

// checkEndpoint looks at the addresses of an endpoint configuration; the rest
// of its shape belongs to the gateway.
func checkEndpoint(raw json.RawMessage) error {
	if len(raw) == 0 {
		return nil
	}
	var m map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil {
		return fault.BadRequest.With("endpointConfig: expected an object")
	}
	for _, name := range []string{"production_endpoints", "sandbox_endpoints", "production_failovers", "sandbox_failovers"} {
		v := m[name]
		if len(v) == 0 || string(v) == "null" {
			continue
		}
		type endpoint struct {
			URL string `json:"url"`
		}
		var list []endpoint
		var one endpoint
		if json.Unmarshal(v, &list) != nil {
			if json.Unmarshal(v, &one) != nil {
				return fault.BadRequest.Withf("endpointConfig.%s: expected an object or an array with a url", name)
			}
			list = []endpoint{one}
		}
		for _, e := range list {
			if err := checkURL(e.URL); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkURL(s string) error {
	if s == "" || s == "default" || strings.Contains(s, "{uri.var.") {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || !slices.Contains([]string{"http", "https", "ws", "wss", "jms", "consul", "grpc", "grpcs"}, strings.ToLower(u.Scheme)) || len(s) > 4096 || hasControl(s) {
		return fault.PropertiesInvalid.With("Invalid endpoint URL: " + printable(s))
	}
	return nil
}

// vendorOf is the vendor of a third-party API; absent means the default.
func vendorOf(api *apim.API) string {
	v := struct{ Vendor *string }{}
	if len(api.Advertise) == 0 || json.Unmarshal(api.Advertise, &v) != nil || v.Vendor == nil {
		return "WSO2"
	}
	return *v.Vendor
}
