package govern

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Binding says which roles open a scope of the management APIs.
type Binding struct {
	Scope string
	Roles []string
}

// Alias says which other roles count as a role.
type Alias struct {
	Role    string
	Aliases []string
}

// TenantConf is the configuration document of the caller's tenant.
func (s *Service) TenantConf(ctx context.Context) (string, error) {
	t, _ := tenantOf(ctx)
	doc, err := s.Confs.Conf(ctx, t)
	return doc, wrap("read tenant configuration", err)
}

// SetTenantConf replaces the configuration document of the caller's tenant.
func (s *Service) SetTenantConf(ctx context.Context, doc string) error {
	t, _ := tenantOf(ctx)
	s.confMu.Lock()
	defer s.confMu.Unlock()
	return wrap("change tenant configuration", s.Confs.SetConf(ctx, t, doc))
}

type wireScope struct {
	Name  string `json:"Name"`
	Roles string `json:"Roles"`
}

// Bindings lists which roles open which scope, in the order of the document.
func (s *Service) Bindings(ctx context.Context) ([]Binding, error) {
	doc, err := s.TenantConf(ctx)
	if err != nil {
		return nil, err
	}
	list, err := bindings(doc)
	if err != nil {
		return nil, err
	}
	out := make([]Binding, 0, len(list))
	for _, b := range list {
		out = append(out, Binding{b.Name, split(b.Roles)})
	}
	return out, nil
}

func bindings(doc string) ([]wireScope, error) {
	var c struct {
		RESTAPIScopes struct{ Scope []wireScope }
	}
	if err := json.Unmarshal([]byte(doc), &c); err != nil {
		return nil, fmt.Errorf("read scopes of tenant configuration: %w", err)
	}
	return c.RESTAPIScopes.Scope, nil
}

func split(roles string) []string {
	out := []string{}
	for _, r := range strings.Split(roles, ",") {
		if r = strings.TrimSpace(r); r != "" {
			out = append(out, r)
		}
	}
	return out
}

// SetBindings replaces the roles of the named scopes and keeps the others.
func (s *Service) SetBindings(ctx context.Context, change []Binding) error {
	for _, b := range change {
		if b.Scope == "" || len(b.Scope) > 255 {
			return fault.BadRequest.With("A scope needs a name of at most 255 characters")
		}
		for _, r := range b.Roles {
			if strings.Contains(r, ",") || strings.TrimSpace(r) == "" {
				return fault.RolesInvalid.Withf("'%s' is not the name of a role", r)
			}
		}
	}
	return s.editConf(ctx, func(o *object, doc string) error {
		list, err := bindings(doc)
		if err != nil {
			return err
		}
		for _, b := range change {
			w := wireScope{b.Scope, strings.Join(b.Roles, ",")}
			if i := slices.IndexFunc(list, func(x wireScope) bool { return x.Name == b.Scope }); i >= 0 {
				list[i] = w
			} else {
				list = append(list, w)
			}
		}
		scopes := object{}
		if v := o.get("RESTAPIScopes"); v != nil {
			if scopes, err = parseObject(v); err != nil {
				return err
			}
		}
		if err := scopes.set("Scope", list); err != nil {
			return err
		}
		return o.set("RESTAPIScopes", scopes)
	})
}

// ScopeOf answers with the scope when the user of the caller's tenant holds it.
func (s *Service) ScopeOf(ctx context.Context, scope, user string) error {
	_, in := tenantOf(ctx)
	name, _, _ := cutLast(user, "@")
	no := fault.SystemScopeHolder.Withf("Scope '%s' not found for the user '%s'", scope, user)
	u, err := s.Users.First(ctx, in, apim.Query{Where: []apim.Cond{{Col: "name", Op: apim.EqFold, Value: name}}})
	if missing(err) {
		return no
	}
	if err != nil {
		return fmt.Errorf("find user: %w", err)
	}
	all, err := s.Bindings(ctx)
	if err != nil {
		return err
	}
	aliases, err := s.Aliases(ctx)
	if err != nil {
		return err
	}
	roles := append([]string{"Internal/everyone"}, u.Roles...)
	for _, b := range all {
		if b.Scope != scope {
			continue
		}
		open := slices.Clone(b.Roles)
		for _, al := range aliases {
			if slices.Contains(b.Roles, al.Role) {
				open = append(open, al.Aliases...)
			}
		}
		if slices.ContainsFunc(roles, func(r string) bool { return slices.Contains(open, r) }) {
			return nil
		}
	}
	return no
}

// Aliases lists the role aliases, in the order of the document.
func (s *Service) Aliases(ctx context.Context) ([]Alias, error) {
	doc, err := s.TenantConf(ctx)
	if err != nil {
		return nil, err
	}
	o, err := parseObject([]byte(doc))
	if err != nil {
		return nil, err
	}
	out := []Alias{}
	v := o.get("RoleMappings")
	if v == nil {
		return out, nil
	}
	m, err := parseObject(v)
	if err != nil {
		return nil, err
	}
	for _, e := range m {
		var roles string
		if json.Unmarshal(e.value, &roles) != nil {
			continue // not a list of roles; left for whoever wrote it
		}
		out = append(out, Alias{e.name, slices.DeleteFunc(split(roles), func(r string) bool { return r == e.name })})
	}
	return out, nil
}

// SetAliases replaces all role aliases.
func (s *Service) SetAliases(ctx context.Context, all []Alias) error {
	m := object{}
	for _, a := range all {
		if strings.TrimSpace(a.Role) == "" {
			return fault.RolesInvalid.With("A role alias needs a role")
		}
		roles := []string{a.Role}
		for _, r := range a.Aliases {
			if strings.Contains(r, ",") || strings.TrimSpace(r) == "" {
				return fault.RolesInvalid.Withf("'%s' is not the name of a role", r)
			}
			if !slices.Contains(roles, r) {
				roles = append(roles, r)
			}
		}
		if err := m.set(a.Role, strings.Join(roles, ",")); err != nil {
			return err
		}
	}
	return s.editConf(ctx, func(o *object, _ string) error { return o.set("RoleMappings", m) })
}

// editConf changes members of the tenant's configuration and keeps the order
// of the others.
func (s *Service) editConf(ctx context.Context, edit func(o *object, doc string) error) error {
	t, _ := tenantOf(ctx)
	s.confMu.Lock()
	defer s.confMu.Unlock()
	doc, err := s.Confs.Conf(ctx, t)
	if err != nil {
		return fmt.Errorf("read tenant configuration: %w", err)
	}
	o, err := parseObject([]byte(doc))
	if err != nil {
		return err
	}
	if err := edit(&o, doc); err != nil {
		return err
	}
	out, err := o.MarshalJSON()
	if err != nil {
		return fmt.Errorf("encode tenant configuration: %w", err)
	}
	return wrap("change tenant configuration", s.Confs.SetConf(ctx, t, string(out)))
}

// object is a JSON object whose members keep their order and their bytes.
type object []member

type member struct {
	name  string
	value json.RawMessage
}

func parseObject(doc []byte) (object, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	t, err := d.Token()
	if err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("read JSON object: not an object (%w)", err)
	}
	o := object{}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("read JSON object: %w", err)
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return nil, fmt.Errorf("read JSON object: %w", err)
		}
		name, _ := k.(string)
		o = append(o, member{name, v})
	}
	return o, nil
}

func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

func (o *object) set(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	for i := range *o {
		if (*o)[i].name == name {
			(*o)[i].value = b
			return nil
		}
	}
	*o = append(*o, member{name, b})
	return nil
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		k, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
