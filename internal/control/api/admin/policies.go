package admin

import (
	"encoding/json"
	"hash/fnv"
	"net/http"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

// policyType is the type member of each level.
var policyType = map[apim.PolicyLevel]string{
	apim.AppLevel: "ApplicationThrottlePolicy", apim.SubLevel: "SubscriptionThrottlePolicy", apim.APILevel: "AdvancedThrottlePolicy",
}

type quota struct {
	TimeUnit     string  `json:"timeUnit"`
	UnitTime     int     `json:"unitTime"`
	RequestCount *int64  `json:"requestCount,omitempty"`
	EventCount   *int64  `json:"eventCount,omitempty"`
	DataAmount   *int64  `json:"dataAmount,omitempty"`
	DataUnit     *string `json:"dataUnit,omitempty"`
}

type limit struct {
	Type         string          `json:"type"`
	RequestCount *quota          `json:"requestCount"`
	Bandwidth    *quota          `json:"bandwidth"`
	EventCount   *quota          `json:"eventCount"`
	AIAPIQuota   json.RawMessage `json:"aiApiQuota"`
}

func fromLimit(l apim.Limit) limit {
	out := limit{Type: l.Type}
	q := &quota{TimeUnit: l.TimeUnit, UnitTime: l.UnitTime}
	switch l.Type {
	case "BANDWIDTHLIMIT":
		q.DataAmount, q.DataUnit = &l.Data, &l.DataUnit
		out.Bandwidth = q
	case "EVENTCOUNTLIMIT":
		q.EventCount = &l.Count
		out.EventCount = q
	case "AIAPIQUOTALIMIT":
		out.AIAPIQuota = l.AI
	default:
		q.RequestCount = &l.Count
		out.RequestCount = q
	}
	return out
}

// toLimit reads a limit. A quota of another kind than the type says is the
// caller's mistake that the original answers with 500, and so do we.
func toLimit(in *limit) (apim.Limit, error) {
	if in == nil {
		return apim.Limit{}, fault.BadRequest.With("defaultLimit is required")
	}
	member := govern.LimitMember(in.Type)
	if member == "" {
		return apim.Limit{}, fault.BadRequest.Withf("Limit type '%s' is not known", in.Type)
	}
	mismatch := func() error {
		return fault.LimitMismatch.Withf("The limit type %s needs a %s object", in.Type, member)
	}
	out := apim.Limit{Type: in.Type}
	q := map[string]*quota{"requestCount": in.RequestCount, "bandwidth": in.Bandwidth, "eventCount": in.EventCount}[member]
	if member == "aiApiQuota" {
		var ai struct {
			RequestCount int64  `json:"requestCount"`
			TimeUnit     string `json:"timeUnit"`
			UnitTime     int    `json:"unitTime"`
		}
		if len(in.AIAPIQuota) == 0 || string(in.AIAPIQuota) == "null" {
			return out, mismatch()
		}
		if err := rest.Unmarshal(in.AIAPIQuota, &ai); err != nil {
			return out, err
		}
		out.AI, out.Count, out.TimeUnit, out.UnitTime = in.AIAPIQuota, ai.RequestCount, ai.TimeUnit, ai.UnitTime
		return out, nil
	}
	if q == nil {
		return out, mismatch()
	}
	out.TimeUnit, out.UnitTime = q.TimeUnit, q.UnitTime
	var n *int64
	switch member {
	case "requestCount":
		n = q.RequestCount
	case "eventCount":
		n = q.EventCount
	default:
		n = q.DataAmount
		if q.DataUnit != nil {
			out.DataUnit = *q.DataUnit
		}
	}
	if n == nil {
		return out, fault.BadRequest.Withf("The %s object has no amount", member)
	}
	if member == "bandwidth" {
		out.Data = *n
	} else {
		out.Count = *n
	}
	return out, nil
}

type head struct {
	ID          string `json:"policyId"`
	Name        string `json:"policyName"`
	DisplayName string `json:"displayName"`
	Description string `json:"description"`
	IsDeployed  bool   `json:"isDeployed"`
	Type        string `json:"type"`
}

type appPolicy struct {
	head
	DefaultLimit limit  `json:"defaultLimit"`
	BurstLimit   *burst `json:"burstLimit,omitempty"`
}

type burst struct {
	Count int64  `json:"rateLimitCount"`
	Unit  string `json:"rateLimitTimeUnit"`
}

type permission struct {
	Type  string   `json:"permissionType"`
	Roles []string `json:"roles"`
}

type subPolicy struct {
	head
	GraphQLMaxComplexity int             `json:"graphQLMaxComplexity"`
	GraphQLMaxDepth      int             `json:"graphQLMaxDepth"`
	DefaultLimit         limit           `json:"defaultLimit"`
	Monetization         json.RawMessage `json:"monetization"`
	RateLimitCount       int64           `json:"rateLimitCount"`
	RateLimitTimeUnit    string          `json:"rateLimitTimeUnit"`
	SubscriberCount      int             `json:"subscriberCount"`
	CustomAttributes     json.RawMessage `json:"customAttributes"`
	StopOnQuotaReach     bool            `json:"stopOnQuotaReach"`
	BillingPlan          string          `json:"billingPlan"`
	Permissions          *permission     `json:"permissions"`
}

type advancedPolicy struct {
	head
	DefaultLimit      limit           `json:"defaultLimit"`
	ConditionalGroups json.RawMessage `json:"conditionalGroups"`
}

func fromPolicy(p *apim.ThrottlePolicy) any {
	h := head{p.ID, p.Name, p.DisplayName, p.Description, p.Deployed, policyType[p.Level]}
	switch p.Level {
	case apim.AppLevel:
		out := appPolicy{head: h, DefaultLimit: fromLimit(p.Limit)}
		if p.BurstCount > 0 {
			out.BurstLimit = &burst{p.BurstCount, p.BurstUnit}
		}
		return out
	case apim.APILevel:
		return advancedPolicy{h, fromLimit(p.Limit), orEmpty(p.Groups)}
	}
	out := subPolicy{
		head: h, GraphQLMaxComplexity: p.GraphQLComplexity, GraphQLMaxDepth: p.GraphQLDepth, DefaultLimit: fromLimit(p.Limit),
		Monetization: p.Monetization, RateLimitCount: p.BurstCount, RateLimitTimeUnit: p.BurstUnit, SubscriberCount: p.SubscriberCount,
		CustomAttributes: orEmpty(p.CustomAttributes), StopOnQuotaReach: p.StopOnQuota, BillingPlan: p.BillingPlan,
	}
	if p.PermissionType != "" {
		out.Permissions = &permission{p.PermissionType, some(p.PermissionRoles)}
	}
	return out
}

func orEmpty(list json.RawMessage) json.RawMessage {
	if len(list) == 0 || string(list) == "null" {
		return json.RawMessage("[]")
	}
	return list
}

// policyIn is what any of the three kinds may send.
type policyIn struct {
	Name                 string          `json:"policyName"`
	DisplayName          string          `json:"displayName"`
	Description          string          `json:"description"`
	DefaultLimit         *limit          `json:"defaultLimit"`
	BurstLimit           *burst          `json:"burstLimit"`
	GraphQLMaxComplexity int             `json:"graphQLMaxComplexity"`
	GraphQLMaxDepth      int             `json:"graphQLMaxDepth"`
	Monetization         json.RawMessage `json:"monetization"`
	RateLimitCount       *int64          `json:"rateLimitCount"`
	RateLimitTimeUnit    string          `json:"rateLimitTimeUnit"`
	SubscriberCount      int             `json:"subscriberCount"`
	CustomAttributes     json.RawMessage `json:"customAttributes"`
	StopOnQuotaReach     *bool           `json:"stopOnQuotaReach"`
	BillingPlan          string          `json:"billingPlan"`
	Permissions          *permission     `json:"permissions"`
	ConditionalGroups    []group         `json:"conditionalGroups"`
}

type group struct {
	Description string          `json:"description"`
	Conditions  []condition     `json:"conditions"`
	Limit       json.RawMessage `json:"limit"`
}

type condition struct {
	Type   string          `json:"type"`
	Invert bool            `json:"invertCondition"`
	Header json.RawMessage `json:"headerCondition,omitempty"`
	IP     json.RawMessage `json:"ipCondition,omitempty"`
	Claims json.RawMessage `json:"jwtClaimsCondition,omitempty"`
	Query  json.RawMessage `json:"queryParameterCondition,omitempty"`
}

func (in *policyIn) policy(level apim.PolicyLevel) (*apim.ThrottlePolicy, error) {
	l, err := toLimit(in.DefaultLimit)
	if err != nil {
		return nil, err
	}
	p := &apim.ThrottlePolicy{
		Level: level, Name: in.Name, DisplayName: in.DisplayName, Description: in.Description, Limit: l, Quota: govern.LimitMember(l.Type),
		BurstCount: -1, BurstUnit: "NA", StopOnQuota: true, BillingPlan: "FREE",
	}
	if p.DisplayName == "" {
		p.DisplayName = p.Name
	}
	if level == apim.AppLevel && in.BurstLimit != nil && in.BurstLimit.Count > 0 {
		p.BurstCount, p.BurstUnit = in.BurstLimit.Count, in.BurstLimit.Unit
	}
	if level == apim.SubLevel {
		in.plan(p)
	}
	if level == apim.APILevel {
		for i := range in.ConditionalGroups {
			if err := in.ConditionalGroups[i].check(); err != nil {
				return nil, err
			}
		}
		if p.Groups, err = json.Marshal(in.ConditionalGroups); err != nil {
			return nil, fault.BadRequest.With("conditionalGroups cannot be read").Because(err)
		}
		p.Groups = orEmpty(p.Groups)
	}
	return p, nil
}

// plan reads what only business plans have.
func (in *policyIn) plan(p *apim.ThrottlePolicy) {
	p.GraphQLComplexity, p.GraphQLDepth, p.SubscriberCount = in.GraphQLMaxComplexity, in.GraphQLMaxDepth, in.SubscriberCount
	p.CustomAttributes = orEmpty(in.CustomAttributes)
	if len(in.Monetization) > 0 && string(in.Monetization) != "null" {
		p.Monetization = in.Monetization
	}
	if in.RateLimitCount != nil {
		p.BurstCount = *in.RateLimitCount
		if in.RateLimitTimeUnit != "" {
			p.BurstUnit = in.RateLimitTimeUnit
		}
	}
	if in.StopOnQuotaReach != nil {
		p.StopOnQuota = *in.StopOnQuotaReach
	}
	if in.BillingPlan != "" {
		p.BillingPlan = in.BillingPlan
	}
	if in.Permissions != nil {
		p.PermissionType, p.PermissionRoles = in.Permissions.Type, in.Permissions.Roles
	}
}

// conditionMember is the member that goes with each type of condition.
func (c *condition) member() (json.RawMessage, bool) {
	switch c.Type {
	case "IPCONDITION":
		return c.IP, true
	case "HEADERCONDITION":
		return c.Header, true
	case "QUERYPARAMETERCONDITION":
		return c.Query, true
	case "JWTCLAIMSCONDITION":
		return c.Claims, true
	}
	return nil, false
}

func (g *group) check() error {
	if len(g.Conditions) == 0 || len(g.Conditions) > 50 {
		return fault.BadRequest.With("A conditional group has 1 to 50 conditions")
	}
	for _, c := range g.Conditions {
		m, known := c.member()
		switch {
		case !known:
			return fault.BadRequest.Withf("Condition type '%s' is not known", c.Type)
		case len(m) == 0 || string(m) == "null":
			return fault.BadRequest.Withf("The condition %s has no object that goes with its type", c.Type)
		}
	}
	var l *limit
	if err := rest.Unmarshal(g.Limit, &l); err != nil {
		return err
	}
	_, err := toLimit(l)
	return err
}

func (s *server) listPolicies(level apim.PolicyLevel) rest.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		all, err := s.svc.ListPolicies(r.Context(), level)
		if err != nil {
			return err
		}
		out := []any{}
		for _, p := range all {
			out = append(out, fromPolicy(p))
		}
		return rest.JSON(w, http.StatusOK, listOf(out))
	}
}

func (s *server) createPolicy(level apim.PolicyLevel) rest.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		in, err := rest.Decode[policyIn](r)
		if err != nil {
			return err
		}
		p, err := in.policy(level)
		if err != nil {
			return err
		}
		if err := s.svc.CreatePolicy(r.Context(), p); err != nil {
			return err
		}
		w.Header().Set("Location", Base+"/throttling/policies/"+pathOf(level)+"/"+p.ID)
		rest.SetETag(w, p.Rev)
		return rest.JSON(w, http.StatusCreated, fromPolicy(p))
	}
}

func pathOf(level apim.PolicyLevel) string {
	if level == apim.APILevel {
		return "advanced"
	}
	return string(level)
}

func (s *server) getPolicy(level apim.PolicyLevel) rest.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := s.svc.Policy(r.Context(), level, rest.Path(r, "policyId"))
		if err != nil {
			return err
		}
		rest.SetETag(w, p.Rev)
		return rest.JSON(w, http.StatusOK, fromPolicy(p))
	}
}

func (s *server) updatePolicy(level apim.PolicyLevel) rest.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		in, err := rest.Decode[policyIn](r)
		if err != nil {
			return err
		}
		p, err := in.policy(level)
		if err != nil {
			return err
		}
		if err := s.svc.UpdatePolicy(r.Context(), rest.Path(r, "policyId"), p, ifMatch(r)); err != nil {
			return err
		}
		rest.SetETag(w, p.Rev)
		return rest.JSON(w, http.StatusOK, fromPolicy(p))
	}
}

func (s *server) deletePolicy(level apim.PolicyLevel) rest.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.svc.DeletePolicy(r.Context(), level, rest.Path(r, "policyId"), ifMatch(r)); err != nil {
			return err
		}
		return rest.Empty(w, http.StatusOK)
	}
}

// searchType is the type member of search results.
var searchType = map[apim.PolicyLevel]string{apim.AppLevel: "app", apim.SubLevel: "sub", apim.APILevel: "api"}

func (s *server) searchPolicies(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.SearchPolicies(r.Context(), r.URL.Query().Get("query"))
	if err != nil {
		return err
	}
	type details struct {
		Number      int32  `json:"policyId"` // a number on the wire; the id is uuid
		UUID        string `json:"uuid"`
		Name        string `json:"policyName"`
		DisplayName string `json:"displayName"`
		Description string `json:"description"`
		IsDeployed  bool   `json:"isDeployed"`
		Type        string `json:"type"`
	}
	out := []details{}
	for _, p := range all {
		h := fnv.New32a()
		h.Write([]byte(p.ID))
		out = append(out, details{int32(h.Sum32() >> 1), p.ID, p.Name, p.DisplayName, p.Description, p.Deployed, searchType[p.Level]})
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}
