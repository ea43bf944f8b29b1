package subscribe

import (
	"context"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// unlimited is the name of the tier that limits nothing.
const unlimited = "Unlimited"

// Policies lists what the caller may choose at one level in tenant t, by name.
func (s *Service) Policies(ctx context.Context, t apim.TenantID, level apim.PolicyLevel) ([]*apim.ThrottlePolicy, error) {
	page, err := s.ThrottlePolicies(ctx, t, level)
	if err != nil {
		return nil, err
	}
	a := apim.ActorFrom(ctx)
	return slices.DeleteFunc(page, func(p *apim.ThrottlePolicy) bool { return !s.offered(p, a) }), nil
}

// ThrottlePolicies lists all policies of one level in tenant t, by name.
func (s *Service) ThrottlePolicies(ctx context.Context, t apim.TenantID, level apim.PolicyLevel) ([]*apim.ThrottlePolicy, error) {
	if level != apim.AppLevel && level != apim.SubLevel {
		return nil, fault.Missing.Withf("Throttling policy level '%s' not found", level)
	}
	q := apim.Where("level", string(level))
	q.Sort = "name"
	page, err := s.Options.Policies.List(ctx, apim.In(t), q)
	return page.Items, wrap("list policies", err)
}

func (s *Service) offered(p *apim.ThrottlePolicy, a *apim.Actor) bool {
	if p.Hidden || (p.Name == unlimited && !s.Unlimited) {
		return false
	}
	return allows(p.PermissionType, p.PermissionRoles, a)
}

// Policy is one policy the caller may choose.
func (s *Service) Policy(ctx context.Context, t apim.TenantID, level apim.PolicyLevel, name string) (*apim.ThrottlePolicy, error) {
	if level != apim.AppLevel && level != apim.SubLevel {
		return nil, fault.Missing.Withf("Throttling policy level '%s' not found", level)
	}
	p, err := s.policy(ctx, t, level, name)
	if missing(err) || (err == nil && !s.offered(p, apim.ActorFrom(ctx))) {
		return nil, fault.Missing.Withf("Throttling policy '%s' not found", name)
	}
	return p, err
}

func (s *Service) policy(ctx context.Context, t apim.TenantID, level apim.PolicyLevel, name string) (*apim.ThrottlePolicy, error) {
	p, err := s.Options.Policies.First(ctx, apim.In(t), apim.Where("level", string(level)).And("name", name))
	return p, wrap("find policy", err)
}

// checkAppPolicy refuses an application policy that is unknown or not offered.
func (s *Service) checkAppPolicy(ctx context.Context, t apim.TenantID, name string) error {
	p, err := s.policy(ctx, t, apim.AppLevel, name)
	if missing(err) || (err == nil && (p.Name == unlimited && !s.Unlimited)) {
		return fault.TierNameInvalid.Withf("The tier name '%s' is invalid.", name)
	}
	return err
}

// checkPlan refuses a business plan that the API does not offer (400) or that
// the caller's roles forbid (403).
func (s *Service) checkPlan(ctx context.Context, api *apim.API, name string) error {
	a := apim.ActorFrom(ctx)
	open, err := s.Plans(ctx, api)
	if err != nil {
		return err
	}
	refusal := func() string {
		return "Tier " + name + " is not allowed for API " + api.Name + "-" + api.Version +
			". Only [" + strings.Join(open, ", ") + "] Tiers are allowed."
	}
	if !slices.Contains(api.Plans, name) {
		return fault.BadRequest.With(refusal())
	}
	p, err := s.policy(ctx, api.Tenant, apim.SubLevel, name)
	switch {
	case missing(err):
		return fault.BadRequest.With(refusal())
	case err != nil:
		return err
	case name == unlimited && !s.Unlimited:
		return fault.BadRequest.With(refusal())
	case !allows(p.PermissionType, p.PermissionRoles, a):
		return fault.NotPermitted.With(refusal())
	}
	return nil
}

// Plans are the business plans of the API that the caller may subscribe to.
func (s *Service) Plans(ctx context.Context, api *apim.API) ([]string, error) {
	all, err := s.ThrottlePolicies(ctx, api.Tenant, apim.SubLevel)
	if err != nil {
		return nil, err
	}
	return s.PlansFrom(ctx, api, all), nil
}

// PlansFrom is Plans for callers that already hold the tenant's policies.
func (s *Service) PlansFrom(ctx context.Context, api *apim.API, all []*apim.ThrottlePolicy) []string {
	a := apim.ActorFrom(ctx)
	out := []string{}
	for _, name := range api.Plans {
		i := slices.IndexFunc(all, func(p *apim.ThrottlePolicy) bool { return p.Name == name })
		if i >= 0 && (name != unlimited || s.Unlimited) && allows(all[i].PermissionType, all[i].PermissionRoles, a) {
			out = append(out, name)
		}
	}
	return out
}
