package keymanager

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

// subject is for whom a token is issued.
type subject struct {
	client *apim.Client
	userID apim.UserID   // of client_credentials: the owner
	tenant apim.TenantID // of the user
	app    bool          // client_credentials: the application itself

	foreign string                     // name at another issuer, of those only it knows
	extra   map[string]json.RawMessage // further claims of the access token
}

// never is the end of tokens without one: the last moment that other systems
// agree on.
var never = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// access makes an access token. Validity 0 is the client's own or the default,
// negative is for ever.
func (k *KeyManager) access(ctx context.Context, s subject, scopes []string, validity time.Duration) (raw string, c *token.Claims, err error) {
	signer, err := k.keys.signer(ctx, s.client.Tenant)
	if err != nil {
		return "", nil, err
	}
	if c, err = k.claims(s); err != nil {
		return "", nil, err
	}
	if validity == 0 {
		validity = k.o.UserLife
		own := s.client.UserExpiry
		if s.app {
			validity, own = k.o.AppLife, s.client.AppExpiry
		}
		if own > 0 {
			validity = own
		}
	}
	c.Type = token.TypeAccess
	c.Scope = strings.Join(scopes, " ")
	c.Audience = append([]string{string(s.client.ID)}, s.client.Audiences...)
	c.Expires = after(c.IssuedAt, validity)
	c.Extra = s.extra
	if s.client.TokenType == typeOpaque {
		raw, err = k.storeAccess(ctx, s.client, c)
		return raw, c, err
	}
	if raw, err = signer.Sign(c); err == nil && len(raw) > k.o.TokenMaxSize {
		// Nobody would accept it.
		err = &oauthError{status: http.StatusBadRequest, code: "invalid_scope", text: "The requested scopes do not fit into a token."}
	}
	return raw, c, err
}

// claims makes what access and refresh tokens have in common.
func (k *KeyManager) claims(s subject) (*token.Claims, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make token id: %w", err)
	}
	now := k.o.Now()
	c := &token.Claims{
		Issuer:          k.o.Issuer,
		Subject:         k.subjectName(s),
		ID:              token.StampID(id, now).String(),
		AuthorizedParty: string(s.client.ID),
		ClientID:        string(s.client.ID),
		EntityID:        string(s.userID),
		Aut:             token.AutUser,
		IssuedAt:        token.Seconds(now),
		NotBefore:       token.Seconds(now),
	}
	if s.app {
		c.EntityID, c.Aut = string(s.client.ID), token.AutApplication
	}
	return c, nil
}

// subjectName is the user's id, with the tenant for clients registered by the
// tools' registration as JWT clients (reference: keymanager §4, sub).
func (k *KeyManager) subjectName(s subject) string {
	if s.foreign != "" {
		return s.foreign
	}
	if s.client.Origin == originDCR && s.client.TokenType == "JWT" {
		return string(s.userID) + "@" + string(s.tenant)
	}
	return string(s.userID)
}

func after(t time.Time, d time.Duration) time.Time {
	if d < 0 || t.Add(d).After(never) {
		return never
	}
	return t.Add(d)
}

// refresh makes a refresh token and the row that stands for it. The token is a
// JWT as the original's are, but only the row decides.
func (k *KeyManager) refresh(ctx context.Context, s subject, name string, scopes []string, family string, access *token.Claims) (string, *apim.RefreshToken, error) {
	signer, err := k.keys.signer(ctx, s.client.Tenant)
	if err != nil {
		return "", nil, err
	}
	c, err := k.claims(s)
	if err != nil {
		return "", nil, err
	}
	life := k.o.RefreshLife
	if s.client.RefreshExpiry > 0 {
		life = s.client.RefreshExpiry
	}
	c.Type = token.TypeRefresh
	c.TokenType = token.KindRefresh
	c.Audience = []string{k.o.Issuer}
	c.Aut = ""
	c.NotBefore = time.Time{}
	c.Expires = after(c.IssuedAt, life)
	c.Extra = map[string]json.RawMessage{"rt_scope": quote(strings.Join(scopes, " "))}
	raw, err := signer.Sign(c)
	if err != nil {
		return "", nil, err
	}
	if family == "" {
		family = c.ID
	}
	return raw, &apim.RefreshToken{
		Hash:          apim.Digest(token.Digest(raw)),
		Family:        family,
		Tenant:        s.client.Tenant,
		Client:        s.client.ID,
		User:          s.userID,
		UserName:      name,
		Scopes:        slices.Clone(scopes),
		IssuedAt:      k.o.Now(),
		Expires:       c.Expires,
		Access:        access.ID,
		AccessExpires: access.Expires,
	}, nil
}

// idToken makes an OpenID Connect id token that goes with an access token.
func (k *KeyManager) idToken(ctx context.Context, s subject, u *apim.User, scopes []string, access, method string) (string, error) {
	signer, err := k.keys.signer(ctx, s.client.Tenant)
	if err != nil {
		return "", err
	}
	c, err := k.claims(s)
	if err != nil {
		return "", err
	}
	life := k.o.IDLife
	if s.client.IDExpiry > 0 {
		life = s.client.IDExpiry
	}
	c.Type = token.TypeID
	c.Aut, c.EntityID, c.ClientID = "", "", ""
	c.Audience = []string{string(s.client.ID)}
	c.Expires = after(c.IssuedAt, life)
	c.Extra = map[string]json.RawMessage{
		"amr":     json.RawMessage(`[` + string(quote(method)) + `]`),
		"at_hash": quote(token.HalfHash(signer.Algorithm(), access)),
	}
	for name, value := range userClaims(u, scopes) {
		c.Extra[name] = quote(value)
	}
	return signer.Sign(c)
}

func quote(s string) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil {
		panic("keymanager: encode string: " + err.Error())
	}
	return b
}

// oidcClaims maps OpenID Connect claims to the user's claim of the original's
// dialect and the scope that opens them.
var oidcClaims = []struct{ name, uri, scope string }{
	{"given_name", "http://wso2.org/claims/givenname", "profile"},
	{"family_name", "http://wso2.org/claims/lastname", "profile"},
	{"name", "http://wso2.org/claims/fullname", "profile"},
	{"nickname", "http://wso2.org/claims/nickname", "profile"},
	{"website", "http://wso2.org/claims/url", "profile"},
	{"locale", "http://wso2.org/claims/local", "profile"},
	{"email", "http://wso2.org/claims/emailaddress", "email"},
	{"phone_number", "http://wso2.org/claims/telephone", "phone"},
}

// userClaims are the claims that the granted scopes open.
func userClaims(u *apim.User, scopes []string) map[string]string {
	out := map[string]string{}
	for _, c := range oidcClaims {
		if v := u.Claims[c.uri]; v != "" && slices.Contains(scopes, c.scope) {
			out[c.name] = v
		}
	}
	if slices.Contains(scopes, "profile") {
		out["preferred_username"] = showName(u.Name, u.Tenant)
	}
	return out
}
