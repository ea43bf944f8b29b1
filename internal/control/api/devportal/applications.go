package devportal

import (
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

type applicationInfo struct {
	ID                string            `json:"applicationId"`
	Name              string            `json:"name"`
	ThrottlingPolicy  string            `json:"throttlingPolicy"`
	Description       string            `json:"description"`
	Status            string            `json:"status"`
	Groups            []string          `json:"groups"`
	SubscriptionCount int               `json:"subscriptionCount"`
	Attributes        map[string]string `json:"attributes"`
	Owner             string            `json:"owner"`
	TokenType         string            `json:"tokenType,omitempty"`
	CreatedTime       string            `json:"createdTime,omitempty"`
	UpdatedTime       string            `json:"updatedTime,omitempty"`
}

func fromApplicationInfo(app *apim.Application, subscriptions int) applicationInfo {
	return applicationInfo{
		ID: string(app.ID), Name: app.Name, ThrottlingPolicy: app.Policy, Description: app.Description, Status: app.Status,
		Groups: some(app.Groups), SubscriptionCount: subscriptions, Attributes: attributes(app), Owner: app.Owner,
		TokenType: app.TokenType, CreatedTime: stamp(app.CreatedAt), UpdatedTime: stamp(app.UpdatedAt),
	}
}

func attributes(app *apim.Application) map[string]string {
	if app.Attributes == nil {
		return map[string]string{}
	}
	return app.Attributes
}

type application struct {
	applicationInfo
	Keys               []key       `json:"keys"`
	SubscriptionScopes []scopeInfo `json:"subscriptionScopes"`
	HashEnabled        bool        `json:"hashEnabled"`
	Visibility         string      `json:"visibility"`
}

type applicationIn struct {
	Name             string            `json:"name"`
	ThrottlingPolicy string            `json:"throttlingPolicy"`
	Description      string            `json:"description"`
	TokenType        string            `json:"tokenType"`
	Attributes       map[string]string `json:"attributes"`
	Visibility       string            `json:"visibility"`
}

func (in *applicationIn) application() *apim.Application {
	return &apim.Application{
		Name: in.Name, Policy: in.ThrottlingPolicy, Description: in.Description,
		TokenType: in.TokenType, Attributes: in.Attributes, Visibility: in.Visibility,
	}
}

// fromApplication joins to an application its keys and the scopes of the APIs
// it subscribes to.
func (s *server) fromApplication(r *http.Request, app *apim.Application) (*application, error) {
	subs, n, err := s.svc.SubscriptionsOf(r.Context(), app.ID, "", 0, 0)
	if err != nil {
		return nil, err
	}
	keys, err := s.svc.Keys(r.Context(), app.ID)
	if err != nil {
		return nil, err
	}
	out := &application{applicationInfo: fromApplicationInfo(app, n), Keys: []key{}, SubscriptionScopes: []scopeInfo{}, Visibility: app.Visibility}
	for _, k := range keys {
		out.Keys = append(out.Keys, fromKey(k))
	}
	seen := map[string]bool{}
	for _, sub := range subs {
		if sub.API == nil {
			continue
		}
		for _, sc := range sub.API.Scopes {
			if seen[sc.Name] {
				continue
			}
			seen[sc.Name] = true
			out.SubscriptionScopes = append(out.SubscriptionScopes, scopeInfo{sc.Name, sc.DisplayName, some(sc.Roles), sc.Description})
		}
	}
	return out, nil
}

// sortColumns of the list of applications, by their wire names.
var sortColumns = map[string]string{"": "name", "name": "name", "status": "status", "createdtime": "created", "created_time": "created", "owner": "owner"}

func (s *server) listApplications(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	column, ok := sortColumns[strings.ToLower(q.Get("sortBy"))]
	if !ok {
		column = "name"
	}
	page, err := s.svc.ListApplications(r.Context(), q.Get("query"), column, strings.EqualFold(q.Get("sortOrder"), "desc"), offset, limit)
	if err != nil {
		return err
	}
	items := make([]applicationInfo, 0, len(page.Items))
	for _, app := range page.Items {
		n, err := s.svc.SubscriptionCount(r.Context(), app)
		if err != nil {
			return err
		}
		items = append(items, fromApplicationInfo(app, n))
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, page.Total, offset, limit))
}

func (s *server) createApplication(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[applicationIn](r)
	if err != nil {
		return err
	}
	app := in.application()
	if err := s.svc.CreateApplication(r.Context(), app); err != nil {
		return err
	}
	out, err := s.fromApplication(r, app)
	if err != nil {
		return err
	}
	location(w, "applications", string(app.ID))
	rest.SetETag(w, app.Rev)
	return rest.JSON(w, http.StatusCreated, out)
}

func appID(r *http.Request) apim.AppID { return apim.AppID(rest.Path(r, "applicationId")) }

func (s *server) getApplication(w http.ResponseWriter, r *http.Request) error {
	app, err := s.svc.Application(r.Context(), appID(r))
	if err != nil {
		return err
	}
	out, err := s.fromApplication(r, app)
	if err != nil {
		return err
	}
	rest.SetETag(w, app.Rev)
	return rest.JSON(w, http.StatusOK, out)
}

func (s *server) updateApplication(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[applicationIn](r)
	if err != nil {
		return err
	}
	app, err := s.svc.UpdateApplication(r.Context(), appID(r), in.application(), ifMatch(r))
	if err != nil {
		return err
	}
	out, err := s.fromApplication(r, app)
	if err != nil {
		return err
	}
	rest.SetETag(w, app.Rev)
	return rest.JSON(w, http.StatusOK, out)
}

func (s *server) deleteApplication(w http.ResponseWriter, r *http.Request) error {
	if err := s.svc.DeleteApplication(r.Context(), appID(r), ifMatch(r)); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) resetQuota(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[struct {
		UserName string `json:"userName"`
	}](r)
	if err != nil {
		return err
	}
	if len(in.UserName) > 255 {
		return fault.BadRequest.With("userName has at most 255 characters")
	}
	if err := s.svc.ResetQuota(r.Context(), appID(r), in.UserName); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}
