package soap

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
)

const (
	tenantBean = "http://beans.common.stratos.carbon.wso2.org/xsd"
	tenantPage = 15 // tenants per page
)

var tenantService = &service{
	space: "http://services.mgt.tenant.carbon.wso2.org",
	ops: map[string]operation{
		"addTenant":                             tenantOp(addTenant),
		"addSkeletonTenant":                     tenantOp(addTenant),
		"getTenant":                             tenantOp(getTenant),
		"retrieveTenants":                       tenantOp(retrieveTenants),
		"retrievePaginatedTenants":              tenantOp(retrievePage),
		"retrievePartialSearchTenants":          tenantOp(retrieveTenants),
		"retrievePaginatedPartialSearchTenants": tenantOp(retrievePage),
		"checkDomainAvailability":               tenantOp(domainAvailable),
		"activateTenant":                        tenantOp(func(c *call) ([]any, error) { return setActive(c, true) }),
		"deactivateTenant":                      tenantOp(func(c *call) ([]any, error) { return setActive(c, false) }),
		"updateTenant":                          tenantOp(updateTenant),
		"deleteTenant":                          tenantOp(deleteTenant),
	},
}

func tenantOp(run func(*call) ([]any, error)) operation {
	return operation{run: run, permission: identity.PermTenants, scope: "internal_modify_tenants", super: true}
}

// tenantUUID is the id that the original gives tenants; ours have none, so it
// is made from the domain.
func tenantUUID(t apim.TenantID) string {
	return uuid.NewSHA1(uuid.NameSpaceDNS, []byte(t)).String()
}

func addTenant(c *call) ([]any, error) {
	b := c.in.kid("tenantInfoBean")
	if b == nil {
		return nil, fault.BadRequest.With("tenantInfoBean is missing")
	}
	inactive := false
	switch b.str("active") {
	case "false", "0":
		inactive = true
	}
	t, err := c.dir().CreateTenant(c.ctx, identity.NewTenant{
		Domain: b.str("tenantDomain"), Admin: b.str("admin"), Password: b.secret("adminPassword"), Email: b.str("email"),
		FirstName: b.str("firstname"), LastName: b.str("lastname"), Inactive: inactive,
	})
	if err != nil {
		return nil, err
	}
	return []any{tenantUUID(t.Domain)}, nil
}

// info renders a tenant. Clients look for a number before the end of an
// element: none but tenantId may be 0.
func info(t *apim.Tenant, id int64) *bean {
	var created any
	if !t.CreatedAt.IsZero() {
		created = t.CreatedAt.UTC().Format(time.RFC3339)
	}
	return &bean{tenantBean, "TenantInfoBean", []field{
		{"active", t.Active},
		{"admin", orNil(t.Admin)},
		{"adminPassword", nil},
		{"createdDate", created},
		{"email", orNil(t.Email)},
		{"firstname", orNil(t.FirstName)},
		{"lastname", orNil(t.LastName)},
		{"originatedService", nil},
		{"successKey", nil},
		{"tenantDomain", orNil(string(t.Domain))},
		{"tenantId", id},
		{"usagePlan", nil},
	}}
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func domainOf(c *call) apim.TenantID { return apim.TenantID(c.in.str("tenantDomain")) }

func getTenant(c *call) ([]any, error) {
	t, err := c.dir().Tenant(c.ctx, domainOf(c))
	if domainOf(c) == "" || errors.Is(err, &fault.Missing) {
		return []any{info(&apim.Tenant{}, 0)}, nil
	}
	if err != nil {
		return nil, err
	}
	return []any{info(t, t.Number)}, nil
}

// tenants are all but the platform's own, whose domains contain what the call
// searches for.
func tenants(c *call) ([]*apim.Tenant, error) {
	page, err := c.dir().Tenants(c.ctx, apim.Query{Sort: "domain"})
	if err != nil {
		return nil, err
	}
	part := strings.ToLower(strings.Trim(c.in.str("domain"), "*%"))
	var out []*apim.Tenant
	for _, t := range page.Items {
		if t.Domain != apim.SuperTenant && strings.Contains(string(t.Domain), part) {
			out = append(out, t)
		}
	}
	return out, nil
}

func beans(list []*apim.Tenant) []*bean {
	out := make([]*bean, len(list))
	for i, t := range list {
		out[i] = info(t, t.Number)
	}
	return out
}

func retrieveTenants(c *call) ([]any, error) {
	list, err := tenants(c)
	return each(beans(list)), err
}

func retrievePage(c *call) ([]any, error) {
	list, err := tenants(c)
	if err != nil {
		return nil, err
	}
	page, err := strconv.ParseUint(c.in.str("pageNumber"), 10, 16)
	if err != nil {
		return nil, fault.BadRequest.With("pageNumber is a whole number from 0")
	}
	pages := (len(list) + tenantPage - 1) / tenantPage
	from := min(int(page)*tenantPage, len(list))
	list = list[from:min(from+tenantPage, len(list))]
	return []any{&bean{tenantBean, "PaginatedTenantInfoBean", []field{{"numberOfPages", pages}, {"tenantInfoBeans", beans(list)}}}}, nil
}

func domainAvailable(c *call) ([]any, error) {
	domain := c.in.str("domainName")
	if err := identity.CheckDomain(domain); err != nil {
		return nil, err
	}
	_, err := c.dir().Tenant(c.ctx, apim.TenantID(domain))
	if errors.Is(err, &fault.Missing) {
		return []any{true}, nil
	}
	return []any{false}, err
}

func setActive(c *call, active bool) ([]any, error) {
	err := c.dir().SetActive(c.ctx, domainOf(c), active)
	if errors.Is(err, &fault.Missing) {
		return nil, fault.Missing.With(fmt.Sprintf("there is no tenant %.255s", domainOf(c)))
	}
	return nil, err
}

func updateTenant(c *call) ([]any, error) {
	b := c.in.kid("tenantInfoBean")
	if b == nil {
		return nil, fault.BadRequest.With("tenantInfoBean is missing")
	}
	if b.str("tenantDomain") == string(apim.SuperTenant) {
		return nil, fault.BadRequest.With("the tenant carbon.super is not changed here")
	}
	return nil, c.dir().UpdateTenant(c.ctx, apim.TenantID(b.str("tenantDomain")), identity.TenantChange{
		Email: b.str("email"), FirstName: b.str("firstname"), LastName: b.str("lastname"), AdminPassword: b.secret("adminPassword"),
	})
}

func deleteTenant(*call) ([]any, error) {
	return nil, fault.BadRequest.With("Tenant deletion is disabled. Deactivate the tenant instead.")
}
