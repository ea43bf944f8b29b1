package identity

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// superNumber is the original's numeric id of carbon.super.
const superNumber = -1234

// BootstrapOptions are the facts of the first administrator.
type BootstrapOptions struct {
	AdminUser     string // default admin
	AdminPassword string // needed while the user does not exist yet
	AdminRole     string // default admin
	Email         string
}

// Bootstrap makes what an empty installation needs: tenant carbon.super with
// its configuration, roles and administrator. It may run at every start and
// from several processes at once; what exists is left as it is.
func (d *Directory) Bootstrap(ctx context.Context, o BootstrapOptions) error {
	if o.AdminUser == "" {
		o.AdminUser = "admin"
	}
	if o.AdminRole == "" {
		o.AdminRole = AdminRole
	}
	t := &apim.Tenant{Domain: apim.SuperTenant, Number: superNumber, Admin: o.AdminUser, Email: o.Email, Active: true}
	t.Tenant = apim.SuperTenant
	return ignoreRace(func() error { return d.furnish(ctx, t, o.AdminRole, o.AdminPassword) })
}

// ignoreRace runs fn again when another process created the same rows first;
// the second run finds them.
func ignoreRace(fn func() error) error {
	var err error
	for range 5 {
		if err = fn(); !errors.Is(err, &fault.Exists) && !errors.Is(err, &fault.PreconditionBad) {
			return err
		}
	}
	return err
}

// furnish makes whatever the tenant lacks, in one transaction.
func (d *Directory) furnish(ctx context.Context, t *apim.Tenant, adminRole, password string) error {
	s := apim.In(t.Domain)
	var hash apim.Digest
	if _, err := d.User(ctx, t.Domain, t.Admin); errors.Is(err, &fault.Missing) {
		if err := errors.Join(CheckName(t.Admin), checkPassword(password)); err != nil {
			return fmt.Errorf("create administrator %q: %w", t.Admin, err)
		}
		if hash, err = d.hasher.hash(ctx, password); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("look for administrator: %w", err)
	}
	return d.o.InTx(ctx, func(ctx context.Context) error {
		fresh := false
		if _, err := d.o.Tenants.Get(ctx, s, t.Domain); errors.Is(err, &fault.Missing) {
			fresh = true
			if err := d.o.Tenants.Create(ctx, s, t); err != nil {
				return fmt.Errorf("create tenant: %w", err)
			}
		} else if err != nil {
			return fmt.Errorf("look for tenant: %w", err)
		}
		if _, err := d.o.Confs.Get(ctx, s, t.Domain); errors.Is(err, &fault.Missing) {
			c := &apim.TenantConf{ID: t.Domain, JSON: defaultConf(adminRole)}
			c.Tenant = t.Domain
			if err := d.o.Confs.Create(ctx, s, c); err != nil {
				return fmt.Errorf("create tenant configuration: %w", err)
			}
		} else if err != nil {
			return fmt.Errorf("look for tenant configuration: %w", err)
		}
		var all []string
		for _, r := range defaultRoles {
			if r.Name == AdminRole {
				r.Name = adminRole
			}
			if r.Name != "Internal/selfsignup" {
				all = append(all, r.Name)
			}
			if ok, err := d.RoleExists(ctx, t.Domain, r.Name); err != nil {
				return fmt.Errorf("look for role: %w", err)
			} else if ok {
				continue
			}
			r.ID = apim.RoleID(uuid.NewString())
			r.Tenant = t.Domain
			if err := d.o.Roles.Create(ctx, s, &r); err != nil {
				return fmt.Errorf("create role %s: %w", r.Name, err)
			}
		}
		if hash != "" {
			u := &apim.User{ID: apim.UserID(uuid.NewString()), Name: t.Admin, Password: hash, Roles: all, PasswordAt: d.o.Now()}
			u.Tenant = t.Domain
			if t.Email != "" {
				u.Claims = map[string]string{"http://wso2.org/claims/emailaddress": t.Email}
			}
			if err := d.o.Users.Create(ctx, s, u); err != nil {
				return fmt.Errorf("create administrator: %w", err)
			}
		}
		if fresh && d.o.OnTenant != nil {
			return d.o.OnTenant(ctx, t)
		}
		return nil
	})
}

var (
	domainPattern = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]*$`)
	emailPattern  = regexp.MustCompile(`^[^@]+@[^@.]+\.[^@]*\w\w$`)
)

// NewTenant is what it takes to create a tenant.
type NewTenant struct {
	Domain, Admin, Password, Email, FirstName, LastName string
	Inactive                                            bool
}

// CreateTenant creates a tenant with its configuration, roles and
// administrator. A bad e-mail address or domain is fault.BadRequest (checked
// in this order), a taken domain fault.Exists.
func (d *Directory) CreateTenant(ctx context.Context, n NewTenant) (*apim.Tenant, error) {
	switch {
	case !emailPattern.MatchString(n.Email):
		return nil, fault.BadRequest.With("Invalid email is provided.")
	case len(n.Domain) > maxName || !domainPattern.MatchString(n.Domain):
		return nil, fault.BadRequest.Withf("The tenant domain %s contains one or more illegal characters. The valid characters are lowercase letters, numbers, '.', '-' and '_'.", n.Domain)
	}
	if err := errors.Join(CheckName(n.Admin), checkPassword(n.Password)); err != nil {
		return nil, err
	}
	taken := fault.Exists.Withf("A tenant with same domain already exist. Please use a different domain name. tenant domain: %s.", n.Domain)
	var err error
	// Two tenants made at once may take the same number: the loser takes the next.
	for range 8 {
		if _, err := d.o.Tenants.Get(ctx, apim.In(apim.TenantID(n.Domain)), apim.TenantID(n.Domain)); err == nil {
			return nil, taken
		} else if !errors.Is(err, &fault.Missing) {
			return nil, fmt.Errorf("create tenant: %w", err)
		}
		last, lerr := d.o.Tenants.First(ctx, apim.Across(apim.SuperAdmin), apim.Query{Sort: "number", Desc: true})
		if lerr != nil && !errors.Is(lerr, &fault.Missing) {
			return nil, fmt.Errorf("create tenant: %w", lerr)
		}
		t := &apim.Tenant{
			Domain: apim.TenantID(n.Domain), Admin: n.Admin, Email: n.Email,
			FirstName: n.FirstName, LastName: n.LastName, Active: !n.Inactive, Number: 1,
		}
		t.Tenant = t.Domain
		if last != nil && last.Number > 0 {
			t.Number = last.Number + 1
		}
		if err = d.furnish(ctx, t, AdminRole, n.Password); err == nil {
			d.Drop(t.Domain)
			return t, nil
		}
		if !errors.Is(err, &fault.Exists) {
			return nil, err
		}
	}
	return nil, err
}

// Tenant finds a tenant; fault.Missing when there is none.
func (d *Directory) Tenant(ctx context.Context, t apim.TenantID) (*apim.Tenant, error) {
	return d.o.Tenants.Get(ctx, apim.In(t), t)
}

// Tenants lists tenants; it is for the super tenant's administration.
func (d *Directory) Tenants(ctx context.Context, q apim.Query) (apim.Page[apim.Tenant], error) {
	return d.o.Tenants.List(ctx, apim.Across(apim.SuperAdmin), q)
}

// SetActive activates or deactivates a tenant. The users of an inactive one
// cannot sign in or use their tokens. carbon.super stays active:
// fault.BadRequest.
func (d *Directory) SetActive(ctx context.Context, t apim.TenantID, active bool) error {
	if t == apim.SuperTenant && !active {
		return fault.BadRequest.With("carbon.super cannot be deactivated")
	}
	d.Drop(t)
	return retry(func() error {
		v, err := d.o.Tenants.Get(ctx, apim.In(t), t)
		if err != nil {
			return fmt.Errorf("set tenant state: %w", err)
		}
		if v.Active == active {
			return nil
		}
		v.Active = active
		return d.o.Tenants.Update(ctx, apim.In(t), v)
	})
}

type cachedTenant struct {
	active bool
	until  time.Time
}

// Active reports whether the tenant exists and is active.
func (d *Directory) Active(ctx context.Context, t apim.TenantID) (bool, error) {
	if string(t) == "" || len(t) > maxName || strings.ContainsAny(string(t), "/\\") {
		return false, nil
	}
	now := d.o.Now()
	d.mu.Lock()
	c, ok := d.tenants[t]
	d.mu.Unlock()
	if ok && now.Before(c.until) {
		return c.active, nil
	}
	v, err := d.o.Tenants.Get(ctx, apim.In(t), t)
	if errors.Is(err, &fault.Missing) {
		return false, nil // not cached: the names are the caller's to choose
	}
	if err != nil {
		return false, fmt.Errorf("look for tenant: %w", err)
	}
	d.mu.Lock()
	if d.mayCache(t, now) {
		d.tenants[t] = cachedTenant{v.Active, now.Add(cacheLife)}
	}
	d.mu.Unlock()
	return v.Active, nil
}
