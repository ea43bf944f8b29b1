package definition

import (
	"encoding/json"
	"net/url"
	"strings"
)

var verbs = map[string]string{
	"get": "GET", "put": "PUT", "post": "POST", "delete": "DELETE",
	"patch": "PATCH", "head": "HEAD", "options": "OPTIONS",
}

// Info is what a document says about the API as a whole.
type Info struct {
	Title       string
	Version     string
	Description string
	OpenAPI     string   // version of the format
	Context     string   // x-wso2-basePath, basePath, or empty
	Endpoints   []string // absolute URLs of servers, or of host and basePath
	Tags        []string
	Tier        string // x-throttling-tier of the whole
	AuthHeader  string
	KeyHeader   string
	Transports  []string
	Production  json.RawMessage // x-wso2-production-endpoints
	Sandbox     json.RawMessage
	CORS        json.RawMessage
	Security    json.RawMessage // x-wso2-application-security
	Cache       json.RawMessage
	MutualTLS   string
}

// Operation is one resource and verb of a document.
type Operation struct {
	Path   string
	Verb   string
	Tier   string // x-throttling-tier
	Auth   string // x-auth-type, as written
	Scopes []string
	NoAuth bool // x-wso2-disable-security, or an empty security requirement
}

// Scope is a scope that the document declares, with the roles it binds.
type Scope struct {
	Name        string
	Description string
	Roles       []string
}

// Info reads the document's head.
func (d *Doc) Info() Info {
	r, in := d, d.get("info")
	out := Info{
		Title: in.get("title").text(), Version: in.get("version").text(), Description: in.get("description").text(),
		OpenAPI: d.Version, Context: r.get("x-wso2-basePath").text(), Tier: r.get("x-throttling-tier").text(),
		AuthHeader: r.get("x-wso2-auth-header").text(), KeyHeader: r.get("x-wso2-api-key-header").text(),
		Transports: r.get("x-wso2-transports").strings(), MutualTLS: r.get("x-wso2-mutual-ssl").text(),
		Production: raw(r.get("x-wso2-production-endpoints")), Sandbox: raw(r.get("x-wso2-sandbox-endpoints")),
		CORS: raw(r.get("x-wso2-cors")), Security: raw(r.get("x-wso2-application-security")),
		Cache: raw(r.get("x-wso2-response-cache")),
	}
	for _, t := range r.get("tags").items() {
		if name := t.get("name").text(); name != "" && len(out.Tags) < 100 {
			out.Tags = append(out.Tags, name)
		}
	}
	if d.Version == "2.0" {
		base, host := r.get("basePath").text(), r.get("host").text()
		if out.Context == "" {
			out.Context = base
		}
		schemes := r.get("schemes").strings()
		if host != "" && len(schemes) == 0 {
			schemes = []string{"https"}
		}
		for _, s := range schemes {
			if host != "" && (s == "http" || s == "https") {
				out.Endpoints = append(out.Endpoints, s+"://"+host+base)
			}
		}
		return out
	}
	for _, s := range r.get("servers").items() {
		u := s.get("url").text()
		for _, v := range s.get("variables").members() {
			u = strings.ReplaceAll(u, "{"+v.name+"}", v.value.get("default").text())
		}
		if p, err := url.Parse(u); err == nil && (p.Scheme == "http" || p.Scheme == "https") && p.Host != "" {
			out.Endpoints = append(out.Endpoints, u)
		}
	}
	return out
}

func raw(n node) json.RawMessage {
	if !n.ok() || n.kind() == 'n' {
		return nil
	}
	return append(json.RawMessage(nil), n.bytes()...)
}

// item follows a path item's local $ref, once.
func (d *Doc) item(n node) node {
	ref := n.get("$ref").text()
	if !strings.HasPrefix(ref, "#/") {
		return n
	}
	var names []string
	for _, s := range strings.Split(ref[2:], "/") {
		names = append(names, unescape(s))
	}
	t := d.get(names...)
	if t.kind() == '{' {
		return t
	}
	return n
}

// Operations lists the resources and verbs in the document's order.
func (d *Doc) Operations() []Operation {
	scopeSchemes := d.scopeSchemes()
	global := d.get("security")
	var out []Operation
	for _, p := range d.get("paths").members() {
		if !strings.HasPrefix(p.name, "/") {
			continue
		}
		for _, m := range d.item(p.value).members() {
			verb := verbs[m.name]
			if verb == "" || m.value.kind() != '{' {
				continue
			}
			op := Operation{Path: p.name, Verb: verb}
			sec := global
			for _, f := range m.value.members() {
				switch f.name {
				case "x-throttling-tier":
					op.Tier = f.value.text()
				case "x-auth-type":
					op.Auth = f.value.text()
				case "security":
					sec = f.value
				case "x-wso2-disable-security":
					op.NoAuth = f.value.isTrue()
				case "x-scope":
					op.Scopes = append(op.Scopes, splitScopes(f.value.text())...)
				case "x-scopes":
					op.Scopes = append(op.Scopes, f.value.strings()...)
				}
			}
			op.addSecurity(sec, scopeSchemes)
			out = append(out, op)
		}
	}
	return out
}

func splitScopes(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func (op *Operation) addSecurity(sec node, schemes map[string]bool) {
	for _, alt := range sec.items() {
		for _, m := range alt.members() {
			if !schemes[m.name] {
				continue
			}
			for _, s := range m.value.strings() {
				if !contains(op.Scopes, s) {
					op.Scopes = append(op.Scopes, s)
				}
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func (d *Doc) schemes() node {
	if d.Version == "2.0" {
		return d.get("securityDefinitions")
	}
	return d.get("components", "securitySchemes")
}

// scopeSchemes are the schemes whose scopes become the API's: the one named
// default, and OAuth2Security of exported documents.
func (d *Doc) scopeSchemes() map[string]bool {
	out := map[string]bool{}
	for _, m := range d.schemes().members() {
		if m.value.get("type").text() == "oauth2" && (m.name == "default" || m.name == "OAuth2Security") {
			out[m.name] = true
		}
	}
	return out
}

// Scopes lists the declared scopes of the schemes that count.
func (d *Doc) Scopes() []Scope {
	use := d.scopeSchemes()
	var out []Scope
	seen := map[string]bool{}
	for _, m := range d.schemes().members() {
		if !use[m.name] {
			continue
		}
		flows := []node{m.value}
		for _, f := range m.value.get("flows").members() {
			flows = append(flows, f.value)
		}
		for _, f := range flows {
			bind := f.get("x-scopes-bindings")
			for _, s := range f.get("scopes").members() {
				if seen[s.name] {
					continue
				}
				seen[s.name] = true
				sc := Scope{Name: s.name, Description: s.value.text()}
				if b := bind.get(s.name).text(); b != "" {
					for _, r := range strings.Split(b, ",") {
						sc.Roles = append(sc.Roles, strings.TrimSpace(r))
					}
				}
				out = append(out, sc)
			}
		}
	}
	return out
}
