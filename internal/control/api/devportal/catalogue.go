package devportal

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/subscribe"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

type apiInfo struct {
	ID                      string            `json:"id"`
	Name                    string            `json:"name"`
	DisplayName             string            `json:"displayName,omitempty"`
	Description             *string           `json:"description"`
	Context                 string            `json:"context"`
	Version                 string            `json:"version"`
	Type                    string            `json:"type"`
	CreatedTime             string            `json:"createdTime"`
	Provider                string            `json:"provider"`
	LifeCycleStatus         string            `json:"lifeCycleStatus"`
	ThumbnailURI            *string           `json:"thumbnailUri"`
	AvgRating               string            `json:"avgRating"`
	ThrottlingPolicies      []string          `json:"throttlingPolicies"`
	AdvertiseInfo           json.RawMessage   `json:"advertiseInfo"`
	BusinessInformation     map[string]string `json:"businessInformation"`
	IsSubscriptionAvailable bool              `json:"isSubscriptionAvailable"`
	MonetizationLabel       string            `json:"monetizationLabel"`
}

func (s *server) apiInfo(r *http.Request, api *apim.API, plans []*apim.ThrottlePolicy) apiInfo {
	out := apiInfo{
		ID: string(api.ID), Name: api.Name, DisplayName: api.DisplayName, Context: api.Context, Version: api.Version, Type: api.Type,
		CreatedTime: stamp(api.CreatedAt), Provider: api.Provider, LifeCycleStatus: string(api.State), AvgRating: "0.0",
		ThrottlingPolicies: s.svc.PlansFrom(r.Context(), api, plans), AdvertiseInfo: advertise(api),
		BusinessInformation: business(api), IsSubscriptionAvailable: s.svc.Available(r.Context(), api), MonetizationLabel: "FREE",
	}
	if api.Description != "" {
		out.Description = &api.Description
	}
	if api.Thumbnail != "" {
		out.ThumbnailURI = new("/apis/" + string(api.ID) + "/thumbnail")
	}
	return out
}

// stamp is a time as the original writes it: milliseconds since 1970, in text.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

func advertise(api *apim.API) json.RawMessage {
	if len(api.Advertise) > 0 {
		return api.Advertise
	}
	return json.RawMessage(`{"advertised":false,"apiExternalProductionEndpoint":null,"apiExternalSandboxEndpoint":null,"originalDevPortalUrl":null,"apiOwner":null,"vendor":"WSO2"}`)
}

func business(api *apim.API) map[string]string {
	out := map[string]string{}
	for _, k := range []string{"businessOwner", "businessOwnerEmail", "technicalOwner", "technicalOwnerEmail"} {
		if v, ok := api.Business[k]; ok {
			out[k] = v
		}
	}
	return out
}

func (s *server) listAPIs(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	page, err := s.svc.ListAPIs(r.Context(), t, r.URL.Query().Get("query"), offset, limit)
	if err != nil {
		return err
	}
	plans, err := s.svc.ThrottlePolicies(r.Context(), t, apim.SubLevel)
	if err != nil {
		return err
	}
	items := make([]apiInfo, 0, len(page.Items))
	for _, api := range page.Items {
		items = append(items, s.apiInfo(r, api, plans))
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, page.Total, offset, limit))
}

type operation struct {
	ID     string `json:"id"`
	Target string `json:"target"`
	Verb   string `json:"verb"`
}

type tier struct {
	Name         string  `json:"tierName"`
	Plan         *string `json:"tierPlan"`
	Monetization any     `json:"monetizationAttributes"`
}

type property struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Display bool   `json:"display"`
}

type urls struct {
	HTTP  *string `json:"http"`
	HTTPS *string `json:"https"`
	WS    *string `json:"ws"`
	WSS   *string `json:"wss"`
}

type endpoint struct {
	EnvironmentName        string `json:"environmentName"`
	EnvironmentDisplayName string `json:"environmentDisplayName"`
	EnvironmentType        string `json:"environmentType"`
	URLs                   urls   `json:"URLs"`
	DefaultVersionURLs     urls   `json:"defaultVersionURLs"`
}

type scopeInfo struct {
	Key         string   `json:"key"`
	Name        string   `json:"name"`
	Roles       []string `json:"roles"`
	Description string   `json:"description"`
}

type api struct {
	ID                      string            `json:"id"`
	Name                    string            `json:"name"`
	DisplayName             string            `json:"displayName,omitempty"`
	Description             *string           `json:"description"`
	Context                 string            `json:"context"`
	Version                 string            `json:"version"`
	Provider                string            `json:"provider"`
	APIDefinition           *string           `json:"apiDefinition"`
	WSDLURI                 *string           `json:"wsdlUri"`
	LifeCycleStatus         string            `json:"lifeCycleStatus"`
	IsDefaultVersion        bool              `json:"isDefaultVersion"`
	Type                    string            `json:"type"`
	Transport               []string          `json:"transport"`
	Operations              []operation       `json:"operations"`
	AuthorizationHeader     string            `json:"authorizationHeader"`
	APIKeyHeader            string            `json:"apiKeyHeader"`
	SecurityScheme          []string          `json:"securityScheme"`
	Tags                    []string          `json:"tags"`
	Tiers                   []tier            `json:"tiers"`
	HasThumbnail            bool              `json:"hasThumbnail"`
	AdditionalProperties    []property        `json:"additionalProperties"`
	Monetization            map[string]bool   `json:"monetization"`
	EndpointURLs            []endpoint        `json:"endpointURLs"`
	BusinessInformation     map[string]string `json:"businessInformation"`
	EnvironmentList         []string          `json:"environmentList"`
	Scopes                  []scopeInfo       `json:"scopes"`
	AvgRating               string            `json:"avgRating"`
	AdvertiseInfo           json.RawMessage   `json:"advertiseInfo"`
	IsSubscriptionAvailable bool              `json:"isSubscriptionAvailable"`
	Categories              []string          `json:"categories"`
	KeyManagers             []string          `json:"keyManagers"`
	CreatedTime             string            `json:"createdTime"`
	LastUpdatedTime         string            `json:"lastUpdatedTime"`
	GatewayVendor           string            `json:"gatewayVendor"`
	GatewayType             string            `json:"gatewayType"`
	AsyncTransportProtocols []string          `json:"asyncTransportProtocols"`
}

func (s *server) find(r *http.Request) (*apim.API, error) {
	t, err := s.addressed(r)
	if err != nil {
		return nil, err
	}
	return s.svc.API(r.Context(), t, apim.APIID(rest.Path(r, "apiId")))
}

func (s *server) getAPI(w http.ResponseWriter, r *http.Request) error {
	a, err := s.find(r)
	if err != nil {
		return err
	}
	ends, err := s.svc.Endpoints(r.Context(), a)
	if err != nil {
		return err
	}
	plans, err := s.svc.ThrottlePolicies(r.Context(), a.Tenant, apim.SubLevel)
	if err != nil {
		return err
	}
	rest.SetETag(w, a.Rev)
	return rest.JSON(w, http.StatusOK, s.fromAPI(r, a, ends, plans))
}

func (s *server) fromAPI(r *http.Request, a *apim.API, ends []subscribe.Endpoint, plans []*apim.ThrottlePolicy) api {
	out := api{
		ID: string(a.ID), Name: a.Name, DisplayName: a.DisplayName, Context: a.Context, Version: a.Version, Provider: a.Provider,
		LifeCycleStatus: string(a.State), IsDefaultVersion: a.Default, Type: a.Type, Transport: some(a.Transports), Operations: []operation{},
		AuthorizationHeader: a.AuthHeader, APIKeyHeader: a.APIKeyHeader, SecurityScheme: some(a.Security), Tags: some(a.Tags), Tiers: []tier{},
		HasThumbnail: a.Thumbnail != "", AdditionalProperties: []property{}, Monetization: map[string]bool{"enabled": false},
		EndpointURLs: []endpoint{}, BusinessInformation: business(a), EnvironmentList: []string{}, Scopes: []scopeInfo{}, AvgRating: "0.0",
		AdvertiseInfo: advertise(a), IsSubscriptionAvailable: s.svc.Available(r.Context(), a), Categories: some(a.Categories),
		KeyManagers: some(a.KeyManagers), CreatedTime: stamp(a.CreatedAt), LastUpdatedTime: stamp(a.UpdatedAt),
		GatewayVendor: a.GatewayVendor, GatewayType: a.GatewayType, AsyncTransportProtocols: []string{},
	}
	if out.AuthorizationHeader == "" {
		out.AuthorizationHeader = "Authorization"
	}
	if out.APIKeyHeader == "" {
		out.APIKeyHeader = "ApiKey"
	}
	if len(out.KeyManagers) == 0 {
		out.KeyManagers = []string{"all"}
	}
	if out.GatewayVendor == "" {
		out.GatewayVendor = "wso2"
	}
	if a.Description != "" {
		out.Description = &a.Description
	}
	for _, op := range a.Operations {
		out.Operations = append(out.Operations, operation{op.ID, op.Target, op.Verb})
	}
	plan := map[string]string{}
	for _, p := range plans {
		plan[p.Name] = p.BillingPlan
	}
	for _, name := range s.svc.PlansFrom(r.Context(), a, plans) {
		out.Tiers = append(out.Tiers, tier{Name: name, Plan: new(plan[name])})
	}
	for _, p := range a.Properties {
		if p.Display {
			out.AdditionalProperties = append(out.AdditionalProperties, property(p))
		}
	}
	for _, e := range ends {
		out.EnvironmentList = append(out.EnvironmentList, e.Environment)
		out.EndpointURLs = append(out.EndpointURLs, endpoint{e.Environment, e.DisplayName, e.Type, fromURLs(e.URLs), fromURLs(e.Default)})
	}
	for _, sc := range a.Scopes {
		name := sc.DisplayName
		if name == "" {
			name = sc.Name
		}
		out.Scopes = append(out.Scopes, scopeInfo{sc.Name, name, some(sc.Roles), sc.Description})
	}
	return out
}

func fromURLs(u subscribe.URLs) urls {
	opt := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return urls{opt(u.HTTP), opt(u.HTTPS), opt(u.WS), opt(u.WSS)}
}

// some turns an absent list into an empty one: clients iterate without asking.
func some(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (s *server) getSwagger(w http.ResponseWriter, r *http.Request) error {
	a, err := s.find(r)
	if err != nil {
		return err
	}
	doc, err := s.svc.Definition(r.Context(), a, r.URL.Query().Get("environmentName"))
	if err != nil {
		return err
	}
	w.Header().Set("Content-Disposition", `attachment; filename="swagger.json"`)
	return rest.Raw(w, http.StatusOK, "application/json", doc)
}

func (s *server) getThumbnail(w http.ResponseWriter, r *http.Request) error {
	a, err := s.find(r)
	if err != nil {
		return err
	}
	if a.Thumbnail == "" || s.Thumbnail == nil {
		return rest.Empty(w, http.StatusNoContent)
	}
	b, err := s.Thumbnail(r.Context(), a.Thumbnail)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
	return rest.Raw(w, http.StatusOK, a.ThumbnailType, b)
}

func (s *server) getAPIPolicies(w http.ResponseWriter, r *http.Request) error {
	a, err := s.find(r)
	if err != nil {
		return err
	}
	all, err := s.svc.ThrottlePolicies(r.Context(), a.Tenant, apim.SubLevel)
	if err != nil {
		return err
	}
	out := []policy{}
	for _, name := range s.svc.PlansFrom(r.Context(), a, all) {
		for _, p := range all {
			if p.Name == name {
				out = append(out, fromPolicy(p))
			}
		}
	}
	return rest.JSON(w, http.StatusOK, out)
}

type policy struct {
	Name             string            `json:"name"`
	DisplayName      string            `json:"displayName"`
	Description      string            `json:"description"`
	PolicyLevel      string            `json:"policyLevel"`
	Attributes       map[string]string `json:"attributes"`
	RequestCount     int64             `json:"requestCount"`
	DataUnit         *string           `json:"dataUnit"`
	UnitTime         int64             `json:"unitTime"`
	TimeUnit         string            `json:"timeUnit"`
	RateLimitCount   int64             `json:"rateLimitCount"`
	RateLimitUnit    string            `json:"rateLimitTimeUnit"`
	QuotaPolicyType  string            `json:"quotaPolicyType"`
	TierPlan         string            `json:"tierPlan"`
	StopOnQuotaReach bool              `json:"stopOnQuotaReach"`
	Monetization     json.RawMessage   `json:"monetizationAttributes"`
	Permissions      *permissions      `json:"throttlingPolicyPermissions"`
}

type permissions struct {
	Type  string   `json:"type"`
	Roles []string `json:"roles"`
}

func fromPolicy(p *apim.ThrottlePolicy) policy {
	out := policy{
		Name: p.Name, DisplayName: p.DisplayName, Description: p.Description, PolicyLevel: string(p.Level), Attributes: map[string]string{},
		RequestCount: p.Limit.Count, UnitTime: int64(p.Limit.UnitTime), TimeUnit: p.Limit.TimeUnit, RateLimitCount: max(p.BurstCount, 0),
		RateLimitUnit: p.BurstUnit, QuotaPolicyType: "REQUESTCOUNT", TierPlan: p.BillingPlan, StopOnQuotaReach: p.StopOnQuota,
	}
	switch p.Limit.Type {
	case "BANDWIDTHLIMIT":
		out.QuotaPolicyType, out.RequestCount, out.DataUnit = "BANDWIDTHVOLUME", p.Limit.Data, &p.Limit.DataUnit
	case "EVENTCOUNTLIMIT":
		out.QuotaPolicyType = "EVENTCOUNT"
	case "AIAPIQUOTALIMIT":
		out.QuotaPolicyType = "AIAPIQUOTA"
	}
	if out.TierPlan == "" {
		out.TierPlan = "FREE"
	}
	if p.PermissionType != "" {
		out.Permissions = &permissions{strings.ToLower(p.PermissionType), some(p.PermissionRoles)}
	}
	// A list of pairs reaches the portal as an object.
	var attrs []struct{ Name, Value string }
	if json.Unmarshal(p.CustomAttributes, &attrs) == nil {
		for _, a := range attrs {
			out.Attributes[a.Name] = a.Value
		}
	}
	return out
}

// policiesOf is the tenant whose policies are shown: application policies are
// always the caller's own.
func (s *server) policiesOf(r *http.Request, level apim.PolicyLevel) (apim.TenantID, error) {
	if level == apim.AppLevel {
		return s.svc.Addressed(r.Context(), "")
	}
	return s.addressed(r)
}

func (s *server) listPolicies(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	level := apim.PolicyLevel(rest.Path(r, "policyLevel"))
	t, err := s.policiesOf(r, level)
	if err != nil {
		return err
	}
	all, err := s.svc.Policies(r.Context(), t, level)
	if err != nil {
		return err
	}
	items := []policy{}
	for _, p := range rest.Window(all, offset, limit) {
		items = append(items, fromPolicy(p))
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, len(all), offset, limit))
}

func (s *server) getPolicy(w http.ResponseWriter, r *http.Request) error {
	level := apim.PolicyLevel(rest.Path(r, "policyLevel"))
	t, err := s.policiesOf(r, level)
	if err != nil {
		return err
	}
	p, err := s.svc.Policy(r.Context(), t, level, rest.Path(r, "policyId"))
	if err != nil {
		return err
	}
	rest.SetETag(w, p.Rev)
	return rest.JSON(w, http.StatusOK, fromPolicy(p))
}

func (s *server) listTags(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	tags, err := s.svc.Tags(r.Context(), t)
	if err != nil {
		return err
	}
	type tag struct {
		Value string `json:"value"`
		Count int    `json:"count"`
	}
	items := []tag{}
	for _, x := range rest.Window(tags, offset, limit) {
		items = append(items, tag(x))
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, len(tags), offset, limit))
}

// plain is a list without paging.
type plain[T any] struct {
	Count int `json:"count"`
	List  []T `json:"list"`
}

func listOf[T any](items []T) plain[T] {
	if items == nil {
		items = []T{}
	}
	return plain[T]{len(items), items}
}

func (s *server) listCategories(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.addressed(r); err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, listOf[struct{}](nil))
}

func (s *server) listTenants(w http.ResponseWriter, r *http.Request) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	state := r.URL.Query().Get("state")
	if state == "" {
		state = "active"
	}
	page, err := s.svc.TenantsList(r.Context(), strings.EqualFold(state, "active"), offset, limit)
	if err != nil {
		return err
	}
	type tenant struct {
		Domain string `json:"domain"`
		Status string `json:"status"`
	}
	items := []tenant{}
	for _, t := range page.Items {
		items = append(items, tenant{string(t.Domain), strings.ToUpper(state)})
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, page.Total, offset, limit))
}

type settings struct {
	GrantTypes                []string        `json:"grantTypes"`
	Scopes                    []string        `json:"scopes"`
	ApplicationSharingEnabled bool            `json:"applicationSharingEnabled"`
	MapExistingAuthApps       bool            `json:"mapExistingAuthApps"`
	APIGatewayEndpoint        string          `json:"apiGatewayEndpoint"`
	MonetizationEnabled       bool            `json:"monetizationEnabled"`
	RecommendationEnabled     bool            `json:"recommendationEnabled"`
	IsUnlimitedTierPaid       bool            `json:"IsUnlimitedTierPaid"`
	IdentityProvider          map[string]bool `json:"identityProvider"`
	IsAnonymousModeEnabled    bool            `json:"IsAnonymousModeEnabled"`
	IsPasswordChangeEnabled   bool            `json:"IsPasswordChangeEnabled"`
	UserStorePasswordPattern  *string         `json:"userStorePasswordPattern"`
	PasswordPolicyPattern     *string         `json:"passwordPolicyPattern"`
	PasswordPolicyMinLength   int             `json:"passwordPolicyMinLength"`
	PasswordPolicyMaxLength   int             `json:"passwordPolicyMaxLength"`
	OrgAccessControlEnabled   bool            `json:"orgAccessControlEnabled"`
}

// scopes of the portal, as its settings list them.
var scopes = []string{"apim:subscribe", "apim:app_manage", "apim:sub_manage", "apim:api_key", "apim:store_settings", "apim:app_import_export", "apim:sub_alert_manage"}

func (s *server) getSettings(w http.ResponseWriter, r *http.Request) error {
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	c, err := s.svc.Settings(r.Context(), t)
	if err != nil {
		return err
	}
	out := settings{
		Scopes: scopes, APIGatewayEndpoint: s.GatewayURL, MonetizationEnabled: c.Monetization, RecommendationEnabled: c.Recommendation,
		IsUnlimitedTierPaid: c.UnlimitedPaid, IdentityProvider: map[string]bool{"external": false}, MapExistingAuthApps: true,
		IsAnonymousModeEnabled: s.Anonymous && c.Anonymous, IsPasswordChangeEnabled: s.PasswordChange,
		PasswordPolicyMinLength: 8, PasswordPolicyMaxLength: 30,
		GrantTypes: []string{},
	}
	kms, err := s.svc.ListKeyManagers(r.Context(), t)
	if err != nil {
		return err
	}
	for _, km := range kms {
		if km.Name == apim.ResidentKM {
			out.GrantTypes = some(km.Grants)
		}
	}
	return rest.JSON(w, http.StatusOK, out)
}

func (s *server) listAttributes(w http.ResponseWriter, r *http.Request) error {
	return rest.JSON(w, http.StatusOK, listOf[struct{}](nil))
}

func (s *server) getOrganization(w http.ResponseWriter, r *http.Request) error {
	return rest.JSON(w, http.StatusOK, map[string]any{"organizationId": nil, "name": nil})
}

func (s *server) changePassword(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[struct {
		Current string `json:"currentPassword"`
		New     string `json:"newPassword"`
	}](r)
	if err != nil {
		return err
	}
	if !s.PasswordChange {
		return fault.PasswordChangeOff.With("Password change is disabled")
	}
	if in.New == "" {
		return fault.PasswordPattern.With("The new password must not be empty")
	}
	if err := s.svc.ChangePassword(r.Context(), in.Current, in.New); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

// location is where a new resource can be read.
func location(w http.ResponseWriter, kind, id string) {
	w.Header().Set("Location", Base+"/"+kind+"/"+url.PathEscape(id))
}
