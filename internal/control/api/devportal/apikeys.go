package devportal

import (
	"net/http"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/subscribe"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

type apiKeyIn struct {
	Name       string `json:"keyName"`
	KeyType    string `json:"keyType"`
	Validity   *int64 `json:"validityPeriod"`
	Properties texts  `json:"additionalProperties"`
	KeyUUID    string `json:"keyUUID"`
	Key        string `json:"apikey"`
	App        string `json:"applicationUUID"`
	API        string `json:"apiUUID"`
}

// forever is the validity of a key that does not expire, on the wire.
const forever = -1

func (in *apiKeyIn) request() subscribe.APIKeyRequest {
	out := subscribe.APIKeyRequest{
		Name: in.Name, KeyType: in.KeyType, Validity: forever,
		IPs: in.Properties["permittedIP"], Referers: in.Properties["permittedReferer"],
	}
	if in.Validity != nil {
		out.Validity = *in.Validity
	}
	return out
}

type apiKeyOut struct {
	Name     string `json:"keyName"`
	UUID     string `json:"keyUUID"`
	Key      string `json:"apikey"`
	Validity int64  `json:"validityPeriod"`
}

func fromAPIKey(k *apim.APIKey, text string) apiKeyOut {
	return apiKeyOut{k.Name, k.ID, text, validity(k)}
}

func validity(k *apim.APIKey) int64 {
	if life := subscribe.Life(k); life >= 0 {
		return int64(life / time.Second)
	}
	return forever
}

type apiKeyInfo struct {
	UUID          string  `json:"keyUUID"`
	Name          string  `json:"keyName"`
	AssociatedApp *string `json:"associatedApp,omitempty"`
	APIName       string  `json:"apiName,omitempty"`
	APIUUID       string  `json:"apiUUID,omitempty"`
	IssuedOn      string  `json:"issuedOn"`
	Validity      int64   `json:"validityPeriod"`
	LastUsed      string  `json:"lastUsed"`
}

func (s *server) keyInfos(r *http.Request, keys []*apim.APIKey) ([]apiKeyInfo, error) {
	out := []apiKeyInfo{}
	for _, k := range keys {
		i := apiKeyInfo{UUID: k.ID, Name: k.Name, IssuedOn: stamp(subscribe.Issued(k)), Validity: validity(k), LastUsed: "NOT_USED"}
		if !k.LastUsed.IsZero() {
			i.LastUsed = stamp(k.LastUsed)
		}
		n, err := s.svc.Named(r.Context(), k)
		if err != nil {
			return nil, err
		}
		if n.App != nil {
			i.AssociatedApp = &n.App.Name
		}
		if n.API != nil {
			i.APIName, i.APIUUID = n.API.Name, string(n.API.ID)
		}
		out = append(out, i)
	}
	return out, nil
}

func (s *server) newKey(w http.ResponseWriter, r *http.Request, bind func(*subscribe.APIKeyRequest)) error {
	in, err := rest.Decode[apiKeyIn](r)
	if err != nil {
		return err
	}
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	req := in.request()
	bind(&req)
	k, text, err := s.svc.GenerateAPIKey(r.Context(), t, req)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, fromAPIKey(k, text))
}

// byUUID decodes a request that names a key.
func byUUID(r *http.Request) (*apiKeyIn, error) {
	in, err := rest.Decode[apiKeyIn](r)
	if err == nil && in.KeyUUID == "" {
		err = fault.BadRequest.With("keyUUID is required")
	}
	return &in, err
}

func (s *server) renewKey(w http.ResponseWriter, r *http.Request, of func(*apim.APIKey) bool) error {
	in, err := byUUID(r)
	if err != nil {
		return err
	}
	k, text, err := s.svc.RegenerateAPIKey(r.Context(), in.KeyUUID, of)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, fromAPIKey(k, text))
}

func (s *server) dissociate(w http.ResponseWriter, r *http.Request, of func(*apim.APIKey) bool) error {
	in, err := byUUID(r)
	if err != nil {
		return err
	}
	if err := s.svc.Dissociate(r.Context(), in.KeyUUID, of); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) associate(w http.ResponseWriter, r *http.Request, api, app func(in *apiKeyIn) string) error {
	in, err := byUUID(r)
	if err != nil {
		return err
	}
	a, err := s.svc.Associate(r.Context(), in.KeyUUID, apim.APIID(api(in)), apim.AppID(app(in)))
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, map[string]string{"keyName": a.Key.Name, "apiName": a.API.Name, "applicationName": a.App.Name})
}

func ofAPI(r *http.Request) func(*apim.APIKey) bool {
	return subscribe.OfAPI(apim.APIID(rest.Path(r, "apiId")))
}

func ofApp(r *http.Request) func(*apim.APIKey) bool {
	return subscribe.OfApplication(appID(r), rest.Path(r, "keyType"))
}

func (s *server) generateAPIKey(w http.ResponseWriter, r *http.Request) error {
	return s.newKey(w, r, func(q *subscribe.APIKeyRequest) { q.API = apim.APIID(rest.Path(r, "apiId")) })
}

func (s *server) regenerateAPIKey(w http.ResponseWriter, r *http.Request) error {
	return s.renewKey(w, r, ofAPI(r))
}

func (s *server) listAPIKeys(w http.ResponseWriter, r *http.Request) error {
	t, err := s.addressed(r)
	if err != nil {
		return err
	}
	keys, err := s.svc.APIKeysOfAPI(r.Context(), t, apim.APIID(rest.Path(r, "apiId")))
	if err != nil {
		return err
	}
	return s.showKeys(w, r, keys)
}

func (s *server) showKeys(w http.ResponseWriter, r *http.Request, keys []*apim.APIKey) error {
	out, err := s.keyInfos(r, keys)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

func (s *server) revokeAPIKey(w http.ResponseWriter, r *http.Request) error {
	in, err := byUUID(r)
	if err != nil {
		return err
	}
	if err := s.svc.RevokeAPIKey(r.Context(), in.KeyUUID, ofAPI(r)); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) associateAPIKey(w http.ResponseWriter, r *http.Request) error {
	return s.associate(w, r, func(*apiKeyIn) string { return rest.Path(r, "apiId") }, func(in *apiKeyIn) string { return in.App })
}

func (s *server) dissociateAPIKey(w http.ResponseWriter, r *http.Request) error {
	return s.dissociate(w, r, ofAPI(r))
}

func (s *server) generateAppKey(w http.ResponseWriter, r *http.Request) error {
	return s.newKey(w, r, func(q *subscribe.APIKeyRequest) { q.Application, q.KeyType = appID(r), rest.Path(r, "keyType") })
}

func (s *server) regenerateAppKey(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.svc.Application(r.Context(), appID(r)); err != nil {
		return err
	}
	return s.renewKey(w, r, ofApp(r))
}

func (s *server) listAppKeys(w http.ResponseWriter, r *http.Request) error {
	keys, err := s.svc.APIKeysOfApplication(r.Context(), appID(r), rest.Path(r, "keyType"))
	if err != nil {
		return err
	}
	return s.showKeys(w, r, keys)
}

// revokeAppKey takes the key's id or, as older clients send it, its text.
func (s *server) revokeAppKey(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[apiKeyIn](r)
	if err != nil {
		return err
	}
	if _, err := s.svc.Application(r.Context(), appID(r)); err != nil {
		return err
	}
	switch {
	case in.KeyUUID != "":
		err = s.svc.RevokeAPIKey(r.Context(), in.KeyUUID, ofApp(r))
	case in.Key != "":
		err = s.svc.RevokeAPIKeyText(r.Context(), in.Key, ofApp(r))
	default:
		err = fault.BadRequest.With("keyUUID or apikey is required")
	}
	if err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) associateAppKey(w http.ResponseWriter, r *http.Request) error {
	return s.associate(w, r, func(in *apiKeyIn) string { return in.API }, func(*apiKeyIn) string { return string(appID(r)) })
}

func (s *server) dissociateAppKey(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.svc.Application(r.Context(), appID(r)); err != nil {
		return err
	}
	return s.dissociate(w, r, ofApp(r))
}

func (s *server) listAssociations(w http.ResponseWriter, r *http.Request) error {
	keys, err := s.svc.Associations(r.Context(), appID(r), rest.Path(r, "keyType"))
	if err != nil {
		return err
	}
	return s.showKeys(w, r, keys)
}

func (s *server) listAssociable(w http.ResponseWriter, r *http.Request) error {
	keys, err := s.svc.Associable(r.Context(), appID(r), rest.Path(r, "keyType"))
	if err != nil {
		return err
	}
	return s.showKeys(w, r, keys)
}
