package govern

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Limit types and the member of a limit that goes with each.
var limitMembers = map[string]string{
	"REQUESTCOUNTLIMIT": "requestCount",
	"BANDWIDTHLIMIT":    "bandwidth",
	"EVENTCOUNTLIMIT":   "eventCount",
	"AIAPIQUOTALIMIT":   "aiApiQuota",
}

// LimitMember is the member of a limit object that goes with its type; it is
// empty for an unknown type.
func LimitMember(kind string) string { return limitMembers[kind] }

// ListPolicies lists the policies of one level in the caller's tenant, by name.
func (s *Service) ListPolicies(ctx context.Context, level apim.PolicyLevel) ([]*apim.ThrottlePolicy, error) {
	_, in := tenantOf(ctx)
	q := apim.Where("level", string(level))
	q.Sort = "name"
	page, err := s.Policies.List(ctx, in, q)
	return slices.DeleteFunc(page.Items, func(p *apim.ThrottlePolicy) bool { return p.Name == unlimited && !s.Unlimited }),
		wrap("list policies", err)
}

// Policy is one policy of a level by id.
func (s *Service) Policy(ctx context.Context, level apim.PolicyLevel, id string) (*apim.ThrottlePolicy, error) {
	_, in := tenantOf(ctx)
	p, err := s.Policies.Get(ctx, in, id)
	if missing(err) || (err == nil && p.Level != level) {
		return nil, fault.Missing.Withf("Throttling policy with id '%s' not found", id)
	}
	return p, wrap("get policy", err)
}

// PolicyNamed is one policy of a level by name.
func (s *Service) PolicyNamed(ctx context.Context, level apim.PolicyLevel, name string) (*apim.ThrottlePolicy, error) {
	_, in := tenantOf(ctx)
	p, err := s.Policies.First(ctx, in, apim.Where("level", string(level)).And("name", name))
	if missing(err) {
		return nil, fault.Missing.Withf("Throttling policy with name '%s' not found", name)
	}
	return p, wrap("find policy", err)
}

// CreatePolicy stores p for the caller's tenant.
func (s *Service) CreatePolicy(ctx context.Context, p *apim.ThrottlePolicy) error {
	t, in := tenantOf(ctx)
	if err := checkPolicy(p); err != nil {
		return err
	}
	p.Meta, p.ID, p.Deployed = apim.Meta{Tenant: t}, uuid.NewString(), true
	err := s.Policies.Create(ctx, in, p)
	if errors.Is(err, &fault.Exists) {
		return fault.Exists.Withf("Throttling policy with name '%s' already exists", p.Name)
	}
	return wrap("save policy", err)
}

// UpdatePolicy replaces everything but the name, which other nouns refer to.
// Check, when not nil, may refuse on the stored revision.
func (s *Service) UpdatePolicy(ctx context.Context, id string, in *apim.ThrottlePolicy, check func(rev int64) error) error {
	return retry(func() error {
		old, err := s.Policy(ctx, in.Level, id)
		if err != nil {
			return err
		}
		if check != nil {
			if err := check(old.Rev); err != nil {
				return final(err)
			}
		}
		in.Meta, in.ID, in.Name, in.Hidden, in.Deployed = old.Meta, old.ID, old.Name, old.Hidden, old.Deployed
		if err := checkPolicy(in); err != nil {
			return err
		}
		return wrap("save policy", s.Policies.Update(ctx, apim.In(old.Tenant), in))
	})
}

const maxGroups = 100

func checkPolicy(p *apim.ThrottlePolicy) error {
	name := []rune(p.Name)
	switch {
	case len(name) == 0 || strings.TrimSpace(p.Name) == "":
		return fault.BadRequest.With("policyName is required")
	case len(name) > 60:
		return fault.BadRequest.With("policyName has at most 60 characters")
	case strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' || r == '/' || r == ':' }):
		return fault.BadRequest.With("policyName contains characters that are not allowed")
	}
	if err := checkLimit(&p.Limit); err != nil {
		return err
	}
	if p.BurstCount > 0 && p.BurstUnit == "" {
		return fault.BadRequest.With("rateLimitTimeUnit is required with rateLimitCount")
	}
	switch p.PermissionType {
	case "", "ALLOW", "DENY":
	default:
		return fault.BadRequest.Withf("Permission type '%s' is not one of ALLOW, DENY", p.PermissionType)
	}
	switch p.BillingPlan {
	case "", "FREE", "COMMERCIAL":
	default:
		return fault.BadRequest.Withf("Billing plan '%s' is not one of FREE, COMMERCIAL", p.BillingPlan)
	}
	if len(p.Groups) == 0 {
		return nil
	}
	var groups []json.RawMessage
	if err := json.Unmarshal(p.Groups, &groups); err != nil || len(groups) > maxGroups {
		return fault.BadRequest.Withf("conditionalGroups must be a list of at most %d groups", maxGroups)
	}
	return nil
}

func checkLimit(l *apim.Limit) error {
	switch {
	case limitMembers[l.Type] == "":
		return fault.BadRequest.Withf("Limit type '%s' is not known", l.Type)
	case l.Count < 0 || l.Data < 0:
		return fault.BadRequest.With("A limit must not be negative")
	case l.UnitTime < 0 || l.UnitTime > 1_000_000:
		return fault.BadRequest.With("unitTime is out of range")
	}
	return nil
}

// DeletePolicy removes a policy that nothing uses and that the tenant does not
// name as a default.
func (s *Service) DeletePolicy(ctx context.Context, level apim.PolicyLevel, id string, check func(rev int64) error) error {
	p, err := s.Policy(ctx, level, id)
	if err != nil {
		return err
	}
	if check != nil {
		if err := check(p.Rev); err != nil {
			return err
		}
	}
	isDefault, err := s.isDefault(ctx, p)
	if err != nil {
		return err
	}
	if isDefault {
		return fault.PolicyIsDefault.Withf("Policy %s is configured as a default of the tenant and cannot be deleted", p.Name)
	}
	return s.InTx(ctx, func(ctx context.Context) error {
		used, err := s.inUse(ctx, p)
		if err != nil {
			return err
		}
		if used != "" {
			return fault.NotPermitted.Withf("Policy %s is in use by %s and cannot be deleted", p.Name, used)
		}
		return wrap("delete policy", s.Policies.Delete(ctx, apim.In(p.Tenant), p.ID))
	})
}

func (s *Service) isDefault(ctx context.Context, p *apim.ThrottlePolicy) (bool, error) {
	doc, err := s.Confs.Conf(ctx, p.Tenant)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read tenant configuration: %w", err)
	}
	var c struct{ DefaultApplicationLevelTier, DefaultAPILevelTier, DefaultSubscriptionLevelTier string }
	if json.Unmarshal([]byte(doc), &c) != nil {
		return false, nil // a member of a wrong type names no policy
	}
	named := map[apim.PolicyLevel]string{
		apim.AppLevel: c.DefaultApplicationLevelTier, apim.APILevel: c.DefaultAPILevelTier, apim.SubLevel: c.DefaultSubscriptionLevelTier,
	}
	return named[p.Level] == p.Name, nil
}

// inUse says by what a policy is used; empty if by nothing.
func (s *Service) inUse(ctx context.Context, p *apim.ThrottlePolicy) (string, error) {
	in := apim.In(p.Tenant)
	count := func(n int, err error, what string) (string, error) {
		if err != nil || n == 0 {
			return "", wrap("count uses of policy", err)
		}
		return fmt.Sprintf("%d %s", n, what), nil
	}
	switch p.Level {
	case apim.APILevel:
		n, err := s.APIs.Count(ctx, in, apim.Query{Any: [][]apim.Cond{{
			{Col: "api_policy", Op: apim.Eq, Value: p.Name}, {Col: "op_policy", Op: apim.Has, Value: p.Name},
		}}})
		return count(n, err, "APIs")
	case apim.SubLevel:
		n, err := s.Subscriptions.Count(ctx, in, apim.Where("policy", p.Name))
		return count(n, err, "subscriptions")
	default:
		page, err := s.Applications.List(ctx, in, apim.Query{})
		n := 0
		for _, app := range page.Items {
			if app.Policy == p.Name {
				n++
			}
		}
		return count(n, err, "applications")
	}
}

// levels are the words of the search and export language for the levels.
var levels = map[string]apim.PolicyLevel{"app": apim.AppLevel, "sub": apim.SubLevel, "api": apim.APILevel}

// LevelNamed is the level that the words app, sub and api name.
func LevelNamed(word string) (apim.PolicyLevel, bool) {
	l, ok := levels[strings.ToLower(word)]
	return l, ok
}

// SearchPolicies understands "name:X type:app|sub|api|global|all".
func (s *Service) SearchPolicies(ctx context.Context, query string) ([]*apim.ThrottlePolicy, error) {
	_, in := tenantOf(ctx)
	q := apim.Query{Sort: "name"}
	for _, term := range strings.Fields(query) {
		key, val, ok := strings.Cut(term, ":")
		if !ok {
			key, val = "name", term
		}
		val = strings.Trim(val, `"`)
		switch strings.ToLower(key) {
		case "name":
			q.Where = append(q.Where, apim.Cond{Col: "name", Op: apim.EqFold, Value: val})
		case "type":
			if strings.EqualFold(val, "all") {
				continue
			}
			level, known := LevelNamed(val)
			if !known {
				return nil, nil // global rules, or a word that names nothing
			}
			q = q.And("level", string(level))
		}
	}
	page, err := s.Policies.List(ctx, in, q)
	return page.Items, wrap("search policies", err)
}
