package keymanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// typeOpaque is the token type of clients whose access tokens are stored here
// and mean nothing elsewhere.
const typeOpaque = "OAUTH"

// maxOpaque bounds the text that is looked up as an opaque token, in bytes.
const maxOpaque = 256

// storeAccess makes an opaque access token and stores what it stands for under
// its hash, before anybody is told of it.
func (k *KeyManager) storeAccess(ctx context.Context, cl *apim.Client, c *token.Claims) (string, error) {
	doc, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("store access token: %w", err)
	}
	if len(doc) > k.o.TokenMaxSize {
		return "", &oauthError{status: http.StatusBadRequest, code: "invalid_scope", text: "The requested scopes do not fit into a token."}
	}
	raw := token.NewSecret()
	err = k.o.Ephemera.Put(ctx, &apim.Ephemeral{
		Kind: apim.EphemeralAccess, Hash: apim.Digest(token.Digest(raw)), Tenant: cl.Tenant,
		Subject: c.EntityID, Client: string(cl.ID), Created: k.o.Now(), Expires: c.Expires, Doc: doc,
	})
	if err != nil {
		return "", fmt.Errorf("store access token: %w", err)
	}
	return raw, nil
}

// opaque finds what an opaque access token stands for; nil when it is unknown,
// has expired or was revoked.
func (k *KeyManager) opaque(ctx context.Context, raw string) (*token.Claims, error) {
	if raw == "" || len(raw) > maxOpaque {
		return nil, nil
	}
	e, err := k.o.Ephemera.Get(ctx, apim.EphemeralAccess, apim.Digest(token.Digest(raw)))
	if errors.Is(err, &fault.Missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find access token: %w", err)
	}
	c := &token.Claims{}
	if err := json.Unmarshal(e.Doc, c); err != nil {
		return nil, fmt.Errorf("read access token: %w", err)
	}
	if !k.o.Now().Before(c.Expires) {
		return nil, nil
	}
	c.IssuedAt = e.Created // finer than a second, for revocations in the same one
	dead, err := k.o.Tokens.Revoked(ctx, c.ID, []string{c.EntityID, c.ClientID}, c.IssuedAt)
	if err != nil || dead {
		return nil, err
	}
	return c, nil
}

// Access tells a gateway what an opaque access token stands for: nil claims
// when it is not good, or when its client or user is not any more.
func (k *KeyManager) Access(ctx context.Context, raw string) (*token.Claims, error) {
	if token.LooksLikeJWT(raw) {
		return nil, nil
	}
	c, err := k.opaque(ctx, raw)
	if err != nil || c == nil {
		return nil, err
	}
	d, err := k.describe(ctx, &state{claims: c, opaque: true})
	if err != nil || !d.Active {
		return nil, err
	}
	return c, nil
}
