package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// maxConf bounds a tenant configuration, in bytes.
const maxConf = 4 << 20

// member is one member of an object whose order is kept.
type member struct {
	Name  string
	Value json.RawMessage
}

// object is a JSON object that keeps the order of its members and those it
// does not know, because clients send the whole document back.
type object []member

func parseObject(doc []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	if tok != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var o object
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		o = append(o, member{name.(string), v})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("data after the object")
	}
	return o, nil
}

func (o object) get(name string) json.RawMessage {
	for _, m := range o {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

func (o *object) set(name string, v json.RawMessage) {
	for i := range *o {
		if (*o)[i].Name == name {
			(*o)[i].Value = v
			return
		}
	}
	*o = append(*o, member{name, v})
}

func (o object) bytes() []byte {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(m.Name)
		if err != nil {
			panic("identity: encode string: " + err.Error())
		}
		b = append(append(append(b, name...), ':'), m.Value...)
	}
	return append(b, '}')
}

func raw(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic("identity: encode configuration: " + err.Error())
	}
	return b
}

type wireScope struct {
	Name  string
	Roles string
}

// DefaultConf is the document a new tenant starts with (reference: tenant-conf §2).
func DefaultConf() string { return defaultConf(AdminRole) }

// defaultConf binds the administrator's scopes to the role of that name.
func defaultConf(adminRole string) string {
	type role struct {
		CreateOnTenantLoad bool
		RoleName           string `json:",omitempty"`
	}
	scopes := make([]wireScope, len(DefaultBindings))
	for i, b := range DefaultBindings {
		roles := slices.Clone(b.Roles)
		if j := slices.Index(roles, AdminRole); j >= 0 {
			roles[j] = adminRole
		}
		scopes[i] = wireScope{b.Scope, strings.Join(roles, ",")}
	}
	o := object{
		{"EnableMonetization", raw(false)},
		{"EnableRecommendation", raw(false)},
		{"IsUnlimitedTierPaid", raw(false)},
		{"ExtensionHandlerPosition", raw("bottom")},
		{"RESTAPIScopes", raw(map[string]any{"Scope": scopes})},
		{"Meta", raw(map[string]any{"Migration": map[string]bool{"3.0.0": true}})},
		{"NotificationsEnabled", raw("false")},
		{"Notifications", raw([]any{map[string]any{
			"Type": "new_api_version",
			"Notifiers": []any{struct{ Class, ClaimsRetrieverImplClass, Title, Template string }{
				"org.wso2.carbon.apimgt.impl.notification.NewAPIVersionEmailNotifier",
				"org.wso2.carbon.apimgt.impl.token.DefaultClaimsRetriever",
				"Version $2 of $1 is available",
				"<p>API <b>$1</b> has a new version, <b>$2</b>. Find it in the developer portal.</p>",
			}},
		}})},
		{"DefaultRoles", raw(struct {
			PublisherRole, CreatorRole, SubscriberRole, DevOpsRole, ObserverRole, IntegrationDeveloperRole role
		}{
			role{true, publisher}, role{true, creator}, role{true, ""}, role{true, devops}, role{true, observer}, role{true, integrationDev},
		})},
		{"SelfSignUp", raw(map[string][]string{"SignUpRoles": {subscriber}})},
		{"AllowSubscriptionValidationDisabling", raw(false)},
	}
	return string(o.bytes())
}

// Conf is the tenant's configuration as it is read: the stored document with
// missing scopes appended.
func (d *Directory) Conf(ctx context.Context, t apim.TenantID) (string, error) {
	c, err := d.o.Confs.Get(ctx, apim.In(t), t)
	if err != nil {
		return "", fmt.Errorf("get tenant configuration: %w", err)
	}
	o, err := parseObject([]byte(c.JSON))
	if err != nil {
		return "", fmt.Errorf("get tenant configuration: %w", err)
	}
	doc, _, err := withMissingScopes(o)
	if err != nil {
		return "", fmt.Errorf("get tenant configuration: %w", err)
	}
	return string(doc.bytes()), nil
}

// SetConf replaces the tenant's configuration. A document that is not JSON, is
// of a wrong shape or lacks a shipped scope is fault.TenantConfInvalid.
func (d *Directory) SetConf(ctx context.Context, t apim.TenantID, doc string) error {
	o, err := checkConf(doc)
	if err != nil {
		return fault.TenantConfInvalid.With(err.Error())
	}
	return d.updateConf(ctx, t, func(old *object) error { *old = o; return nil })
}

// updateConf changes the stored document and retries when another change of it
// came first.
func (d *Directory) updateConf(ctx context.Context, t apim.TenantID, change func(*object) error) error {
	d.Drop(t)
	return retry(func() error {
		c, err := d.o.Confs.Get(ctx, apim.In(t), t)
		if err != nil {
			return fmt.Errorf("update tenant configuration: %w", err)
		}
		o, err := parseObject([]byte(c.JSON))
		if err != nil {
			return fmt.Errorf("update tenant configuration: %w", err)
		}
		if err := change(&o); err != nil {
			return err
		}
		c.JSON = string(o.bytes())
		return d.o.Confs.Update(ctx, apim.In(t), c)
	})
}

// retry repeats fn a few times while it loses races against other updates.
func retry(fn func() error) error {
	var err error
	for range 8 {
		if err = fn(); !errors.Is(err, &fault.PreconditionBad) {
			return err
		}
	}
	return err
}

// confKeys are the members a document must have, and how their JSON begins.
var confKeys = []struct{ name, starts string }{
	{"EnableMonetization", "tf"},
	{"EnableRecommendation", "tf"},
	{"IsUnlimitedTierPaid", "tf"},
	{"ExtensionHandlerPosition", `"`},
	{"RESTAPIScopes", "{"},
	{"Meta", "{"},
	{"NotificationsEnabled", `"tf`},
	{"Notifications", "["},
	{"DefaultRoles", "{"},
}

func checkConf(doc string) (object, error) {
	if len(doc) > maxConf {
		return nil, errors.New("document is too large")
	}
	o, err := parseObject([]byte(doc))
	if err != nil {
		return nil, err
	}
	for _, k := range confKeys {
		v := o.get(k.name)
		if v == nil {
			return nil, fmt.Errorf("required key [%s] not found", k.name)
		}
		if !strings.ContainsRune(k.starts, rune(v[0])) {
			return nil, fmt.Errorf("%s: wrong type", k.name)
		}
	}
	var roles map[string]struct {
		CreateOnTenantLoad *bool
		RoleName           string
	}
	if err := json.Unmarshal(o.get("DefaultRoles"), &roles); err != nil {
		return nil, fmt.Errorf("DefaultRoles: %w", err)
	}
	for _, name := range []string{"PublisherRole", "CreatorRole", "SubscriberRole", "DevOpsRole", "IntegrationDeveloperRole"} {
		if roles[name].CreateOnTenantLoad == nil {
			return nil, fmt.Errorf("DefaultRoles.%s: required key [CreateOnTenantLoad] not found", name)
		}
	}
	if v := o.get("SelfSignUp"); v != nil {
		var s struct{ SignUpRoles *[]string }
		if err := json.Unmarshal(v, &s); err != nil || s.SignUpRoles == nil {
			return nil, errors.New("SelfSignUp: required key [SignUpRoles] not found")
		}
	}
	if v := o.get("RoleMappings"); v != nil {
		var m map[string]string
		if err := json.Unmarshal(v, &m); err != nil {
			return nil, fmt.Errorf("RoleMappings: %w", err)
		}
	}
	list, err := scopesOf(o)
	if err != nil {
		return nil, err
	}
	for _, b := range DefaultBindings {
		if !slices.ContainsFunc(list, func(s wireScope) bool { return s.Name == b.Scope }) {
			return nil, fmt.Errorf("scope %s is missing in RESTAPIScopes", b.Scope)
		}
	}
	return o, nil
}

func scopesOf(o object) ([]wireScope, error) {
	var s struct{ Scope []wireScope }
	if v := o.get("RESTAPIScopes"); v != nil {
		if err := json.Unmarshal(v, &s); err != nil {
			return nil, fmt.Errorf("RESTAPIScopes: %w", err)
		}
	}
	return s.Scope, nil
}

// withMissingScopes appends scopes that the document lacks, so that tenants of
// older versions and new ones see the same list; the stored row stays as it is.
func withMissingScopes(o object) (object, []wireScope, error) {
	list, err := scopesOf(o)
	if err != nil {
		return nil, nil, err
	}
	have := map[string]bool{}
	for _, s := range list {
		have[s.Name] = true
	}
	n := len(list)
	for _, b := range DefaultBindings {
		if !have[b.Scope] {
			list = append(list, wireScope{b.Scope, strings.Join(b.Roles, ",")})
		}
	}
	for _, s := range fineScopes {
		if !have[s] {
			list = append(list, wireScope{s, AdminRole})
		}
	}
	if len(list) == n {
		return o, list, nil
	}
	outer := object{}
	if v := o.get("RESTAPIScopes"); v != nil {
		if outer, err = parseObject(v); err != nil {
			return nil, nil, err
		}
	}
	outer.set("Scope", raw(list))
	o = slices.Clone(o)
	o.set("RESTAPIScopes", outer.bytes())
	return o, list, nil
}

type cachedBindings struct {
	roles map[string][]string // scope to lower-cased roles, aliases applied
	list  []Binding           // as written, in order
	until time.Time
}

// bindingsOf reads the tenant's bindings through a cache.
func (d *Directory) bindingsOf(ctx context.Context, t apim.TenantID) (cachedBindings, error) {
	now := d.o.Now()
	d.mu.Lock()
	b, ok := d.bindings[t]
	d.mu.Unlock()
	if ok && now.Before(b.until) {
		return b, nil
	}
	c, err := d.o.Confs.Get(ctx, apim.In(t), t)
	if err != nil {
		return b, fmt.Errorf("get scope bindings of %s: %w", t, err)
	}
	o, err := parseObject([]byte(c.JSON))
	if err != nil {
		return b, fmt.Errorf("get scope bindings of %s: %w", t, err)
	}
	_, list, err := withMissingScopes(o)
	if err != nil {
		return b, fmt.Errorf("get scope bindings of %s: %w", t, err)
	}
	aliases, err := aliasesOf(o)
	if err != nil {
		return b, fmt.Errorf("get scope bindings of %s: %w", t, err)
	}
	b = cachedBindings{roles: make(map[string][]string, len(list)), until: now.Add(cacheLife)}
	for _, s := range list {
		bound := Binding{Scope: s.Name, Roles: splitRoles(s.Roles)}
		b.list = append(b.list, bound)
		var roles []string
		for _, r := range bound.Roles {
			roles = append(roles, strings.ToLower(r))
			roles = append(roles, aliases[strings.ToLower(r)]...)
		}
		b.roles[s.Name] = roles
	}
	d.mu.Lock()
	if d.mayCache(t, now) {
		d.bindings[t] = b
	}
	d.mu.Unlock()
	return b, nil
}

// aliasesOf maps lower-cased roles to their lower-cased aliases.
func aliasesOf(o object) (map[string][]string, error) {
	out := map[string][]string{}
	v := o.get("RoleMappings")
	if v == nil {
		return out, nil
	}
	var m map[string]string
	if err := json.Unmarshal(v, &m); err != nil {
		return nil, fmt.Errorf("RoleMappings: %w", err)
	}
	for role, list := range m {
		role = strings.ToLower(role)
		for _, a := range splitRoles(list) {
			if a = strings.ToLower(a); a != role {
				out[role] = append(out[role], a)
			}
		}
	}
	return out, nil
}

func splitRoles(s string) []string {
	var out []string
	for r := range strings.SplitSeq(s, ",") {
		if r = strings.TrimSpace(r); r != "" {
			out = append(out, r)
		}
	}
	return out
}
