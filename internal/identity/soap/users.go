package soap

import (
	"errors"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
)

const (
	claimBean = "http://common.mgt.user.carbon.wso2.org/xsd"
	axis      = "http://org.apache.axis2/xsd"
)

func userOp(what string, run func(*call) ([]any, error)) operation {
	return operation{run: run, permission: identity.PermUsers + what, scope: "internal_user_mgt_" + what}
}

func roleOp(what string, run func(*call) ([]any, error)) operation {
	return operation{run: run, permission: identity.PermRoles + what, scope: "internal_role_mgt_" + what}
}

// inOnly makes an operation that is answered with 202.
func inOnly(o operation) operation {
	o.silent = true
	return o
}

var storeService = &service{
	space: "http://service.ws.um.carbon.wso2.org",
	ops: map[string]operation{
		"addUser":                 inOnly(userOp("create", addUser("roleList"))),
		"deleteUser":              inOnly(userOp("delete", deleteUser)),
		"updateCredentialByAdmin": inOnly(userOp("update", resetPassword)),
		"updateCredential":        inOnly(operation{run: changePassword, person: true}),
		"setUserClaimValue":       inOnly(userOp("update", setClaim)),
		"setUserClaimValues":      inOnly(userOp("update", setClaims)),
		"deleteUserClaimValue":    inOnly(userOp("update", deleteClaims)),
		"deleteUserClaimValues":   inOnly(userOp("update", deleteClaims)),
		"addRole":                 inOnly(roleOp("create", addRole)),
		"deleteRole":              inOnly(roleOp("delete", deleteRole)),
		"updateRoleListOfUser":    inOnly(roleOp("update", updateRoles)),
		"updateUserListOfRole":    inOnly(roleOp("update", updateMembers)),
		"isExistingUser":          userOp("view", existingUser),
		"isExistingRole":          roleOp("view", existingRole),
		"listUsers":               userOp("list", listUsers),
		"getRoleListOfUser":       roleOp("view", rolesOfUser),
		"getRoleNames":            roleOp("view", roleNames),
		"getHybridRoles":          roleOp("view", roleNames),
		"getUserListOfRole":       roleOp("view", membersOfRole),
		"getUserClaimValue":       userOp("view", claimValue),
		"getUserClaimValues":      userOp("view", claimValues),
		"getUserId":               userOp("view", numberOfUser),
		"getTenantId":             userOp("view", numberOfTenant),
		"getProfileNames":         userOp("view", func(*call) ([]any, error) { return []any{"default"}, nil }),
		"isReadOnly":              userOp("view", func(*call) ([]any, error) { return []any{false}, nil }),
		"authenticate":            userOp("view", authenticate),
	},
}

var userService = &service{
	space: axis,
	ops: map[string]operation{
		"addUser":              userOp("create", addUser("roles")),
		"deleteUser":           userOp("delete", deleteUser),
		"listUsers":            userOp("list", listUsers),
		"listAllUsers":         userOp("list", listAllUsers),
		"changePassword":       userOp("update", resetPassword),
		"changePasswordByUser": {run: changePassword, person: true},
		"addRole":              roleOp("create", addRole),
		"deleteRole":           roleOp("delete", deleteRole),
		"getRolesOfUser":       roleOp("view", flaggedRoles),
		"getUsersOfRole":       roleOp("view", flaggedUsers),
		"getAllRolesNames":     roleOp("view", allRoles),
		"updateRolesOfUser":    roleOp("update", replaceRoles),
	},
}

// primary is the name of the only user store; others are not deployed.
const primary = "PRIMARY"

// nameOf reads a user's name. The store in front of it must be the one there is.
func nameOf(c *call, element string) (string, error) {
	name := c.in.str(element)
	if store, rest, ok := strings.Cut(name, "/"); ok {
		if !strings.EqualFold(store, primary) {
			return "", fault.BadRequest.With("Invalid Domain Name")
		}
		name = rest
	}
	if name == "" {
		return "", fault.BadRequest.Withf("%s is missing", element)
	}
	return strings.TrimSuffix(name, "@"+string(c.desk.Tenant())), nil
}

// roleOf is the name of a role without the store's.
func roleOf(name string) string {
	if store, rest, ok := strings.Cut(name, "/"); ok && strings.EqualFold(store, primary) {
		return rest
	}
	return name
}

func rolesIn(n *node, element string) []string {
	out := n.list(element)
	for i := range out {
		out[i] = roleOf(out[i])
	}
	return out
}

func (c *call) user(element string) (*apim.User, error) {
	name, err := nameOf(c, element)
	if err != nil {
		return nil, err
	}
	u, err := c.dir().User(c.ctx, c.desk.Tenant(), name)
	if errors.Is(err, &fault.Missing) {
		return nil, fault.Missing.Withf("UserNotFound: User %.255s does not exist in: %s", name, primary)
	}
	return u, err
}

// named finds users by name.
func (c *call) named(names []string) ([]apim.UserID, error) {
	var out []apim.UserID
	for _, n := range names {
		if store, rest, ok := strings.Cut(n, "/"); ok && strings.EqualFold(store, primary) {
			n = rest
		}
		u, err := c.dir().User(c.ctx, c.desk.Tenant(), n)
		if errors.Is(err, &fault.Missing) {
			return nil, fault.BadRequest.Withf("there is no user %.255s", n)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, u.ID)
	}
	return out, nil
}

// claimsIn reads ClaimValue beans.
func claimsIn(n *node) map[string]string {
	out := map[string]string{}
	for _, c := range n.all("claims") {
		uri := c.str("claimURI")
		if uri == "" {
			uri = c.str("claimUri")
		}
		if uri != "" {
			out[uri] = c.str("value")
		}
	}
	return out
}

func addUser(roles string) func(*call) ([]any, error) {
	return func(c *call) ([]any, error) {
		name, err := nameOf(c, "userName")
		if err != nil {
			return nil, err
		}
		password := c.in.secret("credential")
		if c.in.kid("credential") == nil {
			password = c.in.secret("password")
		}
		u := &apim.User{}
		if err := identity.SetClaims(u, claimsIn(c.in)); err != nil {
			return nil, err
		}
		made, err := c.desk.Create(c.ctx, identity.NewUser{Name: name, Password: password, Roles: rolesIn(c.in, roles), Claims: u.Claims})
		if err != nil || !u.Locked {
			return nil, err
		}
		return nil, c.desk.Update(c.ctx, made.ID, func(u *apim.User) error { u.Locked = true; return nil })
	}
}

func deleteUser(c *call) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	return nil, c.desk.Delete(c.ctx, u.ID)
}

func resetPassword(c *call) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	password := c.in.secret("newCredential")
	if c.in.kid("newCredential") == nil {
		password = c.in.secret("newPassword")
	}
	return nil, c.desk.SetPassword(c.ctx, u.ID, password)
}

// changePassword is the caller's own change; the current one is asked for.
func changePassword(c *call) ([]any, error) {
	if element := c.in.kid("userName"); element != nil {
		u, err := c.user("userName")
		if err != nil {
			return nil, err
		}
		if u.ID != c.desk.Actor().UserID {
			return nil, fault.NotPermitted.With("Access Denied. Please login with sufficient privileges")
		}
	}
	old, next := c.in.secret("oldCredential"), c.in.secret("newCredential")
	if c.in.kid("oldCredential") == nil {
		old, next = c.in.secret("oldPassword"), c.in.secret("newPassword")
	}
	return nil, c.dir().ChangePassword(c.ctx, c.desk.Actor(), old, next)
}

func setClaim(c *call) ([]any, error) {
	return change(c, map[string]string{c.in.str("claimURI"): c.in.str("claimValue")})
}

func setClaims(c *call) ([]any, error) { return change(c, claimsIn(c.in)) }

func deleteClaims(c *call) ([]any, error) {
	gone := map[string]string{}
	for _, uri := range append(c.in.list("claimURI"), c.in.list("claims")...) {
		gone[uri] = ""
	}
	return change(c, gone)
}

func change(c *call, claims map[string]string) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	return nil, c.desk.Update(c.ctx, u.ID, func(u *apim.User) error { return identity.SetClaims(u, claims) })
}

func addRole(c *call) ([]any, error) {
	members, err := c.named(c.in.list("userList"))
	if err != nil {
		return nil, err
	}
	var permissions []string
	for _, p := range c.in.all("permissions") {
		id := p.str("resourceId")
		if id == "" {
			id = strings.TrimSpace(p.text) // UserAdmin sends the path itself
		}
		if id != "" {
			permissions = append(permissions, id)
		}
	}
	_, err = c.desk.CreateRole(c.ctx, roleOf(c.in.str("roleName")), permissions, members)
	return nil, err
}

func deleteRole(c *call) ([]any, error) {
	return nil, c.desk.DeleteRole(c.ctx, roleOf(c.in.str("roleName")))
}

func updateRoles(c *call) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	return nil, c.desk.SetRoles(c.ctx, u.ID, rolesIn(c.in, "newRoles"), rolesIn(c.in, "deletedRoles"))
}

// replaceRoles makes newUserRoles all that the user has.
func replaceRoles(c *call) ([]any, error) {
	u, err := c.user("userName")
	if err != nil {
		return nil, err
	}
	next := rolesIn(c.in, "newUserRoles")
	var gone []string
	for _, r := range u.Roles {
		if !slices.ContainsFunc(next, func(s string) bool { return strings.EqualFold(r, s) }) {
			gone = append(gone, r)
		}
	}
	return nil, c.desk.SetRoles(c.ctx, u.ID, next, gone)
}

func updateMembers(c *call) ([]any, error) {
	role, err := c.dir().Role(c.ctx, c.desk.Tenant(), roleOf(c.in.str("roleName")))
	if err != nil {
		return nil, err
	}
	add, err := c.named(c.in.list("newUsers"))
	if err != nil {
		return nil, err
	}
	remove, err := c.named(c.in.list("deletedUsers"))
	if err != nil {
		return nil, err
	}
	return nil, c.desk.SetMembers(c.ctx, role.Name, add, remove)
}
