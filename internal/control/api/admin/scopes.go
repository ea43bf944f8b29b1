package admin

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
	"github.com/cardea-apim/cardea/openapi"
)

// confSchema is the JSON Schema of a tenant configuration.
//
//go:embed tenantconf.schema.json
var confSchema []byte

// scopeDoc is what our documents say about a scope.
type scopeDoc struct{ tag, text string }

// readScopes collects the scopes that the documents of the surfaces name.
func (s *server) readScopes() error {
	s.tags = map[string]scopeDoc{}
	for _, d := range []struct {
		tag string
		doc []byte
	}{{"admin", openapi.Admin}, {"devportal", openapi.Devportal}, {"publisher", openapi.Publisher}} {
		t, err := openapi3.NewLoader().LoadFromData(d.doc)
		if err != nil {
			return fmt.Errorf("read scopes of the %s document: %w", d.tag, err)
		}
		for _, ref := range t.Components.SecuritySchemes {
			if ref.Value == nil || ref.Value.Flows == nil {
				continue
			}
			for _, flow := range []*openapi3.OAuthFlow{ref.Value.Flows.Password, ref.Value.Flows.Implicit, ref.Value.Flows.ClientCredentials, ref.Value.Flows.AuthorizationCode} {
				if flow == nil {
					continue
				}
				for name, text := range flow.Scopes {
					s.tags[name] = scopeDoc{d.tag, text}
					if d.tag == "admin" {
						s.scopes = append(s.scopes, name)
					}
				}
			}
		}
	}
	return nil
}

type scope struct {
	Tag         string   `json:"tag"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Roles       []string `json:"roles"`
}

func (s *server) listScopes(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.Bindings(r.Context())
	if err != nil {
		return err
	}
	out := []scope{}
	for _, b := range all {
		d, ok := s.tags[b.Scope]
		if !ok {
			d = scopeDoc{"other", b.Scope}
		}
		out = append(out, scope{d.tag, b.Scope, d.text, b.Roles})
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

func (s *server) updateScopes(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[list[scope]](r)
	if err != nil {
		return err
	}
	change := make([]govern.Binding, 0, len(in.List))
	for _, sc := range in.List {
		change = append(change, govern.Binding{Scope: sc.Name, Roles: sc.Roles})
	}
	if err := s.svc.SetBindings(r.Context(), change); err != nil {
		return err
	}
	return s.listScopes(w, r)
}

func (s *server) getScope(w http.ResponseWriter, r *http.Request) error {
	name, err := decode64(rest.Path(r, "scopeName"))
	if err != nil {
		return fault.BadRequest.With("The scope name must be base64 encoded")
	}
	user := r.URL.Query().Get("username")
	if user == "" {
		user = apim.ActorFrom(r.Context()).User
	}
	if err := s.svc.ScopeOf(r.Context(), name, user); err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, map[string]string{"name": name})
}

// decode64 reads base64 of either alphabet, padded or not.
func decode64(s string) (string, error) {
	var last error
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		b, err := e.DecodeString(s)
		if err == nil {
			return string(b), nil
		}
		last = err
	}
	return "", last
}

type alias struct {
	Role    string   `json:"role"`
	Aliases []string `json:"aliases"`
}

func (s *server) listAliases(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.Aliases(r.Context())
	if err != nil {
		return err
	}
	out := []alias{}
	for _, a := range all {
		out = append(out, alias{a.Role, some(a.Aliases)})
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

func (s *server) updateAliases(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[list[alias]](r)
	if err != nil {
		return err
	}
	all := make([]govern.Alias, 0, len(in.List))
	for _, a := range in.List {
		all = append(all, govern.Alias(a))
	}
	if err := s.svc.SetAliases(r.Context(), all); err != nil {
		return err
	}
	return s.listAliases(w, r)
}

func (s *server) getTenantConf(w http.ResponseWriter, r *http.Request) error {
	doc, err := s.svc.TenantConf(r.Context())
	if err != nil {
		return err
	}
	return rest.Raw(w, http.StatusOK, "application/json", []byte(doc))
}

func (s *server) updateTenantConf(w http.ResponseWriter, r *http.Request) error {
	b, err := rest.Body(r)
	if err != nil {
		return err
	}
	if !json.Valid(b) {
		return fault.TenantConfInvalid.With("Invalid tenant-config found with error: the document is not JSON")
	}
	if err := rest.CheckDepth(b, 64); err != nil {
		return err
	}
	if err := s.svc.SetTenantConf(r.Context(), string(b)); err != nil {
		return err
	}
	return s.getTenantConf(w, r)
}

func (s *server) getTenantConfSchema(w http.ResponseWriter, _ *http.Request) error {
	return rest.Raw(w, http.StatusOK, "application/json", confSchema)
}
