package govern

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/connector"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Resident is the type of the built-in key manager.
const Resident = "default"

// Mask is what a secret reads back as; sent back, it keeps the stored one.
const Mask = "*****"

// ListKeyManagers lists those of the caller's tenant, by name.
func (s *Service) ListKeyManagers(ctx context.Context) ([]*apim.KeyManager, error) {
	_, in := tenantOf(ctx)
	page, err := s.KeyManagers.List(ctx, in, apim.Query{Sort: "name"})
	return page.Items, wrap("list key managers", err)
}

// KeyManager is one key manager of the caller's tenant.
func (s *Service) KeyManager(ctx context.Context, id string) (*apim.KeyManager, error) {
	_, in := tenantOf(ctx)
	km, err := s.KeyManagers.Get(ctx, in, id)
	if missing(err) {
		return nil, fault.Missing.Withf("Key Manager with id '%s' not found", id)
	}
	return km, wrap("get key manager", err)
}

// CreateKeyManager stores km; the values of secret fields in its Properties
// are sealed.
func (s *Service) CreateKeyManager(ctx context.Context, km *apim.KeyManager) error {
	t, in := tenantOf(ctx)
	if km.Type == Resident {
		return fault.BadRequest.With("The resident key manager exists once; it cannot be created")
	}
	if err := s.prepare(km, nil); err != nil {
		return err
	}
	km.Meta, km.ID = apim.Meta{Tenant: t}, uuid.NewString()
	err := s.KeyManagers.Create(ctx, in, km)
	if errors.Is(err, &fault.Exists) {
		return fault.Exists.Withf("Key Manager with name '%s' already exists", km.Name)
	}
	return wrap("save key manager", err)
}

// UpdateKeyManager replaces everything but id, name of the resident one, and type.
func (s *Service) UpdateKeyManager(ctx context.Context, id string, in *apim.KeyManager, check func(rev int64) error) error {
	plain := maps.Clone(in.Properties)
	return retry(func() error {
		old, err := s.KeyManager(ctx, id)
		if err != nil {
			return err
		}
		if check != nil {
			if err := check(old.Rev); err != nil {
				return final(err)
			}
		}
		if in.Type != old.Type {
			return fault.BadRequest.With("The type of a key manager cannot be changed")
		}
		if old.Type == Resident && in.Name != old.Name {
			return fault.BadRequest.With("The resident key manager cannot be renamed")
		}
		in.Meta, in.ID, in.Global, in.Properties = old.Meta, old.ID, old.Global, maps.Clone(plain)
		if err := s.prepare(in, old); err != nil {
			return err
		}
		if in.Type == Resident { // where tokens of our own come from follows the configuration
			in.Issuer, in.Endpoints, in.JWKSURL, in.Certificates = old.Issuer, old.Endpoints, old.JWKSURL, old.Certificates
		}
		err = s.KeyManagers.Update(ctx, apim.In(old.Tenant), in)
		if errors.Is(err, &fault.Exists) {
			return fault.Exists.Withf("Key Manager with name '%s' already exists", in.Name)
		}
		return wrap("save key manager", err)
	})
}

// prepare checks km and moves its secrets out of the properties.
func (s *Service) prepare(km, old *apim.KeyManager) error {
	c, known := connector.TypeOf(km.Type)
	switch {
	case !known && km.Type != Resident:
		return fault.BadRequest.Withf("Key Manager type '%s' is not known", km.Type)
	case km.Name == "" || len([]rune(km.Name)) > 100:
		return fault.BadRequest.With("The name of a key manager has 1 to 100 characters")
	}
	switch km.TokenType {
	case "":
		km.TokenType = "DIRECT"
	case "DIRECT", "EXCHANGED", "BOTH":
	default:
		return fault.BadRequest.Withf("Token type '%s' is not one of DIRECT, EXCHANGED, BOTH", km.TokenType)
	}
	switch km.PermissionType {
	case "":
		km.PermissionType = "PUBLIC"
	case "PUBLIC", "ALLOW", "DENY":
	default:
		return fault.BadRequest.Withf("Permission type '%s' is not one of PUBLIC, ALLOW, DENY", km.PermissionType)
	}
	km.Secrets = map[string]apim.Sealed{}
	if km.TokenType == "EXCHANGED" {
		c.Fields = slices.Clone(c.Fields)
		for i := range c.Fields {
			c.Fields[i].Required = false // it makes no clients there
		}
	}
	for _, f := range append(slices.Clone(c.Fields), undeclaredSecrets(c, km.Properties)...) {
		v := km.Properties[f.Name]
		kept := old != nil && f.Secret && v == Mask && old.Secrets[f.Name] != ""
		if f.Required && v == "" {
			return fault.KMConnector.Withf("Key Manager configuration %s is required", f.Name)
		}
		switch {
		case !f.Secret || v == "":
		case kept:
			km.Secrets[f.Name] = old.Secrets[f.Name]
			delete(km.Properties, f.Name)
		case v == Mask:
			return fault.KMConnector.Withf("Key Manager configuration %s is required", f.Name)
		default:
			km.Secrets[f.Name] = apim.Sealed(s.Seal.Seal([]byte(v)))
			delete(km.Properties, f.Name)
		}
	}
	if km.ConsumerKeyClaim == "" {
		km.ConsumerKeyClaim = c.KeyClaim
	}
	if km.ScopesClaim == "" {
		km.ScopesClaim = c.ScopesClaim
	}
	if err := demands(km); err != nil {
		return err
	}
	if err := validation(km); err != nil {
		return err
	}
	return certificates(km)
}

// undeclaredSecrets are the properties that no field of the connector declares
// and whose name says that they are secret: a connector of one's own declares
// nothing, and its secrets are no less secret.
func undeclaredSecrets(c connector.Type, props map[string]string) []connector.Field {
	var out []connector.Field
	for _, name := range slices.Sorted(maps.Keys(props)) {
		declared := slices.ContainsFunc(c.Fields, func(f connector.Field) bool { return f.Name == name })
		if !declared && secretName.MatchString(name) {
			out = append(out, connector.Field{Name: name, Secret: true})
		}
	}
	return out
}

var secretName = regexp.MustCompile(`(?i)secret|_token$|passw(or)?d|passphrase|api_?key|private_?key|credential`)

// certificates reads where the signing keys of the issuer are.
func certificates(km *apim.KeyManager) error {
	km.JWKSURL = ""
	if len(km.Certificates) == 0 {
		return nil
	}
	var c struct{ Type, Value string }
	if err := json.Unmarshal(km.Certificates, &c); err != nil {
		return fault.BadRequest.With("certificates must be an object with type and value")
	}
	switch c.Type {
	case "JWKS":
		km.JWKSURL = c.Value
	case "PEM":
		if err := checkPEM(c.Value); err != nil {
			return fault.BadRequest.Withf("The certificate is malformed: %.200s", err)
		}
	case "":
	default:
		return fault.BadRequest.Withf("Certificate type '%s' is not one of JWKS, PEM", c.Type)
	}
	return nil
}

// DeleteKeyManager removes a key manager that no application has keys of.
func (s *Service) DeleteKeyManager(ctx context.Context, id string) error {
	km, err := s.KeyManager(ctx, id)
	if err != nil {
		return err
	}
	if km.Type == Resident {
		return fault.BadRequest.With("The resident key manager cannot be deleted")
	}
	return s.InTx(ctx, func(ctx context.Context) error {
		n, err := s.KeyMappings.Count(ctx, apim.In(km.Tenant), apim.Where("key_manager", km.ID))
		if err != nil {
			return fmt.Errorf("count key mappings: %w", err)
		}
		if n > 0 {
			return fault.Exists.Withf("Key Manager '%s' has keys of %d applications", km.Name, n)
		}
		return wrap("delete key manager", s.KeyManagers.Delete(ctx, apim.In(km.Tenant), km.ID))
	})
}
