package app

import (
	"net/http"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/rest"
)

// TenantView is a tenant as /tenants shows it.
type TenantView struct {
	Domain string `json:"domain"`
	Admin  string `json:"admin"` // signs in as admin@domain
	Email  string `json:"email"`
	Active bool   `json:"active"`
}

type tenantRequest struct {
	Domain    string `json:"domain"`
	Admin     string `json:"admin"`
	Password  string `json:"password"`
	Email     string `json:"email"`
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
}

type tenantChange struct {
	Active *bool `json:"active"`
}

func (a *App) mountTenants() {
	if a.people == nil {
		return
	}
	a.own("GET "+ownBase+"/tenants", a.listTenants)
	a.own("POST "+ownBase+"/tenants", a.createTenant)
	a.own("PATCH "+ownBase+"/tenants/{domain}", a.changeTenant)
}

func viewTenant(t *apim.Tenant) TenantView {
	return TenantView{Domain: string(t.Domain), Admin: t.Admin, Email: t.Email, Active: t.Active}
}

func (a *App) listTenants(w http.ResponseWriter, r *http.Request) error {
	return list(w, r, "domain", viewTenant, a.people.directory.Tenants)
}

func (a *App) createTenant(w http.ResponseWriter, r *http.Request) error {
	var in tenantRequest
	if err := decodeStrict(r, &in); err != nil {
		return err
	}
	t, err := a.people.directory.CreateTenant(r.Context(), identity.NewTenant{
		Domain: in.Domain, Admin: in.Admin, Password: in.Password, Email: in.Email, FirstName: in.FirstName, LastName: in.LastName,
	})
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusCreated, viewTenant(t))
}

func (a *App) changeTenant(w http.ResponseWriter, r *http.Request) error {
	var in tenantChange
	if err := decodeStrict(r, &in); err != nil {
		return err
	}
	domain := apim.TenantID(r.PathValue("domain"))
	if err := a.tenantExists(r, domain); err != nil {
		return err
	}
	if in.Active == nil {
		return fault.BadRequest.With("nothing to change: want active")
	}
	if err := a.people.directory.SetActive(r.Context(), domain, *in.Active); err != nil {
		return err
	}
	t, err := a.people.directory.Tenant(r.Context(), domain)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, viewTenant(t))
}
