package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Permission paths of the original that still decide something (reference:
// scopes §4, keymanager §9).
const (
	PermAll             = "/permission"
	PermLogin           = "/permission/admin/login"
	PermCreate          = "/permission/admin/manage/api/create"
	PermPublish         = "/permission/admin/manage/api/publish"
	PermSubscribe       = "/permission/admin/manage/api/subscribe"
	PermGovern          = "/permission/admin/configure/governance"
	PermGovernResources = "/permission/admin/manage/resources/govern"
	PermViewApps        = "/permission/admin/manage/identity/applicationmgt/view"
)

// defaultRoles are made with every tenant (reference: scopes §4).
var defaultRoles = []apim.Role{
	{Name: AdminRole, Permissions: []string{PermAll}},
	{Name: publisher, Permissions: []string{PermLogin, PermPublish}},
	{Name: creator, Permissions: []string{PermLogin, PermCreate, PermGovern, PermGovernResources}},
	{Name: subscriber, Permissions: []string{PermLogin, PermSubscribe}},
	{Name: devops, Permissions: []string{PermLogin, PermCreate, PermPublish, PermSubscribe}},
	{Name: observer, Permissions: []string{PermLogin}},
	{Name: integrationDev},
	{Name: analytics, Permissions: []string{PermLogin}},
	{Name: "Internal/selfsignup"},
}

// Role finds a role by name, ignoring case; fault.Missing when there is none.
func (d *Directory) Role(ctx context.Context, t apim.TenantID, name string) (*apim.Role, error) {
	if strings.EqualFold(name, EveryoneRole) {
		r := &apim.Role{ID: EveryoneRole, Name: EveryoneRole}
		r.Tenant = t
		return r, nil
	}
	return d.o.Roles.First(ctx, apim.In(t), apim.Query{Where: []apim.Cond{{Col: "name", Op: apim.EqFold, Value: name}}})
}

// RoleExists reports whether the tenant has the role, ignoring case.
func (d *Directory) RoleExists(ctx context.Context, t apim.TenantID, name string) (bool, error) {
	_, err := d.Role(ctx, t, name)
	if errors.Is(err, &fault.Missing) {
		return false, nil
	}
	return err == nil, err
}

// Roles lists roles.
func (d *Directory) Roles(ctx context.Context, t apim.TenantID, q apim.Query) (apim.Page[apim.Role], error) {
	return d.o.Roles.List(ctx, apim.In(t), q)
}

// CreateRole creates a role; fault.Exists when the name is taken in any case.
func (d *Directory) CreateRole(ctx context.Context, t apim.TenantID, name string, permissions []string) (*apim.Role, error) {
	if err := errors.Join(CheckName(name), follows(d.o.RoleNames, name, "role name")); err != nil {
		return nil, err
	}
	r := &apim.Role{ID: apim.RoleID(uuid.NewString()), Name: name, Permissions: slices.Clone(permissions)}
	r.Tenant = t
	return r, d.o.InTx(ctx, func(ctx context.Context) error {
		if ok, err := d.RoleExists(ctx, t, name); err != nil || ok {
			if ok {
				return fault.Exists.With("name")
			}
			return err
		}
		return d.o.Roles.Create(ctx, apim.In(t), r)
	})
}

// DeleteRole removes a role and takes it from its members. The roles made with
// every tenant stay: fault.BadRequest.
func (d *Directory) DeleteRole(ctx context.Context, t apim.TenantID, name string) error {
	if slices.ContainsFunc(defaultRoles, func(r apim.Role) bool { return strings.EqualFold(r.Name, name) }) {
		return fault.BadRequest.With("the role is part of every tenant")
	}
	return retry(func() error {
		return d.o.InTx(ctx, func(ctx context.Context) error {
			r, err := d.Role(ctx, t, name)
			if err != nil {
				return fmt.Errorf("delete role: %w", err)
			}
			members, err := d.o.Users.List(ctx, apim.In(t), apim.Query{Where: []apim.Cond{{Col: "role", Op: apim.Has, Value: r.Name}}})
			if err != nil {
				return fmt.Errorf("delete role: %w", err)
			}
			for _, u := range members.Items {
				u.Roles = slices.DeleteFunc(u.Roles, func(s string) bool { return s == r.Name })
				if err := d.o.Users.Update(ctx, apim.In(t), u); err != nil {
					return fmt.Errorf("delete role: %w", err)
				}
			}
			return d.o.Roles.Delete(ctx, apim.In(t), r.ID)
		})
	})
}

// Permitted reports whether one of the roles carries the permission or one
// above it in the path.
func (d *Directory) Permitted(ctx context.Context, t apim.TenantID, roles []string, permission string) (bool, error) {
	for _, name := range roles {
		r, err := d.Role(ctx, t, name)
		if errors.Is(err, &fault.Missing) {
			continue
		}
		if err != nil {
			return false, err
		}
		for _, p := range r.Permissions {
			if p == permission || strings.HasPrefix(permission, strings.TrimSuffix(p, "/")+"/") {
				return true, nil
			}
		}
	}
	return false, nil
}
