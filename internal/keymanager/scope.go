package keymanager

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// maxScopes bounds how many scopes one request may ask for.
const maxScopes = 1000

// grantScopes keeps of the requested scopes what the roles open and drops the
// rest silently. A scope is bound to roles by the user's tenant configuration
// or by an API of the client's tenant; one that nobody binds is granted as it
// is. Nothing left means default (reference: keymanager §5).
func (k *KeyManager) grantScopes(ctx context.Context, clientTenant, userTenant apim.TenantID, roles, requested []string) ([]string, error) {
	if len(requested) > maxScopes {
		return nil, invalidRequest("Too many scopes are requested.")
	}
	out := make([]string, 0, len(requested))
	for _, s := range requested {
		if slices.Contains(out, s) {
			continue
		}
		ok, err := k.opens(ctx, clientTenant, userTenant, roles, s)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		out = append(out, defaultScope)
	}
	return out, nil
}

func (k *KeyManager) opens(ctx context.Context, clientTenant, userTenant apim.TenantID, roles []string, scope string) (bool, error) {
	if scope == defaultScope || slices.ContainsFunc(k.free, func(p *regexp.Regexp) bool { return p.MatchString(scope) }) {
		return true, nil
	}
	bound, known, err := k.o.Directory.ScopeRoles(ctx, userTenant, scope)
	if err != nil {
		return false, fmt.Errorf("find roles of scope: %w", err)
	}
	if !known && k.o.APIScopes != nil {
		if bound, _, err = k.o.APIScopes(ctx, clientTenant, scope); err != nil {
			return false, fmt.Errorf("find roles of scope: %w", err)
		}
	}
	if len(bound) == 0 {
		return true, nil
	}
	return slices.ContainsFunc(bound, func(b string) bool {
		return slices.ContainsFunc(roles, func(r string) bool { return strings.EqualFold(r, b) })
	}), nil
}
