package publisher

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/publish"
	"github.com/cardea-apim/cardea/internal/rest"
)

func itoa(n int) string { return strconv.Itoa(n) }

type stateDTO struct {
	State       string          `json:"state"`
	CheckItems  []checkItemDTO  `json:"checkItems"`
	Transitions []transitionDTO `json:"availableTransitions"`
}

type checkItemDTO struct {
	Name     string   `json:"name"`
	Value    bool     `json:"value"`
	Required []string `json:"requiredStates"`
}

type transitionDTO struct {
	Event  string `json:"event"`
	Target string `json:"targetState"`
}

func title(st apim.State) string { return publish.Title(st) }

func (s *server) stateOf(ctx context.Context, a *apim.API) (stateDTO, error) {
	p, err := s.pub.Lifecycle(ctx, a.Tenant, a.State)
	if err != nil {
		return stateDTO{}, err
	}
	d := stateDTO{State: p.Name, CheckItems: []checkItemDTO{}, Transitions: []transitionDTO{}}
	if d.State == "" {
		d.State = title(a.State)
	}
	for _, n := range p.Items {
		d.CheckItems = append(d.CheckItems, checkItemDTO{Name: n, Required: []string{}})
	}
	for _, e := range p.Events {
		if !e.Hidden {
			d.Transitions = append(d.Transitions, transitionDTO{e.Name, title(e.Target)})
		}
	}
	return d, nil
}

func (s *server) lifecycleState(w http.ResponseWriter, r *http.Request) error {
	a, _, err := s.pub.Get(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	st, err := s.stateOf(r.Context(), a)
	if err != nil {
		return err
	}
	rest.SetTag(w, tag(a))
	return rest.JSON(w, http.StatusOK, st)
}

func (s *server) lifecycleHistory(w http.ResponseWriter, r *http.Request) error {
	a, _, err := s.pub.Get(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	type item struct {
		Previous *string `json:"previousState"`
		Post     string  `json:"postState"`
		User     string  `json:"user"`
		Time     string  `json:"updatedTime"`
	}
	out := struct {
		Count int    `json:"count"`
		List  []item `json:"list"`
	}{List: []item{}}
	for _, t := range a.History {
		out.List = append(out.List, item{optional(title(t.From)), title(t.To), t.User, t.At.UTC().Format("2006-01-02T15:04:05.000Z")})
	}
	out.Count = len(out.List)
	return rest.JSON(w, http.StatusOK, out)
}

func (s *server) changeLifecycle(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	items, err := publish.Checklist(q.Get("lifecycleChecklist"))
	if err != nil {
		return err
	}
	a, err := s.pub.Change(r.Context(), apim.APIID(q.Get("apiId")), q.Get("action"), items, guard(r))
	if err != nil {
		return err
	}
	st, err := s.stateOf(r.Context(), a)
	if err != nil {
		return err
	}
	payload, err := json.Marshal(map[string]string{"Additional Details": ""})
	if err != nil {
		return err
	}
	rest.SetTag(w, tag(a))
	return rest.JSON(w, http.StatusOK, struct {
		Status  string   `json:"workflowStatus"`
		Payload string   `json:"jsonPayload"`
		State   stateDTO `json:"lifecycleState"`
	}{"APPROVED", string(payload), st})
}

// deletePendingTasks has nothing to withdraw: changes of state need no
// approval. The API must exist all the same.
func (s *server) deletePendingTasks(w http.ResponseWriter, r *http.Request) error {
	if _, _, err := s.pub.Get(r.Context(), apiID(r)); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}
