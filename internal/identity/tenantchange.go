package identity

import (
	"context"
	"fmt"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// CheckDomain reports what cannot be the domain of a tenant as fault.BadRequest.
func CheckDomain(domain string) error {
	if len(domain) > maxName || !domainPattern.MatchString(domain) {
		return fault.BadRequest.Withf("The tenant domain %.255s contains one or more illegal characters. The valid characters are lowercase letters, numbers, '.', '-' and '_'.", domain)
	}
	return nil
}

// TenantChange is what of a tenant may change; an empty member stays as it is.
type TenantChange struct {
	Email, FirstName, LastName string
	AdminPassword              string // of the tenant's administrator; ends all their tokens
}

// UpdateTenant changes a tenant; fault.Missing when there is none.
func (d *Directory) UpdateTenant(ctx context.Context, t apim.TenantID, c TenantChange) error {
	if c.Email != "" && !emailPattern.MatchString(c.Email) {
		return fault.BadRequest.With("Invalid email is provided.")
	}
	if len(c.Email)+len(c.FirstName)+len(c.LastName) > 3*maxName {
		return fault.BadRequest.With("the e-mail address or a name is too long")
	}
	var admin string
	err := retry(func() error {
		v, err := d.o.Tenants.Get(ctx, apim.In(t), t)
		if err != nil {
			return fmt.Errorf("update tenant: %w", err)
		}
		admin = v.Admin
		for to, from := range map[*string]string{&v.Email: c.Email, &v.FirstName: c.FirstName, &v.LastName: c.LastName} {
			if from != "" {
				*to = from
			}
		}
		return d.o.Tenants.Update(ctx, apim.In(t), v)
	})
	if err != nil || c.AdminPassword == "" {
		return err
	}
	return d.SetPassword(ctx, t, admin, c.AdminPassword)
}
