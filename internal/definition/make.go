package definition

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
)

// New is a fresh OpenAPI document for an API that was made without one.
func New(title, version, description string, ops []Operation, scopes []Scope) ([]byte, error) {
	start := []byte(`{
  "openapi": "3.0.1",
  "info": {
    "title": ` + quote(title) + `,
    "version": ` + quote(version) + `
  },
  "paths": {},
  "components": {
    "securitySchemes": {
      "default": {
        "type": "oauth2",
        "flows": {
          "implicit": {
            "authorizationUrl": "https://test.com",
            "scopes": {}
          }
        }
      }
    }
  }
}
`)
	d, err := parse(start)
	if err != nil {
		return nil, err
	}
	d.Version = "3.0.1"
	e := d.Edit()
	if description != "" {
		if err := e.Set(description, "info", "description"); err != nil {
			return nil, err
		}
	}
	if err := d.sync(e, nil, ops, nil, scopes); err != nil {
		return nil, err
	}
	return e.Apply()
}

// Sync brings the document in line with a changed set of operations and
// scopes, touching only what differs between before and after.
func (d *Doc) Sync(before, after []Operation, scopesBefore, scopesAfter []Scope) ([]byte, error) {
	e := d.Edit()
	if err := d.sync(e, before, after, scopesBefore, scopesAfter); err != nil {
		return nil, err
	}
	return e.Apply()
}

func (d *Doc) sync(e *Edit, before, after []Operation, scopesBefore, scopesAfter []Scope) error {
	old := map[[2]string]Operation{}
	for _, o := range before {
		old[[2]string{o.Path, o.Verb}] = o
	}
	left := map[string]map[string]bool{} // path to the verbs that stay
	for _, o := range after {
		if left[o.Path] == nil {
			left[o.Path] = map[string]bool{}
		}
		left[o.Path][o.Verb] = true
		was, existed := old[[2]string{o.Path, o.Verb}]
		verb := strings.ToLower(o.Verb)
		if verbs[verb] == "" {
			continue
		}
		if !existed {
			if err := e.Set(d.newOperation(o), "paths", o.Path, verb); err != nil {
				return err
			}
			continue
		}
		if err := d.changed(e, was, o, "paths", o.Path, verb); err != nil {
			return err
		}
	}
	for _, o := range before {
		switch {
		case left[o.Path][o.Verb]:
		case left[o.Path] == nil:
			e.Remove("paths", o.Path)
		default:
			e.Remove("paths", o.Path, strings.ToLower(o.Verb))
		}
	}
	return d.syncScopes(e, scopesBefore, scopesAfter)
}

func (d *Doc) changed(e *Edit, was, o Operation, path ...string) error {
	at := func(name string) []string { return append(slices.Clone(path), name) }
	if was.Tier != o.Tier && o.Tier != "" {
		if err := e.Set(o.Tier, at("x-throttling-tier")...); err != nil {
			return err
		}
	}
	if was.Auth != o.Auth {
		if err := e.Set(o.Auth, at("x-auth-type")...); err != nil {
			return err
		}
		if o.Auth == "None" {
			if err := e.Set(true, at("x-wso2-disable-security")...); err != nil {
				return err
			}
		} else if was.Auth == "None" {
			e.Remove(at("x-wso2-disable-security")...)
		}
	}
	if !slices.Equal(was.Scopes, o.Scopes) {
		e.Remove(at("x-scope")...)
		e.Remove(at("x-scopes")...)
		return e.Set(security(o.Scopes), at("security")...)
	}
	return nil
}

func security(scopes []string) json.RawMessage {
	if scopes == nil {
		scopes = []string{}
	}
	b, err := encode([]map[string][]string{{"default": scopes}})
	if err != nil {
		return json.RawMessage(`[{"default":[]}]`)
	}
	return b
}

var template = regexp.MustCompile(`\{([^{}/]+)\}`)

func (d *Doc) newOperation(o Operation) json.RawMessage {
	var b strings.Builder
	b.WriteString(`{`)
	var params []string
	for _, m := range template.FindAllStringSubmatch(o.Path, -1) {
		name := quote(strings.TrimSuffix(m[1], "+"))
		if d.Version == "2.0" {
			params = append(params, `{"name":`+name+`,"in":"path","required":true,"type":"string"}`)
			continue
		}
		params = append(params, `{"name":`+name+`,"in":"path","required":true,"schema":{"type":"string"}}`)
	}
	if len(params) > 0 {
		b.WriteString(`"parameters":[` + strings.Join(params, ",") + `],`)
	}
	b.WriteString(`"responses":{"200":{"description":"OK"}},"security":`)
	b.Write(security(o.Scopes))
	if o.Auth != "" {
		b.WriteString(`,"x-auth-type":` + quote(o.Auth))
	}
	if o.Auth == "None" {
		b.WriteString(`,"x-wso2-disable-security":true`)
	}
	if o.Tier != "" {
		b.WriteString(`,"x-throttling-tier":` + quote(o.Tier))
	}
	b.WriteString(`}`)
	return json.RawMessage(b.String())
}

func (d *Doc) syncScopes(e *Edit, before, after []Scope) error {
	path := []string{"components", "securitySchemes", "default"}
	flow := append(slices.Clone(path), "flows", "implicit")
	if d.Version == "2.0" {
		path = []string{"securityDefinitions", "default"}
		flow = path
	}
	same := func(a, b Scope) bool {
		return a.Name == b.Name && a.Description == b.Description && slices.Equal(a.Roles, b.Roles)
	}
	if slices.EqualFunc(before, after, same) {
		return nil
	}
	if len(after) > 0 && !d.get(path...).ok() {
		scheme := `{"type":"oauth2","flows":{"implicit":{"authorizationUrl":"https://test.com","scopes":{}}}}`
		if d.Version == "2.0" {
			scheme = `{"type":"oauth2","flow":"implicit","authorizationUrl":"https://test.com","scopes":{}}`
		}
		sub, err := parse([]byte(scheme))
		if err != nil {
			return err
		}
		in := sub.Edit()
		at := []string{}
		if d.Version != "2.0" {
			at = []string{"flows", "implicit"}
		}
		if err := setScopes(in, at, nil, after); err != nil {
			return err
		}
		b, err := in.Apply()
		if err != nil {
			return err
		}
		return e.Set(json.RawMessage(b), path...)
	}
	return setScopes(e, flow, before, after)
}

func setScopes(e *Edit, at []string, before, after []Scope) error {
	p := func(more ...string) []string { return append(slices.Clone(at), more...) }
	keep := map[string]bool{}
	for _, s := range after {
		keep[s.Name] = true
		if err := e.Set(s.Description, p("scopes", s.Name)...); err != nil {
			return err
		}
		if err := e.Set(strings.Join(s.Roles, ","), p("x-scopes-bindings", s.Name)...); err != nil {
			return err
		}
	}
	for _, s := range before {
		if !keep[s.Name] {
			e.Remove(p("scopes", s.Name)...)
			e.Remove(p("x-scopes-bindings", s.Name)...)
		}
	}
	return nil
}

// Portal is the copy shown to consumers: without the extensions that steer the
// gateway, and with the gateway's addresses. It is made when asked for and
// never stored.
func (d *Doc) Portal(servers []string) ([]byte, error) {
	e := d.Edit()
	for _, m := range d.root.members() {
		if ours(m.name) {
			e.Remove(m.name)
		}
	}
	for _, p := range d.get("paths").members() {
		for _, v := range p.value.members() {
			if ours(v.name) {
				e.Remove("paths", p.name, v.name)
			}
			if verbs[v.name] == "" {
				continue
			}
			for _, f := range v.value.members() {
				if ours(f.name) {
					e.Remove("paths", p.name, v.name, f.name)
				}
			}
		}
	}
	if d.Version == "2.0" {
		for _, f := range d.get("securityDefinitions", "default").members() {
			if f.name == "x-scopes-bindings" {
				e.Remove("securityDefinitions", "default", f.name)
			}
		}
		return d.servers2(e, servers)
	}
	for _, f := range d.get("components", "securitySchemes", "default", "flows").members() {
		if f.value.get("x-scopes-bindings").ok() {
			e.Remove("components", "securitySchemes", "default", "flows", f.name, "x-scopes-bindings")
		}
	}
	list := []map[string]string{}
	for _, s := range servers {
		list = append(list, map[string]string{"url": s})
	}
	if err := e.Set(list, "servers"); err != nil {
		return nil, err
	}
	return e.Apply()
}

func (d *Doc) servers2(e *Edit, servers []string) ([]byte, error) {
	var schemes []string
	for i, s := range servers {
		scheme, rest, _ := strings.Cut(s, "://")
		host, base, _ := strings.Cut(rest, "/")
		if !slices.Contains(schemes, scheme) {
			schemes = append(schemes, scheme)
		}
		if i > 0 {
			continue
		}
		if err := e.Set(host, "host"); err != nil {
			return nil, err
		}
		if err := e.Set("/"+base, "basePath"); err != nil {
			return nil, err
		}
	}
	if len(schemes) > 0 {
		if err := e.Set(schemes, "schemes"); err != nil {
			return nil, err
		}
	}
	return e.Apply()
}

// ours reports whether an extension is for the publisher and gateway only.
func ours(name string) bool {
	switch name {
	case "x-throttling-tier", "x-auth-type", "x-scope", "x-scopes", "x-mediation-script", "x-throttling-bandwidth":
		return true
	}
	return strings.HasPrefix(name, "x-wso2-")
}
