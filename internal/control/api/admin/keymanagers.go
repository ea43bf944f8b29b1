package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type keyManagerInfo struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Type        string `json:"type"`
	DisplayName string `json:"displayName"`
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
	TokenType   string `json:"tokenType"`
	IsGlobal    bool   `json:"isGlobal"`
}

func infoOf(k *apim.KeyManager) keyManagerInfo {
	return keyManagerInfo{k.ID, k.Name, k.Type, k.DisplayName, k.Description, k.Enabled, k.TokenType, k.Global}
}

// keyManager is the whole object. Members without a rule of their own travel
// in extra and are kept as they were sent.
type keyManager struct {
	keyManagerInfo
	Endpoints map[string]string
	kmBody
	extra map[string]json.RawMessage
}

type kmBody struct {
	Issuer           string          `json:"issuer"`
	Certificates     json.RawMessage `json:"certificates"`
	Grants           []string        `json:"availableGrantTypes"`
	GivesTokens      bool            `json:"enableTokenGeneration"`
	MapsClients      bool            `json:"enableMapOAuthConsumerApps"`
	CreatesClients   bool            `json:"enableOAuthAppCreation"`
	ConsumerKeyClaim string          `json:"consumerKeyClaim"`
	ScopesClaim      string          `json:"scopesClaim"`
	Properties       map[string]any  `json:"additionalProperties"`
	Permissions      *permission     `json:"permissions"`
}

// endpointNames are the members that hold addresses.
var endpointNames = []string{
	"wellKnownEndpoint", "introspectionEndpoint", "clientRegistrationEndpoint", "tokenEndpoint", "displayTokenEndpoint", "revokeEndpoint",
	"displayRevokeEndpoint", "userInfoEndpoint", "authorizeEndpoint", "scopeManagementEndpoint",
}

// extraDefaults are the other members and what they read back as when never sent.
var extraDefaults = map[string]string{
	"alias": "null", "enableTokenEncryption": "false", "enableTokenHashing": "false", "enableProvisionedAppValidation": "true",
	"enableSelfValidationJWT": "true", "claimMapping": "[]", "tokenValidation": "[]", "allowedOrganizations": "[]",
}

// UnmarshalJSON sorts the members by who looks at them.
func (k *keyManager) UnmarshalJSON(b []byte) error {
	var in struct {
		keyManagerInfo
		kmBody
		Enabled *bool `json:"enabled"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	k.keyManagerInfo, k.kmBody = in.keyManagerInfo, in.kmBody
	k.Enabled = in.Enabled == nil || *in.Enabled
	k.Endpoints, k.extra = map[string]string{}, map[string]json.RawMessage{}
	for _, n := range endpointNames {
		var v *string
		if err := json.Unmarshal(orNull(all[n]), &v); err != nil {
			return err
		}
		if v != nil {
			k.Endpoints[n] = *v
		}
	}
	for n := range extraDefaults {
		if v, ok := all[n]; ok {
			k.extra[n] = v
		}
	}
	return nil
}

func orNull(b json.RawMessage) json.RawMessage {
	if len(b) == 0 {
		return json.RawMessage("null")
	}
	return b
}

func (k *keyManager) keyManager() (*apim.KeyManager, error) {
	extra, err := json.Marshal(k.extra)
	if err != nil {
		return nil, fmt.Errorf("encode key manager: %w", err)
	}
	out := &apim.KeyManager{
		Name: strings.TrimSpace(k.Name), DisplayName: k.DisplayName, Description: k.Description, Type: k.Type, Enabled: k.Enabled,
		TokenType: k.TokenType, Issuer: k.Issuer, Endpoints: k.Endpoints, Grants: k.Grants, ConsumerKeyClaim: k.ConsumerKeyClaim,
		ScopesClaim: k.ScopesClaim, Properties: map[string]string{}, Extra: extra, CreatesClients: k.CreatesClients,
		MapsClients: k.MapsClients, GivesTokens: k.GivesTokens,
	}
	if len(k.Certificates) > 0 && string(k.Certificates) != "null" {
		out.Certificates = k.Certificates
	}
	if out.DisplayName == "" {
		out.DisplayName = out.Name
	}
	if k.Permissions != nil {
		out.PermissionType, out.PermissionRoles = k.Permissions.Type, k.Permissions.Roles
	}
	if len(k.Properties) > 200 {
		return nil, fault.BadRequest.With("A key manager has at most 200 additional properties")
	}
	for n, v := range k.Properties {
		switch x := v.(type) {
		case nil:
		case string:
			out.Properties[n] = x
		case bool, float64:
			out.Properties[n] = fmt.Sprint(x)
		default:
			b, err := json.Marshal(x)
			if err != nil {
				return nil, fmt.Errorf("encode property %s: %w", n, err)
			}
			out.Properties[n] = string(b)
		}
	}
	return out, nil
}

// fromKeyManager renders the whole object with its secrets masked.
func fromKeyManager(k *apim.KeyManager) (map[string]any, error) {
	out := map[string]any{}
	for n, v := range extraDefaults {
		out[n] = json.RawMessage(v)
	}
	if len(k.Extra) > 0 {
		var extra map[string]json.RawMessage
		if err := json.Unmarshal(k.Extra, &extra); err != nil {
			return nil, fmt.Errorf("read key manager %s: %w", k.ID, err)
		}
		for n, v := range extra {
			out[n] = v
		}
	}
	for _, n := range endpointNames {
		out[n] = nil
		if v, ok := k.Endpoints[n]; ok {
			out[n] = v
		}
	}
	props := map[string]string{}
	maps.Copy(props, k.Properties)
	for n := range k.Secrets {
		props[n] = govern.Mask
	}
	i := infoOf(k)
	maps.Copy(out, map[string]any{
		"id": i.ID, "name": i.Name, "type": i.Type, "displayName": i.DisplayName, "description": i.Description, "enabled": i.Enabled,
		"tokenType": i.TokenType, "isGlobal": i.IsGlobal, "issuer": k.Issuer, "certificates": orNull(k.Certificates),
		"availableGrantTypes": some(k.Grants), "enableTokenGeneration": k.GivesTokens, "enableMapOAuthConsumerApps": k.MapsClients,
		"enableOAuthAppCreation": k.CreatesClients, "consumerKeyClaim": k.ConsumerKeyClaim, "scopesClaim": k.ScopesClaim,
		"additionalProperties": props, "permissions": permission{k.PermissionType, some(k.PermissionRoles)},
	})
	return out, nil
}

func (s *server) listKeyManagers(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.ListKeyManagers(r.Context())
	if err != nil {
		return err
	}
	out := []keyManagerInfo{}
	for _, k := range all {
		out = append(out, infoOf(k))
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

func answerKM(w http.ResponseWriter, status int, k *apim.KeyManager) error {
	out, err := fromKeyManager(k)
	if err != nil {
		return err
	}
	rest.SetETag(w, k.Rev)
	return rest.JSON(w, status, out)
}

func (s *server) createKeyManager(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[keyManager](r)
	if err != nil {
		return err
	}
	k, err := in.keyManager()
	if err != nil {
		return err
	}
	if err := s.svc.CreateKeyManager(r.Context(), k); err != nil {
		return err
	}
	w.Header().Set("Location", Base+"/key-managers/"+k.ID)
	return answerKM(w, http.StatusCreated, k)
}

func (s *server) getKeyManager(w http.ResponseWriter, r *http.Request) error {
	k, err := s.svc.KeyManager(r.Context(), rest.Path(r, "keyManagerId"))
	if err != nil {
		return err
	}
	return answerKM(w, http.StatusOK, k)
}

func (s *server) updateKeyManager(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[keyManager](r)
	if err != nil {
		return err
	}
	k, err := in.keyManager()
	if err != nil {
		return err
	}
	if err := s.svc.UpdateKeyManager(r.Context(), rest.Path(r, "keyManagerId"), k, ifMatch(r)); err != nil {
		return err
	}
	return answerKM(w, http.StatusOK, k)
}

func (s *server) deleteKeyManager(w http.ResponseWriter, r *http.Request) error {
	if err := s.svc.DeleteKeyManager(r.Context(), rest.Path(r, "keyManagerId")); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

// discoverKeyManager fills a key manager with what a discovery document says.
func (s *server) discoverKeyManager(w http.ResponseWriter, r *http.Request) error {
	f, err := rest.ReadForm(r, 64<<10)
	if err != nil {
		return err
	}
	km, ok, err := s.svc.Discover(r.Context(), f.Text("url"), f.Text("type"))
	if err != nil {
		return err
	}
	if !ok {
		return rest.JSON(w, http.StatusOK, map[string]any{"valid": false, "value": nil})
	}
	out, err := fromKeyManager(km)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, map[string]any{"valid": true, "value": out})
}
