package subscribe

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/connector"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Elsewhere makes and changes the OAuth clients of other key managers.
// *connector.Connector is one. Its calls are slow and must not run in a
// transaction.
type Elsewhere interface {
	Register(ctx context.Context, m *connector.Manager, in *connector.Client) (*connector.Client, error)
	Update(ctx context.Context, m *connector.Manager, in *connector.Client) (*connector.Client, error)
	Delete(ctx context.Context, m *connector.Manager, in *connector.Client) error
	Rotate(ctx context.Context, m *connector.Manager, in *connector.Client) (*connector.Client, error)
	Token(ctx context.Context, m *connector.Manager, id, secret string, scopes []string) (connector.Token, error)
	Revoke(ctx context.Context, m *connector.Manager, id, secret, token string) error
}

// Box seals the secrets of clients elsewhere.
type Box interface {
	Seal(plain []byte) string
	Open(sealed string) ([]byte, error)
}

// elsewhere opens the configuration of a key manager that is not our own.
func (s *Service) elsewhere(km *apim.KeyManager) (*connector.Manager, error) {
	if s.Elsewhere == nil || s.Box == nil {
		return nil, fault.KMUnsupported.Withf("Key Manager %s doesn't support generating OAuth applications", km.Name)
	}
	return connector.Of(km, s.Box.Open)
}

func (s *Service) seal(clear string) apim.Sealed {
	if clear == "" {
		return ""
	}
	return apim.Sealed(s.Box.Seal([]byte(clear)))
}

func (s *Service) unseal(sealed apim.Sealed) (string, error) {
	if sealed == "" || s.Box == nil {
		return "", nil
	}
	clear, err := s.Box.Open(string(sealed))
	if err != nil {
		return "", fmt.Errorf("open secret of a client: %w", err)
	}
	return string(clear), nil
}

// clientElsewhere is the client that a mapping stands for.
func (s *Service) clientElsewhere(m *apim.KeyMapping) (*connector.Client, error) {
	c := &connector.Client{
		ID: string(m.ConsumerKey), Name: m.ClientName, Grants: m.Grants, Callbacks: callbacks(m.Callback), URL: m.ManageURL,
		Metadata: m.Properties,
	}
	var err error
	if c.Secret, err = s.unseal(m.Secret); err != nil {
		return nil, err
	}
	c.Access, err = s.unseal(m.ManageAccess)
	return c, err
}

// took writes what the other side decided into the mapping.
func (s *Service) took(m *apim.KeyMapping, c *connector.Client) {
	m.ConsumerKey, m.ManageURL = apim.ClientID(c.ID), c.URL
	m.Secret, m.ManageAccess = s.seal(c.Secret), s.seal(c.Access)
	if c.Grants != nil {
		m.Grants = c.Grants
	}
}

func callbacks(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

// foreignProperties are those of a client elsewhere: what the other side may
// be told, and what was sent beside it.
func foreignProperties(in map[string]string) (map[string]string, error) {
	if len(in) > 50 {
		return nil, fault.BadRequest.With("At most 50 additional properties can be given")
	}
	out := map[string]string{}
	for k, v := range in {
		if len(k) > 256 || len(v) > 2048 {
			return nil, fault.BadRequest.With("An additional property has a name of at most 256 and a value of at most 2048 bytes")
		}
		out[k] = v
	}
	return out, nil
}

// remember is how long a registration may take to be undone when it could not
// be saved here.
const remember = 20 * time.Second

// generateElsewhere registers a client at another key manager.
func (s *Service) generateElsewhere(ctx context.Context, app *apim.Application, km *apim.KeyManager, in KeyRequest) (*Key, error) {
	there, err := s.elsewhere(km)
	if err != nil {
		return nil, err
	}
	props, err := foreignProperties(in.Properties)
	if err != nil {
		return nil, err
	}
	m := &apim.KeyMapping{
		Meta: apim.Meta{Tenant: app.Tenant}, ID: apim.KeyMappingID(uuid.NewString()), Application: app.ID,
		KeyManager: km.ID, KeyType: in.KeyType, Mode: "CREATED", State: "APPROVED", Grants: in.Grants, Callback: in.Callback, Properties: props,
	}
	if err := s.vacant(ctx, m); err != nil { // before anything is made there
		return nil, err
	}
	name := clientName(app, in.KeyType)
	c, err := s.Elsewhere.Register(ctx, there, &connector.Client{Name: name, Grants: in.Grants, Callbacks: callbacks(in.Callback), Metadata: props})
	if err != nil {
		return nil, fmt.Errorf("register client: %w", err)
	}
	m.ClientName = name
	s.took(m, c)
	err = s.InTx(ctx, func(ctx context.Context) error {
		if err := s.vacant(ctx, m); err != nil {
			return err
		}
		if err := s.untaken(ctx, m); err != nil {
			return err
		}
		return mappingExists(s.KeyMappings.Create(ctx, apim.In(app.Tenant), m))
	})
	if err != nil {
		undo, stop := context.WithTimeout(context.WithoutCancel(ctx), remember)
		defer stop()
		if e := s.Elsewhere.Delete(undo, there, c); e != nil {
			s.Log.WarnContext(ctx, "client left at another key manager", "key_manager", km.Name, "client", c.ID, "err", e)
		}
		return nil, err
	}
	out := &Key{KeyMapping: m, ManagerName: km.Name, Secret: c.Secret}
	if km.GivesTokens && slices.Contains(m.Grants, "client_credentials") {
		// The keys are there: a token that cannot be had now can be had later.
		if t, err := s.Elsewhere.Token(ctx, there, c.ID, c.Secret, foreignScopes(in.Scopes)); err == nil {
			out.Token = &Token{t.Access, t.Scopes, t.Validity}
		} else {
			s.Log.InfoContext(ctx, "no first token of another key manager", "key_manager", km.Name, "err", err)
		}
	}
	return out, nil
}

// foreignScopes are the scopes to ask another key manager for: not those that
// portals send for our own.
func foreignScopes(in []string) []string {
	return slices.DeleteFunc(slices.Clone(in), func(s string) bool { return slices.Contains(firstScopes, s) })
}

// untaken refuses a consumer key that a mapping has already.
func (s *Service) untaken(ctx context.Context, m *apim.KeyMapping) error {
	n, err := s.KeyMappings.Count(ctx, apim.Across(apim.Platform), apim.Where("consumer_key", string(m.ConsumerKey)).And("key_manager", m.KeyManager))
	if err != nil {
		return fmt.Errorf("find key mapping: %w", err)
	}
	if n > 0 {
		return fault.KeyMappingExists.With("Key Mappings already exists for the consumer key")
	}
	return nil
}

// adoptElsewhere keeps the secret that a client is mapped with, unless the
// other key manager says that it is wrong.
func (s *Service) adoptElsewhere(ctx context.Context, km *apim.KeyManager, m *apim.KeyMapping, secret string) error {
	if len(m.ConsumerKey) > 512 || len(secret) > 4096 || strings.ContainsAny(string(m.ConsumerKey), "/\r\n") {
		return fault.BadRequest.With("The consumer key or secret is not of a form that can be mapped")
	}
	m.Properties = map[string]string{}
	if secret == "" || s.Box == nil || s.Elsewhere == nil {
		return nil
	}
	there, err := s.elsewhere(km)
	if err != nil {
		return err
	}
	if _, err := s.Elsewhere.Token(ctx, there, string(m.ConsumerKey), secret, nil); connector.Status(err) == http.StatusUnauthorized {
		return fault.BadRequest.With("The consumer secret is not one of the OAuth client's")
	}
	m.Secret = s.seal(secret)
	return nil
}

// updateElsewhere changes a client at another key manager, there first.
func (s *Service) updateElsewhere(ctx context.Context, m *apim.KeyMapping, km *apim.KeyManager, grants []string, callback *string, properties map[string]string) (*Key, error) {
	was := m.Rev
	if grants != nil {
		m.Grants = grants
	}
	if callback != nil {
		m.Callback = *callback
	}
	if err := checkKey(m.KeyType, m.Grants, m.Callback); err != nil {
		return nil, err
	}
	if properties != nil {
		props, err := foreignProperties(properties)
		if err != nil {
			return nil, err
		}
		m.Properties = props
	}
	if m.Mode == "CREATED" { // a mapped client is its owner's to change
		there, err := s.elsewhere(km)
		if err != nil {
			return nil, err
		}
		c, err := s.clientElsewhere(m)
		if err != nil {
			return nil, err
		}
		if c, err = s.Elsewhere.Update(ctx, there, c); err != nil {
			return nil, fmt.Errorf("update client: %w", err)
		}
		s.took(m, c)
	}
	m.Rev = was
	if err := s.KeyMappings.Update(ctx, apim.In(m.Tenant), m); err != nil {
		return nil, wrap("save key mapping", err)
	}
	return s.withSecret(ctx, m, km)
}

// rotateElsewhere replaces the secret of a client at another key manager.
func (s *Service) rotateElsewhere(ctx context.Context, m *apim.KeyMapping, km *apim.KeyManager) (apim.ClientID, string, error) {
	there, err := s.elsewhere(km)
	if err != nil {
		return "", "", err
	}
	c, err := s.clientElsewhere(m)
	if err != nil {
		return "", "", err
	}
	if c, err = s.Elsewhere.Rotate(ctx, there, c); err != nil {
		return "", "", fmt.Errorf("rotate secret: %w", err)
	}
	s.took(m, c)
	return m.ConsumerKey, c.Secret, wrap("save key mapping", s.KeyMappings.Update(ctx, apim.In(m.Tenant), m))
}

// tokenElsewhere gets a token of a client at another key manager.
func (s *Service) tokenElsewhere(ctx context.Context, m *apim.KeyMapping, km *apim.KeyManager, in TokenRequest) (Token, error) {
	if !km.GivesTokens {
		return Token{}, fault.BadRequest.Withf("Key Manager %s does not give tokens here", km.Name)
	}
	there, err := s.elsewhere(km)
	if err != nil {
		return Token{}, err
	}
	secret := in.Secret
	if secret == "" {
		if secret, err = s.unseal(m.Secret); err != nil {
			return Token{}, err
		}
	}
	if in.Revoke != "" {
		if err := s.Elsewhere.Revoke(ctx, there, string(m.ConsumerKey), secret, in.Revoke); err != nil {
			return Token{}, fmt.Errorf("revoke token: %w", err)
		}
	}
	t, err := s.Elsewhere.Token(ctx, there, string(m.ConsumerKey), secret, foreignScopes(in.Scopes))
	if connector.Status(err) == http.StatusUnauthorized {
		return Token{}, fault.BadRequest.With("The consumer secret is not valid for the application's keys")
	}
	return Token{t.Access, t.Scopes, t.Validity}, wrap("get token", err)
}

// left are clients at other key managers whose mappings are gone. They are
// removed there after the transaction, as well as can be: what an application
// had is forgotten here even if the other side is away.
type left struct {
	km *apim.KeyManager
	m  *apim.KeyMapping
}

func (s *Service) removeElsewhere(ctx context.Context, all []left) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), remember)
	defer stop()
	for _, l := range all {
		there, err := s.elsewhere(l.km)
		var c *connector.Client
		if err == nil {
			c, err = s.clientElsewhere(l.m)
		}
		if err == nil {
			err = s.Elsewhere.Delete(ctx, there, c)
		}
		if err != nil {
			s.Log.WarnContext(ctx, "client left at another key manager", "key_manager", l.km.Name, "client", l.m.ConsumerKey, "err", err)
		}
	}
}

// foreignOf is the key manager of a mapping unless it is our own or gone.
func (s *Service) foreignOf(ctx context.Context, m *apim.KeyMapping) (km *apim.KeyManager, foreign bool, err error) {
	km, err = s.KeyManagers.Get(ctx, apim.In(m.Tenant), m.KeyManager)
	switch {
	case missing(err):
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("get key manager: %w", err)
	}
	return km, !resident(km), nil
}
