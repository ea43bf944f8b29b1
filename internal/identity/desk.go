package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Permission paths that guard the administration of users, roles and tenants;
// what is done is appended: create, view, list, update or delete.
const (
	PermUsers   = "/permission/admin/manage/identity/usermgt/"
	PermRoles   = "/permission/admin/manage/identity/rolemgt/"
	PermApps    = "/permission/admin/manage/identity/applicationmgt/"
	PermTenants = "/permission/protected/manage/modify/tenants"
)

// Desk is the directory of one tenant as one caller may use it: nobody touches
// a user or gives a role above their own. The caller's tenant is the only one
// it sees.
type Desk struct {
	d *Directory
	a *apim.Actor
	t apim.TenantID
}

// Desk is the directory as the actor may use it.
func (d *Directory) Desk(a *apim.Actor) *Desk { return &Desk{d: d, a: a, t: a.Tenant} }

// Tenant is the tenant of the caller.
func (k *Desk) Tenant() apim.TenantID { return k.t }

// Actor is the caller.
func (k *Desk) Actor() *apim.Actor { return k.a }

// Permitted reports whether a role of the caller carries the permission and,
// when the caller came with a token, whether that carries apim:admin or one of
// the scopes. A scope alone opens nothing: whoever asks for it is given it.
func (k *Desk) Permitted(ctx context.Context, permission string, scopes ...string) (bool, error) {
	if k.a.Client != "" && !k.a.HasScope("apim:admin") && !slices.ContainsFunc(scopes, k.a.HasScope) {
		return false, nil
	}
	return k.d.Permitted(ctx, k.t, k.a.Roles, permission)
}

// all reports whether the caller may do everything in the tenant.
func (k *Desk) all(ctx context.Context) (bool, error) {
	return k.d.Permitted(ctx, k.t, k.a.Roles, PermAll)
}

// below refuses roles that the caller neither has nor, having every
// permission, is above of.
func (k *Desk) below(ctx context.Context, roles []string) error {
	all, err := k.all(ctx)
	if err != nil || all {
		return err
	}
	for _, r := range roles {
		if !slices.ContainsFunc(k.a.Roles, func(own string) bool { return strings.EqualFold(own, r) }) {
			return fault.NotPermitted.Withf("only who has the role %s, or an administrator, may do this to it and its members", r)
		}
	}
	return nil
}

// Bounds of what is stored of a user besides the password.
const (
	maxClaimURI   = 512
	maxClaimValue = 32 << 10
	maxClaimsSize = 128 << 10
)

// CheckClaims reports claims that cannot be stored as fault.BadRequest.
func CheckClaims(claims map[string]string) error {
	size := 0
	for uri, v := range claims {
		switch {
		case uri == "" || len(uri) > maxClaimURI:
			return fault.BadRequest.With("the name of a claim is empty or too long")
		case len(v) > maxClaimValue:
			return fault.BadRequest.Withf("the value of the claim %s is longer than %d bytes", uri, maxClaimValue)
		}
		size += len(uri) + len(v)
	}
	if len(claims) > maxClaims || size > maxClaimsSize {
		return fault.BadRequest.With("too many claims")
	}
	return nil
}

// Create adds a user.
func (k *Desk) Create(ctx context.Context, n NewUser) (*apim.User, error) {
	if err := errors.Join(CheckClaims(n.Claims), k.below(ctx, explicit(n.Roles))); err != nil {
		return nil, err
	}
	if _, err := k.d.User(ctx, k.t, n.Name); err == nil {
		return nil, fault.Exists.Withf("there is a user %s already", n.Name)
	} else if !errors.Is(err, &fault.Missing) {
		return nil, err
	}
	return k.d.CreateUser(ctx, k.t, n)
}

// explicit are roles without the one that everybody has.
func explicit(roles []string) []string {
	return slices.DeleteFunc(slices.Clone(roles), func(r string) bool { return strings.EqualFold(r, EveryoneRole) })
}

// errOwn keeps callers from locking themselves out.
var errOwn = fault.BadRequest.With("you cannot lock or delete yourself, or take your own roles away")

// Update changes a user; see Directory.UpdateUser.
func (k *Desk) Update(ctx context.Context, id apim.UserID, change func(*apim.User) error) error {
	return k.d.UpdateUser(ctx, k.t, id, func(u *apim.User) error {
		if err := k.below(ctx, u.Roles); err != nil {
			return err
		}
		was, locked := slices.Clone(u.Roles), u.Locked
		if err := change(u); err != nil {
			return err
		}
		if u.ID == k.a.UserID {
			lost := slices.ContainsFunc(was, func(r string) bool { return !slices.Contains(u.Roles, r) })
			if lost || u.Locked && !locked {
				return errOwn
			}
		}
		given := slices.DeleteFunc(explicit(u.Roles), func(r string) bool { return slices.Contains(was, r) })
		if len(u.Roles) > maxRoles {
			return fault.BadRequest.With("too many roles")
		}
		return errors.Join(CheckClaims(u.Claims), k.below(ctx, given))
	})
}

// Delete removes a user and ends all of the user's tokens.
func (k *Desk) Delete(ctx context.Context, id apim.UserID) error {
	if id == k.a.UserID {
		return errOwn
	}
	u, err := k.d.UserByID(ctx, apim.In(k.t), id)
	if err != nil {
		return err
	}
	if err := k.below(ctx, u.Roles); err != nil {
		return err
	}
	return k.d.DeleteUser(ctx, k.t, id)
}

// SetPassword resets a user's password and ends all of the user's tokens.
func (k *Desk) SetPassword(ctx context.Context, id apim.UserID, password string) error {
	u, err := k.d.UserByID(ctx, apim.In(k.t), id)
	if err != nil {
		return err
	}
	if err := k.below(ctx, u.Roles); err != nil {
		return err
	}
	return k.d.SetPassword(ctx, k.t, u.Name, password)
}

// CheckPassword reports a password that nobody may have here as fault.BadRequest.
func (k *Desk) CheckPassword(password string) error {
	return errors.Join(checkPassword(password), k.d.passwordFollows(password))
}

// SetRoles gives a user roles and takes others away.
func (k *Desk) SetRoles(ctx context.Context, id apim.UserID, add, remove []string) error {
	return k.Update(ctx, id, func(u *apim.User) error {
		if err := k.below(ctx, remove); err != nil {
			return err
		}
		u.Roles = slices.DeleteFunc(u.Roles, func(r string) bool {
			return slices.ContainsFunc(remove, func(s string) bool { return strings.EqualFold(r, s) })
		})
		for _, r := range explicit(add) {
			if !slices.ContainsFunc(u.Roles, func(s string) bool { return strings.EqualFold(r, s) }) {
				u.Roles = append(u.Roles, r)
			}
		}
		return nil
	})
}

// maxPermissions bounds the permissions of a role.
const maxPermissions = 1000

// checkPermissions refuses permissions that the caller does not have.
func (k *Desk) checkPermissions(ctx context.Context, permissions []string) error {
	if len(permissions) > maxPermissions {
		return fault.BadRequest.With("too many permissions")
	}
	for _, p := range permissions {
		if !strings.HasPrefix(p, "/") || len(p) > maxName {
			return fault.BadRequest.Withf("%.64q is not a permission such as %s", p, PermLogin)
		}
		ok, err := k.d.Permitted(ctx, k.t, k.a.Roles, p)
		if err != nil {
			return err
		}
		if !ok {
			return fault.NotPermitted.Withf("you do not have the permission %s yourself", p)
		}
	}
	return nil
}

// CreateRole adds a role with its members, all or nothing.
func (k *Desk) CreateRole(ctx context.Context, name string, permissions []string, members []apim.UserID) (*apim.Role, error) {
	if err := k.checkPermissions(ctx, permissions); err != nil {
		return nil, err
	}
	if len(members) > maxMembers {
		return nil, fault.BadRequest.Withf("more than %d members at once", maxMembers)
	}
	if strings.EqualFold(name, EveryoneRole) {
		return nil, fault.Exists.Withf("there is a role %s already", name)
	}
	var r *apim.Role
	return r, k.d.o.InTx(ctx, func(ctx context.Context) (err error) {
		if r, err = k.d.CreateRole(ctx, k.t, name, permissions); errors.Is(err, &fault.Exists) {
			return fault.Exists.Withf("there is a role %s already", name)
		} else if err != nil {
			return err
		}
		for _, id := range members {
			if err := k.join(ctx, id, r.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxMembers bounds how many members one call may add or take away.
const maxMembers = 10_000

// join adds a user to a role that was made a moment ago, which nobody has yet.
func (k *Desk) join(ctx context.Context, id apim.UserID, role string) error {
	err := k.d.UpdateUser(ctx, k.t, id, func(u *apim.User) error {
		if err := k.below(ctx, u.Roles); err != nil {
			return err
		}
		if !slices.Contains(u.Roles, role) {
			u.Roles = append(u.Roles, role)
		}
		return nil
	})
	if errors.Is(err, &fault.Missing) {
		return fault.BadRequest.Withf("there is no user %.64q", id)
	}
	return err
}

// SetMembers adds users to a role and takes others out of it, all or nothing.
func (k *Desk) SetMembers(ctx context.Context, role string, add, remove []apim.UserID) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	if len(add)+len(remove) > maxMembers {
		return fault.BadRequest.Withf("more than %d members at once", maxMembers)
	}
	if strings.EqualFold(role, EveryoneRole) {
		return fault.BadRequest.Withf("every user has %s", EveryoneRole)
	}
	return k.d.o.InTx(ctx, func(ctx context.Context) error {
		for _, id := range remove {
			if err := k.SetRoles(ctx, id, nil, []string{role}); err != nil && !errors.Is(err, &fault.Missing) {
				return err
			}
		}
		for _, id := range add {
			err := k.SetRoles(ctx, id, []string{role}, nil)
			if errors.Is(err, &fault.Missing) {
				return fault.BadRequest.Withf("there is no user %.64q", id)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// SetPermissions replaces the permissions of a role.
func (k *Desk) SetPermissions(ctx context.Context, id apim.RoleID, permissions []string) error {
	if err := k.checkPermissions(ctx, permissions); err != nil {
		return err
	}
	return k.updateRole(ctx, id, func(r *apim.Role) error {
		if slices.Contains(r.Permissions, PermAll) {
			return fault.BadRequest.With("the permissions of the administrator's role cannot be changed")
		}
		r.Permissions = slices.Clone(permissions)
		return nil
	})
}

// SetExternal notes the id that a role has where it is managed.
func (k *Desk) SetExternal(ctx context.Context, id apim.RoleID, external string) error {
	if len(external) > maxName {
		return fault.BadRequest.Withf("the external id is longer than %d bytes", maxName)
	}
	return k.updateRole(ctx, id, func(r *apim.Role) error {
		r.External = external
		return nil
	})
}

func (k *Desk) updateRole(ctx context.Context, id apim.RoleID, change func(*apim.Role) error) error {
	return retry(func() error {
		r, err := k.d.o.Roles.Get(ctx, apim.In(k.t), id)
		if err != nil {
			return fmt.Errorf("update role: %w", err)
		}
		if err := k.below(ctx, []string{r.Name}); err != nil {
			return err
		}
		if err := change(r); err != nil {
			return err
		}
		return k.d.o.Roles.Update(ctx, apim.In(k.t), r)
	})
}

// DeleteRole removes a role and takes it from its members.
func (k *Desk) DeleteRole(ctx context.Context, name string) error {
	if err := k.below(ctx, []string{name}); err != nil {
		return err
	}
	return k.d.DeleteRole(ctx, k.t, name)
}

// RoleByID finds a role; fault.Missing when there is none.
func (d *Directory) RoleByID(ctx context.Context, s apim.Scope, id apim.RoleID) (*apim.Role, error) {
	return d.o.Roles.Get(ctx, s, id)
}

// Claims of the original that are not stored but tell of the account.
const (
	ClaimLocked   = "http://wso2.org/claims/identity/accountLocked"
	ClaimDisabled = "http://wso2.org/claims/identity/accountDisabled"
	ClaimRole     = "http://wso2.org/claims/role"
	ClaimUser     = "http://wso2.org/claims/username"
	ClaimUserID   = "http://wso2.org/claims/userid"
	ClaimEmail    = "http://wso2.org/claims/emailaddress"
)

// SetClaims changes claims of u; an empty value removes one. Locking the
// account is a claim too; what the account itself says cannot be set.
func SetClaims(u *apim.User, claims map[string]string) error {
	next := maps.Clone(u.Claims)
	if next == nil {
		next = map[string]string{}
	}
	for uri, v := range claims {
		switch uri {
		case ClaimLocked, ClaimDisabled:
			switch strings.ToLower(v) {
			case "true":
				u.Locked = true
			case "false", "":
				u.Locked = false
			default:
				return fault.BadRequest.Withf("%s is true or false", uri)
			}
		case ClaimRole, ClaimUser, ClaimUserID:
			return fault.BadRequest.Withf("the claim %s cannot be set", uri)
		default:
			if next[uri] = v; v == "" {
				delete(next, uri)
			}
		}
	}
	u.Claims = next
	return nil
}

// Claim is the value of a claim of u, and whether u has it.
func Claim(u *apim.User, uri string) (string, bool) {
	switch uri {
	case ClaimLocked, ClaimDisabled:
		return fmt.Sprint(u.Locked), true
	case ClaimRole:
		return strings.Join(RolesOf(u), ","), true
	case ClaimUser:
		return u.Name, true
	case ClaimUserID:
		return string(u.ID), true
	}
	v, ok := u.Claims[uri]
	return v, ok
}
