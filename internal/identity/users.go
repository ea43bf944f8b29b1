package identity

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// NewUser is what it takes to create a user.
type NewUser struct {
	Name     string // without tenant; a store prefix such as SECONDARY/ is part of it
	Password string
	Roles    []string
	Claims   map[string]string // claim URI to value
}

// Bounds of what a user may be made of.
const (
	maxName   = 255 // bytes
	maxRoles  = 500
	maxClaims = 200
)

// CheckName reports a user or role name that cannot be stored as fault.BadRequest.
func CheckName(name string) error {
	switch {
	case name == "" || strings.TrimSpace(name) != name:
		return fault.BadRequest.With("the name must not be blank or begin or end with white space")
	case len(name) > maxName:
		return fault.BadRequest.Withf("the name is longer than %d bytes", maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fault.BadRequest.With("the name has characters that are not allowed")
	}
	return nil
}

func checkPassword(password string) error {
	switch {
	case password == "":
		return fault.BadRequest.With("the password must not be empty")
	case len(password) > maxPassword:
		return fault.BadRequest.Withf("the password is longer than %d bytes", maxPassword)
	}
	return nil
}

// follows reports what does not match the installation's pattern as a whole.
func follows(pattern *regexp.Regexp, s, what string) error {
	if pattern == nil {
		return nil
	}
	if at := pattern.FindStringIndex(s); at == nil || at[0] != 0 || at[1] != len(s) {
		return fault.BadRequest.Withf("the %s does not match the pattern %s", what, pattern)
	}
	return nil
}

func (d *Directory) passwordFollows(password string) error {
	return follows(d.o.Passwords, password, "password")
}

// CreateUser creates a user. Roles that do not exist are fault.RolesInvalid, a
// taken name is fault.Exists.
func (d *Directory) CreateUser(ctx context.Context, t apim.TenantID, n NewUser) (*apim.User, error) {
	if err := errors.Join(CheckName(n.Name), checkPassword(n.Password)); err != nil {
		return nil, err
	}
	if err := errors.Join(follows(d.o.Names, n.Name, "user name"), d.passwordFollows(n.Password)); err != nil {
		return nil, err
	}
	if len(n.Roles) > maxRoles || len(n.Claims) > maxClaims {
		return nil, fault.BadRequest.With("too many roles or claims")
	}
	hash, err := d.hasher.hash(ctx, n.Password)
	if err != nil {
		return nil, err
	}
	u := &apim.User{
		ID:         apim.UserID(uuid.NewString()),
		Name:       n.Name,
		Password:   hash,
		Claims:     maps.Clone(n.Claims),
		PasswordAt: d.o.Now(),
	}
	u.Tenant = t
	return u, d.o.InTx(ctx, func(ctx context.Context) error {
		if u.Roles, err = d.canonicalRoles(ctx, t, n.Roles); err != nil {
			return err
		}
		if err := d.o.Users.Create(ctx, apim.In(t), u); err != nil {
			return fmt.Errorf("create user: %w", err)
		}
		return nil
	})
}

// User finds a user by name, ignoring case; fault.Missing when there is none.
func (d *Directory) User(ctx context.Context, t apim.TenantID, name string) (*apim.User, error) {
	return d.o.Users.First(ctx, apim.In(t), apim.Query{Where: []apim.Cond{{Col: "name", Op: apim.EqFold, Value: name}}})
}

// UserByID finds a user; fault.Missing when there is none.
func (d *Directory) UserByID(ctx context.Context, s apim.Scope, id apim.UserID) (*apim.User, error) {
	return d.o.Users.Get(ctx, s, id)
}

// Users lists users.
func (d *Directory) Users(ctx context.Context, t apim.TenantID, q apim.Query) (apim.Page[apim.User], error) {
	return d.o.Users.List(ctx, apim.In(t), q)
}

// UpdateUser changes a user and retries lost races. A change that locks the
// user ends all of the user's tokens.
func (d *Directory) UpdateUser(ctx context.Context, t apim.TenantID, id apim.UserID, change func(*apim.User) error) error {
	return retry(func() error {
		return d.o.InTx(ctx, func(ctx context.Context) error {
			u, err := d.o.Users.Get(ctx, apim.In(t), id)
			if err != nil {
				return err
			}
			locked := u.Locked
			if err := change(u); err != nil {
				return err
			}
			if u.Roles, err = d.canonicalRoles(ctx, t, u.Roles); err != nil {
				return err
			}
			if err := d.o.Users.Update(ctx, apim.In(t), u); err != nil {
				return err
			}
			if u.Locked && !locked {
				return d.endTokens(ctx, u)
			}
			return nil
		})
	})
}

// DeleteUser removes a user and ends all of the user's tokens.
func (d *Directory) DeleteUser(ctx context.Context, t apim.TenantID, id apim.UserID) error {
	return d.o.InTx(ctx, func(ctx context.Context) error {
		u, err := d.o.Users.Get(ctx, apim.In(t), id)
		if err != nil {
			return err
		}
		if err := d.o.Users.Delete(ctx, apim.In(t), id); err != nil {
			return err
		}
		return d.endTokens(ctx, u)
	})
}

// SetPassword is an administrator's reset: it ends all of the user's tokens.
func (d *Directory) SetPassword(ctx context.Context, t apim.TenantID, name, password string) error {
	return d.setPassword(ctx, t, name, password, true)
}

// ChangePassword is a user's own change: tokens stay. A wrong current password
// is fault.PasswordCurrent and counts as a failed login, an impossible new one
// is fault.PasswordPattern.
func (d *Directory) ChangePassword(ctx context.Context, a *apim.Actor, current, next string) error {
	u, err := d.UserByID(ctx, a.Scope(), a.UserID)
	if err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	if _, err := d.authenticate(ctx, u.Name, u.Tenant, current, a.Addr); err != nil {
		if errors.Is(err, &fault.NotAuthorized) || errors.Is(err, &fault.LoginDelayed) {
			return fault.PasswordCurrent.Because(err)
		}
		return err
	}
	if err := errors.Join(checkPassword(next), d.passwordFollows(next)); err != nil {
		return fault.PasswordPattern.Because(err)
	}
	return d.setPassword(ctx, u.Tenant, u.Name, next, false)
}

func (d *Directory) setPassword(ctx context.Context, t apim.TenantID, name, password string, reset bool) error {
	if err := errors.Join(checkPassword(password), d.passwordFollows(password)); err != nil {
		return err
	}
	hash, err := d.hasher.hash(ctx, password)
	if err != nil {
		return err
	}
	return retry(func() error {
		return d.o.InTx(ctx, func(ctx context.Context) error {
			u, err := d.User(ctx, t, name)
			if err != nil {
				return fmt.Errorf("set password: %w", err)
			}
			u.Password, u.PasswordAt = hash, d.o.Now()
			if err := d.o.Users.Update(ctx, apim.In(t), u); err != nil {
				return fmt.Errorf("set password: %w", err)
			}
			if !reset {
				return nil
			}
			return d.endTokens(ctx, u)
		})
	})
}

// endTokens revokes everything issued to the user so far.
func (d *Directory) endTokens(ctx context.Context, u *apim.User) error {
	now := d.o.Now()
	r := &apim.Revocation{
		ID:        "sub/" + string(u.ID),
		Tenant:    u.Tenant,
		Entity:    string(u.ID),
		NotBefore: now,
		Expires:   now.Add(d.o.TokenLife),
	}
	if err := d.o.Tokens.Revoke(ctx, r); err != nil {
		return fmt.Errorf("revoke tokens of user: %w", err)
	}
	if err := d.o.Tokens.DropRefreshOf(ctx, apim.In(u.Tenant), u.ID, ""); err != nil {
		return fmt.Errorf("drop refresh tokens of user: %w", err)
	}
	return nil
}

// canonicalRoles gives roles the spelling they were created with and drops
// repetitions; an unknown one is fault.RolesInvalid.
func (d *Directory) canonicalRoles(ctx context.Context, t apim.TenantID, roles []string) ([]string, error) {
	var out []string
	for _, r := range roles {
		if strings.EqualFold(r, EveryoneRole) {
			continue // implicit
		}
		role, err := d.Role(ctx, t, r)
		if errors.Is(err, &fault.Missing) {
			return nil, fault.RolesInvalid.With(r)
		}
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, role.Name) {
			out = append(out, role.Name)
		}
	}
	return out, nil
}
