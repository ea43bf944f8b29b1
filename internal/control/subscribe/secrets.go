package subscribe

import (
	"context"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// RegenerateSecret replaces the secrets of a client by a new one.
func (s *Service) RegenerateSecret(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID) (apim.ClientID, string, error) {
	m, err := s.mapping(ctx, id, mapping)
	if err != nil {
		return "", "", err
	}
	if km, foreign, err := s.foreignOf(ctx, m); err != nil {
		return "", "", err
	} else if foreign {
		return s.rotateElsewhere(ctx, m, km)
	}
	secret, err := s.Clients.RegenerateSecret(ctx, apim.In(m.Tenant), m.ConsumerKey)
	return m.ConsumerKey, secret, wrap("regenerate secret", noClient(err, m))
}

// AddSecret gives the client one more secret, shown only in this answer.
func (s *Service) AddSecret(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID, description string, ttl time.Duration) (apim.Secret, string, error) {
	if len(description) > 1024 {
		return apim.Secret{}, "", fault.BadRequest.With("The description of a secret has at most 1024 bytes")
	}
	if ttl < 0 {
		return apim.Secret{}, "", fault.BadRequest.With("expiresIn must not be negative")
	}
	m, err := s.mapping(ctx, id, mapping)
	if err != nil {
		return apim.Secret{}, "", err
	}
	if err := s.oursOnly(ctx, m); err != nil {
		return apim.Secret{}, "", err
	}
	sec, clear, err := s.Clients.AddSecret(ctx, apim.In(m.Tenant), m.ConsumerKey, description, ttl)
	return sec, clear, wrap("add secret", noClient(err, m))
}

// Secrets lists the client's secrets, oldest first, without their text.
func (s *Service) Secrets(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID) ([]apim.Secret, error) {
	m, err := s.mapping(ctx, id, mapping)
	if err != nil {
		return nil, err
	}
	if _, foreign, err := s.foreignOf(ctx, m); err != nil || foreign {
		return nil, err // those of a client elsewhere are not listed
	}
	return s.secretsOf(ctx, m)
}

// oursOnly refuses what only the resident key manager's clients have.
func (s *Service) oursOnly(ctx context.Context, m *apim.KeyMapping) error {
	km, foreign, err := s.foreignOf(ctx, m)
	if err == nil && foreign {
		return fault.BadRequest.Withf("Key Manager %s does not support several consumer secrets", km.Name)
	}
	return err
}

func (s *Service) secretsOf(ctx context.Context, m *apim.KeyMapping) ([]apim.Secret, error) {
	c, err := s.Clients.Client(ctx, apim.In(m.Tenant), m.ConsumerKey)
	if err != nil {
		return nil, fmt.Errorf("find client: %w", noClient(err, m))
	}
	return c.Secrets, nil
}

// RevokeSecret removes one secret. The newest stays: an application is never
// left without a credential.
func (s *Service) RevokeSecret(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID, secret string) error {
	m, err := s.mapping(ctx, id, mapping)
	if err != nil {
		return err
	}
	if err := s.oursOnly(ctx, m); err != nil {
		return err
	}
	all, err := s.secretsOf(ctx, m)
	if err != nil {
		return err
	}
	newest := -1
	found := false
	for i, x := range all {
		found = found || x.ID == secret
		if newest < 0 || !x.CreatedAt.Before(all[newest].CreatedAt) {
			newest = i
		}
	}
	switch {
	case !found:
		return fault.Missing.Withf("Consumer secret '%s' not found", secret)
	case all[newest].ID == secret:
		return fault.BadRequest.With("The most recent consumer secret cannot be revoked")
	}
	return wrap("revoke secret", s.Clients.RevokeSecret(ctx, apim.In(m.Tenant), m.ConsumerKey, secret))
}

// TokenRequest asks for a client credentials token of a key mapping.
type TokenRequest struct {
	Secret   string
	Validity time.Duration // 0: the client's
	Scopes   []string
	Revoke   string // an access token to make worthless first
	Grant    string
}

// Token issues a token for the application itself.
func (s *Service) Token(ctx context.Context, id apim.AppID, mapping apim.KeyMappingID, in TokenRequest) (Token, error) {
	m, err := s.mapping(ctx, id, mapping)
	if err != nil {
		return Token{}, err
	}
	km, err := s.manager(ctx, m.Tenant, m.KeyManager)
	if err != nil {
		return Token{}, err
	}
	if in.Grant != "" && in.Grant != "CLIENT_CREDENTIALS" {
		return Token{}, fault.BadRequest.Withf("Grant type %s is not supported by %s", in.Grant, km.Name)
	}
	if !resident(km) {
		return s.tokenElsewhere(ctx, m, km, in)
	}
	scope := apim.In(m.Tenant)
	ok, err := s.Clients.CheckSecret(ctx, scope, m.ConsumerKey, in.Secret)
	if err != nil {
		return Token{}, fmt.Errorf("check secret: %w", noClient(err, m))
	}
	if !ok {
		return Token{}, fault.BadRequest.With("The consumer secret is not valid for the application's keys")
	}
	if in.Revoke != "" {
		if err := s.Clients.Revoke(ctx, scope, m.ConsumerKey, in.Revoke); err != nil {
			return Token{}, fmt.Errorf("revoke token: %w", err)
		}
	}
	tok, err := s.Clients.Token(ctx, scope, m.ConsumerKey, in.Scopes, in.Validity)
	return tok, wrap("issue token", err)
}

func noClient(err error, m *apim.KeyMapping) error {
	if missing(err) {
		return fault.Missing.Withf("The OAuth client %s no longer exists", m.ConsumerKey)
	}
	return err
}

// ChangePassword changes the caller's own password.
func (s *Service) ChangePassword(ctx context.Context, current, next string) error {
	a, err := signedIn(ctx)
	if err != nil {
		return err
	}
	if s.Passwords == nil {
		return fault.PasswordChangeOff.With("Password change is disabled")
	}
	return wrap("change password", s.Passwords.ChangePassword(ctx, a, current, next))
}
