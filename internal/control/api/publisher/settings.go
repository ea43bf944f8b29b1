package publisher

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/rest"
	"github.com/cardea-apim/cardea/openapi"
)

type vhostDTO struct {
	Host            string `json:"host"`
	HTTPContext     string `json:"httpContext"`
	HTTPPort        int    `json:"httpPort"`
	HTTPSPort       int    `json:"httpsPort"`
	WSPort          int    `json:"wsPort"`
	WSSPort         int    `json:"wssPort"`
	WebsubHTTPPort  int    `json:"websubHttpPort"`
	WebsubHTTPSPort int    `json:"websubHttpsPort"`
}

type environmentDTO struct {
	ID                   string            `json:"id"`
	Name                 string            `json:"name"`
	DisplayName          string            `json:"displayName"`
	Type                 string            `json:"type"`
	ServerURL            string            `json:"serverUrl"`
	Provider             string            `json:"provider"`
	GatewayType          string            `json:"gatewayType"`
	ShowInConsole        bool              `json:"showInApiConsole"`
	VHosts               []vhostDTO        `json:"vhosts"`
	EndpointURIs         []json.RawMessage `json:"endpointURIs"`
	AdditionalProperties []json.RawMessage `json:"additionalProperties"`
}

func environment(e *apim.Environment) environmentDTO {
	d := environmentDTO{
		ID: e.ID, Name: e.Name, DisplayName: e.DisplayName, Type: e.Type, Provider: e.Provider, GatewayType: e.GatewayType,
		ShowInConsole: !e.NoConsole, VHosts: []vhostDTO{}, EndpointURIs: []json.RawMessage{}, AdditionalProperties: []json.RawMessage{},
	}
	if d.DisplayName == "" {
		d.DisplayName = e.Name
	}
	for i, v := range e.VHosts {
		if i == 0 {
			d.ServerURL = "https://" + v.Host + ":" + strconv.Itoa(v.HTTPSPort)
		}
		d.VHosts = append(d.VHosts, vhostDTO{v.Host, v.HTTPContext, v.HTTPPort, v.HTTPSPort, v.WSPort, v.WSSPort, v.WebsubHTTPPort, v.WebsubHTTPSPort})
	}
	return d
}

func (s *server) getSettings(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	envs, err := s.pub.AllEnvironments(ctx, apim.ActorFrom(ctx).Tenant)
	if err != nil {
		return err
	}
	list := []environmentDTO{}
	for _, e := range envs {
		list = append(list, environment(e))
	}
	subs, err := s.pub.ListPolicies(ctx, apim.SubLevel)
	if err != nil {
		return err
	}
	advanced, plan := "Unlimited", "Unlimited"
	if s.pub.NoUnlimited {
		advanced, plan = "10KPerMin", ""
	}
	for _, p := range subs { // by name: the first one when Unlimited is off
		if plan == "" {
			plan = p.Name
		}
	}
	return rest.JSON(w, http.StatusOK, map[string]any{
		"devportalUrl": s.DevportalURL, "environment": list, "gatewayTypes": s.GatewayTypes,
		"scopes": scopesOfDocument(), "monetizationAttributes": []any{}, "subscriberContactAttributes": map[string]any{
			"recipientDelimiter": ";", "recipientType": "TO",
		},
		"securityAuditProperties": map[string]any{}, "externalStoresEnabled": false, "docVisibilityEnabled": false,
		"crossTenantSubscriptionEnabled": false, "defaultAdvancePolicy": advanced, "defaultSubscriptionPolicy": plan,
		"authorizationHeader": "Authorization", "customProperties": s.customProperties(r), "IsJWTEnabledForLoginTokens": true,
		"orgAccessControlEnabled": false, "allowSubscriptionValidationDisabling": true, "portalConfigurationOnlyModeEnabled": false,
		"gatewayFeatureCatalog": map[string]any{
			"gatewayFeatures": map[string]any{}, "apiTypes": map[string]any{"Regular": []string{"HTTP"}},
		},
	})
}

// customProperties are the tenant's declared additional properties.
func (s *server) customProperties(r *http.Request) json.RawMessage {
	doc, err := s.pub.TenantConf(r.Context())
	var v struct {
		PropertyConfigurations json.RawMessage
	}
	if err != nil || json.Unmarshal([]byte(doc), &v) != nil || len(v.PropertyConfigurations) == 0 {
		return json.RawMessage("[]")
	}
	return v.PropertyConfigurations
}

// scopesOfDocument are the scopes our document uses, which the portal asks for.
func scopesOfDocument() []string {
	var out []string
	for line := range strings.Lines(string(openapi.Publisher)) {
		if !strings.Contains(line, "OAuth2Security: [") {
			continue
		}
		_, l, _ := strings.Cut(line, "[")
		l, _, _ = strings.Cut(l, "]")
		for _, s := range strings.Split(l, ",") {
			if s = strings.Trim(s, " '\""); s != "" && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (s *server) listKeyManagers(w http.ResponseWriter, r *http.Request) error {
	kms, err := s.pub.ListKeyManagers(r.Context())
	if err != nil {
		return err
	}
	type km struct {
		ID          string            `json:"id"`
		Name        string            `json:"name"`
		DisplayName string            `json:"displayName"`
		Type        string            `json:"type"`
		Description *string           `json:"description"`
		Enabled     bool              `json:"enabled"`
		Properties  []json.RawMessage `json:"additionalProperties"`
	}
	out := struct {
		Count int  `json:"count"`
		List  []km `json:"list"`
	}{List: []km{}}
	for _, k := range kms {
		out.List = append(out.List, km{k.ID, k.Name, k.DisplayName, k.Type, optional(k.Description), k.Enabled, []json.RawMessage{}})
	}
	out.Count = len(out.List)
	return rest.JSON(w, http.StatusOK, out)
}

// listCategories answers the categories of the organisation: none can be
// declared yet.
func (s *server) listCategories(w http.ResponseWriter, _ *http.Request) error {
	return rest.JSON(w, http.StatusOK, struct {
		Count int   `json:"count"`
		List  []any `json:"list"`
	}{0, []any{}})
}

func (s *server) linterRules(w http.ResponseWriter, r *http.Request) error {
	doc, err := s.pub.TenantConf(r.Context())
	if err != nil {
		return err
	}
	var v struct {
		LinterCustomRules json.RawMessage
	}
	if json.Unmarshal([]byte(doc), &v) != nil || len(v.LinterCustomRules) == 0 {
		v.LinterCustomRules = json.RawMessage("{}")
	}
	return rest.Raw(w, http.StatusOK, "application/json", v.LinterCustomRules)
}
