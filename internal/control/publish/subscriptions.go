package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Subscribed is a subscription with its application.
type Subscribed struct {
	*apim.Subscription
	App *apim.Application
}

// ListSubscriptions lists the subscriptions of one API, or of all of the
// caller's tenant when id is empty.
func (s *Service) ListSubscriptions(ctx context.Context, id apim.APIID, offset, limit int) ([]Subscribed, int, error) {
	a := apim.ActorFrom(ctx)
	q := apim.Query{Offset: offset, Limit: limit}
	sc := a.Scope()
	if id != "" {
		if _, err := s.load(ctx, id); err != nil {
			return nil, 0, err
		}
		q = q.And("api", string(id))
		sc = apim.Across(apim.CrossTenant) // subscribers may be of other tenants
	}
	p, err := s.Subscriptions.List(ctx, sc, q)
	if err != nil {
		return nil, 0, fmt.Errorf("list subscriptions: %w", err)
	}
	out := make([]Subscribed, 0, len(p.Items))
	for _, v := range p.Items {
		app, err := s.Applications.Get(ctx, apim.In(v.Tenant), v.Application)
		if err != nil && !missing(err) {
			return nil, 0, fmt.Errorf("load application: %w", err)
		}
		if app == nil {
			app = &apim.Application{ID: v.Application}
		}
		out = append(out, Subscribed{v, app})
	}
	return out, p.Total, nil
}

// SetSubscriptionState blocks a subscription or lifts its block.
func (s *Service) SetSubscriptionState(ctx context.Context, id apim.SubscriptionID, state string) error {
	if !slices.Contains([]string{"BLOCKED", "PROD_ONLY_BLOCKED", "UNBLOCKED"}, state) {
		return fault.BadRequest.With("blockState: must be BLOCKED or PROD_ONLY_BLOCKED")
	}
	unknown := fault.Missing.Withf("Requested Subscription with Id '%s' not found", printable(string(id)))
	return s.retry(ctx, func(ctx context.Context) error {
		v, err := s.Subscriptions.Get(ctx, apim.Across(apim.CrossTenant), id)
		if missing(err) {
			return unknown
		}
		if err != nil {
			return fmt.Errorf("load subscription: %w", err)
		}
		// Only the API's own tenant decides.
		if _, err := s.load(ctx, v.API); err != nil {
			if errors.Is(err, &fault.APINotFound) {
				return unknown
			}
			return err
		}
		v.State = state
		if err = s.Subscriptions.Update(ctx, apim.In(v.Tenant), v); errors.Is(err, &fault.PreconditionBad) {
			return errLostRace
		}
		return err
	})
}

// ListPolicies lists the throttling policies a publisher may choose from.
func (s *Service) ListPolicies(ctx context.Context, level apim.PolicyLevel) ([]*apim.ThrottlePolicy, error) {
	p, err := s.Policies.List(ctx, apim.ActorFrom(ctx).Scope(), apim.Query{Where: []apim.Cond{{Col: "level", Op: apim.Eq, Value: string(level)}}, Sort: "name"})
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	out := p.Items[:0:0]
	for _, v := range p.Items {
		if v.Hidden || v.Name == "Unauthenticated" || (v.Name == "Unlimited" && s.NoUnlimited) {
			continue
		}
		out = append(out, v)
	}
	return out, nil
}

// Policy finds one throttling policy.
func (s *Service) Policy(ctx context.Context, level apim.PolicyLevel, name string) (*apim.ThrottlePolicy, error) {
	v, err := s.Policies.First(ctx, apim.ActorFrom(ctx).Scope(), apim.Where("level", string(level)).And("name", name))
	if missing(err) {
		return nil, fault.Missing.Withf("Requested Throttling Policy with name '%s' not found", printable(name))
	}
	return v, err
}

// SetThumbnail stores the picture of an API.
func (s *Service) SetThumbnail(ctx context.Context, id apim.APIID, b []byte, contentType string, guard func(*apim.API) error) (*apim.API, error) {
	if !slices.Contains([]string{"image/png", "image/jpeg", "image/gif", "image/svg+xml", "image/webp", "application/json"}, contentType) {
		return nil, fault.BadRequest.With("The thumbnail is not a picture of a known kind")
	}
	if _, err := s.load(ctx, id); err != nil {
		return nil, err
	}
	ref, err := s.Blobs.Put(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("store thumbnail: %w", err)
	}
	return s.mutate(ctx, id, func(_ context.Context, api *apim.API) error {
		if guard != nil {
			if err := guard(api); err != nil {
				return err
			}
		}
		api.Thumbnail, api.ThumbnailType = ref, contentType
		return nil
	})
}

// Thumbnail reads the picture of an API; no bytes mean there is none.
func (s *Service) Thumbnail(ctx context.Context, id apim.APIID) ([]byte, string, error) {
	api, _, err := s.Get(ctx, id)
	if err != nil || api.Thumbnail == "" {
		return nil, "", err
	}
	b, err := s.Blobs.Get(ctx, api.Thumbnail)
	if err != nil {
		return nil, "", fmt.Errorf("load thumbnail: %w", err)
	}
	return b, api.ThumbnailType, nil
}

// ListKeyManagers lists the enabled key managers of the tenant and global ones.
func (s *Service) ListKeyManagers(ctx context.Context) ([]*apim.KeyManager, error) {
	a := apim.ActorFrom(ctx)
	p, err := s.KeyManagers.List(ctx, a.Scope(), apim.Query{Sort: "name"})
	if err != nil {
		return nil, fmt.Errorf("list key managers: %w", err)
	}
	out := p.Items
	if a.Tenant != apim.SuperTenant {
		g, err := s.KeyManagers.List(ctx, apim.In(apim.SuperTenant), apim.Query{Sort: "name"})
		if err != nil {
			return nil, fmt.Errorf("list key managers: %w", err)
		}
		for _, k := range g.Items {
			if k.Global && !slices.ContainsFunc(out, func(o *apim.KeyManager) bool { return strings.EqualFold(o.Name, k.Name) }) {
				out = append(out, k)
			}
		}
	}
	return out, nil
}

// TenantConf is the tenant's configuration document, or empty.
func (s *Service) TenantConf(ctx context.Context) (string, error) {
	a := apim.ActorFrom(ctx)
	c, err := s.TenantConfs.Get(ctx, a.Scope(), a.Tenant)
	if missing(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("load tenant configuration: %w", err)
	}
	return c.JSON, nil
}
