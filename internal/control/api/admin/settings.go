package admin

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/connector"
	"github.com/cardea-apim/cardea/internal/rest"
)

type field struct {
	Name     string `json:"name"`
	Label    string `json:"label"`
	Type     string `json:"type"`
	Required bool   `json:"required"`
	Mask     bool   `json:"mask"`
	Multiple bool   `json:"multiple"`
	Tooltip  string `json:"tooltip"`
	Default  string `json:"default"`
	Values   []any  `json:"values"`
}

type kmType struct {
	Type        string  `json:"type"`
	DisplayName string  `json:"displayName"`
	KeyClaim    string  `json:"defaultConsumerKeyClaim"`
	ScopesClaim string  `json:"defaultScopesClaim"`
	Fields      []field `json:"configurations"`
}

func (s *server) getSettings(w http.ResponseWriter, r *http.Request) error {
	scopes := slices.Clone(s.scopes)
	slices.Sort(scopes)
	kms := []kmType{}
	for _, c := range connector.Types {
		out := kmType{c.Name, c.Label, c.KeyClaim, c.ScopesClaim, []field{}}
		for _, f := range c.Fields {
			out.Fields = append(out.Fields, field{Name: f.Name, Label: f.Label, Type: "input", Required: f.Required, Mask: f.Secret, Values: []any{}})
		}
		kms = append(kms, out)
	}
	return rest.JSON(w, http.StatusOK, map[string]any{
		"scopes": slices.Compact(scopes), "gatewayTypes": []string{"Regular"}, "keyManagerConfiguration": kms, "analyticsEnabled": s.Analytics,
	})
}

type application struct {
	ID      string `json:"applicationId"`
	Name    string `json:"name"`
	Owner   string `json:"owner"`
	Status  string `json:"status"`
	GroupID string `json:"groupId"`
}

func (s *server) listApplications(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	sort := "name"
	if c := strings.ToLower(q.Get("sortBy")); c == "owner" {
		sort = "owner"
	}
	page, err := s.svc.ListApplications(r.Context(), q.Get("tenantDomain"), q.Get("user"), q.Get("name"), sort,
		strings.EqualFold(q.Get("sortOrder"), "desc"), offset, limit)
	if err != nil {
		return err
	}
	items := make([]application, 0, len(page.Items))
	for _, a := range page.Items {
		items = append(items, application{string(a.ID), a.Name, a.Owner, a.Status, ""})
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, page.Total, offset, limit))
}

func (s *server) deleteApplication(w http.ResponseWriter, r *http.Request) error {
	if err := s.svc.DeleteApplication(r.Context(), apim.AppID(rest.Path(r, "applicationId"))); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) changeOwner(w http.ResponseWriter, r *http.Request) error {
	if err := s.svc.ChangeOwner(r.Context(), apim.AppID(rest.Path(r, "applicationId")), r.URL.Query().Get("owner")); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}
