package publisher

import (
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

func sharedScope(v *apim.SharedScope) scopeDTO {
	return scopeDTO{ID: v.ID, Name: v.Name, DisplayName: v.DisplayName, Description: v.Description, Bindings: list(v.Roles)}
}

func (s *server) listScopes(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	p, err := s.pub.ListScopes(r.Context(), offset, limit)
	if err != nil {
		return err
	}
	out := make([]scopeDTO, 0, len(p.Items))
	for _, v := range p.Items {
		out = append(out, sharedScope(v))
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, out, p.Total, offset, limit))
}

func (s *server) createScope(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[scopeDTO](r)
	if err != nil {
		return err
	}
	v := &apim.SharedScope{Name: in.Name, DisplayName: in.DisplayName, Description: in.Description, Roles: in.Bindings}
	if err := s.pub.CreateScope(r.Context(), v); err != nil {
		return err
	}
	w.Header().Set("Location", Base+"/scopes/"+v.ID)
	rest.SetETag(w, v.Rev)
	return rest.JSON(w, http.StatusCreated, sharedScope(v))
}

func (s *server) getScope(w http.ResponseWriter, r *http.Request) error {
	v, err := s.pub.Scope(r.Context(), rest.Path(r, "scopeId"))
	if err != nil {
		return err
	}
	rest.SetETag(w, v.Rev)
	return rest.JSON(w, http.StatusOK, sharedScope(v))
}

func (s *server) updateScope(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[scopeDTO](r)
	if err != nil {
		return err
	}
	v, err := s.pub.UpdateScope(r.Context(), rest.Path(r, "scopeId"),
		&apim.SharedScope{DisplayName: in.DisplayName, Description: in.Description, Roles: in.Bindings})
	if err != nil {
		return err
	}
	rest.SetETag(w, v.Rev)
	return rest.JSON(w, http.StatusOK, sharedScope(v))
}

func (s *server) deleteScope(w http.ResponseWriter, r *http.Request) error {
	if err := s.pub.DeleteScope(r.Context(), rest.Path(r, "scopeId")); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) checkScope(w http.ResponseWriter, r *http.Request) error {
	name, err := decoded(r, "scopeId")
	if err != nil {
		return err
	}
	found, err := s.pub.ScopeNamed(r.Context(), name)
	return exists(w, found, err)
}

func exists(w http.ResponseWriter, found bool, err error) error {
	if err != nil {
		return err
	}
	if !found {
		return &fault.Missing
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) scopeUsage(w http.ResponseWriter, r *http.Request) error {
	v, used, err := s.pub.ScopeUsage(r.Context(), rest.Path(r, "scopeId"))
	if err != nil {
		return err
	}
	type resource struct {
		Target string `json:"target"`
		Verb   string `json:"verb"`
	}
	type usedAPI struct {
		Name      string     `json:"name"`
		Context   string     `json:"context"`
		Version   string     `json:"version"`
		Provider  string     `json:"provider"`
		Resources []resource `json:"usedResourceList"`
	}
	out := struct {
		ID   string    `json:"id"`
		Name string    `json:"name"`
		APIs []usedAPI `json:"usedApiList"`
	}{v.ID, v.Name, []usedAPI{}}
	for _, a := range used {
		u := usedAPI{a.Name, a.Context, a.Version, a.Provider, []resource{}}
		for _, o := range a.Operations {
			for _, n := range o.Scopes {
				if n == v.Name {
					u.Resources = append(u.Resources, resource{o.Target, o.Verb})
				}
			}
		}
		out.APIs = append(out.APIs, u)
	}
	return rest.JSON(w, http.StatusOK, out)
}

func (s *server) checkRole(w http.ResponseWriter, r *http.Request) error {
	name, err := decoded(r, "roleId")
	if err != nil {
		return err
	}
	found, err := s.pub.RoleExists(r.Context(), apim.ActorFrom(r.Context()).Tenant, name)
	return exists(w, found, err)
}

func (s *server) checkMyRole(w http.ResponseWriter, r *http.Request) error {
	name, err := decoded(r, "roleId")
	if err != nil {
		return err
	}
	found := strings.EqualFold(name, "Internal/everyone")
	for _, role := range apim.ActorFrom(r.Context()).Roles {
		found = found || strings.EqualFold(role, name)
	}
	return exists(w, found, nil)
}
