package keymanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

// Grants on the word of another issuer: JWT bearer assertions (RFC 7523) and
// token exchange (RFC 8693). Whom a tenant trusts are its key managers whose
// tokens are for exchange (reference: keymanager §13 and §14).

const (
	grantBearer   = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"

	typeJWT    = "urn:ietf:params:oauth:token-type:jwt"
	typeAccess = "urn:ietf:params:oauth:token-type:access_token"

	// maxIssuedAge is the age of iat up to which a foreign token is taken.
	maxIssuedAge = time.Hour
	kindBearer   = "bearer"
)

// Trusted is an issuer that a tenant takes tokens of.
type Trusted struct {
	Keys  *token.KeySet
	Alias string // accepted in aud beside our own names; may be empty
	// Claims maps claims of its tokens to those of ours; others stay behind.
	Claims map[string]string
}

// foreign is what a verified foreign token says.
type foreign struct {
	claims *token.Verified
	issuer *Trusted
}

// errNoIssuer marks a token whose issuer nobody trusts here.
var errNoIssuer = errors.New("no trusted issuer")

// foreignToken verifies a token of a trusted issuer: signature, exp, nbf, the
// age of iat, and that it is meant for us.
func (k *KeyManager) foreignToken(ctx context.Context, t apim.TenantID, raw string) (*foreign, error) {
	if len(raw) > k.o.TokenMaxSize {
		return nil, token.ErrTooLong
	}
	c, err := token.Peek(raw)
	if err != nil {
		return nil, err
	}
	if c.Issuer == "" || c.Issuer == k.o.Issuer {
		return nil, fmt.Errorf("%w with the name %q", errNoIssuer, c.Issuer)
	}
	trusted, err := k.o.Trusted(ctx, t, c.Issuer, c.KeyID)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	if trusted == nil {
		return nil, fmt.Errorf("%w with the name %q", errNoIssuer, c.Issuer)
	}
	audience := []string{k.o.Issuer, k.o.URL + "/oauth2/token", k.o.URL + "/t/" + string(t) + "/oauth2/token"}
	if trusted.Alias != "" {
		audience = append(audience, trusted.Alias)
	}
	v := token.NewVerifier(token.Options{MaxLength: k.o.TokenMaxSize, CacheSize: -1})
	v.SetIssuers([]*token.Issuer{{Name: c.Issuer, Keys: trusted.Keys, Audience: audience}})
	now := k.o.Now()
	out, err := v.Verify(raw, now)
	switch {
	case err != nil:
		return nil, err
	case out.Subject == "":
		return nil, fmt.Errorf("%w: no subject", token.ErrMalformed)
	case out.Type == token.TypeRefresh || out.TokenType == token.KindRefresh:
		return nil, token.ErrType
	case !out.IssuedAt.IsZero() && (now.Sub(out.IssuedAt) > maxIssuedAge || out.IssuedAt.After(now.Add(time.Minute))):
		return nil, fmt.Errorf("%w: iat is out of range", token.ErrExpired)
	case out.Extra["cnf"] != nil:
		return nil, fmt.Errorf("%w: it is bound to a key that was not shown", token.ErrType)
	}
	return &foreign{out, trusted}, nil
}

// issueForeign makes an access token for the subject of a foreign token, who
// has no role here: scopes that are bound to roles are withheld.
func (k *KeyManager) issueForeign(ctx context.Context, g *grantRequest, f *foreign) (*issued, error) {
	granted, err := k.grantScopes(ctx, g.client.Tenant, g.client.Tenant, nil, strings.Fields(g.p["scope"]))
	if err != nil {
		return nil, err
	}
	granted = slices.DeleteFunc(granted, func(s string) bool { return s == "openid" })
	if len(granted) == 0 {
		granted = []string{defaultScope}
	}
	extra := map[string]json.RawMessage{"is_federated": json.RawMessage("true")}
	for remote, local := range f.issuer.Claims {
		if v, ok := f.claims.Extra[remote]; ok && !reserved(local) {
			extra[local] = v
		}
	}
	s := subject{
		client: g.client, userID: apim.UserID(token.Digest(f.claims.Issuer + " " + f.claims.Subject)), tenant: g.client.Tenant,
		foreign: f.claims.Subject, extra: extra,
	}
	raw, c, err := k.access(ctx, s, granted, 0)
	if err != nil {
		return nil, err
	}
	return answer(raw, c), nil
}

// reserved reports whether a claim of ours has a meaning that no mapping may
// change.
func reserved(name string) bool {
	return slices.Contains([]string{
		"", "iss", "sub", "aud", "azp", "client_id", "entity_id", "scope", "aut", "exp", "nbf", "iat", "jti", "token_type",
		"keytype", "subscribedAPIs", "is_federated", "cnf", "act", "may_act",
	}, name)
}

// federated reports whether an access token is for somebody whom only another
// issuer knows.
func federated(c *token.Claims) bool { return string(c.Extra["is_federated"]) == "true" }

// bearerGrant is the JWT bearer grant. An assertion that has an id is taken
// once.
func (k *KeyManager) bearerGrant(ctx context.Context, g *grantRequest) (*issued, error) {
	raw := g.p["assertion"]
	if raw == "" {
		return nil, invalidRequest("Missing parameters: assertion")
	}
	f, err := k.foreignToken(ctx, g.client.Tenant, raw)
	switch {
	case errors.Is(err, errKeys):
		return nil, err
	case errors.Is(err, errNoIssuer):
		iss := ""
		if c, err := token.Peek(raw); err == nil {
			iss = c.Issuer
		}
		return nil, invalidGrant("No Registered IDP found for the JWT with issuer name : " + iss)
	case err != nil:
		e := invalidGrant(foreignText(err))
		e.err = err
		return nil, e
	}
	if f.claims.ID != "" {
		first, err := k.firstUse(ctx, kindBearer, f.claims.Issuer+" "+f.claims.ID, f.claims.Expires)
		if err != nil {
			return nil, err
		}
		if !first {
			return nil, invalidGrant("JSON Web Token has been used already")
		}
	}
	return k.issueForeign(ctx, g, f)
}

// foreignText tells a client why a foreign token is refused, in the words that
// clients of the original know.
func foreignText(err error) string {
	switch {
	case errors.Is(err, token.ErrExpired):
		return "JSON Web Token is expired"
	case errors.Is(err, token.ErrNotYet):
		return "JSON Web Token is used before Not_Before_Time"
	case errors.Is(err, token.ErrAudience):
		return "None of the audience values matched the token endpoint or its alias"
	case errors.Is(err, token.ErrSignature), errors.Is(err, token.ErrUnknownKey), errors.Is(err, token.ErrAlgorithm):
		return "Signature or Message Authentication invalid"
	}
	return "JSON Web Token is not valid"
}

// exchangedToken is the answer of a token exchange (RFC 8693 §2.2.1).
type exchangedToken struct {
	issued
	IssuedType string `json:"issued_token_type"`
}

// exchangeGrant is token exchange: impersonation only, of subject tokens that
// are JWTs, for access tokens.
func (k *KeyManager) exchangeGrant(ctx context.Context, g *grantRequest) (*exchangedToken, error) {
	p := g.p
	if p["subject_token"] == "" || p["subject_token_type"] == "" {
		return nil, invalidRequest("Missing parameters: subject_token, subject_token_type")
	}
	if t := p["subject_token_type"]; t != typeJWT && t != typeAccess {
		return nil, invalidRequest("Unsupported subject_token_type : " + t)
	}
	switch t := p["requested_token_type"]; {
	case t != "" && t != typeAccess && t != typeJWT, t == typeJWT && g.client.TokenType == typeOpaque:
		return nil, invalidRequest("Unsupported requested_token_type : " + t)
	}
	for _, name := range []string{"actor_token", "actor_token_type"} {
		if p[name] != "" {
			return nil, invalidRequest("Delegation is not supported: " + name)
		}
	}
	for _, name := range []string{"resource", "audience"} {
		if p[name] != "" {
			return nil, &oauthError{status: http.StatusBadRequest, code: "invalid_target", text: "The target is not supported: " + name}
		}
	}
	f, err := k.foreignToken(ctx, g.client.Tenant, p["subject_token"])
	switch {
	case errors.Is(err, errKeys):
		return nil, err
	case errors.Is(err, errNoIssuer):
		return nil, invalidRequest("No registered identity provider found for the issuer of the subject token")
	case err != nil:
		e := invalidRequest(foreignText(err))
		e.err = err
		return nil, e
	}
	out, err := k.issueForeign(ctx, g, f)
	if err != nil {
		return nil, err
	}
	t := typeAccess
	if p["requested_token_type"] == typeJWT {
		t = typeJWT
	}
	return &exchangedToken{*out, t}, nil
}
