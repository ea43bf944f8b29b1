package devportal

import (
	"net/http"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/subscribe"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

type subscriptionIn struct {
	Application string `json:"applicationId"`
	API         string `json:"apiId"`
	Policy      string `json:"throttlingPolicy"`
	Requested   string `json:"requestedThrottlingPolicy"`
}

type subscription struct {
	ID              string           `json:"subscriptionId"`
	ApplicationID   string           `json:"applicationId"`
	APIID           string           `json:"apiId"`
	APIInfo         *apiInfo         `json:"apiInfo"`
	ApplicationInfo *applicationInfo `json:"applicationInfo"`
	Policy          string           `json:"throttlingPolicy"`
	Requested       string           `json:"requestedThrottlingPolicy"`
	Status          string           `json:"status"`
	Redirection     *string          `json:"redirectionParams"`
	Reason          string           `json:"rejectionReason,omitempty"` // ours: why an item of several was refused
}

// shower renders subscriptions of one answer, reading the tenant's plans once.
type shower struct {
	s     *server
	r     *http.Request
	plans map[apim.TenantID][]*apim.ThrottlePolicy
}

func (s *server) show(r *http.Request) *shower {
	return &shower{s, r, map[apim.TenantID][]*apim.ThrottlePolicy{}}
}

func (sh *shower) subscription(sub *subscribe.Subscribed) (subscription, error) {
	out := subscription{
		ID: string(sub.ID), ApplicationID: string(sub.Application), APIID: string(sub.Subscription.API),
		Policy: sub.Policy, Requested: sub.Requested, Status: sub.State,
	}
	if out.Requested == "" {
		out.Requested = sub.Policy
	}
	if sub.Err != nil {
		out.Reason = fault.Of(sub.Err).Detail
	}
	if sub.App != nil {
		n, err := sh.s.svc.SubscriptionCount(sh.r.Context(), sub.App)
		if err != nil {
			return out, err
		}
		out.ApplicationInfo = new(fromApplicationInfo(sub.App, n))
	}
	if sub.API != nil {
		plans, ok := sh.plans[sub.API.Tenant]
		if !ok {
			var err error
			if plans, err = sh.s.svc.ThrottlePolicies(sh.r.Context(), sub.API.Tenant, apim.SubLevel); err != nil {
				return out, err
			}
			sh.plans[sub.API.Tenant] = plans
		}
		out.APIInfo = new(sh.s.apiInfo(sh.r, sub.API, plans))
	}
	return out, nil
}

func (s *server) answer(w http.ResponseWriter, r *http.Request, status int, sub *subscribe.Subscribed) error {
	out, err := s.show(r).subscription(sub)
	if err != nil {
		return err
	}
	rest.SetETag(w, sub.Rev)
	return rest.JSON(w, status, out)
}

func (s *server) listSubscriptions(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	if _, err := s.addressed(r); err != nil {
		return err
	}
	q := r.URL.Query()
	subs, total, err := s.svc.SubscriptionsOf(r.Context(), apim.AppID(q.Get("applicationId")), apim.APIID(q.Get("apiId")), offset, limit)
	if err != nil {
		return err
	}
	items := []subscription{}
	sh := s.show(r)
	for _, sub := range subs {
		it, err := sh.subscription(sub)
		if err != nil {
			return err
		}
		items = append(items, it)
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, total, offset, limit))
}

func (s *server) createSubscription(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[subscriptionIn](r)
	if err != nil {
		return err
	}
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	sub, err := s.svc.Subscribe(r.Context(), t, apim.AppID(in.Application), apim.APIID(in.API), in.Policy)
	if err != nil {
		return err
	}
	location(w, "subscriptions", string(sub.ID))
	return s.answer(w, r, http.StatusCreated, sub)
}

func (s *server) createSubscriptions(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[[]subscriptionIn](r)
	if err != nil {
		return err
	}
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	wishes := make([]subscribe.SubscriptionRequest, 0, len(in))
	for _, x := range in {
		wishes = append(wishes, subscribe.SubscriptionRequest{Application: apim.AppID(x.Application), API: apim.APIID(x.API), Plan: x.Policy})
	}
	subs, err := s.svc.SubscribeAll(r.Context(), t, wishes)
	if err != nil {
		return err
	}
	out := []subscription{}
	sh := s.show(r)
	for _, sub := range subs {
		it, err := sh.subscription(sub)
		if err != nil {
			return err
		}
		out = append(out, it)
	}
	return rest.JSON(w, http.StatusOK, out)
}

func subID(r *http.Request) apim.SubscriptionID {
	return apim.SubscriptionID(rest.Path(r, "subscriptionId"))
}

func (s *server) getSubscription(w http.ResponseWriter, r *http.Request) error {
	sub, err := s.svc.Subscription(r.Context(), subID(r))
	if err != nil {
		return err
	}
	return s.answer(w, r, http.StatusOK, sub)
}

func (s *server) updateSubscription(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[subscriptionIn](r)
	if err != nil {
		return err
	}
	want := in.Requested
	if want == "" {
		want = in.Policy
	}
	sub, err := s.svc.ChangePlan(r.Context(), subID(r), want)
	if err != nil {
		return err
	}
	return s.answer(w, r, http.StatusOK, sub)
}

func (s *server) deleteSubscription(w http.ResponseWriter, r *http.Request) error {
	if err := s.svc.Unsubscribe(r.Context(), subID(r), ifMatch(r)); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

// additionalInfo lists the caller's subscriptions to one API; to somebody
// unknown it is empty.
func (s *server) additionalInfo(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	a, err := s.find(r)
	if err != nil {
		return err
	}
	type info struct {
		ID              string `json:"subscriptionId"`
		ApplicationID   string `json:"applicationId"`
		ApplicationName string `json:"applicationName"`
		APIID           string `json:"apiId"`
		Solace          bool   `json:"isSolaceAPI"`
	}
	items, total := []info{}, 0
	if apim.ActorFrom(r.Context()).Tenant != "" {
		subs, n, err := s.svc.SubscriptionsOf(r.Context(), "", a.ID, offset, limit)
		if err != nil {
			return err
		}
		total = n
		for _, sub := range subs {
			items = append(items, info{string(sub.ID), string(sub.Application), sub.App.Name, string(a.ID), false})
		}
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, total, offset, limit))
}
