package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

func scopeNotFound(id string) error {
	return fault.ScopeNotFound.Withf("Scope not found with scopeId: %s", printable(id))
}

func (s *Service) checkScope(ctx context.Context, t apim.TenantID, v *apim.SharedScope) error {
	if v.Name == "" || len(v.Name) > 255 || strings.ContainsAny(v.Name, " \t\r\n") || hasControl(v.Name) {
		return fault.BadRequest.With("name: is missing or has characters that are not allowed")
	}
	if v.DisplayName == "" {
		v.DisplayName = v.Name
	}
	for _, r := range v.Roles {
		if err := s.checkRole(ctx, t, r); err != nil {
			return err
		}
	}
	return nil
}

// CreateScope makes a shared scope.
func (s *Service) CreateScope(ctx context.Context, v *apim.SharedScope) error {
	a := apim.ActorFrom(ctx)
	v.Meta, v.ID = apim.Meta{Tenant: a.Tenant}, newID()
	if err := s.checkScope(ctx, a.Tenant, v); err != nil {
		return err
	}
	err := s.Scopes.Create(ctx, a.Scope(), v)
	if errors.Is(err, &fault.Exists) {
		return fault.ScopeExists.Withf("Scope %s already exists", v.Name)
	}
	return err
}

// Scope reads a shared scope.
func (s *Service) Scope(ctx context.Context, id string) (*apim.SharedScope, error) {
	v, err := s.Scopes.Get(ctx, apim.ActorFrom(ctx).Scope(), id)
	if missing(err) {
		return nil, scopeNotFound(id)
	}
	return v, err
}

// ListScopes lists shared scopes by name.
func (s *Service) ListScopes(ctx context.Context, offset, limit int) (apim.Page[apim.SharedScope], error) {
	return s.Scopes.List(ctx, apim.ActorFrom(ctx).Scope(), apim.Query{Sort: "name", Offset: offset, Limit: limit})
}

// UpdateScope changes a shared scope and every API that carries it. The name
// never changes.
func (s *Service) UpdateScope(ctx context.Context, id string, in *apim.SharedScope) (*apim.SharedScope, error) {
	var out *apim.SharedScope
	err := s.retry(ctx, func(ctx context.Context) error {
		v, err := s.Scope(ctx, id)
		if err != nil {
			return err
		}
		v.DisplayName, v.Description, v.Roles = in.DisplayName, in.Description, in.Roles
		if err := s.checkScope(ctx, v.Tenant, v); err != nil {
			return err
		}
		switch err := s.Scopes.Update(ctx, apim.In(v.Tenant), v); {
		case errors.Is(err, &fault.PreconditionBad):
			return errLostRace
		case err != nil:
			return fmt.Errorf("save scope: %w", err)
		}
		out = v
		return s.spread(ctx, v)
	})
	return out, err
}

func (s *Service) spread(ctx context.Context, v *apim.SharedScope) error {
	used, err := s.using(ctx, v)
	if err != nil {
		return err
	}
	for _, api := range used {
		api.Scopes = slices.Clone(api.Scopes)
		for i := range api.Scopes {
			if c := &api.Scopes[i]; c.Shared && c.Name == v.Name {
				c.DisplayName, c.Description, c.Roles = v.DisplayName, v.Description, v.Roles
			}
		}
		if err := s.save(ctx, api); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) using(ctx context.Context, v *apim.SharedScope) ([]*apim.API, error) {
	p, err := s.APIs.List(ctx, apim.In(v.Tenant), apim.Query{})
	if err != nil {
		return nil, fmt.Errorf("list apis: %w", err)
	}
	var out []*apim.API
	for _, api := range p.Items {
		if slices.ContainsFunc(api.Scopes, func(c apim.APIScope) bool { return c.Shared && c.Name == v.Name }) {
			out = append(out, api)
		}
	}
	return out, nil
}

// ScopeUsage lists the APIs that carry a shared scope.
func (s *Service) ScopeUsage(ctx context.Context, id string) (*apim.SharedScope, []*apim.API, error) {
	v, err := s.Scope(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	used, err := s.using(ctx, v)
	return v, used, err
}

// DeleteScope removes a shared scope that no API carries.
func (s *Service) DeleteScope(ctx context.Context, id string) error {
	return s.retry(ctx, func(ctx context.Context) error {
		v, err := s.Scope(ctx, id)
		if err != nil {
			return err
		}
		used, err := s.using(ctx, v)
		if err != nil {
			return err
		}
		if len(used) > 0 {
			return scopeAttached.Withf("Cannot remove the Shared Scope %s as it is used by one or more APIs", v.Name)
		}
		return s.Scopes.Delete(ctx, apim.In(v.Tenant), id)
	})
}

var scopeAttached = fault.Error{Kind: fault.Conflict, Code: 900985, Msg: "The shared scope is attached to an API"}

// ScopeNamed reports whether a scope of that name exists in the tenant, shared
// or of one API.
func (s *Service) ScopeNamed(ctx context.Context, name string) (bool, error) {
	a := apim.ActorFrom(ctx)
	if _, err := s.Scopes.First(ctx, a.Scope(), apim.Where("name", name)); err == nil || !missing(err) {
		return err == nil, err
	}
	p, err := s.APIs.List(ctx, a.Scope(), apim.Query{})
	if err != nil {
		return false, fmt.Errorf("list apis: %w", err)
	}
	return slices.ContainsFunc(p.Items, func(api *apim.API) bool {
		return slices.ContainsFunc(api.Scopes, func(c apim.APIScope) bool { return c.Name == name })
	}), nil
}
