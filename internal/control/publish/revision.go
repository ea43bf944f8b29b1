package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Target is where a revision is to be deployed.
type Target struct {
	Environment string
	VHost       string // empty: the environment's first
	OnDevportal bool
}

func revisionNotFound(id string) error {
	return fault.RevisionNotFound.Withf("Requested API Revision with id %s not found", printable(id))
}

// CreateRevision freezes the working copy.
func (s *Service) CreateRevision(ctx context.Context, id apim.APIID, description string) (*apim.Revision, error) {
	if utf8.RuneCountInString(description) > 255 {
		return nil, fault.BadRequest.With("description: must have at most 255 characters")
	}
	var rev *apim.Revision
	_, err := s.mutate(ctx, id, func(ctx context.Context, api *apim.API) error {
		if advertised(api.Advertise) {
			return &fault.NoRevisions
		}
		n, err := s.Revisions.Count(ctx, apim.In(api.Tenant), apim.Where("api", string(id)))
		if err != nil {
			return fmt.Errorf("count revisions: %w", err)
		}
		if n >= s.MaxRevisions {
			return fault.RevisionsFull.Withf("Maximum number of revisions per API has reached. Need to remove stale revision to create a new Revision for API with id : %s", id)
		}
		api.RevisionCount++
		c := *api
		c.History, c.Findings = nil, nil
		rev = &apim.Revision{
			Meta: apim.Meta{Tenant: api.Tenant}, ID: apim.RevisionID(newID()), API: id,
			Number: api.RevisionCount, Description: description, Copy: c,
		}
		if err := s.Revisions.Create(ctx, apim.In(api.Tenant), rev); err != nil {
			return fmt.Errorf("create revision: %w", err)
		}
		return nil
	})
	if errors.Is(err, &fault.APINotFound) {
		return nil, fault.RevisionOfUnknownAPI.With(fault.RevisionOfUnknownAPI.Detail + printable(string(id)))
	}
	return rev, err
}

// Revision reads one revision of an API.
func (s *Service) Revision(ctx context.Context, id apim.APIID, rev string) (*apim.Revision, error) {
	api, err := s.load(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.revision(ctx, api, rev)
}

func (s *Service) revision(ctx context.Context, api *apim.API, rev string) (*apim.Revision, error) {
	r, err := s.Revisions.Get(ctx, apim.In(api.Tenant), apim.RevisionID(rev))
	if missing(err) || (err == nil && r.API != api.ID) {
		return nil, revisionNotFound(rev)
	}
	if err != nil {
		return nil, fmt.Errorf("load revision: %w", err)
	}
	return r, nil
}

// ListRevisions lists the revisions of an API, oldest first, and where each runs.
func (s *Service) ListRevisions(ctx context.Context, id apim.APIID) ([]*apim.Revision, []*apim.Deployment, error) {
	api, err := s.load(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	q := apim.Where("api", string(id))
	q.Sort = "number"
	revs, err := s.Revisions.List(ctx, apim.In(api.Tenant), q)
	if err != nil {
		return nil, nil, fmt.Errorf("list revisions: %w", err)
	}
	deps, err := s.deployments(ctx, api)
	return revs.Items, deps, err
}

func (s *Service) deployments(ctx context.Context, api *apim.API) ([]*apim.Deployment, error) {
	p, err := s.Deployments.List(ctx, apim.In(api.Tenant), apim.Query{Where: []apim.Cond{{Col: "api", Op: apim.Eq, Value: string(api.ID)}}, Sort: "environment"})
	if err != nil {
		return nil, fmt.Errorf("list deployments: %w", err)
	}
	return p.Items, nil
}

// ListDeployments lists where an API is deployed.
func (s *Service) ListDeployments(ctx context.Context, id apim.APIID) ([]*apim.Deployment, error) {
	api, err := s.load(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.deployments(ctx, api)
}

// DeleteRevision removes a revision that runs nowhere.
func (s *Service) DeleteRevision(ctx context.Context, id apim.APIID, rev string) error {
	return s.retry(ctx, func(ctx context.Context) error {
		api, err := s.load(ctx, id)
		if err != nil {
			return err
		}
		r, err := s.revision(ctx, api, rev)
		if err != nil {
			return err
		}
		deps, err := s.deployments(ctx, api)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(deps, func(d *apim.Deployment) bool { return d.Revision == r.ID }) {
			return fault.RevisionDeployed.Withf("Couldn't delete API revision since API revision is currently deployed to a gateway. You need to undeploy the API Revision from the gateway before attempting deleting API Revision: %s", r.ID)
		}
		if err := s.Revisions.Delete(ctx, apim.In(api.Tenant), r.ID); err != nil {
			return fmt.Errorf("delete revision: %w", err)
		}
		return nil
	})
}

// environment finds a gateway environment of the tenant. The read-only ones of
// the super tenant are the installation's and serve everybody.
func (s *Service) environment(ctx context.Context, t apim.TenantID, name string) (*apim.Environment, error) {
	for _, sc := range []apim.Scope{apim.In(t), apim.In(apim.SuperTenant)} {
		e, err := s.Environments.First(ctx, sc, apim.Where("name", name))
		if err == nil && shared(e, t) {
			return e, nil
		}
		if err != nil && !missing(err) {
			return nil, fmt.Errorf("look for environment: %w", err)
		}
	}
	return nil, fault.EnvironmentBad.Withf("Gateway Environment with name 'name '%s'' not found", printable(name))
}

// shared reports whether a tenant may use an environment.
func shared(e *apim.Environment, t apim.TenantID) bool { return e.ReadOnly || e.Tenant == t }

// AllEnvironments lists the gateway environments a tenant can deploy to.
func (s *Service) AllEnvironments(ctx context.Context, t apim.TenantID) ([]*apim.Environment, error) {
	var out []*apim.Environment
	scopes := []apim.Scope{apim.In(t)}
	if t != apim.SuperTenant {
		scopes = append(scopes, apim.In(apim.SuperTenant))
	}
	for _, sc := range scopes {
		p, err := s.Environments.List(ctx, sc, apim.Query{Sort: "name"})
		if err != nil {
			return nil, fmt.Errorf("list environments: %w", err)
		}
		for _, e := range p.Items {
			if shared(e, t) && !slices.ContainsFunc(out, func(o *apim.Environment) bool { return o.Name == e.Name }) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func pickVHost(e *apim.Environment, want string) (string, error) {
	if want == "" && len(e.VHosts) > 0 {
		return e.VHosts[0].Host, nil
	}
	for _, v := range e.VHosts {
		if strings.EqualFold(v.Host, want) {
			return v.Host, nil
		}
	}
	if want == "" {
		return "", nil
	}
	return "", fault.BadRequest.Withf("Invalid VHost '%s' for the environment '%s'", printable(want), e.Name)
}

// Deploy puts a revision on environments, in place of whatever revision of the
// API ran there.
func (s *Service) Deploy(ctx context.Context, id apim.APIID, rev string, targets []Target) ([]*apim.Deployment, error) {
	var out []*apim.Deployment
	err := s.retry(ctx, func(ctx context.Context) error {
		out = nil
		api, err := s.load(ctx, id)
		if err != nil {
			return err
		}
		r, err := s.revision(ctx, api, rev)
		if err != nil {
			return err
		}
		if len(targets) == 0 {
			return fault.BadRequest.With("No environment is given")
		}
		for _, t := range targets {
			d, err := s.deployTo(ctx, api, r, t)
			if err != nil {
				return err
			}
			out = append(out, d)
		}
		return nil
	})
	return out, err
}

func (s *Service) deployTo(ctx context.Context, api *apim.API, r *apim.Revision, t Target) (*apim.Deployment, error) {
	e, err := s.environment(ctx, api.Tenant, t.Environment)
	if err != nil {
		return nil, err
	}
	vhost, err := pickVHost(e, t.VHost)
	if err != nil {
		return nil, err
	}
	sc, did := apim.In(api.Tenant), apim.DeploymentID(string(api.ID)+"/"+e.Name)
	d, err := s.Deployments.Get(ctx, sc, did)
	if err != nil && !missing(err) {
		return nil, fmt.Errorf("load deployment: %w", err)
	}
	fresh := missing(err)
	if fresh {
		d = &apim.Deployment{Meta: apim.Meta{Tenant: api.Tenant}, ID: did, API: api.ID, Environment: e.Name}
	}
	d.Revision, d.VHost, d.OnDevportal, d.DeployedAt = r.ID, vhost, t.OnDevportal, s.Now()
	return d, s.saveDeployment(ctx, sc, d, fresh)
}

func (s *Service) saveDeployment(ctx context.Context, sc apim.Scope, d *apim.Deployment, fresh bool) error {
	var err error
	if fresh {
		err = s.Deployments.Create(ctx, sc, d)
	} else {
		err = s.Deployments.Update(ctx, sc, d)
	}
	switch {
	case errors.Is(err, &fault.PreconditionBad), errors.Is(err, &fault.Exists):
		return errLostRace
	case err != nil:
		return fmt.Errorf("save deployment: %w", err)
	}
	return nil
}

// Undeploy takes a revision, given by id or number, out of environments, and
// lists where it still runs.
func (s *Service) Undeploy(ctx context.Context, id apim.APIID, rev, number string, everywhere bool, targets []Target) ([]*apim.Deployment, error) {
	var left []*apim.Deployment
	err := s.retry(ctx, func(ctx context.Context) error {
		left = nil
		api, err := s.load(ctx, id)
		if err != nil {
			return err
		}
		r, err := s.byIDOrNumber(ctx, api, rev, number)
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, t := range targets {
			e, err := s.environment(ctx, api.Tenant, t.Environment)
			if err != nil {
				return err
			}
			names[e.Name] = true
		}
		if len(names) == 0 && !everywhere {
			return fault.BadRequest.With("No environment is given")
		}
		deps, err := s.deployments(ctx, api)
		if err != nil {
			return err
		}
		for _, d := range deps {
			switch {
			case d.Revision != r.ID:
			case everywhere || names[d.Environment]:
				if err := s.Deployments.Delete(ctx, apim.In(api.Tenant), d.ID); err != nil && !missing(err) {
					return fmt.Errorf("delete deployment: %w", err)
				}
			default:
				left = append(left, d)
			}
		}
		return nil
	})
	return left, err
}

func (s *Service) byIDOrNumber(ctx context.Context, api *apim.API, rev, number string) (*apim.Revision, error) {
	if rev != "" || number == "" {
		return s.revision(ctx, api, rev)
	}
	n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(number, "Revision ")))
	if err != nil {
		return nil, fault.BadRequest.With("revisionNumber: must be a number")
	}
	r, err := s.Revisions.First(ctx, apim.In(api.Tenant), apim.Where("api", string(api.ID)).And("number", int64(n)))
	if missing(err) {
		return nil, revisionNotFound(number)
	}
	return r, err
}

// SetDeployment changes how a deployment is shown.
func (s *Service) SetDeployment(ctx context.Context, id apim.APIID, t Target) (*apim.Deployment, error) {
	var out *apim.Deployment
	err := s.retry(ctx, func(ctx context.Context) error {
		api, err := s.load(ctx, id)
		if err != nil {
			return err
		}
		e, err := s.environment(ctx, api.Tenant, t.Environment)
		if err != nil {
			return err
		}
		d, err := s.Deployments.Get(ctx, apim.In(api.Tenant), apim.DeploymentID(string(id)+"/"+e.Name))
		if missing(err) {
			return fault.Missing.Withf("The API is not deployed to %s", e.Name)
		}
		if err != nil {
			return fmt.Errorf("load deployment: %w", err)
		}
		if t.VHost != "" {
			if d.VHost, err = pickVHost(e, t.VHost); err != nil {
				return err
			}
		}
		d.OnDevportal = t.OnDevportal
		out = d
		return s.saveDeployment(ctx, apim.In(api.Tenant), d, false)
	})
	return out, err
}

// Restore makes a revision the working copy again. State, history and the
// counter of revisions belong to the API, not to the copy.
func (s *Service) Restore(ctx context.Context, id apim.APIID, rev string) (*apim.API, error) {
	api, err := s.mutate(ctx, id, func(ctx context.Context, api *apim.API) error {
		r, err := s.revision(ctx, api, rev)
		if err != nil {
			return err
		}
		c := r.Copy
		c.Meta, c.ID, c.State, c.Workflow = api.Meta, api.ID, api.State, api.Workflow
		c.History, c.RevisionCount, c.Default = api.History, api.RevisionCount, api.Default
		*api = c
		return nil
	})
	if err == nil {
		s.checkLater(api)
	}
	return api, err
}
