package subscribe

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// The states of a subscription that this package sets or tells apart.
const (
	Unblocked         = "UNBLOCKED"
	Rejected          = "REJECTED"
	OnHold            = "ON_HOLD"
	TierUpdatePending = "TIER_UPDATE_PENDING"
)

// Subscribed is a subscription with what it joins. API is nil when the API no
// longer exists; one that became invisible is still shown to its subscriber.
type Subscribed struct {
	*apim.Subscription
	App *apim.Application
	API *apim.API
	Err error // why one item of several was refused
}

// Subscribe lets an application of the caller call an API of tenant t under a plan.
func (s *Service) Subscribe(ctx context.Context, t apim.TenantID, app apim.AppID, id apim.APIID, plan string) (*Subscribed, error) {
	a, err := signedIn(ctx)
	if err != nil {
		return nil, err
	}
	if app == "" || id == "" {
		return nil, fault.BadRequest.With("applicationId and apiId are required")
	}
	ap, err := s.Application(ctx, app)
	if err != nil {
		return nil, err
	}
	api, err := s.API(ctx, t, id)
	if err != nil {
		return nil, err
	}
	if err := s.subscribable(a, api); err != nil {
		return nil, err
	}
	if err := s.checkPlan(ctx, api, plan); err != nil {
		return nil, err
	}
	sub := &apim.Subscription{
		Meta: apim.Meta{Tenant: api.Tenant}, ID: apim.SubscriptionID(uuid.NewString()), Application: ap.ID, API: api.ID,
		Policy: plan, State: Unblocked, Subscriber: a.User,
	}
	err = s.Subscriptions.Create(ctx, apim.In(api.Tenant), sub)
	if errors.Is(err, &fault.Exists) {
		return nil, fault.SubscriptionDup.Withf("Subscription already exists for API %s by Application %s", api.Name, ap.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("save subscription: %w", err)
	}
	return &Subscribed{Subscription: sub, App: ap, API: api}, nil
}

// subscribable refuses APIs whose state admits no new subscribers, and those
// of another tenant: an application and what it subscribes to share a tenant.
func (s *Service) subscribable(a *apim.Actor, api *apim.API) error {
	if api.Tenant != a.Tenant {
		return fault.NotPermitted.Withf("Subscription is not allowed for API %s from the tenant %s", api.Name, a.Tenant)
	}
	if api.State != apim.Published && api.State != apim.Prototyped {
		return fault.Missing.Withf("Subscriptions not allowed on APIs in the state: %s", api.State)
	}
	return nil
}

// Available reports whether the caller could subscribe to the API at all.
func (s *Service) Available(ctx context.Context, api *apim.API) bool {
	a := apim.ActorFrom(ctx)
	if len(api.Plans) == 0 || (api.State != apim.Published && api.State != apim.Prototyped) {
		return false
	}
	return a.Tenant == "" || a.Tenant == api.Tenant
}

// SubscriptionRequest is one wish of SubscribeAll.
type SubscriptionRequest struct {
	Application apim.AppID
	API         apim.APIID
	Plan        string
}

// MaxBulk bounds the subscriptions of one request.
const MaxBulk = 1000

// SubscribeAll subscribes one by one; a refused item has Err and the state
// REJECTED, and does not stop the others.
func (s *Service) SubscribeAll(ctx context.Context, t apim.TenantID, in []SubscriptionRequest) ([]*Subscribed, error) {
	if len(in) > MaxBulk {
		return nil, fault.BadRequest.Withf("At most %d subscriptions can be made at once", MaxBulk)
	}
	out := make([]*Subscribed, 0, len(in))
	for _, want := range in {
		sub, err := s.Subscribe(ctx, t, want.Application, want.API, want.Plan)
		if err != nil {
			f := fault.Of(err)
			if f.Kind == fault.Internal || f.Kind == fault.Unavailable || f.Kind == fault.Unauthenticated {
				return nil, err
			}
			sub = &Subscribed{Err: err, Subscription: &apim.Subscription{
				Application: want.Application, API: want.API, Policy: want.Plan, State: Rejected,
			}}
		}
		out = append(out, sub)
	}
	return out, nil
}

// Subscription is one subscription of an application of the caller.
func (s *Service) Subscription(ctx context.Context, id apim.SubscriptionID) (*Subscribed, error) {
	a, err := signedIn(ctx)
	if err != nil {
		return nil, err
	}
	sub, err := s.Subscriptions.Get(ctx, a.Scope(), id)
	if missing(err) {
		return nil, fault.Missing.Withf("Subscription with id '%s' not found", id)
	}
	if err != nil {
		return nil, fmt.Errorf("get subscription: %w", err)
	}
	app, err := s.Application(ctx, sub.Application)
	if err != nil {
		return nil, err
	}
	return s.joined(ctx, sub, app)
}

func (s *Service) joined(ctx context.Context, sub *apim.Subscription, app *apim.Application) (*Subscribed, error) {
	api, err := s.APIs.Get(ctx, apim.In(sub.Tenant), sub.API)
	if missing(err) {
		return &Subscribed{Subscription: sub, App: app}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get api: %w", err)
	}
	return &Subscribed{Subscription: sub, App: app, API: api}, nil
}

// SubscriptionsOf lists the subscriptions of one application, or those of all
// the caller's applications to one API, oldest first.
func (s *Service) SubscriptionsOf(ctx context.Context, app apim.AppID, api apim.APIID, offset, limit int) ([]*Subscribed, int, error) {
	a, err := signedIn(ctx)
	if err != nil {
		return nil, 0, err
	}
	apps := map[apim.AppID]*apim.Application{}
	q := apim.Query{Sort: "created", Offset: offset, Limit: limit}
	switch {
	case app != "":
		ap, err := s.Application(ctx, app)
		if err != nil {
			return nil, 0, err
		}
		apps[ap.ID] = ap
		q = q.And("application", string(ap.ID))
		if api != "" {
			q = q.And("api", string(api))
		}
	case api != "":
		own, err := s.Applications.List(ctx, a.Scope(), apim.Where("owner", a.User))
		if err != nil {
			return nil, 0, fmt.Errorf("list applications: %w", err)
		}
		ids := []string{}
		for _, ap := range own.Items {
			apps[ap.ID] = ap
			ids = append(ids, string(ap.ID))
		}
		if len(ids) == 0 {
			return nil, 0, nil
		}
		q = q.And("api", string(api))
		q.Where = append(q.Where, apim.Cond{Col: "application", Op: apim.OneOf, Value: ids})
	default:
		return nil, 0, fault.BadRequest.With("Either applicationId or apiId is required")
	}
	page, err := s.Subscriptions.List(ctx, a.Scope(), q)
	if err != nil {
		return nil, 0, fmt.Errorf("list subscriptions: %w", err)
	}
	out := make([]*Subscribed, 0, len(page.Items))
	for _, sub := range page.Items {
		j, err := s.joined(ctx, sub, apps[sub.Application])
		if err != nil {
			return nil, 0, err
		}
		out = append(out, j)
	}
	return out, page.Total, nil
}

// ChangePlan moves a subscription to another plan. A plan that the API does
// not offer is ignored, as the original does: the answer is the unchanged
// subscription.
func (s *Service) ChangePlan(ctx context.Context, id apim.SubscriptionID, plan string) (*Subscribed, error) {
	var out *Subscribed
	err := retry(func() error {
		sub, err := s.Subscription(ctx, id)
		if err != nil {
			return err
		}
		out = sub
		if plan == "" || plan == sub.Policy || sub.API == nil || slices.Contains([]string{OnHold, Rejected, TierUpdatePending}, sub.State) {
			return nil
		}
		if err := s.checkPlan(ctx, sub.API, plan); err != nil {
			if errors.Is(err, &fault.BadRequest) {
				return nil
			}
			return err
		}
		sub.Policy = plan
		return wrap("save subscription", s.Subscriptions.Update(ctx, apim.In(sub.Tenant), sub.Subscription))
	})
	return out, err
}

// Unsubscribe removes a subscription and frees the API keys that were
// associated through it.
func (s *Service) Unsubscribe(ctx context.Context, id apim.SubscriptionID, check func(rev int64) error) error {
	sub, err := s.Subscription(ctx, id)
	if err != nil {
		return err
	}
	if check != nil {
		if err := check(sub.Rev); err != nil {
			return err
		}
	}
	return s.InTx(ctx, func(ctx context.Context) error {
		in := apim.In(sub.Tenant)
		keys, err := s.APIKeys.List(ctx, in, apim.Where("application", string(sub.Application)).And("api", string(sub.Subscription.API)))
		if err != nil {
			return fmt.Errorf("list api keys: %w", err)
		}
		for _, k := range keys.Items {
			k.Application = ""
			if err := s.APIKeys.Update(ctx, in, k); err != nil {
				return fmt.Errorf("free api key: %w", err)
			}
		}
		return wrap("delete subscription", s.Subscriptions.Delete(ctx, in, sub.ID))
	})
}
