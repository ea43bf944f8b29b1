package identity

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// selfSignup is the role of everybody who signed up.
const selfSignup = "Internal/selfsignup"

// SignUp adds a user who registers in person, with the roles that the tenant's
// configuration gives such users (reference: keymanager §10). A name with @ is
// fault.BadRequest: the tenant is never part of it.
func (d *Directory) SignUp(ctx context.Context, t apim.TenantID, n NewUser) (*apim.User, error) {
	if strings.Contains(n.Name, "@") && !d.o.EmailNames {
		return nil, fault.BadRequest.With("the user name must not name a tenant")
	}
	if strings.Contains(n.Name, "/") {
		return nil, fault.BadRequest.With("the user name must not name a user store")
	}
	for _, uri := range []string{ClaimLocked, ClaimDisabled, ClaimRole, ClaimUser, ClaimUserID} {
		if _, ok := n.Claims[uri]; ok {
			return nil, fault.BadRequest.Withf("the claim %s cannot be set", uri)
		}
	}
	if err := CheckClaims(n.Claims); err != nil {
		return nil, err
	}
	roles, enabled, err := d.signUp(ctx, t)
	if err != nil {
		return nil, err
	}
	if !enabled {
		return nil, fault.NotPermitted.With("signing up is disabled")
	}
	n.Roles = append(roles, selfSignup)
	return d.CreateUser(ctx, t, n)
}

// signUp reads the tenant's configuration of self sign-up: the roles it gives,
// of which administrators' are left out.
func (d *Directory) signUp(ctx context.Context, t apim.TenantID) (roles []string, enabled bool, err error) {
	doc, err := d.Conf(ctx, t)
	if err != nil {
		return nil, false, err
	}
	var c struct {
		SelfSignUp *struct {
			EnableSignup any
			SignUpRoles  []string
		}
	}
	if err := json.Unmarshal([]byte(doc), &c); err != nil {
		return nil, false, fmt.Errorf("read configuration of sign-up: %w", err)
	}
	if c.SelfSignUp == nil {
		return nil, false, nil
	}
	if e := c.SelfSignUp.EnableSignup; e != nil && !strings.EqualFold(fmt.Sprint(e), "true") {
		return nil, false, nil
	}
	for _, r := range c.SelfSignUp.SignUpRoles {
		ok, err := d.RoleExists(ctx, t, r)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			continue
		}
		admin, err := d.Permitted(ctx, t, []string{r}, PermAll)
		if err != nil {
			return nil, false, err
		}
		if !admin {
			roles = append(roles, r)
		}
	}
	return roles, true, nil
}
