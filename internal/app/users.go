package app

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/rest"
)

// UserView is a user as /users shows it. A name of another tenant carries it:
// alice@example.org.
type UserView struct {
	Name    string    `json:"name"`
	Roles   []string  `json:"roles"` // without the implicit Internal/everyone
	Locked  bool      `json:"locked"`
	Created time.Time `json:"created"`
}

type userRequest struct {
	Name     string   `json:"name"`
	Password string   `json:"password"`
	Roles    []string `json:"roles"`
}

// userChange holds what to change; an absent member stays as it is.
type userChange struct {
	Password *string   `json:"password"` // ends all tokens of the user
	Roles    *[]string `json:"roles"`
	Locked   *bool     `json:"locked"` // locking ends all tokens of the user
}

// mountUsers serves the users of all tenants to the platform's administrators:
// NAME is a user of the platform's own tenant, NAME@DOMAIN one of another.
func (a *App) mountUsers() {
	if a.people == nil {
		return
	}
	a.own("GET "+ownBase+"/users", a.listUsers)
	a.own("POST "+ownBase+"/users", a.createUser)
	a.own("GET "+ownBase+"/users/{name}", a.getUser)
	a.own("PATCH "+ownBase+"/users/{name}", a.changeUser)
	a.own("DELETE "+ownBase+"/users/{name}", a.deleteUser)
	a.own("GET "+ownBase+"/roles", a.listRoles)
}

func viewUser(u *apim.User) UserView {
	v := UserView{Name: u.Name, Roles: u.Roles, Locked: u.Locked, Created: u.CreatedAt.UTC()}
	if u.Tenant != apim.SuperTenant {
		v.Name += "@" + string(u.Tenant)
	}
	if v.Roles == nil {
		v.Roles = []string{}
	}
	return v
}

// tenantParam is the tenant that ?tenant= names, the platform's own by default.
func (a *App) tenantParam(r *http.Request) (apim.TenantID, error) {
	domain := apim.TenantID(r.URL.Query().Get("tenant"))
	if domain == "" {
		return apim.SuperTenant, nil
	}
	return domain, a.tenantExists(r, domain)
}

func (a *App) tenantExists(r *http.Request, domain apim.TenantID) error {
	if domain == apim.SuperTenant {
		return nil
	}
	if _, err := a.people.directory.Tenant(r.Context(), domain); err != nil {
		if isMissing(err) {
			return fault.Missing.Withf("there is no tenant %s", domain)
		}
		return err
	}
	return nil
}

// qualified splits alice@example.org when example.org is a tenant; any other
// name belongs to the platform's own tenant as it is.
func (a *App) qualified(r *http.Request, name string) (string, apim.TenantID, error) {
	i := strings.LastIndexByte(name, '@')
	if i <= 0 {
		return name, apim.SuperTenant, nil
	}
	domain := apim.TenantID(name[i+1:])
	err := a.tenantExists(r, domain)
	if isMissing(err) {
		return name, apim.SuperTenant, nil
	}
	return name[:i], domain, err
}

func (a *App) namedUser(r *http.Request) (*apim.User, error) {
	name, t, err := a.qualified(r, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	u, err := a.people.directory.User(r.Context(), t, name)
	if isMissing(err) {
		return nil, fault.Missing.Withf("there is no user %s", r.PathValue("name"))
	}
	return u, err
}

func (a *App) listUsers(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenantParam(r)
	if err != nil {
		return err
	}
	return list(w, r, "name", viewUser, func(ctx context.Context, q apim.Query) (apim.Page[apim.User], error) {
		return a.people.directory.Users(ctx, t, q)
	})
}

func (a *App) createUser(w http.ResponseWriter, r *http.Request) error {
	var in userRequest
	if err := decodeStrict(r, &in); err != nil {
		return err
	}
	name, t, err := a.qualified(r, in.Name)
	if err != nil {
		return err
	}
	if _, err := a.people.directory.User(r.Context(), t, name); err == nil {
		return fault.Exists.Withf("there is a user %s already", in.Name)
	} else if !isMissing(err) {
		return err
	}
	u, err := a.people.directory.CreateUser(r.Context(), t, identity.NewUser{Name: name, Password: in.Password, Roles: in.Roles})
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusCreated, viewUser(u))
}

func (a *App) getUser(w http.ResponseWriter, r *http.Request) error {
	u, err := a.namedUser(r)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, viewUser(u))
}

// errSelf keeps administrators from locking themselves out.
var errSelf = fault.BadRequest.With("administrators cannot lock or delete themselves, or take their own role away")

func (a *App) changeUser(w http.ResponseWriter, r *http.Request) error {
	var in userChange
	if err := decodeStrict(r, &in); err != nil {
		return err
	}
	u, err := a.namedUser(r)
	if err != nil {
		return err
	}
	self := u.ID == apim.ActorFrom(r.Context()).UserID
	if self && (in.Roles != nil || in.Locked != nil && *in.Locked) {
		return errSelf
	}
	if in.Roles != nil || in.Locked != nil {
		err := a.people.directory.UpdateUser(r.Context(), u.Tenant, u.ID, func(u *apim.User) error {
			if in.Roles != nil {
				u.Roles = *in.Roles
			}
			if in.Locked != nil {
				u.Locked = *in.Locked
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if in.Password != nil {
		if err := a.people.directory.SetPassword(r.Context(), u.Tenant, u.Name, *in.Password); err != nil {
			return err
		}
	}
	return a.getUser(w, r)
}

func (a *App) deleteUser(w http.ResponseWriter, r *http.Request) error {
	u, err := a.namedUser(r)
	if err != nil {
		return err
	}
	if u.ID == apim.ActorFrom(r.Context()).UserID {
		return errSelf
	}
	if err := a.people.directory.DeleteUser(r.Context(), u.Tenant, u.ID); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusNoContent)
}

func (a *App) listRoles(w http.ResponseWriter, r *http.Request) error {
	t, err := a.tenantParam(r)
	if err != nil {
		return err
	}
	nameOf := func(role *apim.Role) string { return role.Name }
	return list(w, r, "name", nameOf, func(ctx context.Context, q apim.Query) (apim.Page[apim.Role], error) {
		return a.people.directory.Roles(ctx, t, q)
	})
}
