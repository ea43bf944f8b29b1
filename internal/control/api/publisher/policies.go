package publisher

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

type policyDTO struct {
	Name           string            `json:"name"`
	Description    string            `json:"description"`
	Level          string            `json:"policyLevel"`
	DisplayName    string            `json:"displayName"`
	Attributes     map[string]string `json:"attributes"`
	RequestCount   int64             `json:"requestCount"`
	DataUnit       *string           `json:"dataUnit"`
	UnitTime       int               `json:"unitTime"`
	TimeUnit       string            `json:"timeUnit"`
	RateLimitCount int64             `json:"rateLimitCount"`
	RateLimitUnit  *string           `json:"rateLimitTimeUnit"`
	QuotaType      string            `json:"quotaPolicyType"`
	TierPlan       string            `json:"tierPlan"`
	StopOnQuota    bool              `json:"stopOnQuotaReach"`
	Monetization   map[string]string `json:"monetizationProperties"`
}

func policy(p *apim.ThrottlePolicy) policyDTO {
	level := "subscription"
	if p.Level == apim.APILevel {
		level = "api"
	}
	d := policyDTO{
		Name: p.Name, Description: p.Description, Level: level, DisplayName: p.DisplayName, Attributes: map[string]string{},
		RequestCount: p.Limit.Count, DataUnit: optional(p.Limit.DataUnit), UnitTime: p.Limit.UnitTime, TimeUnit: p.Limit.TimeUnit,
		RateLimitCount: max(0, p.BurstCount), RateLimitUnit: optional(p.BurstUnit), QuotaType: "REQUESTCOUNT",
		TierPlan: p.BillingPlan, StopOnQuota: p.StopOnQuota, Monetization: map[string]string{},
	}
	if d.DisplayName == "" {
		d.DisplayName = p.Name
	}
	if d.TierPlan == "" {
		d.TierPlan = "FREE"
	}
	switch p.Limit.Type {
	case "BANDWIDTHLIMIT":
		d.RequestCount, d.QuotaType = p.Limit.Data, "BANDWIDTHVOLUME"
	case "EVENTCOUNTLIMIT":
		d.QuotaType = "EVENTCOUNT"
	case "AIAPIQUOTALIMIT":
		d.QuotaType = "AIAPIQUOTA"
	}
	var attrs []struct{ Name, Value string }
	if json.Unmarshal(p.CustomAttributes, &attrs) == nil {
		for _, a := range attrs {
			d.Attributes[a.Name] = a.Value
		}
	}
	return d
}

func level(r *http.Request) (apim.PolicyLevel, error) {
	switch rest.Path(r, "policyLevel") {
	case "subscription", "subcription": // the contract's own spelling
		return apim.SubLevel, nil
	case "api":
		return apim.APILevel, nil
	}
	return "", fault.BadRequest.With("policyLevel: must be api or subscription")
}

func (s *server) listPolicies(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	l, err := level(r)
	if err != nil {
		return err
	}
	all, err := s.pub.ListPolicies(r.Context(), l)
	if err != nil {
		return err
	}
	out := []policyDTO{}
	for _, p := range rest.Window(all, offset, limit) {
		out = append(out, policy(p))
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, out, len(all), offset, limit))
}

func (s *server) getPolicy(w http.ResponseWriter, r *http.Request) error {
	l, err := level(r)
	if err != nil {
		return err
	}
	p, err := s.pub.Policy(r.Context(), l, rest.Path(r, "policyName"))
	if err != nil {
		return err
	}
	rest.SetETag(w, p.Rev)
	return rest.JSON(w, http.StatusOK, policy(p))
}

// listStreamingPolicies is the one list that names its items policyName and
// carries their limit as a structure.
func (s *server) listStreamingPolicies(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	all, err := s.pub.ListPolicies(r.Context(), apim.SubLevel)
	if err != nil {
		return err
	}
	type eventCount struct {
		TimeUnit   string `json:"timeUnit"`
		UnitTime   int    `json:"unitTime"`
		EventCount int64  `json:"eventCount"`
	}
	type limitDTO struct {
		Type       string     `json:"type"`
		EventCount eventCount `json:"eventCount"`
	}
	type streaming struct {
		ID              string          `json:"uuid"`
		Name            string          `json:"policyName"`
		DisplayName     string          `json:"displayName"`
		Description     string          `json:"description"`
		Deployed        bool            `json:"isDeployed"`
		Limit           limitDTO        `json:"defaultLimit"`
		RateLimitCount  int64           `json:"rateLimitCount"`
		RateLimitUnit   *string         `json:"rateLimitTimeUnit"`
		SubscriberCount int             `json:"subscriberCount"`
		Attributes      json.RawMessage `json:"customAttributes"`
		StopOnQuota     bool            `json:"stopOnQuotaReach"`
		BillingPlan     string          `json:"billingPlan"`
	}
	var items []streaming
	for _, p := range all {
		if p.Limit.Type != "EVENTCOUNTLIMIT" {
			continue
		}
		v := streaming{
			ID: p.ID, Name: p.Name, DisplayName: p.DisplayName, Description: p.Description, Deployed: p.Deployed,
			Limit:          limitDTO{p.Limit.Type, eventCount{p.Limit.TimeUnit, p.Limit.UnitTime, p.Limit.Count}},
			RateLimitCount: max(0, p.BurstCount), RateLimitUnit: optional(p.BurstUnit), SubscriberCount: p.SubscriberCount,
			Attributes: p.CustomAttributes, StopOnQuota: p.StopOnQuota, BillingPlan: p.BillingPlan,
		}
		if len(v.Attributes) == 0 {
			v.Attributes = json.RawMessage("[]")
		}
		items = append(items, v)
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, rest.Window(items, offset, limit), len(items), offset, limit))
}

// subscriptionPolicies lists the business plans an API offers, as a bare array.
func (s *server) subscriptionPolicies(w http.ResponseWriter, r *http.Request) error {
	a, _, err := s.pub.Get(r.Context(), apiID(r))
	if err != nil {
		return err
	}
	out := []policyDTO{}
	for _, n := range a.Plans {
		p, err := s.pub.Policy(r.Context(), apim.SubLevel, n)
		if err != nil {
			if fault.Of(err).Kind == fault.NotFound {
				continue // a plan deleted since
			}
			return err
		}
		out = append(out, policy(p))
	}
	return rest.JSON(w, http.StatusOK, out)
}

type subscriptionDTO struct {
	ID          string         `json:"subscriptionId"`
	Application applicationDTO `json:"applicationInfo"`
	Plan        string         `json:"throttlingPolicy"`
	Status      string         `json:"subscriptionStatus"`
}

type applicationDTO struct {
	ID          string  `json:"applicationId"`
	Name        string  `json:"name"`
	Subscriber  string  `json:"subscriber"`
	Description *string `json:"description"`
	Count       int     `json:"subscriptionCount"`
}

func (s *server) listSubscriptions(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	subs, total, err := s.pub.ListSubscriptions(r.Context(), apim.APIID(r.URL.Query().Get("apiId")), offset, limit)
	if err != nil {
		return err
	}
	out := []subscriptionDTO{}
	for _, v := range subs {
		out = append(out, subscriptionDTO{
			ID: string(v.ID), Plan: v.Subscription.Policy, Status: v.State,
			Application: applicationDTO{ID: string(v.App.ID), Name: v.App.Name, Subscriber: v.App.Owner, Description: optional(v.App.Description)},
		})
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, out, total, offset, limit))
}

func (s *server) blockSubscription(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	state := strings.ToUpper(q.Get("blockState"))
	if state == "UNBLOCKED" {
		state = ""
	}
	if err := s.pub.SetSubscriptionState(r.Context(), apim.SubscriptionID(q.Get("subscriptionId")), state); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) unblockSubscription(w http.ResponseWriter, r *http.Request) error {
	if err := s.pub.SetSubscriptionState(r.Context(), apim.SubscriptionID(r.URL.Query().Get("subscriptionId")), "UNBLOCKED"); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}
