package scim

import (
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/identity"
)

// Schemas of RFC 7643, and the original's own.
const (
	coreUser   = "urn:ietf:params:scim:schemas:core:2.0:User"
	coreGroup  = "urn:ietf:params:scim:schemas:core:2.0:Group"
	enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
	account    = "urn:scim:wso2:schema"
	roleSchema = "urn:ietf:params:scim:schemas:extension:2.0:Role"
)

var schemaIDs = []string{enterprise, account, roleSchema, coreUser, coreGroup}

func isCore(s string) bool {
	return strings.EqualFold(s, coreUser) || strings.EqualFold(s, coreGroup) || strings.EqualFold(s, roleSchema)
}

// attribute describes one attribute of a schema (RFC 7643 §7).
type attribute struct {
	name      string
	kind      string // string, boolean, complex, reference
	multi     bool
	required  bool
	readOnly  bool
	writeOnly bool
	immutable bool
	exact     bool
	unique    bool
	subs      []attribute
	refs      []string
	values    []string // canonical ones
}

// sub finds a part of a complex attribute, ignoring case.
func (a *attribute) sub(name string) *attribute { return find(a.subs, name) }

func find(list []attribute, name string) *attribute {
	i := slices.IndexFunc(list, func(a attribute) bool { return strings.EqualFold(a.name, name) })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// kind is one type of resource.
type kind struct {
	name, path, schema string
	attrs              []attribute
	extensions         map[string][]attribute
}

// attribute finds an attribute by schema and name.
func (k *kind) attribute(schema, name string) *attribute {
	if schema == "" || strings.EqualFold(schema, k.schema) {
		if a := find(k.attrs, name); a != nil {
			return a
		}
		return find(common, name)
	}
	for id, list := range k.extensions {
		if strings.EqualFold(id, schema) {
			return find(list, name)
		}
	}
	return nil
}

var common = []attribute{
	{name: "id", kind: "string", readOnly: true, exact: true, unique: true},
	{name: "externalId", kind: "string", exact: true},
	{name: "meta", kind: "complex", readOnly: true},
	{name: "schemas", kind: "string", multi: true, readOnly: true},
}

func text(name string) attribute { return attribute{name: name, kind: "string"} }

// plural is a multi-valued complex attribute with the usual parts.
func plural(name string, value attribute, more ...attribute) attribute {
	subs := append([]attribute{value, text("display"), text("type"), {name: "primary", kind: "boolean"}}, more...)
	return attribute{name: name, kind: "complex", multi: true, subs: subs}
}

var userKind = &kind{
	name: "User", path: "/Users", schema: coreUser,
	attrs: []attribute{
		{name: "userName", kind: "string", required: true, immutable: true, unique: true},
		{name: "name", kind: "complex", subs: []attribute{
			text("formatted"), text("familyName"), text("givenName"), text("middleName"), text("honorificPrefix"), text("honorificSuffix"),
		}},
		text("displayName"), text("nickName"),
		{name: "profileUrl", kind: "reference", refs: []string{"external"}},
		text("title"), text("userType"), text("preferredLanguage"), text("locale"), text("timezone"),
		{name: "active", kind: "boolean"},
		{name: "password", kind: "string", writeOnly: true, exact: true},
		plural("emails", text("value")), plural("phoneNumbers", text("value")), plural("ims", text("value")),
		plural("photos", attribute{name: "value", kind: "reference", refs: []string{"external"}}),
		{name: "addresses", kind: "complex", multi: true, subs: []attribute{
			text("formatted"), text("streetAddress"), text("locality"), text("region"), text("postalCode"), text("country"), text("type"),
			{name: "primary", kind: "boolean"},
		}},
		{name: "groups", kind: "complex", multi: true, readOnly: true, subs: []attribute{
			{name: "value", kind: "string", readOnly: true},
			{name: "$ref", kind: "reference", readOnly: true, refs: []string{"Group"}},
			{name: "display", kind: "string", readOnly: true},
			{name: "type", kind: "string", readOnly: true},
		}},
		plural("entitlements", text("value")),
		{name: "roles", kind: "complex", multi: true, readOnly: true, subs: []attribute{
			{name: "value", kind: "string", readOnly: true},
			{name: "$ref", kind: "reference", readOnly: true, refs: []string{"Role"}},
			{name: "display", kind: "string", readOnly: true},
			{name: "type", kind: "string", readOnly: true},
			{name: "primary", kind: "boolean", readOnly: true},
		}},
		plural("x509Certificates", text("value")),
	},
	extensions: map[string][]attribute{
		enterprise: {
			text("employeeNumber"), text("costCenter"), text("organization"), text("division"), text("department"),
			{name: "manager", kind: "complex", subs: []attribute{
				text("value"), {name: "$ref", kind: "reference", refs: []string{"User"}}, {name: "displayName", kind: "string", readOnly: true},
			}},
		},
		account: {{name: "accountLocked", kind: "boolean"}, text("country"), text("dateOfBirth"), text("gender")},
	},
}

var memberParts = []attribute{
	{name: "value", kind: "string", immutable: true},
	{name: "$ref", kind: "reference", immutable: true, refs: []string{"User"}},
	{name: "display", kind: "string", readOnly: true},
	{name: "type", kind: "string", readOnly: true, values: []string{"User"}},
}

var groupKind = &kind{
	name: "Group", path: "/Groups", schema: coreGroup,
	attrs: []attribute{
		{name: "displayName", kind: "string", required: true, immutable: true, unique: true},
		{name: "members", kind: "complex", multi: true, subs: memberParts},
	},
}

var roleKind = &kind{
	name: "Role", path: "/Roles", schema: roleSchema,
	attrs: []attribute{
		{name: "displayName", kind: "string", required: true, immutable: true, unique: true},
		{name: "users", kind: "complex", multi: true, subs: memberParts},
		{name: "permissions", kind: "string", multi: true, exact: true, values: []string{
			identity.PermLogin, identity.PermCreate, identity.PermPublish, identity.PermSubscribe,
		}},
	},
}

var kinds = []*kind{userKind, groupKind, roleKind}

func describe(list []attribute) []map[string]any {
	out := make([]map[string]any, 0, len(list))
	for i := range list {
		a := &list[i]
		m := map[string]any{
			"name": a.name, "type": a.kind, "multiValued": a.multi, "required": a.required,
			"description": a.name, "mutability": "readWrite", "returned": "default",
		}
		switch {
		case a.readOnly:
			m["mutability"] = "readOnly"
		case a.writeOnly:
			m["mutability"], m["returned"] = "writeOnly", "never"
		case a.immutable:
			m["mutability"] = "immutable"
		}
		if a.name == "displayName" && a.required || a.name == "userName" || a.name == "id" {
			m["returned"] = "always"
		}
		if a.kind == "string" || a.kind == "reference" {
			m["caseExact"], m["uniqueness"] = a.exact || a.kind == "reference", "none"
			if a.unique {
				m["uniqueness"] = "server"
			}
		}
		if a.values != nil {
			m["canonicalValues"] = a.values
		}
		if a.refs != nil {
			m["referenceTypes"] = a.refs
		}
		if a.subs != nil {
			m["subAttributes"] = describe(a.subs)
		}
		out = append(out, m)
	}
	return out
}

var schemaNames = map[string]string{
	coreUser: "User", coreGroup: "Group", roleSchema: "Role", enterprise: "EnterpriseUser", account: "Account",
}

// schemas renders the schemas under base.
func schemas(base string) []map[string]any {
	var out []map[string]any
	add := func(id string, list []attribute) {
		out = append(out, map[string]any{
			"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:Schema"},
			"id":      id, "name": schemaNames[id], "description": schemaNames[id], "attributes": describe(list),
			"meta": map[string]any{"resourceType": "Schema", "location": base + "/Schemas/" + id},
		})
	}
	for _, k := range kinds {
		add(k.schema, k.attrs)
		for _, id := range []string{enterprise, account} {
			if list := k.extensions[id]; list != nil {
				add(id, list)
			}
		}
	}
	return out
}

// resourceTypes renders the types of resources under base.
func resourceTypes(base string) []map[string]any {
	var out []map[string]any
	for _, k := range kinds {
		m := map[string]any{
			"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:ResourceType"},
			"id":      k.name, "name": k.name, "endpoint": k.path, "description": k.name, "schema": k.schema,
			"meta": map[string]any{"resourceType": "ResourceType", "location": base + "/ResourceTypes/" + k.name},
		}
		var ext []map[string]any
		for _, id := range []string{enterprise, account} {
			if k.extensions[id] != nil {
				ext = append(ext, map[string]any{"schema": id, "required": false})
			}
		}
		if ext != nil {
			m["schemaExtensions"] = ext
		}
		out = append(out, m)
	}
	return out
}

func yes(b bool) map[string]any { return map[string]any{"supported": b} }

// serviceConfig says what is supported.
func serviceConfig(base string) map[string]any {
	return map[string]any{
		"schemas": []string{"urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"},
		"patch":   yes(true), "changePassword": yes(true), "sort": yes(false), "etag": yes(false),
		"bulk":   map[string]any{"supported": true, "maxOperations": maxBulk, "maxPayloadSize": maxBody},
		"filter": map[string]any{"supported": true, "maxResults": maxCount},
		"authenticationSchemes": []map[string]any{
			{"type": "httpbasic", "name": "HTTP Basic", "description": "user name and password", "specUri": "https://www.rfc-editor.org/info/rfc7617", "primary": true},
			{"type": "oauthbearertoken", "name": "OAuth Bearer Token", "description": "access token of the key manager", "specUri": "https://www.rfc-editor.org/info/rfc6750"},
		},
		"meta": map[string]any{"resourceType": "ServiceProviderConfig", "location": base + "/ServiceProviderConfig"},
	}
}
