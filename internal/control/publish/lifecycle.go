package publish

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// The items of the checklist, as clients spell them.
const (
	DeprecateOld  = "Deprecate old versions after publishing the API"
	ReSubscribing = "Requires re-subscription when publishing the API"
)

// Event is a way out of a state.
type Event struct {
	Name   string
	Target apim.State
	Hidden bool // allowed, but not offered
}

var lifecycle = map[apim.State][]Event{
	apim.Created: {
		{Name: "Publish", Target: apim.Published}, {Name: "Deploy as a Prototype", Target: apim.Prototyped},
	},
	apim.Prototyped: {
		{Name: "Publish", Target: apim.Published}, {Name: "Demote to Created", Target: apim.Created},
		{Name: "Deploy as a Prototype", Target: apim.Prototyped},
	},
	apim.Published: {
		{Name: "Block", Target: apim.Blocked}, {Name: "Deploy as a Prototype", Target: apim.Prototyped},
		{Name: "Demote to Created", Target: apim.Created}, {Name: "Deprecate", Target: apim.Deprecated},
		{Name: "Publish", Target: apim.Published, Hidden: true},
	},
	apim.Blocked: {
		{Name: "Re-Publish", Target: apim.Published}, {Name: "Deprecate", Target: apim.Deprecated},
	},
	apim.Deprecated: {{Name: "Retire", Target: apim.Retired}},
	apim.Retired:    {},
}

// Events lists the ways out of a state.
func Events(st apim.State) []Event { return lifecycle[st] }

// CheckItems lists the checklist of a state.
func CheckItems(st apim.State) []string {
	if st == apim.Created || st == apim.Prototyped {
		return []string{DeprecateOld, ReSubscribing}
	}
	return nil
}

// Checklist reads "item:true,item:false".
func Checklist(s string) (map[string]bool, error) {
	out := map[string]bool{}
	for _, part := range strings.Split(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		i := strings.LastIndexByte(part, ':')
		if i < 0 {
			return nil, fault.BadRequest.With("lifecycleChecklist: expected items of the form name:true")
		}
		switch strings.ToLower(strings.TrimSpace(part[i+1:])) {
		case "true":
			out[strings.TrimSpace(part[:i])] = true
		case "false":
			out[strings.TrimSpace(part[:i])] = false
		default:
			return nil, fault.BadRequest.With("lifecycleChecklist: expected true or false after the colon")
		}
	}
	return out, nil
}

// Change moves an API along its lifecycle and does what the checklist asks for.
func (s *Service) Change(ctx context.Context, id apim.APIID, action string, checklist map[string]bool, guard func(*apim.API) error) (*apim.API, error) {
	return s.mutate(ctx, id, func(ctx context.Context, api *apim.API) error {
		if guard != nil {
			if err := guard(api); err != nil {
				return err
			}
		}
		events := lifecycle[api.State]
		i := slices.IndexFunc(events, func(e Event) bool { return strings.EqualFold(e.Name, action) })
		if i < 0 {
			return fault.BadRequest.Withf("Action '%s' is not allowed. Allowed actions are %s", printable(action), offered(events))
		}
		to := events[i].Target
		if to == apim.Published && len(api.Plans) == 0 && !advertised(api.Advertise) {
			return &fault.NoTiers
		}
		a, from := apim.ActorFrom(ctx), api.State
		api.State = to
		api.History = append(slices.Clone(api.History), apim.Transition{API: id, From: from, To: to, User: a.User, At: s.Now()})
		switch {
		case to == apim.Retired:
			return s.unsubscribe(ctx, api)
		case to == apim.Published && from != apim.Published && from != apim.Blocked:
			return s.succeed(ctx, api, checklist)
		}
		return nil
	})
}

func offered(events []Event) string {
	var names []string
	for _, e := range events {
		if !e.Hidden {
			names = append(names, e.Name)
		}
	}
	return "[" + strings.Join(names, ", ") + "]"
}

// unsubscribe removes all subscriptions of a retired API.
func (s *Service) unsubscribe(ctx context.Context, api *apim.API) error {
	all := apim.Across(apim.CrossTenant)
	err := deleteAll(ctx, s.Subscriptions, all, apim.Where("api", string(api.ID)), func(v *apim.Subscription) apim.SubscriptionID { return v.ID })
	if err != nil {
		return fmt.Errorf("delete subscriptions: %w", err)
	}
	return nil
}

// succeed does what publishing a new version means for the older ones.
func (s *Service) succeed(ctx context.Context, api *apim.API, checklist map[string]bool) error {
	deprecate := checklist[DeprecateOld]
	again, given := checklist[ReSubscribing]
	forward := given && !again
	if !deprecate && !forward {
		return nil
	}
	olds, err := s.APIs.List(ctx, apim.In(api.Tenant), apim.Where("name", api.Name).And("state", string(apim.Published)))
	if err != nil {
		return fmt.Errorf("look for older versions: %w", err)
	}
	var latest *apim.API
	for _, o := range olds.Items {
		if o.ID == api.ID || !o.CreatedAt.Before(api.CreatedAt) {
			continue
		}
		if latest == nil || o.CreatedAt.After(latest.CreatedAt) {
			latest = o
		}
		if !deprecate {
			continue
		}
		o.History = append(slices.Clone(o.History), apim.Transition{API: o.ID, From: o.State, To: apim.Deprecated, User: apim.ActorFrom(ctx).User, At: s.Now()})
		o.State = apim.Deprecated
		if err := s.save(ctx, o); err != nil {
			return err
		}
	}
	if !forward || latest == nil {
		return nil
	}
	return s.forward(ctx, latest, api)
}

// forward gives the subscribers of one version the next one, under the same
// plan where it is offered.
func (s *Service) forward(ctx context.Context, from, to *apim.API) error {
	all := apim.Across(apim.CrossTenant)
	subs, err := s.Subscriptions.List(ctx, all, apim.Where("api", string(from.ID)))
	if err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	for _, sub := range subs.Items {
		if sub.State != "UNBLOCKED" || !slices.Contains(to.Plans, sub.Policy) {
			continue
		}
		n, err := s.Subscriptions.Count(ctx, all, apim.Where("api", string(to.ID)).And("application", string(sub.Application)))
		if err != nil {
			return fmt.Errorf("count subscriptions: %w", err)
		}
		if n > 0 {
			continue
		}
		c := *sub
		c.Meta, c.ID, c.API = apim.Meta{Tenant: sub.Tenant}, apim.SubscriptionID(newID()), to.ID
		if err := s.Subscriptions.Create(ctx, apim.In(sub.Tenant), &c); err != nil {
			return fmt.Errorf("carry subscription over: %w", err)
		}
	}
	return nil
}
