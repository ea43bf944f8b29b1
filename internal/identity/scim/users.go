package scim

import (
	"crypto/rand"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
)

const wso2 = "http://wso2.org/claims/"

// claimOf maps texts of a user to the claims of the original they are stored in.
var claimOf = map[string]string{
	"name.formatted": wso2 + "formattedName", "name.familyName": wso2 + "lastname", "name.givenName": wso2 + "givenname",
	"name.middleName": wso2 + "middleName", "name.honorificPrefix": wso2 + "honorificPrefix", "name.honorificSuffix": wso2 + "honorificSuffix",
	"displayName": wso2 + "displayName", "nickName": wso2 + "nickname", "profileUrl": wso2 + "url", "title": wso2 + "title",
	"userType": wso2 + "userType", "preferredLanguage": wso2 + "preferredLanguage", "locale": wso2 + "local",
	"timezone": wso2 + "timeZone", "externalId": wso2 + "externalid",
	enterprise + ":employeeNumber": enterprise + ":employeeNumber", enterprise + ":costCenter": enterprise + ":costCenter",
	enterprise + ":organization": wso2 + "organization", enterprise + ":division": enterprise + ":division",
	enterprise + ":department": wso2 + "department",
	account + ":country":       wso2 + "country", account + ":dateOfBirth": wso2 + "dob", account + ":gender": wso2 + "gender",
}

// listed are the attributes that are stored as JSON, in the claim of their own name.
var listed = []string{"emails", "phoneNumbers", "ims", "photos", "addresses", "entitlements", "x509Certificates"}

const (
	mobile  = wso2 + "mobile"
	manager = enterprise + ":manager"
)

func listClaim(attr string) string { return coreUser + ":" + attr }

// userDoc renders a user.
func (c *call) userDoc(u *apim.User) (map[string]any, error) {
	doc := map[string]any{
		"schemas": []any{coreUser}, "id": string(u.ID), "userName": u.Name, "active": !u.Locked,
		"meta": c.meta(userKind, string(u.ID), u.Meta),
	}
	for path, uri := range claimOf {
		if v, ok := u.Claims[uri]; ok && v != "" {
			put(doc, path, v)
		}
	}
	for _, attr := range listed {
		if l := listOf(u.Claims, attr); len(l) > 0 {
			doc[attr] = l
		}
	}
	if v := u.Claims[manager]; v != "" {
		var m map[string]any
		if json.Unmarshal([]byte(v), &m) == nil && len(m) > 0 {
			put(doc, manager, m)
		}
	}
	if u.Locked {
		put(doc, account+":accountLocked", true)
	}
	for _, ext := range []string{enterprise, account} {
		if _, ok := doc[ext]; ok {
			doc["schemas"] = append(doc["schemas"].([]any), ext)
		}
	}
	ids, err := c.roleIDs()
	if err != nil {
		return nil, err
	}
	var groups, roles []any
	for _, r := range u.Roles {
		id := ids[r]
		if id == "" {
			continue
		}
		groups = append(groups, map[string]any{"value": id, "display": r, "type": "direct", "$ref": c.base + "/Groups/" + id})
		roles = append(roles, map[string]any{"value": id, "display": r, "type": "direct", "$ref": c.base + "/Roles/" + id})
	}
	if groups != nil {
		doc["groups"], doc["roles"] = groups, roles
	}
	return doc, nil
}

// put sets a value at a path such as name.givenName or urn:...:User:department.
func put(doc map[string]any, path string, v any) {
	for _, ext := range []string{enterprise, account} {
		if name, ok := strings.CutPrefix(path, ext+":"); ok {
			m, _ := doc[ext].(map[string]any)
			if m == nil {
				m = map[string]any{}
				doc[ext] = m
			}
			m[name] = v
			return
		}
	}
	attr, sub, complex := strings.Cut(path, ".")
	if !complex {
		doc[path] = v
		return
	}
	m, _ := doc[attr].(map[string]any)
	if m == nil {
		m = map[string]any{}
		doc[attr] = m
	}
	m[sub] = v
}

// listOf reads a stored list. What another interface wrote since into the one
// claim for the e-mail address or the mobile number wins.
func listOf(claims map[string]string, attr string) []any {
	var out []any
	if v := claims[listClaim(attr)]; v != "" {
		if json.Unmarshal([]byte(v), &out) != nil {
			out = nil
		}
	}
	switch attr {
	case "emails":
		out = withSingle(out, claims[identity.ClaimEmail], mainEmail, map[string]any{"primary": true})
	case "phoneNumbers":
		out = withSingle(out, claims[mobile], mobileNumber, map[string]any{"type": "mobile"})
	}
	return out
}

func withSingle(list []any, value string, pick func([]any) map[string]any, fresh map[string]any) []any {
	m := pick(list)
	switch {
	case value == "" && m != nil:
		return slices.DeleteFunc(list, func(e any) bool { x, ok := e.(map[string]any); return ok && x["value"] == m["value"] })
	case value == "":
		return list
	case m != nil:
		m["value"] = value
		return list
	}
	fresh["value"] = value
	return append(list, fresh)
}

// mainEmail is the primary address, or the first.
func mainEmail(list []any) map[string]any {
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && isPrimary(m) {
			return m
		}
	}
	if len(list) > 0 {
		m, _ := list[0].(map[string]any)
		return m
	}
	return nil
}

func mobileNumber(list []any) map[string]any {
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && m["type"] == "mobile" {
			return m
		}
	}
	return nil
}

// userOf reads what a document says of a user: the user's claims without those
// that SCIM does not show, whether it is locked, and a new password.
func userOf(doc map[string]any, u *apim.User) (next map[string]string, locked bool, password string, err error) {
	next = map[string]string{}
	maps.Copy(next, u.Claims)
	for path, uri := range claimOf {
		v, err := textAt(doc, path)
		if err != nil {
			return nil, false, "", err
		}
		if next[uri] = v; v == "" {
			delete(next, uri)
		}
	}
	for _, attr := range listed {
		l, err := listAt(doc, userKind.attribute("", attr))
		if err != nil {
			return nil, false, "", err
		}
		store(next, listClaim(attr), l, len(l) == 0)
		switch attr {
		case "emails":
			single(next, identity.ClaimEmail, mainEmail(l))
		case "phoneNumbers":
			single(next, mobile, mobileNumber(l))
		}
	}
	m, err := objectAt(holder(doc, enterprise), "manager")
	if err != nil {
		return nil, false, "", err
	}
	store(next, manager, m, len(m) == 0)
	if locked, err = lockedOf(doc, u.Locked); err != nil {
		return nil, false, "", err
	}
	if password, err = textAt(doc, "password"); err != nil {
		return nil, false, "", err
	}
	return next, locked, password, identity.CheckClaims(next)
}

func store(claims map[string]string, uri string, v any, empty bool) {
	if empty {
		delete(claims, uri)
		return
	}
	if b, err := json.Marshal(v); err == nil {
		claims[uri] = string(b)
	}
}

func single(claims map[string]string, uri string, m map[string]any) {
	if v, _ := m["value"].(string); v != "" {
		claims[uri] = v
		return
	}
	delete(claims, uri)
}

// lockedOf reads whether the account is to be locked. The state has two names,
// active and accountLocked of the original's extension: the one that says
// something new counts, so that what was read can be sent back with one changed.
func lockedOf(doc map[string]any, locked bool) (bool, error) {
	for _, n := range []struct {
		holder map[string]any
		name   string
		locks  bool
	}{{doc, "active", false}, {holder(doc, account), "accountLocked", true}} {
		v, ok := lookup(n.holder, n.name)
		if !ok || v == nil {
			continue
		}
		b, ok := truth(v)
		if !ok {
			return false, bad("invalidValue", "%s is true or false", n.name)
		}
		if (b == n.locks) != locked {
			return !locked, nil
		}
	}
	return locked, nil
}

// textAt reads the text at a path; a missing one is empty.
func textAt(doc map[string]any, path string) (string, error) {
	p, err := splitPath(path)
	if err != nil {
		return "", err
	}
	v, ok := lookup(holder(doc, p.schema), p.attr)
	if p.sub != "" && ok && v != nil {
		m, isObject := v.(map[string]any)
		if !isObject {
			return "", bad("invalidValue", "%s is an object", p.attr)
		}
		v, ok = lookup(m, p.sub)
	}
	if !ok || v == nil {
		return "", nil
	}
	s, isText := v.(string)
	if !isText {
		return "", bad("invalidValue", "%s is text", path)
	}
	return s, nil
}

func objectAt(doc map[string]any, attr string) (map[string]any, error) {
	v, ok := lookup(doc, attr)
	if !ok || v == nil {
		return nil, nil
	}
	if s, ok := v.(string); ok {
		return map[string]any{"value": s}, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, bad("invalidValue", "%s is an object", attr)
	}
	return m, nil
}

// maxElements bounds a multi-valued attribute of a user.
const maxElements = 100

// listAt reads a multi-valued attribute, keeping the parts that its schema has,
// at most one of them primary.
func listAt(doc map[string]any, a *attribute) ([]any, error) {
	v, ok := lookup(doc, a.name)
	if !ok || v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok || len(list) > maxElements {
		return nil, bad("invalidValue", "%s is a list of at most %d", a.name, maxElements)
	}
	primary := false
	out := make([]any, 0, len(list))
	for _, e := range elements(a, list) {
		m := e.(map[string]any)
		kept := map[string]any{}
		for i := range a.subs {
			v, ok := lookup(m, a.subs[i].name)
			if !ok || v == nil {
				continue
			}
			if a.subs[i].kind == "boolean" {
				if v, ok = truth(v); !ok {
					return nil, bad("invalidValue", "%s.%s is true or false", a.name, a.subs[i].name)
				}
			} else if _, ok := v.(string); !ok {
				return nil, bad("invalidValue", "%s.%s is text", a.name, a.subs[i].name)
			}
			kept[a.subs[i].name] = v
		}
		if isPrimary(kept) {
			if primary {
				return nil, bad("invalidValue", "two of %s are primary", a.name)
			}
			primary = true
		}
		if len(kept) > 0 {
			out = append(out, kept)
		}
	}
	return out, nil
}

func (c *call) createUser(doc map[string]any) (*result, error) {
	if err := wantSchema(doc, coreUser); err != nil {
		return nil, err
	}
	claims, locked, password, err := userOf(doc, &apim.User{})
	if err != nil {
		return nil, err
	}
	name, err := textAt(doc, "userName")
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, bad("invalidValue", "userName is required")
	}
	if password == "" {
		// Nobody can sign in with it: one that is set later opens the account.
		if password = "aA1!" + rand.Text(); c.desk.CheckPassword(password) != nil {
			return nil, bad("invalidValue", "password is required")
		}
	}
	u, err := c.desk.Create(c.ctx, identity.NewUser{Name: name, Password: password, Claims: claims})
	if err != nil {
		return nil, err
	}
	if locked {
		err := c.desk.Update(c.ctx, u.ID, func(u *apim.User) error { u.Locked = true; return nil })
		if err != nil {
			return nil, err
		}
	}
	return c.showUser(201, u.ID)
}

func (c *call) showUser(status int, id apim.UserID) (*result, error) {
	u, err := c.s.o.Directory.UserByID(c.ctx, apim.In(c.desk.Tenant()), id)
	if err != nil {
		return nil, c.noResource(err, "the user")
	}
	doc, err := c.userDoc(u)
	return &result{status: status, body: doc, location: c.base + "/Users/" + string(id)}, err
}

// changeUser replaces or patches a user. In person, the caller may change
// neither the state of the account nor, with a token, the password.
func (c *call) changeUser(id apim.UserID, person bool, edit func(doc map[string]any) (map[string]any, error)) (*result, error) {
	var password string
	err := c.desk.Update(c.ctx, id, func(u *apim.User) error {
		doc, err := c.userDoc(u)
		if err != nil {
			return err
		}
		if doc, err = edit(doc); err != nil {
			return err
		}
		if name, err := textAt(doc, "userName"); err != nil {
			return err
		} else if name != "" && !strings.EqualFold(name, u.Name) {
			return bad("mutability", "userName cannot be changed")
		}
		claims, locked, next, err := userOf(doc, u)
		if err != nil {
			return err
		}
		if locked != u.Locked {
			if person {
				return fault.NotPermitted.With("nobody locks or unlocks their own account")
			}
			u.Locked = locked
		}
		if next != "" {
			if person && c.desk.Actor().Client != "" {
				return fault.NotPermitted.With("a password is changed with the password, not with a token")
			}
			if err := c.desk.CheckPassword(next); err != nil {
				return err
			}
		}
		u.Claims, password = claims, next
		return nil
	})
	if err != nil {
		return nil, c.noResource(err, "the user")
	}
	if password != "" {
		if err := c.desk.SetPassword(c.ctx, id, password); err != nil {
			return nil, err
		}
	}
	return c.showUser(200, id)
}

func (c *call) replaceUser(id apim.UserID, person bool, doc map[string]any) (*result, error) {
	if err := wantSchema(doc, coreUser); err != nil {
		return nil, err
	}
	return c.changeUser(id, person, func(map[string]any) (map[string]any, error) { return doc, nil })
}

func (c *call) patchUser(id apim.UserID, person bool, doc map[string]any) (*result, error) {
	ops, err := operationsOf(doc)
	if err != nil {
		return nil, err
	}
	return c.changeUser(id, person, func(doc map[string]any) (map[string]any, error) {
		return doc, patch(userKind, doc, ops)
	})
}

func (c *call) deleteUser(id apim.UserID) (*result, error) {
	if err := c.desk.Delete(c.ctx, id); err != nil {
		return nil, c.noResource(err, "the user")
	}
	return &result{status: 204}, nil
}

func (c *call) meta(k *kind, id string, m apim.Meta) map[string]any {
	return map[string]any{
		"resourceType": k.name, "location": c.base + k.path + "/" + id,
		"created":      m.CreatedAt.UTC().Format(time.RFC3339Nano),
		"lastModified": m.UpdatedAt.UTC().Format(time.RFC3339Nano),
	}
}
