package analytics

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// Name is what people know an API or an application by.
type Name struct {
	Name    string
	Version string // of an API
	Owner   string // of an application
}

// Names finds the names of a tenant's things by their ids. What is gone, or was
// never there, is left out: then the id has to do.
type Names interface {
	APIs(ctx context.Context, t apim.TenantID, ids []string) (map[string]Name, error)
	Applications(ctx context.Context, t apim.TenantID, ids []string) (map[string]Name, error)
}

// nameless is an answer that holds ids only.
type nameless interface {
	ids() (apis, applications []string)
	name(apis, applications map[string]Name)
}

func (g *Groups) ids() (apis, applications []string) {
	if g.Dimension != "application" {
		return nil, nil // what is of an API has the name it was called by
	}
	for i := range g.Groups {
		applications = append(applications, g.Groups[i].Key)
	}
	return nil, applications
}

func (g *Groups) name(_, applications map[string]Name) {
	for i := range g.Groups {
		n := applications[g.Groups[i].Key]
		g.Groups[i].ApplicationName, g.Groups[i].ApplicationOwner = n.Name, n.Owner
	}
}

func (c *Calls) ids() (apis, applications []string) {
	for i := range c.Calls {
		applications = append(applications, c.Calls[i].Application)
	}
	return nil, applications
}

func (c *Calls) name(_, applications map[string]Name) {
	for i := range c.Calls {
		n := applications[c.Calls[i].Application]
		c.Calls[i].ApplicationName, c.Calls[i].ApplicationOwner = n.Name, n.Owner
	}
}

func (x *Explanation) ids() (apis, applications []string) {
	return []string{x.API}, []string{x.Application}
}

func (x *Explanation) name(apis, applications map[string]Name) {
	api, app := apis[x.API], applications[x.Application]
	x.APIName, x.APIVersion = api.Name, api.Version
	x.ApplicationName, x.ApplicationOwner = app.Name, app.Owner
}

// addNames puts names beside the ids of an answer, if it has any.
func addNames(ctx context.Context, names Names, t apim.TenantID, answer any) error {
	x, ok := answer.(nameless)
	if !ok || names == nil {
		return nil
	}
	apis, applications := x.ids()
	find := func(ids []string, in func(context.Context, apim.TenantID, []string) (map[string]Name, error)) (map[string]Name, error) {
		slices.Sort(ids)
		ids = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" })
		if len(ids) == 0 {
			return nil, nil
		}
		return in(ctx, t, ids)
	}
	foundAPIs, err := find(apis, names.APIs)
	if err != nil {
		return fmt.Errorf("name apis: %w", err)
	}
	foundApplications, err := find(applications, names.Applications)
	if err != nil {
		return fmt.Errorf("name applications: %w", err)
	}
	x.name(foundAPIs, foundApplications)
	return nil
}

// AddNames is for the answer of a Handler in another process, which had no
// Names: it puts them into the body of the answer to path.
func AddNames(ctx context.Context, names Names, t apim.TenantID, path string, body []byte) ([]byte, error) {
	var answer any
	switch path = strings.TrimPrefix(path, Base); {
	case path == "/analytics/by":
		answer = &Groups{}
	case path == "/analytics/calls":
		answer = &Calls{}
	case strings.HasPrefix(path, "/decisions/"):
		answer = &Explanation{}
	default:
		return body, nil
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, fmt.Errorf("name what was answered: %w", err)
	}
	if err := addNames(ctx, names, t, answer); err != nil {
		return nil, err
	}
	out, err := json.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("name what was answered: %w", err)
	}
	return out, nil
}
