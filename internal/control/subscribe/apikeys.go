package subscribe

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// APIKeyRequest asks for an opaque key. Either API or Application binds it, or
// both; a key of an application alone opens all that the application subscribes to.
type APIKeyRequest struct {
	Name        string
	API         apim.APIID
	Application apim.AppID
	KeyType     string
	Validity    int64  // seconds; negative: for ever
	IPs         string // comma separated addresses and CIDRs
	Referers    string // comma separated patterns
}

// maxKeyName and maxKeyRules bound what a key may carry.
const (
	maxKeyName  = 100
	maxKeyRules = 100
)

// GenerateAPIKey makes a key and returns its text, which is not kept.
func (s *Service) GenerateAPIKey(ctx context.Context, t apim.TenantID, in APIKeyRequest) (*apim.APIKey, string, error) {
	a, err := signedIn(ctx)
	if err != nil {
		return nil, "", err
	}
	if in.API != "" {
		if _, err := s.ownAPI(ctx, t, in.API); err != nil {
			return nil, "", err
		}
	}
	if in.Application != "" {
		if _, err := s.Application(ctx, in.Application); err != nil {
			return nil, "", err
		}
	}
	k := &apim.APIKey{
		Meta: apim.Meta{Tenant: a.Tenant}, ID: uuid.NewString(), Name: strings.TrimSpace(in.Name), API: in.API, Application: in.Application,
		KeyType: in.KeyType, Owner: a.User,
	}
	if err := s.checkAPIKey(ctx, k, in); err != nil {
		return nil, "", err
	}
	if in.Validity >= 0 {
		k.Expires = s.Now().Add(time.Duration(in.Validity) * time.Second)
	}
	clear := token.NewAPIKey()
	k.Hash = apim.Digest(token.Digest(clear))
	if err := s.APIKeys.Create(ctx, a.Scope(), k); err != nil {
		return nil, "", fmt.Errorf("save api key: %w", err)
	}
	return k, clear, nil
}

func (s *Service) checkAPIKey(ctx context.Context, k *apim.APIKey, in APIKeyRequest) error {
	if n := len([]rune(k.Name)); n > maxKeyName {
		return fault.BadRequest.Withf("The name of an API key has at most %d characters", maxKeyName)
	}
	if k.KeyType == "" {
		k.KeyType = "PRODUCTION"
	}
	if k.KeyType != "PRODUCTION" && k.KeyType != "SANDBOX" {
		return fault.BadRequest.Withf("Key type '%s' is not one of PRODUCTION, SANDBOX", k.KeyType)
	}
	if in.Validity == 0 || in.Validity > maxExpiry {
		return fault.BadRequest.With("validityPeriod must be a number of seconds, or -1 for a key that does not expire")
	}
	k.IPs, k.Referers = listOf(in.IPs), listOf(in.Referers)
	if len(k.IPs) > maxKeyRules || len(k.Referers) > maxKeyRules {
		return fault.BadRequest.Withf("At most %d addresses and %d referers can be given", maxKeyRules, maxKeyRules)
	}
	for _, ip := range k.IPs {
		if _, err := netip.ParsePrefix(ip); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(ip); err != nil {
			return fault.BadRequest.Withf("'%s' is neither an IP address nor a range", ip)
		}
	}
	if k.Name == "" {
		return nil
	}
	same, err := s.keysOf(ctx, k.API, k.Application)
	if err != nil {
		return err
	}
	for _, o := range same {
		if o.Name == k.Name && o.KeyType == k.KeyType && o.ID != k.ID {
			return fault.Exists.Withf("An API key already exists with name %s", k.Name)
		}
	}
	return nil
}

func listOf(s string) []string {
	var out []string
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			out = append(out, v)
		}
	}
	return out
}

// ownAPI is an API a key may be bound to: visible, and of the caller's tenant.
func (s *Service) ownAPI(ctx context.Context, t apim.TenantID, id apim.APIID) (*apim.API, error) {
	api, err := s.API(ctx, t, id)
	if err != nil {
		return nil, err
	}
	if a := apim.ActorFrom(ctx); api.Tenant != a.Tenant {
		return nil, fault.NotPermitted.Withf("API keys are not available for API %s from the tenant %s", api.Name, a.Tenant)
	}
	return api, nil
}

// keysOf lists the caller's own keys of an API or, without one, of an application.
func (s *Service) keysOf(ctx context.Context, api apim.APIID, app apim.AppID) ([]*apim.APIKey, error) {
	a, err := signedIn(ctx)
	if err != nil {
		return nil, err
	}
	q := apim.Where("owner", a.User).And("api", string(api))
	if api == "" {
		q = q.And("application", string(app))
	}
	q.Sort = "created"
	page, err := s.APIKeys.List(ctx, a.Scope(), q)
	return page.Items, wrap("list api keys", err)
}

// APIKeysOfAPI lists the caller's own keys of an API.
func (s *Service) APIKeysOfAPI(ctx context.Context, t apim.TenantID, id apim.APIID) ([]*apim.APIKey, error) {
	if _, err := s.ownAPI(ctx, t, id); err != nil {
		return nil, err
	}
	return s.keysOf(ctx, id, "")
}

// APIKeysOfApplication lists the caller's own keys that are bound to an
// application alone.
func (s *Service) APIKeysOfApplication(ctx context.Context, id apim.AppID, keyType string) ([]*apim.APIKey, error) {
	if _, err := s.Application(ctx, id); err != nil {
		return nil, err
	}
	keys, err := s.keysOf(ctx, "", id)
	return ofType(keys, keyType), err
}

// Associations lists the API-bound keys that stand for an application.
func (s *Service) Associations(ctx context.Context, id apim.AppID, keyType string) ([]*apim.APIKey, error) {
	app, err := s.Application(ctx, id)
	if err != nil {
		return nil, err
	}
	q := apim.Where("application", string(app.ID))
	q.Where = append(q.Where, apim.Cond{Col: "api", Op: apim.Ne, Value: ""})
	q.Sort = "created"
	page, err := s.APIKeys.List(ctx, apim.In(app.Tenant), q)
	return ofType(page.Items, keyType), wrap("list api keys", err)
}

// Associable lists the caller's keys that could stand for the application:
// bound to an API it subscribes to and not yet taken.
func (s *Service) Associable(ctx context.Context, id apim.AppID, keyType string) ([]*apim.APIKey, error) {
	app, err := s.Application(ctx, id)
	if err != nil {
		return nil, err
	}
	subs, err := s.Subscriptions.List(ctx, apim.In(app.Tenant), apim.Where("application", string(app.ID)))
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	var out []*apim.APIKey
	for _, sub := range subs.Items {
		keys, err := s.keysOf(ctx, sub.API, "")
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if k.Application == "" {
				out = append(out, k)
			}
		}
	}
	return ofType(out, keyType), nil
}

func ofType(keys []*apim.APIKey, keyType string) []*apim.APIKey {
	out := make([]*apim.APIKey, 0, len(keys))
	for _, k := range keys {
		if keyType == "" || k.KeyType == keyType {
			out = append(out, k)
		}
	}
	return out
}

// apiKey is one of the caller's own keys, of the given API or application.
func (s *Service) apiKey(ctx context.Context, id string, ok func(k *apim.APIKey) bool) (*apim.APIKey, error) {
	a, err := signedIn(ctx)
	if err != nil {
		return nil, err
	}
	k, err := s.APIKeys.Get(ctx, a.Scope(), id)
	if missing(err) || (err == nil && (k.Owner != a.User || !ok(k))) {
		return nil, fault.Missing.Withf("API key '%s' not found", id)
	}
	return k, wrap("get api key", err)
}

// OfAPI and OfApplication say to what a key named in a request must belong.
func OfAPI(id apim.APIID) func(*apim.APIKey) bool {
	return func(k *apim.APIKey) bool { return k.API == id }
}

// OfApplication admits the keys of one application and key type.
func OfApplication(id apim.AppID, keyType string) func(*apim.APIKey) bool {
	return func(k *apim.APIKey) bool { return k.Application == id && k.KeyType == keyType }
}

// RegenerateAPIKey gives a key a new text and, if it expires, a new life of
// the same length. The old text stops working.
func (s *Service) RegenerateAPIKey(ctx context.Context, id string, of func(*apim.APIKey) bool) (*apim.APIKey, string, error) {
	clear := token.NewAPIKey()
	var out *apim.APIKey
	err := retry(func() error {
		k, err := s.apiKey(ctx, id, of)
		if err != nil {
			return err
		}
		if life := Life(k); life >= 0 {
			k.Expires = s.Now().Add(life)
		}
		k.IssuedAt = s.Now()
		k.Hash = apim.Digest(token.Digest(clear))
		out = k
		return wrap("save api key", s.APIKeys.Update(ctx, apim.In(k.Tenant), k))
	})
	return out, clear, err
}

// Issued is when the present text of a key was made.
func Issued(k *apim.APIKey) time.Time {
	if k.IssuedAt.IsZero() {
		return k.CreatedAt
	}
	return k.IssuedAt
}

// Life is how long a key lives from its issue, rounded to seconds; -1ns when for ever.
func Life(k *apim.APIKey) time.Duration {
	if k.Expires.IsZero() {
		return -1
	}
	return k.Expires.Sub(Issued(k)).Round(time.Second)
}

// RevokeAPIKey removes a key; the gateways refuse it from then on.
func (s *Service) RevokeAPIKey(ctx context.Context, id string, of func(*apim.APIKey) bool) error {
	k, err := s.apiKey(ctx, id, of)
	if err != nil {
		return err
	}
	return wrap("delete api key", s.APIKeys.Delete(ctx, apim.In(k.Tenant), k.ID))
}

// RevokeAPIKeyText is RevokeAPIKey for callers that know the key but not its id.
func (s *Service) RevokeAPIKeyText(ctx context.Context, text string, of func(*apim.APIKey) bool) error {
	a, err := signedIn(ctx)
	if err != nil {
		return err
	}
	k, err := s.APIKeys.First(ctx, a.Scope(), apim.Where("hash", token.Digest(text)))
	if missing(err) {
		return fault.Missing.With("API key not found")
	}
	if err != nil {
		return fmt.Errorf("find api key: %w", err)
	}
	return s.RevokeAPIKey(ctx, k.ID, of)
}

// Association names a key and what it joins.
type Association struct {
	Key *apim.APIKey
	API *apim.API
	App *apim.Application
}

// Associate lets an API-bound key stand for an application that subscribes to
// the API.
func (s *Service) Associate(ctx context.Context, id string, api apim.APIID, app apim.AppID) (*Association, error) {
	out := &Association{}
	err := retry(func() error {
		k, err := s.apiKey(ctx, id, OfAPI(api))
		if err != nil {
			return err
		}
		if out.App, err = s.Application(ctx, app); err != nil {
			return err
		}
		if out.API, err = s.ownAPI(ctx, k.Tenant, api); err != nil {
			return err
		}
		if k.Application != "" && k.Application != app {
			return fault.Exists.Withf("API key %s is associated with another application", k.Name)
		}
		_, err = s.Subscriptions.First(ctx, apim.In(k.Tenant), apim.Where("application", string(app)).And("api", string(api)))
		if missing(err) && len(out.API.Plans) > 0 {
			return fault.BadRequest.Withf("Application %s is not subscribed to API %s", out.App.Name, out.API.Name)
		}
		if err != nil && !missing(err) {
			return fmt.Errorf("find subscription: %w", err)
		}
		k.Application, out.Key = app, k
		return wrap("save api key", s.APIKeys.Update(ctx, apim.In(k.Tenant), k))
	})
	return out, err
}

// Dissociate frees an API-bound key from its application.
func (s *Service) Dissociate(ctx context.Context, id string, of func(*apim.APIKey) bool) error {
	return retry(func() error {
		k, err := s.apiKey(ctx, id, of)
		if err != nil {
			return err
		}
		if k.API == "" || k.Application == "" {
			return fault.BadRequest.Withf("API key %s is not associated with an application", k.Name)
		}
		k.Application = ""
		return wrap("save api key", s.APIKeys.Update(ctx, apim.In(k.Tenant), k))
	})
}

// Named finds the API and application of a key for showing; either may be nil.
func (s *Service) Named(ctx context.Context, k *apim.APIKey) (Association, error) {
	out := Association{Key: k}
	var err error
	if k.API != "" {
		if out.API, err = s.APIs.Get(ctx, apim.In(k.Tenant), k.API); err != nil && !missing(err) {
			return out, fmt.Errorf("get api: %w", err)
		}
	}
	if k.Application != "" {
		if out.App, err = s.Applications.Get(ctx, apim.In(k.Tenant), k.Application); err != nil && !missing(err) {
			return out, fmt.Errorf("get application: %w", err)
		}
	}
	return out, nil
}
