package soap

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
)

func existingUser(c *call) ([]any, error) {
	if _, err := nameOf(c, "userName"); err != nil {
		return nil, err
	}
	_, err := c.user("userName")
	if errors.Is(err, &fault.Missing) {
		return []any{false}, nil
	}
	return []any{true}, err
}

func existingRole(c *call) ([]any, error) {
	ok, err := c.dir().RoleExists(c.ctx, c.desk.Tenant(), roleOf(c.in.str("roleName")))
	return []any{ok}, err
}

// maxNames bounds a list of names when the call does not.
const maxNames = 10_000

func limitOf(c *call, elements ...string) int {
	for _, e := range elements {
		if n, err := strconv.Atoi(c.in.str(e)); err == nil && n >= 0 {
			return min(n, maxNames)
		}
	}
	return maxNames
}

// users are those whose names fit the call's filter.
func users(c *call, where ...apim.Cond) ([]*apim.User, error) {
	filter, limit := c.in.str("filter"), limitOf(c, "maxItemLimit", "maxLimit", "limit")
	if store, rest, ok := strings.Cut(filter, "/"); ok && strings.EqualFold(store, primary) {
		filter = rest
	}
	var out []*apim.User
	const step = 500
	for q := (apim.Query{Sort: "name", Limit: step, Where: where}); ; q.Offset += step {
		page, err := c.dir().Users(c.ctx, c.desk.Tenant(), q)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Items {
			if len(out) < limit && matching(filter, u.Name) {
				out = append(out, u)
			}
		}
		if len(page.Items) < step || len(out) >= limit {
			return out, nil
		}
	}
}

func listUsers(c *call) ([]any, error) {
	list, err := users(c)
	out := make([]any, len(list))
	for i, u := range list {
		out[i] = u.Name
	}
	return out, err
}

// flagged is a name with whether it is selected.
func flagged(name string, selected bool) *bean {
	return &bean{claimBean, "FlaggedName", []field{
		{"dn", nil},
		{"domainName", nil},
		{"editable", true},
		{"itemDisplayName", nil},
		{"itemName", name},
		{"readOnly", false},
		{"roleType", nil},
		{"selected", selected},
		{"shared", false},
	}}
}

func listAllUsers(c *call) ([]any, error) {
	list, err := users(c)
	out := make([]any, len(list))
	for i, u := range list {
		out[i] = flagged(u.Name, false)
	}
	return out, err
}

// rolesOfUser lists a user's roles; a user that does not exist has the one
// that everybody has.
func rolesOfUser(c *call) ([]any, error) {
	if _, err := nameOf(c, "userName"); err != nil {
		return nil, err
	}
	u, err := c.user("userName")
	if errors.Is(err, &fault.Missing) {
		return []any{identity.EveryoneRole}, nil
	}
	if err != nil {
		return nil, err
	}
	return each(identity.RolesOf(u)), nil
}

// names are those of all roles that fit the call's filter.
func names(c *call) ([]string, error) {
	page, err := c.dir().Roles(c.ctx, c.desk.Tenant(), apim.Query{Sort: "name", Limit: maxNames})
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, r := range page.Items {
		if matching(c.in.str("filter"), r.Name) {
			out = append(out, r.Name)
		}
	}
	if matching(c.in.str("filter"), identity.EveryoneRole) {
		out = append(out, identity.EveryoneRole)
	}
	return out[:min(len(out), limitOf(c, "limit", "maxItemLimit"))], nil
}

func roleNames(c *call) ([]any, error) {
	list, err := names(c)
	return each(list), err
}

func allRoles(c *call) ([]any, error) {
	list, err := names(c)
	out := make([]any, len(list))
	for i, n := range list {
		out[i] = flagged(n, false)
	}
	return out, err
}

func flaggedRoles(c *call) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	list, err := names(c)
	out := make([]any, len(list))
	for i, n := range list {
		out[i] = flagged(n, slices.Contains(identity.RolesOf(u), n))
	}
	return out, err
}

func membersOfRole(c *call) ([]any, error) {
	role, err := c.dir().Role(c.ctx, c.desk.Tenant(), roleOf(c.in.str("roleName")))
	if err != nil {
		return nil, err
	}
	list, err := users(c, apim.Cond{Col: "role", Op: apim.Has, Value: role.Name})
	out := make([]any, len(list))
	for i, u := range list {
		out[i] = u.Name
	}
	return out, err
}

func flaggedUsers(c *call) ([]any, error) {
	role, err := c.dir().Role(c.ctx, c.desk.Tenant(), roleOf(c.in.str("roleName")))
	if err != nil {
		return nil, err
	}
	list, err := users(c)
	out := make([]any, len(list))
	for i, u := range list {
		out[i] = flagged(u.Name, slices.Contains(identity.RolesOf(u), role.Name))
	}
	return out, err
}

func claimValue(c *call) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	uri := c.in.str("claim")
	if uri == "" {
		uri = c.in.str("claimURI")
	}
	if v, ok := identity.Claim(u, uri); ok {
		return []any{v}, nil
	}
	return []any{nil}, nil
}

func claimValues(c *call) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	uris := slices.Sorted(maps.Keys(u.Claims))
	if asked := c.in.list("claims"); len(asked) > 0 {
		uris = asked
	}
	out := []any{}
	for _, uri := range uris {
		if v, ok := identity.Claim(u, uri); ok {
			out = append(out, &bean{claimBean, "ClaimValue", []field{{"claimURI", uri}, {"value", v}}})
		}
	}
	return out, nil
}

// numberOfUser is -1 for everybody: users have no numbers here.
func numberOfUser(c *call) ([]any, error) {
	_, err := c.user("username")
	if err != nil {
		_, err = c.user("userName")
	}
	return []any{-1}, err
}

func numberOfTenant(c *call) ([]any, error) {
	t, err := c.dir().Tenant(c.ctx, c.desk.Tenant())
	if err != nil {
		return nil, err
	}
	return []any{t.Number}, nil
}

func authenticate(c *call) ([]any, error) {
	name, err := nameOf(c, "userName")
	if err != nil {
		return nil, err
	}
	_, err = c.dir().Authenticate(c.ctx, name+"@"+string(c.desk.Tenant()), c.desk.Tenant(), c.in.secret("credential"), c.desk.Actor().Addr)
	if errors.Is(err, &fault.NotAuthorized) || errors.Is(err, &fault.LoginDelayed) {
		return []any{false}, nil
	}
	return []any{true}, err
}
