package publisher

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/publish"
)

type propertyDTO struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Display bool   `json:"display"`
}

type scopeDTO struct {
	ID          string   `json:"id,omitempty"`
	Name        string   `json:"name"`
	DisplayName string   `json:"displayName"`
	Description string   `json:"description"`
	Bindings    []string `json:"bindings"`
	UsageCount  *int     `json:"usageCount,omitempty"`
}

type apiScopeDTO struct {
	Scope  scopeDTO `json:"scope"`
	Shared bool     `json:"shared"`
}

type operationDTO struct {
	ID               string          `json:"id"`
	Target           string          `json:"target"`
	Verb             string          `json:"verb"`
	AuthType         string          `json:"authType"`
	ThrottlingPolicy string          `json:"throttlingPolicy"`
	Scopes           []string        `json:"scopes"`
	UsedProductIDs   []string        `json:"usedProductIds"`
	PayloadSchema    *string         `json:"payloadSchema"`
	URIMapping       *string         `json:"uriMapping"`
	OperationPolicy  json.RawMessage `json:"operationPolicies"`
}

type corsDTO struct {
	Enabled     bool     `json:"corsConfigurationEnabled"`
	Origins     []string `json:"accessControlAllowOrigins"`
	Credentials bool     `json:"accessControlAllowCredentials"`
	Headers     []string `json:"accessControlAllowHeaders"`
	Methods     []string `json:"accessControlAllowMethods"`
}

type findingDTO struct {
	Severity string `json:"severity"`
	Path     string `json:"path,omitempty"`
	Line     int    `json:"line,omitempty"`
	Message  string `json:"message"`
}

type apiDTO struct {
	ID                           string                 `json:"id"`
	Name                         string                 `json:"name"`
	DisplayName                  string                 `json:"displayName,omitempty"`
	Description                  *string                `json:"description"`
	Context                      string                 `json:"context"`
	Version                      string                 `json:"version"`
	Provider                     string                 `json:"provider"`
	LifeCycleStatus              string                 `json:"lifeCycleStatus"`
	WSDLInfo                     json.RawMessage        `json:"wsdlInfo"`
	WSDLURL                      *string                `json:"wsdlUrl"`
	ResponseCachingEnabled       bool                   `json:"responseCachingEnabled"`
	CacheTimeout                 int                    `json:"cacheTimeout"`
	HasThumbnail                 bool                   `json:"hasThumbnail"`
	IsDefaultVersion             bool                   `json:"isDefaultVersion"`
	IsRevision                   bool                   `json:"isRevision"`
	RevisionedAPIID              *string                `json:"revisionedApiId"`
	RevisionID                   int                    `json:"revisionId"`
	EnableSchemaValidation       bool                   `json:"enableSchemaValidation"`
	EnableSubscriberVerification bool                   `json:"enableSubscriberVerification"`
	Type                         string                 `json:"type"`
	Audience                     string                 `json:"audience"`
	Audiences                    []string               `json:"audiences"`
	Transport                    []string               `json:"transport"`
	Tags                         []string               `json:"tags"`
	Policies                     []string               `json:"policies"`
	OrganizationPolicies         []json.RawMessage      `json:"organizationPolicies"`
	APIThrottlingPolicy          *string                `json:"apiThrottlingPolicy"`
	AuthorizationHeader          string                 `json:"authorizationHeader"`
	APIKeyHeader                 string                 `json:"apiKeyHeader"`
	SecurityScheme               []string               `json:"securityScheme"`
	MaxTPS                       json.RawMessage        `json:"maxTps"`
	Visibility                   string                 `json:"visibility"`
	VisibleRoles                 []string               `json:"visibleRoles"`
	VisibleTenants               []string               `json:"visibleTenants"`
	VisibleOrganizations         []string               `json:"visibleOrganizations"`
	MediationPolicies            []json.RawMessage      `json:"mediationPolicies"`
	APIPolicies                  json.RawMessage        `json:"apiPolicies"`
	SubscriptionAvailability     string                 `json:"subscriptionAvailability"`
	SubscriptionAvailableTenants []string               `json:"subscriptionAvailableTenants"`
	AdditionalProperties         []propertyDTO          `json:"additionalProperties"`
	AdditionalPropertiesMap      map[string]propertyDTO `json:"additionalPropertiesMap"`
	Monetization                 json.RawMessage        `json:"monetization"`
	AccessControl                string                 `json:"accessControl"`
	AccessControlRoles           []string               `json:"accessControlRoles"`
	BusinessInformation          map[string]*string     `json:"businessInformation"`
	CORSConfiguration            *corsDTO               `json:"corsConfiguration"`
	Websub                       json.RawMessage        `json:"websubSubscriptionConfiguration"`
	WorkflowStatus               *string                `json:"workflowStatus"`
	CreatedTime                  string                 `json:"createdTime"`
	LastUpdatedTimestamp         string                 `json:"lastUpdatedTimestamp"`
	LastUpdatedTime              string                 `json:"lastUpdatedTime"`
	EndpointConfig               json.RawMessage        `json:"endpointConfig"`
	EndpointImplementationType   string                 `json:"endpointImplementationType"`
	Scopes                       []apiScopeDTO          `json:"scopes"`
	Operations                   []operationDTO         `json:"operations"`
	ThreatProtectionPolicies     json.RawMessage        `json:"threatProtectionPolicies"`
	Categories                   []string               `json:"categories"`
	KeyManagers                  []string               `json:"keyManagers"`
	ServiceInfo                  json.RawMessage        `json:"serviceInfo"`
	AdvertiseInfo                json.RawMessage        `json:"advertiseInfo"`
	GatewayVendor                string                 `json:"gatewayVendor"`
	GatewayType                  string                 `json:"gatewayType"`
	AsyncTransportProtocols      []string               `json:"asyncTransportProtocols"`
	InitiatedFromGateway         bool                   `json:"initiatedFromGateway"`
	DefinitionFindings           []findingDTO           `json:"definitionFindings,omitempty"` // ours
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

var businessNames = []string{"businessOwner", "businessOwnerEmail", "technicalOwner", "technicalOwnerEmail"}

// fromAPI is the wire form of an API; rev is the revision it was read from.
func fromAPI(a *apim.API, rev *apim.Revision) apiDTO {
	d := apiDTO{
		ID: string(a.ID), Name: a.Name, DisplayName: a.DisplayName, Description: optional(a.Description),
		Context: a.Context, Version: a.Version, Provider: a.Provider, LifeCycleStatus: string(a.State),
		ResponseCachingEnabled: a.ResponseCaching, CacheTimeout: a.CacheTimeout, HasThumbnail: a.Thumbnail != "",
		IsDefaultVersion: a.Default, EnableSchemaValidation: a.SchemaValidation,
		EnableSubscriberVerification: a.SubscriberVerification, Type: a.Type, Audience: a.Audience,
		Audiences: list(a.Audiences), Transport: list(a.Transports), Tags: list(a.Tags), Policies: list(a.Plans),
		OrganizationPolicies: []json.RawMessage{}, APIThrottlingPolicy: optional(a.APIPolicy),
		AuthorizationHeader: a.AuthHeader, APIKeyHeader: a.APIKeyHeader, SecurityScheme: list(a.Security),
		MaxTPS: a.MaxTPS, Visibility: a.Visibility, VisibleRoles: list(a.VisibleRoles),
		VisibleTenants: list(a.VisibleTenants), VisibleOrganizations: list(a.VisibleOrganizations),
		MediationPolicies: []json.RawMessage{}, APIPolicies: a.APIPolicies,
		SubscriptionAvailability:     a.SubscriptionAvailability,
		SubscriptionAvailableTenants: list(a.SubscriptionTenants), AdditionalProperties: []propertyDTO{},
		AdditionalPropertiesMap: map[string]propertyDTO{}, Monetization: a.Monetization,
		AccessControl: a.AccessControl, AccessControlRoles: list(a.AccessControlRoles),
		BusinessInformation: map[string]*string{}, Websub: publish.Masked(a.Websub),
		WorkflowStatus: optional(a.Workflow), CreatedTime: millis(a.CreatedAt),
		LastUpdatedTimestamp: millis(a.UpdatedAt), LastUpdatedTime: millis(a.UpdatedAt),
		EndpointConfig: publish.Masked(a.Endpoint), EndpointImplementationType: a.EndpointType,
		Scopes: []apiScopeDTO{}, Operations: make([]operationDTO, 0, len(a.Operations)),
		Categories: list(a.Categories), KeyManagers: list(a.KeyManagers), AdvertiseInfo: a.Advertise,
		GatewayVendor: a.GatewayVendor, GatewayType: a.GatewayType, AsyncTransportProtocols: []string{},
	}
	if rev != nil {
		parent := string(rev.API)
		d.IsRevision, d.RevisionID, d.RevisionedAPIID = true, rev.Number, &parent
	}
	for _, p := range a.Properties {
		w := propertyDTO{p.Name, p.Value, p.Display}
		d.AdditionalProperties = append(d.AdditionalProperties, w)
		d.AdditionalPropertiesMap[p.Name] = w
	}
	for _, n := range businessNames {
		d.BusinessInformation[n] = optional(a.Business[n])
	}
	if c := a.CORS; c != nil {
		d.CORSConfiguration = &corsDTO{c.Enabled, list(c.Origins), c.Credentials, list(c.Headers), list(c.Methods)}
	}
	for _, s := range a.Scopes {
		d.Scopes = append(d.Scopes, apiScopeDTO{Shared: s.Shared, Scope: scopeDTO{
			ID: s.ID, Name: s.Name, DisplayName: s.DisplayName, Description: s.Description, Bindings: list(s.Roles),
		}})
	}
	for _, o := range a.Operations {
		w := operationDTO{
			ID: o.ID, Target: o.Target, Verb: o.Verb, AuthType: o.Auth, ThrottlingPolicy: o.Policy,
			Scopes: list(o.Scopes), UsedProductIDs: []string{}, PayloadSchema: optional(o.Payload), OperationPolicy: o.Policies,
		}
		if len(w.OperationPolicy) == 0 {
			w.OperationPolicy = json.RawMessage(`{"request":[],"response":[],"fault":[]}`)
		}
		d.Operations = append(d.Operations, w)
	}
	for _, f := range a.Findings {
		d.DefinitionFindings = append(d.DefinitionFindings, findingDTO{f.Severity, f.Path, f.Line, f.Message})
	}
	return d
}

// tag identifies what clients see and may change. Times and findings are left
// out: checks that finish later must not spoil somebody's edit.
func tag(a *apim.API) string {
	d := fromAPI(a, nil)
	d.LastUpdatedTime, d.LastUpdatedTimestamp, d.DefinitionFindings = "", "", nil
	b, err := json.Marshal(d)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(append(append(b, a.Definition...), a.Thumbnail...))
	return hex.EncodeToString(sum[:12])
}

// apiIn is the wire form as clients send it: raw where null and absent differ
// from a value, lenient everywhere else.
type apiIn struct {
	apiDTO
	AdditionalProperties    json.RawMessage `json:"additionalProperties"`
	AdditionalPropertiesMap json.RawMessage `json:"additionalPropertiesMap"`
	MediationPolicies       json.RawMessage `json:"mediationPolicies"`
	OrganizationPolicies    json.RawMessage `json:"organizationPolicies"`
	KeyManagers             json.RawMessage `json:"keyManagers"`
	CacheTimeout            *int            `json:"cacheTimeout"`
	CreatedTime             json.RawMessage `json:"createdTime"`
	LastUpdatedTime         json.RawMessage `json:"lastUpdatedTime"`
	LastUpdatedTimestamp    json.RawMessage `json:"lastUpdatedTimestamp"`
	DefinitionFindings      json.RawMessage `json:"definitionFindings"`
	RevisionID              json.RawMessage `json:"revisionId"`
}

func (d *apiIn) toAPI() *apim.API {
	a := &apim.API{
		Name: d.Name, DisplayName: d.DisplayName, Description: text(d.Description), Context: d.Context, Version: d.Version,
		Type: d.Type, Default: d.IsDefaultVersion, ResponseCaching: d.ResponseCachingEnabled,
		SchemaValidation: d.EnableSchemaValidation, SubscriberVerification: d.EnableSubscriberVerification,
		Audience: d.Audience, Audiences: d.Audiences, Transports: d.Transport, Tags: d.Tags, Plans: d.Policies,
		APIPolicy: text(d.APIThrottlingPolicy), AuthHeader: d.AuthorizationHeader, APIKeyHeader: d.APIKeyHeader,
		Security: d.SecurityScheme, MaxTPS: object(d.MaxTPS), Visibility: d.Visibility, VisibleRoles: d.VisibleRoles,
		VisibleTenants: d.VisibleTenants, VisibleOrganizations: d.VisibleOrganizations, APIPolicies: object(d.APIPolicies),
		SubscriptionAvailability: d.SubscriptionAvailability, SubscriptionTenants: d.SubscriptionAvailableTenants,
		Monetization: object(d.Monetization), AccessControl: d.AccessControl, AccessControlRoles: d.AccessControlRoles,
		Business: map[string]string{}, Websub: object(d.Websub), Endpoint: object(d.EndpointConfig),
		EndpointType: d.EndpointImplementationType, Categories: d.Categories, Advertise: object(d.AdvertiseInfo),
		GatewayVendor: d.GatewayVendor, GatewayType: d.GatewayType,
		Properties: properties(d.AdditionalProperties, d.AdditionalPropertiesMap),
	}
	if d.CacheTimeout != nil {
		a.CacheTimeout = *d.CacheTimeout
	}
	var kms []string
	if json.Unmarshal(d.KeyManagers, &kms) == nil {
		a.KeyManagers = kms
	}
	for n, v := range d.BusinessInformation {
		if v != nil {
			a.Business[n] = *v
		}
	}
	if c := d.CORSConfiguration; c != nil {
		a.CORS = &apim.CORS{Enabled: c.Enabled, Origins: list(c.Origins), Credentials: c.Credentials, Headers: list(c.Headers), Methods: list(c.Methods)}
	}
	for _, s := range d.Scopes {
		a.Scopes = append(a.Scopes, apim.APIScope{
			Shared: s.Shared, ID: s.Scope.ID, Name: s.Scope.Name, DisplayName: s.Scope.DisplayName,
			Description: s.Scope.Description, Roles: s.Scope.Bindings,
		})
	}
	for _, o := range d.Operations {
		a.Operations = append(a.Operations, apim.Operation{
			ID: "", Target: o.Target, Verb: o.Verb, Auth: o.AuthType, Policy: o.ThrottlingPolicy, Scopes: o.Scopes,
			Policies: object(o.OperationPolicy), Payload: text(o.PayloadSchema),
		})
	}
	return a
}

func object(raw json.RawMessage) json.RawMessage {
	if string(raw) == "null" {
		return nil
	}
	return raw
}

// properties reads additional properties in either of their two forms; the map
// wins.
func properties(asList, asMap json.RawMessage) []apim.Property {
	var out []apim.Property
	at := map[string]int{}
	put := func(p propertyDTO) {
		v := apim.Property{Name: p.Name, Value: p.Value, Display: p.Display}
		if i, ok := at[p.Name]; ok {
			out[i] = v
			return
		}
		at[p.Name] = len(out)
		out = append(out, v)
	}
	var l []propertyDTO
	if json.Unmarshal(asList, &l) == nil {
		for _, p := range l {
			if p.Name != "" {
				put(p)
			}
		}
	}
	m := map[string]propertyDTO{}
	if json.Unmarshal(asMap, &m) == nil {
		for _, n := range sortedKeys(m) {
			p := m[n]
			p.Name = n
			put(p)
		}
	}
	return out
}
