package identity

import (
	"context"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// RolesOf lists the user's roles with the implicit Internal/everyone.
func RolesOf(u *apim.User) []string {
	out := make([]string, 0, len(u.Roles)+1)
	out = append(out, u.Roles...)
	if !slices.ContainsFunc(out, func(r string) bool { return strings.EqualFold(r, EveryoneRole) }) {
		out = append(out, EveryoneRole)
	}
	return out
}

// RolesOf lists the user's roles with the implicit Internal/everyone.
func (d *Directory) RolesOf(u *apim.User) []string { return RolesOf(u) }

// Bindings lists the tenant's scopes with their roles, without aliases.
func (d *Directory) Bindings(ctx context.Context, t apim.TenantID) ([]Binding, error) {
	b, err := d.bindingsOf(ctx, t)
	return slices.Clone(b.list), err
}

// ScopeRoles gives the roles a scope of the management APIs is bound to, lower
// case, aliases applied; bound is false when the tenant's configuration does
// not name the scope.
func (d *Directory) ScopeRoles(ctx context.Context, t apim.TenantID, scope string) (roles []string, bound bool, err error) {
	b, err := d.bindingsOf(ctx, t)
	if err != nil {
		return nil, false, err
	}
	roles, bound = b.roles[scope]
	return roles, bound, nil
}

// ScopesFor keeps of the requested scopes those that the roles open: a scope
// bound to roles needs one of them, any other is kept as it is (reference:
// scopes §1). The order is kept and repetitions are dropped.
func (d *Directory) ScopesFor(ctx context.Context, t apim.TenantID, roles, requested []string) ([]string, error) {
	b, err := d.bindingsOf(ctx, t)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range requested {
		if !slices.Contains(out, s) && Opens(roles, b.roles[s]) {
			out = append(out, s)
		}
	}
	return out, nil
}

// AllScopes lists every scope of the management APIs that the roles open.
func (d *Directory) AllScopes(ctx context.Context, t apim.TenantID, roles []string) ([]string, error) {
	b, err := d.bindingsOf(ctx, t)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(b.list))
	for _, s := range b.list {
		if Opens(roles, b.roles[s.Scope]) {
			out = append(out, s.Scope)
		}
	}
	return out, nil
}

// Opens reports whether one of the roles is among those a scope is bound to,
// ignoring case; a scope bound to none is open.
func Opens(roles, bound []string) bool {
	if len(bound) == 0 {
		return true
	}
	return slices.ContainsFunc(bound, func(b string) bool {
		return slices.ContainsFunc(roles, func(r string) bool { return strings.EqualFold(r, b) })
	})
}
