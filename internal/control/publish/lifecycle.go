package publish

import (
	"context"
	"encoding/json"
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
		{Name: "Publish", Target: apim.Published},
		{Name: "Demote to Created", Target: apim.Created},
		{Name: "Deploy as a Prototype", Target: apim.Prototyped},
	},
	apim.Published: {
		{Name: "Block", Target: apim.Blocked},
		{Name: "Deploy as a Prototype", Target: apim.Prototyped},
		{Name: "Demote to Created", Target: apim.Created},
		{Name: "Deprecate", Target: apim.Deprecated},
		{Name: "Publish", Target: apim.Published, Hidden: true},
	},
	apim.Blocked: {
		{Name: "Re-Publish", Target: apim.Published}, {Name: "Deprecate", Target: apim.Deprecated},
	},
	apim.Deprecated: {{Name: "Retire", Target: apim.Retired}},
	apim.Retired:    {},
}

// Phase is a state of the lifecycle that holds in a tenant.
type Phase struct {
	Name   string // as clients see it: Published
	Items  []string
	Events []Event
}

// Lifecycle gives the phase of a state: the tenant's own lifecycle if its
// configuration declares one, else the product's.
func (s *Service) Lifecycle(ctx context.Context, t apim.TenantID, st apim.State) (Phase, error) {
	own, err := s.ownLifecycle(ctx, t)
	if err != nil {
		return Phase{}, err
	}
	if own != nil {
		return own[st], nil
	}
	p := Phase{Name: Title(st), Events: lifecycle[st]}
	if st == apim.Created || st == apim.Prototyped {
		p.Items = []string{DeprecateOld, ReSubscribing}
	}
	return p, nil
}

// Title is a state as the lifecycle resources spell it: Published.
func Title(st apim.State) string {
	if st == "" {
		return ""
	}
	return string(st[:1]) + strings.ToLower(string(st[1:]))
}

func (s *Service) ownLifecycle(ctx context.Context, t apim.TenantID) (map[apim.State]Phase, error) {
	conf, err := s.TenantConfs.Get(ctx, apim.In(t), t)
	if missing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load tenant configuration: %w", err)
	}
	var doc struct {
		LifeCycle struct {
			States []struct {
				State       string
				CheckItems  []string
				Transitions []struct{ Event, Target string }
			}
		}
	}
	// What is wrong with the document is told to who stores it, not here.
	if json.Unmarshal([]byte(conf.JSON), &doc) != nil || len(doc.LifeCycle.States) == 0 {
		return nil, nil
	}
	out := map[apim.State]Phase{}
	for _, st := range doc.LifeCycle.States {
		p := Phase{Name: st.State, Items: st.CheckItems}
		for _, tr := range st.Transitions {
			e := Event{Name: tr.Event, Target: apim.State(strings.ToUpper(tr.Target))}
			e.Hidden = e.Target == apim.Published && strings.EqualFold(st.State, tr.Target) // publishing again
			p.Events = append(p.Events, e)
		}
		out[apim.State(strings.ToUpper(st.State))] = p
	}
	return out, nil
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
		phase, err := s.Lifecycle(ctx, api.Tenant, api.State)
		if err != nil {
			return err
		}
		events := phase.Events
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
