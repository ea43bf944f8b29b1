package devportal

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/subscribe"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

// texts is an object whose values may come as strings, numbers, booleans or
// null and are kept as text; clients of the original send all of them.
type texts map[string]string

func (t *texts) UnmarshalJSON(b []byte) error {
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		return err
	}
	if m == nil {
		return nil
	}
	*t = texts{}
	for k, v := range m {
		switch x := v.(type) {
		case nil:
			(*t)[k] = ""
		case string:
			(*t)[k] = x
		case bool:
			(*t)[k] = strconv.FormatBool(x)
		case json.Number:
			(*t)[k] = x.String()
		default:
			return &json.UnmarshalTypeError{Value: "a nested value", Type: reflect.TypeFor[string](), Field: "additionalProperties." + k}
		}
	}
	return nil
}

// text is a scalar that may come as a string or a number.
type text string

func (t *text) UnmarshalJSON(b []byte) error {
	var m texts
	if err := m.UnmarshalJSON([]byte(`{"":` + string(b) + `}`)); err != nil {
		return err
	}
	*t = text(m[""])
	return nil
}

type tokenOut struct {
	AccessToken  string   `json:"accessToken"`
	TokenScopes  []string `json:"tokenScopes"`
	ValidityTime int64    `json:"validityTime"`
}

type key struct {
	ID                   string            `json:"keyMappingId"`
	KeyManager           string            `json:"keyManager"`
	ConsumerKey          string            `json:"consumerKey"`
	ConsumerSecret       *string           `json:"consumerSecret"`
	ConsumerSecrets      []any             `json:"consumerSecrets"`
	SupportedGrantTypes  []string          `json:"supportedGrantTypes"`
	CallbackURL          string            `json:"callbackUrl"`
	KeyState             string            `json:"keyState"`
	KeyType              string            `json:"keyType"`
	Mode                 string            `json:"mode"`
	GroupID              *string           `json:"groupId"`
	Token                *tokenOut         `json:"token"`
	AdditionalProperties map[string]string `json:"additionalProperties"`
}

func fromKey(k *subscribe.Key) key {
	out := key{
		ID: string(k.ID), KeyManager: k.ManagerName, ConsumerKey: string(k.ConsumerKey), ConsumerSecrets: []any{},
		SupportedGrantTypes: some(k.Grants), CallbackURL: k.Callback, KeyState: k.State, KeyType: k.KeyType, Mode: k.Mode,
		AdditionalProperties: k.Properties,
	}
	if k.Secret != "" {
		out.ConsumerSecret = &k.Secret
	}
	if k.Token != nil {
		t := fromToken(*k.Token)
		out.Token = &t
	}
	if out.AdditionalProperties == nil {
		out.AdditionalProperties = map[string]string{}
	}
	return out
}

func fromToken(t subscribe.Token) tokenOut {
	return tokenOut{t.Access, some(t.Scopes), int64(t.Validity / time.Second)}
}

type keyManager struct {
	ID                         string            `json:"id"`
	Name                       string            `json:"name"`
	Type                       string            `json:"type"`
	DisplayName                string            `json:"displayName"`
	Description                string            `json:"description"`
	Enabled                    bool              `json:"enabled"`
	AvailableGrantTypes        []string          `json:"availableGrantTypes"`
	TokenEndpoint              string            `json:"tokenEndpoint"`
	RevokeEndpoint             string            `json:"revokeEndpoint"`
	UserInfoEndpoint           string            `json:"userInfoEndpoint"`
	EnableTokenGeneration      bool              `json:"enableTokenGeneration"`
	EnableTokenEncryption      bool              `json:"enableTokenEncryption"`
	EnableTokenHashing         bool              `json:"enableTokenHashing"`
	EnableOAuthAppCreation     bool              `json:"enableOAuthAppCreation"`
	EnableMapOAuthConsumerApps bool              `json:"enableMapOAuthConsumerApps"`
	ApplicationConfiguration   []appConf         `json:"applicationConfiguration"`
	Alias                      *string           `json:"alias"`
	AdditionalProperties       map[string]string `json:"additionalProperties"`
	TokenType                  string            `json:"tokenType"`
	IsGlobal                   bool              `json:"isGlobal"`
}

type appConf struct {
	Name     string `json:"name"`
	Label    string `json:"label"`
	Type     string `json:"type"`
	Required bool   `json:"required"`
	Mask     bool   `json:"mask"`
	Multiple bool   `json:"multiple"`
	Tooltip  string `json:"tooltip"`
	Default  string `json:"default"`
	Values   []any  `json:"values"`
}

// residentConfiguration are the settings of a client that the resident key
// manager understands.
var residentConfiguration = []appConf{
	{"application_access_token_expiry_time", "Application access token expiry", "input", false, false, false, "Seconds an application's access token lives; N/A is the server's default.", "N/A", []any{}},
	{"user_access_token_expiry_time", "User access token expiry", "input", false, false, false, "Seconds a user's access token lives; N/A is the server's default.", "N/A", []any{}},
	{"refresh_token_expiry_time", "Refresh token expiry", "input", false, false, false, "Seconds a refresh token lives; N/A is the server's default.", "N/A", []any{}},
	{"id_token_expiry_time", "ID token expiry", "input", false, false, false, "Seconds an ID token lives; N/A is the server's default.", "N/A", []any{}},
	{"pkceMandatory", "PKCE required", "checkbox", false, false, false, "Refuse authorization requests without PKCE.", "false", []any{}},
	{"pkceSupportPlain", "PKCE plain", "checkbox", false, false, false, "Also accept the plain challenge method.", "false", []any{}},
	{"bypassClientCredentials", "Public client", "checkbox", false, false, false, "Token requests need no client secret.", "false", []any{}},
}

func (s *server) listKeyManagers(w http.ResponseWriter, r *http.Request) error {
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	all, err := s.svc.ListKeyManagers(r.Context(), t)
	if err != nil {
		return err
	}
	out := []keyManager{}
	for _, k := range all {
		e := func(names ...string) string {
			for _, n := range names {
				if v := strings.TrimSpace(k.Endpoints[n]); v != "" {
					return v
				}
			}
			return ""
		}
		m := keyManager{
			ID: k.ID, Name: k.Name, Type: k.Type, DisplayName: k.DisplayName, Description: k.Description, Enabled: k.Enabled,
			AvailableGrantTypes: some(k.Grants), TokenEndpoint: e("displayTokenEndpoint", "tokenEndpoint"),
			RevokeEndpoint: e("displayRevokeEndpoint", "revokeEndpoint"), UserInfoEndpoint: e("userInfoEndpoint"),
			EnableTokenGeneration: k.GivesTokens, EnableOAuthAppCreation: k.CreatesClients, EnableMapOAuthConsumerApps: k.MapsClients,
			ApplicationConfiguration: []appConf{}, AdditionalProperties: map[string]string{}, TokenType: k.TokenType, IsGlobal: k.Global,
		}
		if k.Name == apim.ResidentKM {
			m.ApplicationConfiguration = residentConfiguration
		}
		out = append(out, m)
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

func seconds(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fault.BadRequest.Withf("'%s' is not a number of seconds", text)
	}
	return time.Duration(max(n, 0)) * time.Second, nil
}

func (s *server) generateKeys(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[struct {
		KeyType    string   `json:"keyType"`
		KeyManager string   `json:"keyManager"`
		Grants     []string `json:"grantTypesToBeSupported"`
		Callback   string   `json:"callbackUrl"`
		Scopes     []string `json:"scopes"`
		Validity   text     `json:"validityTime"`
		Properties texts    `json:"additionalProperties"`
	}](r)
	if err != nil {
		return err
	}
	validity, err := seconds(string(in.Validity))
	if err != nil {
		return err
	}
	k, err := s.svc.GenerateKeys(r.Context(), appID(r), subscribe.KeyRequest{
		KeyType: in.KeyType, KeyManager: in.KeyManager, Grants: in.Grants, Callback: in.Callback, Scopes: in.Scopes,
		Validity: validity, Properties: in.Properties,
	})
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, fromKey(k))
}

func (s *server) mapKeys(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[struct {
		Key        string `json:"consumerKey"`
		Secret     string `json:"consumerSecret"`
		KeyManager string `json:"keyManager"`
		KeyType    string `json:"keyType"`
	}](r)
	if err != nil {
		return err
	}
	k, err := s.svc.MapKeys(r.Context(), appID(r), in.KeyManager, in.KeyType, apim.ClientID(in.Key), in.Secret)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, fromKey(k))
}

func (s *server) listKeys(w http.ResponseWriter, r *http.Request) error {
	keys, err := s.svc.Keys(r.Context(), appID(r))
	if err != nil {
		return err
	}
	out := []key{}
	for _, k := range keys {
		out = append(out, fromKey(k))
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

// mapping is the key mapping that a path names by id or, on the older paths,
// by key type.
func (s *server) mapping(r *http.Request) (*subscribe.Key, error) {
	if id := rest.Path(r, "keyMappingId"); id != "" {
		return s.svc.Key(r.Context(), appID(r), apim.KeyMappingID(id))
	}
	return s.svc.KeyByType(r.Context(), appID(r), rest.Path(r, "keyType"))
}

func (s *server) getKey(w http.ResponseWriter, r *http.Request) error {
	k, err := s.mapping(r)
	if err != nil {
		return err
	}
	rest.SetETag(w, k.Rev)
	return rest.JSON(w, http.StatusOK, fromKey(k))
}

func (s *server) updateKey(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[struct {
		Grants     []string `json:"supportedGrantTypes"`
		Callback   *string  `json:"callbackUrl"`
		Properties texts    `json:"additionalProperties"`
	}](r)
	if err != nil {
		return err
	}
	k, err := s.mapping(r)
	if err != nil {
		return err
	}
	if k, err = s.svc.UpdateKey(r.Context(), appID(r), k.ID, in.Grants, in.Callback, in.Properties); err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, fromKey(k))
}

func (s *server) deleteKey(w http.ResponseWriter, r *http.Request) error {
	if err := s.svc.DeleteKey(r.Context(), appID(r), apim.KeyMappingID(rest.Path(r, "keyMappingId"))); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) cleanUp(w http.ResponseWriter, r *http.Request) error {
	k, err := s.mapping(r)
	if err != nil {
		return err
	}
	if err := s.svc.DeleteKey(r.Context(), appID(r), k.ID); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) regenerateSecret(w http.ResponseWriter, r *http.Request) error {
	k, err := s.mapping(r)
	if err != nil {
		return err
	}
	id, secret, err := s.svc.RegenerateSecret(r.Context(), appID(r), k.ID)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, map[string]string{"consumerKey": string(id), "consumerSecret": secret})
}

func (s *server) generateToken(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[struct {
		Secret   string   `json:"consumerSecret"`
		Validity int64    `json:"validityPeriod"`
		Scopes   []string `json:"scopes"`
		Revoke   string   `json:"revokeToken"`
		Grant    string   `json:"grantType"`
	}](r)
	if err != nil {
		return err
	}
	if in.Validity > 1<<31 {
		return fault.BadRequest.With("validityPeriod is out of range")
	}
	k, err := s.mapping(r)
	if err != nil {
		return err
	}
	tok, err := s.svc.Token(r.Context(), appID(r), k.ID, subscribe.TokenRequest{
		Secret: in.Secret, Validity: time.Duration(max(in.Validity, 0)) * time.Second, Scopes: in.Scopes, Revoke: in.Revoke, Grant: in.Grant,
	})
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, fromToken(tok))
}

type secret struct {
	ID         string         `json:"secretId"`
	Value      string         `json:"secretValue"`
	Properties map[string]any `json:"additionalProperties"`
}

func fromSecret(sec apim.Secret, value string, now time.Time) secret {
	p := map[string]any{"description": sec.Description}
	if !sec.Expires.IsZero() {
		p["expiresAt"] = sec.Expires.UnixMilli()
		p["expiresIn"] = int64(sec.Expires.Sub(now).Round(time.Second) / time.Second)
	}
	return secret{sec.ID, value, p}
}

func (s *server) generateSecret(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.DecodeOptional[struct {
		Properties texts `json:"additionalProperties"`
	}](r)
	if err != nil {
		return err
	}
	ttl, err := seconds(in.Properties["expiresIn"])
	if err != nil {
		return err
	}
	sec, value, err := s.svc.AddSecret(r.Context(), appID(r), apim.KeyMappingID(rest.Path(r, "keyMappingId")), in.Properties["description"], ttl)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusCreated, fromSecret(sec, value, s.svc.Now()))
}

func (s *server) listSecrets(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.Secrets(r.Context(), appID(r), apim.KeyMappingID(rest.Path(r, "keyMappingId")))
	if err != nil {
		return err
	}
	out := []secret{}
	for _, sec := range all {
		out = append(out, fromSecret(sec, "********", s.svc.Now()))
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

func (s *server) revokeSecret(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[struct {
		ID string `json:"secretId"`
	}](r)
	if err != nil {
		return err
	}
	if in.ID == "" {
		return fault.BadRequest.With("secretId is required")
	}
	if err := s.svc.RevokeSecret(r.Context(), appID(r), apim.KeyMappingID(rest.Path(r, "keyMappingId")), in.ID); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusNoContent)
}
