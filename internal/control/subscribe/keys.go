package subscribe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Key is a key mapping with what only its key manager knows.
type Key struct {
	*apim.KeyMapping
	ManagerName string
	Secret      string // newest live secret in clear; empty when it cannot be shown
	Token       *Token // only in answers that issue one
}

// KeyRequest asks for the OAuth client of an application.
type KeyRequest struct {
	KeyType    string
	KeyManager string // name or id; empty: the resident one
	Grants     []string
	Callback   string
	Scopes     []string
	Validity   time.Duration // of the first token; 0: the client's
	Properties map[string]string
}

// The scopes of a first token when none are asked for.
var firstScopes = []string{"am_application_scope", "default"}

// KeyManagers lists those of tenant t that the caller's roles admit.
func (s *Service) ListKeyManagers(ctx context.Context, t apim.TenantID) ([]*apim.KeyManager, error) {
	a := apim.ActorFrom(ctx)
	page, err := s.KeyManagers.List(ctx, apim.In(t), apim.Query{Sort: "name"})
	if err != nil {
		return nil, fmt.Errorf("list key managers: %w", err)
	}
	return slices.DeleteFunc(page.Items, func(k *apim.KeyManager) bool {
		return !allows(k.PermissionType, k.PermissionRoles, a)
	}), nil
}

// manager finds an enabled key manager by name or id.
func (s *Service) manager(ctx context.Context, t apim.TenantID, named string) (*apim.KeyManager, error) {
	if named == "" {
		named = apim.ResidentKM
	}
	km, err := s.KeyManagers.First(ctx, apim.In(t), apim.Where("name", named))
	if missing(err) {
		km, err = s.KeyManagers.Get(ctx, apim.In(t), named)
	}
	switch {
	case missing(err):
		return nil, fault.KMNotFound.With("Key Manager not Registered")
	case err != nil:
		return nil, fmt.Errorf("find key manager: %w", err)
	case !km.Enabled:
		return nil, fault.KMDisabled.Withf("Key Manager %s is disabled", km.Name)
	case !allows(km.PermissionType, km.PermissionRoles, apim.ActorFrom(ctx)):
		return nil, fault.NotPermitted.Withf("User is not allowed to use the key manager %s", km.Name)
	}
	return km, nil
}

// resident reports whether this product keeps the clients of the key manager.
func resident(km *apim.KeyManager) bool { return km.Type == "default" }

// GenerateKeys makes a client for the application and, where it may have one
// on its own account, a first token.
func (s *Service) GenerateKeys(ctx context.Context, id apim.AppID, in KeyRequest) (*Key, error) {
	app, err := s.Application(ctx, id)
	if err != nil {
		return nil, err
	}
	km, err := s.manager(ctx, app.Tenant, in.KeyManager)
	if err != nil {
		return nil, err
	}
	if !km.CreatesClients || km.TokenType == "EXCHANGED" {
		return nil, fault.KMUnsupported.Withf("Key Manager %s doesn't support generating OAuth applications", km.Name)
	}
	if err := checkKey(in.KeyType, in.Grants, in.Callback); err != nil {
		return nil, err
	}
	if !resident(km) {
		return s.generateElsewhere(ctx, app, km, in)
	}
	props, err := checkProperties(in.Properties, app.Name)
	if err != nil {
		return nil, err
	}
	m := &apim.KeyMapping{
		Meta: apim.Meta{Tenant: app.Tenant}, ID: apim.KeyMappingID(uuid.NewString()), Application: app.ID,
		KeyManager: km.ID, KeyType: in.KeyType, Mode: "CREATED", State: "APPROVED",
		Grants: in.Grants, Callback: in.Callback, Properties: props,
	}
	out := &Key{KeyMapping: m, ManagerName: km.Name}
	scope := apim.In(app.Tenant)
	err = s.InTx(ctx, func(ctx context.Context) error {
		if err := s.vacant(ctx, m); err != nil {
			return err
		}
		c := &apim.Client{
			Meta: apim.Meta{Tenant: app.Tenant}, Name: clientName(app, in.KeyType),
			Owner: localName(app.Owner, app.Tenant), OwnerID: app.OwnerID, TokenType: app.TokenType, Origin: "application",
		}
		applyKey(c, m)
		secret, err := s.Clients.CreateClient(ctx, scope, c)
		if err != nil {
			return fmt.Errorf("create client: %w", err)
		}
		m.ConsumerKey, out.Secret = c.ID, secret
		return mappingExists(s.KeyMappings.Create(ctx, scope, m))
	})
	if err != nil {
		return nil, err
	}
	if slices.Contains(in.Grants, "client_credentials") {
		scopes := in.Scopes
		if len(scopes) == 0 {
			scopes = firstScopes
		}
		tok, err := s.Clients.Token(ctx, scope, m.ConsumerKey, scopes, in.Validity)
		if err != nil {
			return nil, fmt.Errorf("issue token: %w", err)
		}
		out.Token = &tok
	}
	return out, nil
}

// vacant refuses a second mapping for the same key manager and key type.
func (s *Service) vacant(ctx context.Context, m *apim.KeyMapping) error {
	_, err := s.KeyMappings.First(ctx, apim.In(m.Tenant), apim.Where("application", string(m.Application)).
		And("key_manager", m.KeyManager).And("key_type", m.KeyType))
	switch {
	case missing(err):
		return nil
	case err != nil:
		return fmt.Errorf("find key mapping: %w", err)
	}
	return fault.KeyMappingExists.With("Key Mappings already exists")
}

func mappingExists(err error) error {
	if errors.Is(err, &fault.Exists) {
		return fault.KeyMappingExists.With("Key Mappings already exists")
	}
	return wrap("save key mapping", err)
}

// clientName is unique per tenant and survives a rename of the application.
func clientName(app *apim.Application, keyType string) string {
	return strings.ReplaceAll(localName(app.Owner, app.Tenant), "/", "_") + "_" + string(app.ID) + "_" + keyType
}

func localName(user string, t apim.TenantID) string { return strings.TrimSuffix(user, "@"+string(t)) }

// applyKey copies onto the client what a mapping decides.
func applyKey(c *apim.Client, m *apim.KeyMapping) {
	c.Grants, c.Callback = m.Grants, m.Callback
	secs := func(name string) time.Duration {
		n, err := strconv.ParseInt(m.Properties[name], 10, 64)
		if err != nil {
			return 0 // N/A: the server's default
		}
		return time.Duration(n) * time.Second
	}
	c.AppExpiry = secs("application_access_token_expiry_time")
	c.UserExpiry = secs("user_access_token_expiry_time")
	c.RefreshExpiry = secs("refresh_token_expiry_time")
	c.IDExpiry = secs("id_token_expiry_time")
	c.PKCEMandatory = m.Properties["pkceMandatory"] == "true"
	c.PKCEPlain = m.Properties["pkceSupportPlain"] == "true"
	c.Public = m.Properties["bypassClientCredentials"] == "true"
}

func checkKey(keyType string, grants []string, callback string) error {
	if keyType != "PRODUCTION" && keyType != "SANDBOX" {
		return fault.BadRequest.Withf("Key type '%s' is not one of PRODUCTION, SANDBOX", keyType)
	}
	if strings.TrimSpace(callback) == "" && (slices.Contains(grants, "authorization_code") || slices.Contains(grants, "implicit")) {
		return fault.BadRequest.With("The callback url must have at least one URI value when using Authorization code or implicit grant types.")
	}
	if len(grants) > 50 {
		return fault.BadRequest.With("At most 50 grant types can be given")
	}
	for _, uri := range strings.FieldsFunc(callback, func(r rune) bool { return r == ',' || r == ' ' }) {
		l := strings.ToLower(uri)
		if strings.HasPrefix(l, "javascript:") || strings.HasPrefix(l, "data:") || strings.HasPrefix(l, "file:") ||
			l == "*" || (strings.Contains(l, "#") && !strings.HasPrefix(l, "regexp=")) {
			return fault.BadRequest.Withf("'%s' cannot be a callback URL", uri)
		}
	}
	return nil
}

// flags of additionalProperties; every other member is a number of seconds.
var flags = []string{"pkceMandatory", "pkceSupportPlain", "bypassClientCredentials"}

// propertyDefaults are what an absent property reads back as.
var propertyDefaults = map[string]string{
	"application_access_token_expiry_time": "N/A", "user_access_token_expiry_time": "N/A",
	"refresh_token_expiry_time": "N/A", "id_token_expiry_time": "N/A",
	"pkceMandatory": "false", "pkceSupportPlain": "false", "bypassClientCredentials": "false",
}

// checkProperties validates additionalProperties and fills in the defaults.
func checkProperties(in map[string]string, app string) (map[string]string, error) {
	if len(in) > 50 {
		return nil, fault.BadRequest.With("At most 50 additional properties can be given")
	}
	out := maps.Clone(propertyDefaults)
	for k, v := range in {
		v = strings.TrimSpace(v)
		if slices.Contains(flags, k) {
			if v == "" {
				v = "false"
			}
			if v != "true" && v != "false" {
				f := fault.AppConfigInvalid
				f.Msg = "Application configuration values cannot have negative values."
				return nil, f.With(f.Msg)
			}
			out[k] = v
			continue
		}
		if v == "" || v == "N/A" {
			out[k] = "N/A"
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, fault.AppConfigInvalid.With(fault.AppConfigInvalid.Msg)
		}
		if n < 0 {
			f := fault.AppConfigInvalid
			f.Msg = "Application configuration values cannot have negative values."
			return nil, f.With(f.Msg)
		}
		if n > maxExpiry {
			return nil, fault.ExpiryInvalid.Withf("Invalid application access token expiry time given for %s", app)
		}
		out[k] = v
	}
	return out, nil
}

// maxExpiry keeps seconds within time.Duration.
const maxExpiry = 1 << 31

// MapKeys binds an existing client to the application.
func (s *Service) MapKeys(ctx context.Context, id apim.AppID, manager, keyType string, key apim.ClientID, secret string) (*Key, error) {
	app, err := s.Application(ctx, id)
	if err != nil {
		return nil, err
	}
	km, err := s.manager(ctx, app.Tenant, manager)
	if err != nil {
		return nil, err
	}
	if km.TokenType == "EXCHANGED" {
		return nil, fault.KMUnsupported.Withf("Key Manager %s doesn't support generating OAuth applications", km.Name)
	}
	if err := checkKey(keyType, nil, ""); err != nil {
		return nil, err
	}
	if key == "" {
		return nil, fault.BadRequest.With("consumerKey is required")
	}
	m := &apim.KeyMapping{
		Meta: apim.Meta{Tenant: app.Tenant}, ID: apim.KeyMappingID(uuid.NewString()), Application: app.ID,
		KeyManager: km.ID, KeyType: keyType, ConsumerKey: key, Mode: "MAPPED", State: "COMPLETED", Properties: maps.Clone(propertyDefaults),
	}
	scope := apim.In(app.Tenant)
	if !resident(km) {
		if err := s.vacant(ctx, m); err != nil {
			return nil, err
		}
		if err := s.adoptElsewhere(ctx, km, m, secret); err != nil {
			return nil, err
		}
	}
	err = s.InTx(ctx, func(ctx context.Context) error {
		if err := s.vacant(ctx, m); err != nil {
			return err
		}
		if err := s.untaken(ctx, m); err != nil {
			return err
		}
		if resident(km) {
			if err := s.adopt(ctx, app, m, secret); err != nil {
				return err
			}
		}
		return mappingExists(s.KeyMappings.Create(ctx, scope, m))
	})
	if err != nil {
		return nil, err
	}
	return s.withSecret(ctx, m, km)
}

// adopt checks that the caller may map a client of the resident key manager:
// knowing its secret, or having registered it, proves that.
func (s *Service) adopt(ctx context.Context, app *apim.Application, m *apim.KeyMapping, secret string) error {
	scope := apim.In(app.Tenant)
	c, err := s.Clients.Client(ctx, scope, m.ConsumerKey)
	if missing(err) {
		return fault.BadRequest.Withf("No OAuth client with consumer key %s", m.ConsumerKey)
	}
	if err != nil {
		return fmt.Errorf("find client: %w", err)
	}
	if secret != "" {
		ok, err := s.Clients.CheckSecret(ctx, scope, c.ID, secret)
		if err != nil {
			return fmt.Errorf("check secret: %w", err)
		}
		if !ok {
			return fault.BadRequest.With("The consumer secret is not one of the OAuth client's")
		}
	} else if c.Owner != localName(app.Owner, app.Tenant) {
		return fault.NotPermitted.With("The OAuth client belongs to another user; give its secret to map it")
	}
	m.Grants, m.Callback = c.Grants, c.Callback
	return nil
}

// Keys lists the key mappings of an application.
func (s *Service) Keys(ctx context.Context, id apim.AppID) ([]*Key, error) {
	app, err := s.Application(ctx, id)
	if err != nil {
		return nil, err
	}
	q := apim.Where("application", string(app.ID))
	q.Sort = "created"
	page, err := s.KeyMappings.List(ctx, apim.In(app.Tenant), q)
	if err != nil {
		return nil, fmt.Errorf("list key mappings: %w", err)
	}
	out := make([]*Key, 0, len(page.Items))
	for _, m := range page.Items {
		k, err := s.described(ctx, m)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// Key is one key mapping of an application of the caller.
func (s *Service) Key(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID) (*Key, error) {
	m, err := s.mapping(ctx, id, mapping)
	if err != nil {
		return nil, err
	}
	return s.described(ctx, m)
}

// KeyByType is the resident key manager's mapping of one key type, which the
// older paths address.
func (s *Service) KeyByType(ctx context.Context, id apim.AppID, keyType string) (*Key, error) {
	keys, err := s.Keys(ctx, id)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.KeyType == keyType && k.ManagerName == apim.ResidentKM {
			return k, nil
		}
	}
	return nil, fault.Missing.Withf("No keys of type %s found for the application %s", keyType, id)
}

func (s *Service) mapping(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID) (*apim.KeyMapping, error) {
	app, err := s.Application(ctx, id)
	if err != nil {
		return nil, err
	}
	m, err := s.KeyMappings.Get(ctx, apim.In(app.Tenant), mapping)
	if missing(err) || (err == nil && m.Application != app.ID) {
		return nil, fault.Missing.Withf("Key mapping '%s' not found", mapping)
	}
	return m, wrap("get key mapping", err)
}

func (s *Service) described(ctx context.Context, m *apim.KeyMapping) (*Key, error) {
	km, err := s.KeyManagers.Get(ctx, apim.In(m.Tenant), m.KeyManager)
	if missing(err) {
		return &Key{KeyMapping: m}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get key manager: %w", err)
	}
	return s.withSecret(ctx, m, km)
}

func (s *Service) withSecret(ctx context.Context, m *apim.KeyMapping, km *apim.KeyManager) (*Key, error) {
	k := &Key{KeyMapping: m, ManagerName: km.Name}
	if !resident(km) {
		secret, err := s.unseal(m.Secret)
		k.Secret = secret
		return k, err
	}
	if m.ConsumerKey == "" {
		return k, nil
	}
	secret, err := s.Clients.Secret(ctx, apim.In(m.Tenant), m.ConsumerKey)
	if err != nil && !missing(err) {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	k.Secret = secret
	return k, nil
}

// UpdateKey changes grants, callback and properties, at once in force at the
// token end point. Nil means unchanged.
func (s *Service) UpdateKey(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID, grants []string, callback *string, properties map[string]string) (*Key, error) {
	m, err := s.mapping(ctx, id, mapping)
	if err != nil {
		return nil, err
	}
	if km, foreign, err := s.foreignOf(ctx, m); err != nil {
		return nil, err
	} else if foreign {
		return s.updateElsewhere(ctx, m, km, grants, callback, properties)
	}
	var out *apim.KeyMapping
	err = retry(func() error {
		return s.InTx(ctx, func(ctx context.Context) error {
			m, err := s.mapping(ctx, id, mapping)
			if err != nil {
				return err
			}
			if grants != nil {
				m.Grants = grants
			}
			if callback != nil {
				m.Callback = *callback
			}
			if err := checkKey(m.KeyType, m.Grants, m.Callback); err != nil {
				return err
			}
			if properties != nil {
				if m.Properties, err = checkProperties(properties, string(id)); err != nil {
					return err
				}
			}
			out = m
			scope := apim.In(m.Tenant)
			c, err := s.Clients.Client(ctx, scope, m.ConsumerKey)
			switch {
			case missing(err):
			case err != nil:
				return fmt.Errorf("find client: %w", err)
			default:
				applyKey(c, m)
				if err := s.Clients.UpdateClient(ctx, scope, c); err != nil {
					return fmt.Errorf("update client: %w", err)
				}
			}
			return wrap("save key mapping", s.KeyMappings.Update(ctx, scope, m))
		})
	})
	if err != nil {
		return nil, err
	}
	return s.described(ctx, out)
}

// DeleteKey removes a mapping and the client made for it.
func (s *Service) DeleteKey(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID) error {
	var gone []left
	err := s.InTx(ctx, func(ctx context.Context) error {
		m, err := s.mapping(ctx, id, mapping)
		if err != nil {
			return err
		}
		gone, err = s.dropMapping(ctx, apim.In(m.Tenant), m)
		return err
	})
	if err != nil {
		return err
	}
	s.removeElsewhere(ctx, gone)
	return nil
}

// dropMapping removes a mapping; a client that was only mapped stays. A client
// at another key manager is returned, to be removed after the transaction.
func (s *Service) dropMapping(ctx context.Context, scope apim.Scope, m *apim.KeyMapping) (gone []left, err error) {
	km, foreign, err := s.foreignOf(ctx, m)
	switch {
	case err != nil:
		return nil, err
	case m.Mode != "CREATED" || m.ConsumerKey == "" || km == nil:
	case foreign:
		gone = []left{{km, m}}
	default:
		if err := s.Clients.DeleteClient(ctx, scope, m.ConsumerKey); err != nil && !missing(err) {
			return nil, fmt.Errorf("delete client: %w", err)
		}
	}
	return gone, wrap("delete key mapping", s.KeyMappings.Delete(ctx, scope, m.ID))
}
