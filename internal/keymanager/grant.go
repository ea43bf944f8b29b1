package keymanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// defaultScope is what a token carries when nothing else was asked for or
// granted.
const defaultScope = "default"

// knownGrants are grant types the original ships; those we cannot serve are
// answered differently from unknown ones.
var knownGrants = []string{
	"authorization_code", "password", "refresh_token", "client_credentials", "iwa:ntlm", "kerberos",
	"urn:ietf:params:oauth:grant-type:saml2-bearer", "urn:ietf:params:oauth:grant-type:jwt-bearer",
	"urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:token-exchange",
	"urn:ietf:params:oauth:grant-type:uma-ticket",
}

// issued is the answer of the token endpoint, in the original's order.
type issued struct {
	Access    string `json:"access_token"`
	Refresh   string `json:"refresh_token,omitempty"`
	Scope     string `json:"scope"`
	ID        string `json:"id_token,omitempty"`
	Type      string `json:"token_type"`
	ExpiresIn int64  `json:"expires_in"`
}

// grantRequest is a token request whose client is authenticated.
type grantRequest struct {
	p      params
	client *apim.Client
	tenant apim.TenantID // for user names without one
	addr   string
}

// tokenEndpoint checks in the original's order: repeated parameters, grant
// type, client, its state, its grants, the grant itself, scopes.
func (k *KeyManager) tokenEndpoint(q *request) error {
	p, err := readParams(q)
	if err != nil {
		return err
	}
	grant := p["grant_type"]
	if grant == "" {
		return invalidRequest("Missing grant_type parameter value")
	}
	if !slices.Contains(knownGrants, grant) {
		return invalidRequest("Unsupported grant_type value")
	}
	auth, err := clientOf(q, p)
	if err != nil {
		return err
	}
	ctx := q.r.Context()
	addr := k.o.ClientAddr(q.r)
	c, public, err := k.authenticateClient(ctx, auth, addr)
	if err != nil {
		return err
	}
	if public && (grant == "client_credentials" || grant == grantExchange) {
		return invalidClient(textBadClient)
	}
	if !slices.Contains(c.Grants, grant) {
		return &oauthError{
			status: http.StatusBadRequest, code: "unauthorized_client",
			text: "The authenticated client is not authorized to use this authorization grant type",
		}
	}
	g := &grantRequest{p: p, client: c, tenant: c.Tenant, addr: addr}
	if c.SaaS {
		g.tenant = q.tenant
	}
	var out any
	if slices.Contains(k.o.RefusedGrants, grant) || k.o.Trusted == nil && (grant == grantBearer || grant == grantExchange) {
		grant = "switched off: " + grant // no case below
	}
	switch grant {
	case "client_credentials":
		out, err = k.clientCredentials(ctx, g)
	case "password":
		out, err = k.password(ctx, g)
	case "refresh_token":
		out, err = k.renew(ctx, g)
	case grantBearer:
		out, err = k.bearerGrant(ctx, g)
	case grantDevice:
		out, err = k.deviceGrant(ctx, g)
	case grantExchange:
		out, err = k.exchangeGrant(ctx, g)
	case "authorization_code":
		out, err = k.redeem(ctx, g)
	default:
		return &oauthError{
			status: http.StatusBadRequest, code: "unsupported_grant_type",
			text: "Unsupported grant type : " + p["grant_type"] + ", is used.",
		}
	}
	if err != nil {
		return err
	}
	noStore(q.w)
	write(q.w, http.StatusOK, out)
	return nil
}

func (k *KeyManager) clientCredentials(ctx context.Context, g *grantRequest) (*issued, error) {
	raw, c, err := k.appToken(ctx, g.client, strings.Fields(g.p["scope"]), 0)
	if err != nil {
		return nil, err
	}
	return answer(raw, c), nil
}

// appToken issues a token to the application itself, on the rights of its
// owner.
func (k *KeyManager) appToken(ctx context.Context, cl *apim.Client, scopes []string, validity time.Duration) (string, *token.Claims, error) {
	var roles []string
	userTenant := cl.Tenant
	owner, err := k.o.Directory.UserByID(ctx, apim.Across(apim.Platform), cl.OwnerID)
	switch {
	case errors.Is(err, &fault.Missing):
		// The application outlives its owner, without any role.
	case err != nil:
		return "", nil, fmt.Errorf("find owner of client: %w", err)
	default:
		roles, userTenant = k.o.Directory.RolesOf(owner), owner.Tenant
	}
	granted, err := k.grantScopes(ctx, cl.Tenant, userTenant, roles, scopes)
	if err != nil {
		return "", nil, err
	}
	s := subject{client: cl, userID: cl.OwnerID, tenant: userTenant, app: true}
	return k.access(ctx, s, granted, validity)
}

func answer(raw string, c *token.Claims) *issued {
	return &issued{
		Access: raw, Scope: c.Scope, Type: "Bearer",
		ExpiresIn: c.Expires.Unix() - c.IssuedAt.Unix(),
	}
}

// password is the resource owner grant.
func (k *KeyManager) password(ctx context.Context, g *grantRequest) (*issued, error) {
	login, password := g.p["username"], g.p["password"]
	if login == "" || password == "" {
		return nil, invalidRequest("Missing parameters: username, password")
	}
	name, t := splitName(login, g.tenant)
	if t != g.client.Tenant && !g.client.SaaS {
		// Only a client that is shared serves the users of other tenants.
		return nil, invalidGrant("Authentication failed")
	}
	u, err := k.o.Directory.Authenticate(ctx, name+"@"+string(t), t, password, g.addr)
	if err != nil {
		return nil, loginError(err)
	}
	roles := k.o.Directory.RolesOf(u)
	granted, err := k.grantScopes(ctx, g.client.Tenant, u.Tenant, roles, strings.Fields(g.p["scope"]))
	if err != nil {
		return nil, err
	}
	s := subject{client: g.client, userID: u.ID, tenant: u.Tenant}
	out, row, err := k.userTokens(ctx, s, u, granted, granted, "", "password")
	if err != nil {
		return nil, err
	}
	if row != nil {
		if err := k.o.Tokens.PutRefresh(ctx, row); err != nil {
			return nil, fmt.Errorf("store refresh token: %w", err)
		}
	}
	return out, nil
}

// loginError renders a refused login without telling whether the user exists.
func loginError(err error) error {
	if errors.Is(err, &fault.LoginDelayed) {
		e := invalidGrant("17003 Authentication failed: " + fault.Of(err).Msg + ", " + fault.Of(err).Detail)
		return e
	}
	if errors.Is(err, &fault.NotAuthorized) {
		e := invalidGrant("Authentication failed")
		e.err = err
		return e
	}
	return err
}

// userTokens makes an access token with granted scopes, an id token where
// openid is among them, and, if the client may use it, a refresh token that
// holds the kept scopes.
func (k *KeyManager) userTokens(ctx context.Context, s subject, u *apim.User, granted, kept []string, family, method string) (*issued, *apim.RefreshToken, error) {
	raw, c, err := k.access(ctx, s, granted, 0)
	if err != nil {
		return nil, nil, err
	}
	out := answer(raw, c)
	if slices.Contains(granted, "openid") {
		if out.ID, err = k.idToken(ctx, s, u, granted, raw, method); err != nil {
			return nil, nil, err
		}
	}
	if !slices.Contains(s.client.Grants, "refresh_token") || slices.Contains(k.o.RefusedGrants, "refresh_token") {
		return out, nil, nil
	}
	var row *apim.RefreshToken
	out.Refresh, row, err = k.refresh(ctx, s, showName(u.Name, u.Tenant), kept, family, c)
	return out, row, err
}

// renew is the refresh grant. The old token is consumed and its successor
// stored in one transaction, by one atomic compare-and-set: of any number of
// racing requests one wins. Losers within the grace are refused; later reuse
// means the token was stolen, and ends its whole family.
func (k *KeyManager) renew(ctx context.Context, g *grantRequest) (*issued, error) {
	raw := g.p["refresh_token"]
	if raw == "" {
		return nil, invalidRequest("Missing parameters: refresh_token")
	}
	hash := apim.Digest(token.Digest(raw))
	old, err := k.o.Tokens.Refresh(ctx, hash)
	if errors.Is(err, &fault.Missing) {
		return nil, invalidGrant("Valid refresh token data not found")
	}
	if err != nil {
		return nil, fmt.Errorf("find refresh token: %w", err)
	}
	now := k.o.Now()
	if old.Client != g.client.ID {
		return nil, invalidGrant("Invalid refresh token. Consumer key does not match.")
	}
	if !old.UsedAt.IsZero() {
		return nil, k.reused(ctx, old, now)
	}
	if !now.Before(old.Expires) {
		return nil, invalidGrant("Refresh token is expired.")
	}
	u, err := k.refreshUser(ctx, old)
	if err != nil {
		return nil, err
	}
	scopes := strings.Fields(g.p["scope"])
	for _, s := range scopes {
		if !slices.Contains(old.Scopes, s) {
			return nil, &oauthError{status: http.StatusBadRequest, code: "invalid_scope", text: "Invalid Scope!"}
		}
	}
	if len(scopes) == 0 {
		scopes = old.Scopes
	}
	// What the user has lost since is not granted again.
	granted, err := k.grantScopes(ctx, g.client.Tenant, u.Tenant, k.o.Directory.RolesOf(u), scopes)
	if err != nil {
		return nil, err
	}
	s := subject{client: g.client, userID: u.ID, tenant: u.Tenant}
	out, row, err := k.userTokens(ctx, s, u, granted, old.Scopes, old.Family, "refresh_token")
	if err != nil {
		return nil, err
	}
	var lost *apim.RefreshToken
	err = k.o.InTx(ctx, func(ctx context.Context) error {
		t, won, err := k.o.Tokens.UseRefresh(ctx, hash, now)
		if err != nil {
			return err
		}
		if !won {
			lost = t
			return nil
		}
		lost = nil
		if row == nil {
			return nil
		}
		return k.o.Tokens.PutRefresh(ctx, row)
	})
	switch {
	case errors.Is(err, &fault.Missing):
		return nil, invalidGrant("Valid refresh token data not found")
	case err != nil:
		return nil, fmt.Errorf("renew token: %w", err)
	case lost != nil:
		return nil, k.reused(ctx, lost, now)
	}
	return out, nil
}

// reused decides what a second use of a refresh token means.
func (k *KeyManager) reused(ctx context.Context, t *apim.RefreshToken, now time.Time) error {
	refused := invalidGrant("Invalid refresh token state")
	if now.Sub(t.UsedAt) <= k.o.RaceGrace {
		return refused
	}
	if err := k.endFamily(ctx, t.Family, t.Tenant); err != nil {
		return err
	}
	k.o.Log.WarnContext(ctx, "refresh token reused; its family is revoked", "client", t.Client, "user", t.UserName)
	return refused
}

// endFamily removes a family of refresh tokens and revokes the access tokens
// that were issued with its links.
func (k *KeyManager) endFamily(ctx context.Context, family string, t apim.TenantID) error {
	return k.o.InTx(ctx, func(ctx context.Context) error {
		links, err := k.o.Tokens.DropFamily(ctx, family)
		if err != nil {
			return fmt.Errorf("drop refresh tokens: %w", err)
		}
		now := k.o.Now()
		for _, l := range links {
			if l.Access != "" && now.Before(l.AccessExpires) {
				if err := k.revokeID(ctx, t, l.Access, l.AccessExpires); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (k *KeyManager) revokeID(ctx context.Context, t apim.TenantID, jti string, expires time.Time) error {
	err := k.o.Tokens.Revoke(ctx, &apim.Revocation{ID: "jti/" + jti, Tenant: t, JTI: jti, Expires: expires})
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}

// refreshUser finds the user of a refresh token, who must still be able to
// sign in and whose tokens must not have been ended since.
func (k *KeyManager) refreshUser(ctx context.Context, t *apim.RefreshToken) (*apim.User, error) {
	u, err := k.activeUser(ctx, t.User)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, invalidGrant("Invalid refresh token state")
	}
	dead, err := k.o.Tokens.Revoked(ctx, "", []string{string(t.User), string(t.Client)}, t.IssuedAt)
	if err != nil {
		return nil, fmt.Errorf("check revocations: %w", err)
	}
	if dead {
		return nil, invalidGrant("Invalid refresh token state")
	}
	return u, nil
}

// activeUser finds a user who may act; nil when there is none.
func (k *KeyManager) activeUser(ctx context.Context, id apim.UserID) (*apim.User, error) {
	u, err := k.o.Directory.UserByID(ctx, apim.Across(apim.Platform), id)
	if errors.Is(err, &fault.Missing) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find user: %w", err)
	}
	if u.Locked {
		return nil, nil
	}
	active, err := k.o.Directory.Active(ctx, u.Tenant)
	if err != nil || !active {
		return nil, err
	}
	return u, nil
}
