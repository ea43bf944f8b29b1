package keymanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// Authenticate tells who calls a management API: the bearer of one of our
// access tokens, with the token's scopes, or a user by Basic credentials, with
// all scopes the user's roles open. Anything else is fault.NotAuthorized.
func (k *KeyManager) Authenticate(ctx context.Context, r *http.Request) (*apim.Actor, error) {
	addr := k.o.ClientAddr(r)
	if raw, ok := bearer(r); ok {
		return k.bearerActor(ctx, raw, addr)
	}
	name, password, present, ok := basic(r)
	if !present {
		return nil, fault.NotAuthorized.Because(errors.New("no credentials"))
	}
	if !ok {
		return nil, fault.NotAuthorized.Because(errors.New("unreadable Basic credentials"))
	}
	u, err := k.o.Directory.Authenticate(ctx, name, apim.SuperTenant, password, addr)
	if err != nil {
		if errors.Is(err, &fault.LoginDelayed) {
			return nil, fault.NotAuthorized.Because(err)
		}
		return nil, err
	}
	a := k.actor(u, addr)
	if a.Scopes, err = k.o.Directory.AllScopes(ctx, u.Tenant, a.Roles); err != nil {
		return nil, fmt.Errorf("find scopes of roles: %w", err)
	}
	return a, nil
}

func (k *KeyManager) actor(u *apim.User, addr string) *apim.Actor {
	return &apim.Actor{
		User: showName(u.Name, u.Tenant), UserID: u.ID, Tenant: u.Tenant,
		Roles: k.o.Directory.RolesOf(u), Addr: addr,
	}
}

func (k *KeyManager) bearerActor(ctx context.Context, raw, addr string) (*apim.Actor, error) {
	c, err := k.checkAccess(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("check access token: %w", err)
	}
	if c == nil {
		return nil, fault.NotAuthorized.Because(errors.New("access token is not good"))
	}
	cl, err := k.client(ctx, apim.ClientID(c.ClientID))
	if errors.Is(err, &fault.Missing) || (err == nil && cl.Inactive) {
		return nil, fault.NotAuthorized.Because(errors.New("client of the token is gone"))
	}
	if err != nil {
		return nil, fmt.Errorf("find client of token: %w", err)
	}
	id := apim.UserID(c.EntityID)
	if c.Aut == token.AutApplication {
		id = cl.OwnerID
	}
	u, err := k.activeUser(ctx, id)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, fault.NotAuthorized.Because(errors.New("user of the token is gone or locked"))
	}
	a := k.actor(u, addr)
	a.Scopes, a.Client = c.Scopes(), c.ClientID
	return a, nil
}

// Token is an issued access token.
type Token struct {
	Access   string
	Scopes   []string
	Validity time.Duration
}

// Token issues a client credentials token to a client that the caller has
// authorized. Validity 0 means the client's own, negative for ever.
func (k *KeyManager) Token(ctx context.Context, s apim.Scope, id apim.ClientID, scopes []string, validity time.Duration) (Token, error) {
	cl, err := k.o.Clients.Get(ctx, s, id)
	if err != nil {
		return Token{}, fmt.Errorf("issue token: %w", err)
	}
	if cl.Inactive {
		return Token{}, fault.BadRequest.With("the client is not active")
	}
	raw, c, err := k.appToken(ctx, cl, scopes, validity)
	if err != nil {
		if e, ok := errors.AsType[*oauthError](err); ok {
			return Token{}, fault.BadRequest.With(e.text)
		}
		return Token{}, fmt.Errorf("issue token: %w", err)
	}
	return Token{Access: raw, Scopes: c.Scopes(), Validity: c.Expires.Sub(token.Seconds(c.IssuedAt))}, nil
}

// InternalKey describes an Internal-Key: a credential of a user for one API,
// whatever its state and subscriptions.
type InternalKey struct {
	API      token.APIRef
	Tenant   apim.TenantID // of the user
	User     apim.UserID
	UserName string        // as the product shows it
	KeyType  string        // PRODUCTION or SANDBOX
	Validity time.Duration // default 1 min
}

// InternalKey makes an Internal-Key (reference: gateway §3, publisher §12).
func (k *KeyManager) InternalKey(ctx context.Context, in InternalKey) (string, error) {
	signer, err := k.keys.signer(ctx, in.Tenant)
	if err != nil {
		return "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make token id: %w", err)
	}
	if in.Validity <= 0 {
		in.Validity = time.Minute
	}
	if in.KeyType == "" {
		in.KeyType = "PRODUCTION"
	}
	now := k.o.Now()
	c := &token.Claims{
		Type:      token.TypeID,
		TokenType: token.KindInternal,
		Issuer:    k.o.Issuer,
		Subject:   in.UserName,
		EntityID:  string(in.User),
		ID:        token.StampID(id, now).String(),
		KeyType:   in.KeyType,
		APIs:      []token.APIRef{in.API},
		IssuedAt:  token.Seconds(now),
		NotBefore: token.Seconds(now),
		Expires:   after(token.Seconds(now), in.Validity),
	}
	return signer.Sign(c)
}
