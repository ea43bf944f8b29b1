package scim

import (
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// Groups and roles are the same thing seen through two schemas: a role with its
// members. What is a member is called members in one and users in the other.
func membersName(k *kind) string {
	if k == roleKind {
		return "users"
	}
	return "members"
}

func (c *call) roleDoc(k *kind, r *apim.Role, members bool) (map[string]any, error) {
	doc := map[string]any{
		"schemas": []any{k.schema}, "id": string(r.ID), "displayName": r.Name,
		"meta": c.meta(k, string(r.ID), r.Meta),
	}
	if r.External != "" {
		doc["externalId"] = r.External
	}
	if k == roleKind {
		list := make([]any, len(r.Permissions))
		for i, p := range r.Permissions {
			list[i] = p
		}
		doc["permissions"] = list
	}
	if !members {
		return doc, nil
	}
	page, err := c.s.o.Directory.Users(c.ctx, c.desk.Tenant(), apim.Query{Sort: "name", Where: []apim.Cond{{Col: "role", Op: apim.Has, Value: r.Name}}})
	if err != nil {
		return nil, err
	}
	if len(page.Items) > 0 {
		list := make([]any, len(page.Items))
		for i, u := range page.Items {
			list[i] = map[string]any{"value": string(u.ID), "display": u.Name, "type": "User", "$ref": c.base + "/Users/" + string(u.ID)}
		}
		doc[membersName(k)] = list
	}
	return doc, nil
}

// roleIDs are the ids of the tenant's roles by name, read once per call.
func (c *call) roleIDs() (map[string]string, error) {
	if c.roles != nil {
		return c.roles, nil
	}
	page, err := c.s.o.Directory.Roles(c.ctx, c.desk.Tenant(), apim.Query{})
	if err != nil {
		return nil, err
	}
	c.roles = make(map[string]string, len(page.Items))
	for _, r := range page.Items {
		c.roles[r.Name] = string(r.ID)
	}
	return c.roles, nil
}

// memberIDs reads the members of a document.
func memberIDs(k *kind, doc map[string]any) ([]apim.UserID, error) {
	name := membersName(k)
	v, ok := lookup(doc, name)
	if !ok || v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, bad("invalidValue", "%s is a list", name)
	}
	out := make([]apim.UserID, 0, len(list))
	for _, e := range elements(find(k.attrs, name), list) {
		v, _ := lookup(e.(map[string]any), "value")
		id, ok := v.(string)
		if !ok || id == "" {
			return nil, bad("invalidValue", "the value of one of %s is the id of a user", name)
		}
		if !slices.Contains(out, apim.UserID(id)) {
			out = append(out, apim.UserID(id))
		}
	}
	return out, nil
}

func permissionsOf(doc map[string]any) ([]string, error) {
	v, ok := lookup(doc, "permissions")
	if !ok || v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, bad("invalidValue", "permissions is a list")
	}
	out := make([]string, 0, len(list))
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			e, _ = lookup(m, "value")
		}
		s, ok := e.(string)
		if !ok {
			return nil, bad("invalidValue", "a permission is text")
		}
		out = append(out, s)
	}
	return out, nil
}

func (c *call) createRole(k *kind, doc map[string]any) (*result, error) {
	if err := wantSchema(doc, k.schema); err != nil {
		return nil, err
	}
	name, err := textAt(doc, "displayName")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, bad("invalidValue", "displayName is required")
	}
	members, err := memberIDs(k, doc)
	if err != nil {
		return nil, err
	}
	var permissions []string
	if k == roleKind {
		if permissions, err = permissionsOf(doc); err != nil {
			return nil, err
		}
	}
	external, err := textAt(doc, "externalId")
	if err != nil {
		return nil, err
	}
	r, err := c.desk.CreateRole(c.ctx, strings.TrimPrefix(name, "PRIMARY/"), permissions, members)
	if err != nil {
		return nil, err
	}
	if external != "" {
		if err := c.desk.SetExternal(c.ctx, r.ID, external); err != nil {
			return nil, err
		}
	}
	return c.showRole(k, 201, r.ID)
}

func (c *call) showRole(k *kind, status int, id apim.RoleID) (*result, error) {
	r, err := c.s.o.Directory.RoleByID(c.ctx, apim.In(c.desk.Tenant()), id)
	if err != nil {
		return nil, c.noResource(err, "the "+strings.ToLower(k.name))
	}
	doc, err := c.roleDoc(k, r, c.wants(membersName(k)))
	return &result{status: status, body: doc, location: c.base + k.path + "/" + string(id)}, err
}

func (c *call) changeRole(k *kind, id apim.RoleID, edit func(doc map[string]any) (map[string]any, error)) (*result, error) {
	r, err := c.s.o.Directory.RoleByID(c.ctx, apim.In(c.desk.Tenant()), id)
	if err != nil {
		return nil, c.noResource(err, "the "+strings.ToLower(k.name))
	}
	doc, err := c.roleDoc(k, r, true)
	if err != nil {
		return nil, err
	}
	before, err := memberIDs(k, doc)
	if err != nil {
		return nil, err
	}
	if doc, err = edit(doc); err != nil {
		return nil, err
	}
	name, err := textAt(doc, "displayName")
	if err != nil {
		return nil, err
	}
	if name != "" && !strings.EqualFold(strings.TrimPrefix(name, "PRIMARY/"), r.Name) {
		return nil, bad("mutability", "displayName cannot be changed")
	}
	after, err := memberIDs(k, doc)
	if err != nil {
		return nil, err
	}
	permissions, err := permissionsOf(doc)
	if err != nil {
		return nil, err
	}
	if k == roleKind && !slices.Equal(permissions, r.Permissions) {
		if err := c.desk.SetPermissions(c.ctx, id, permissions); err != nil {
			return nil, err
		}
	}
	external, err := textAt(doc, "externalId")
	if err != nil {
		return nil, err
	}
	if external != r.External {
		if err := c.desk.SetExternal(c.ctx, id, external); err != nil {
			return nil, err
		}
	}
	if err := c.desk.SetMembers(c.ctx, r.Name, without(after, before), without(before, after)); err != nil {
		return nil, err
	}
	return c.showRole(k, 200, id)
}

// without are the ids of a that are not in b.
func without(a, b []apim.UserID) []apim.UserID {
	in := make(map[apim.UserID]bool, len(b))
	for _, id := range b {
		in[id] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(id apim.UserID) bool { return in[id] })
}

func (c *call) replaceRole(k *kind, id apim.RoleID, doc map[string]any) (*result, error) {
	if err := wantSchema(doc, k.schema); err != nil {
		return nil, err
	}
	return c.changeRole(k, id, func(map[string]any) (map[string]any, error) { return doc, nil })
}

func (c *call) patchRole(k *kind, id apim.RoleID, doc map[string]any) (*result, error) {
	ops, err := operationsOf(doc)
	if err != nil {
		return nil, err
	}
	return c.changeRole(k, id, func(doc map[string]any) (map[string]any, error) {
		return doc, patch(k, doc, ops)
	})
}

func (c *call) deleteRole(k *kind, id apim.RoleID) (*result, error) {
	r, err := c.s.o.Directory.RoleByID(c.ctx, apim.In(c.desk.Tenant()), id)
	if err != nil {
		return nil, c.noResource(err, "the "+strings.ToLower(k.name))
	}
	if err := c.desk.DeleteRole(c.ctx, r.Name); err != nil {
		return nil, err
	}
	return &result{status: 204}, nil
}
