package keymanager

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// state is what is known of a presented token of ours.
type state struct {
	claims *token.Claims      // of an access token
	opaque bool               // it is no JWT
	row    *apim.RefreshToken // of a refresh token
}

// look finds out what a token is: nil when it is unknown, malformed, expired
// or revoked. It judges the token alone, not who presents it.
func (k *KeyManager) look(ctx context.Context, raw string) (*state, error) {
	if len(raw) > k.o.TokenMaxSize {
		return nil, nil
	}
	c, err := k.checkAccess(ctx, raw)
	if err != nil {
		return nil, err
	}
	if c != nil {
		return &state{claims: c, opaque: !token.LooksLikeJWT(raw)}, nil
	}
	row, err := k.o.Tokens.Refresh(ctx, apim.Digest(token.Digest(raw)))
	if errors.Is(err, &fault.Missing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !row.UsedAt.IsZero() || !k.o.Now().Before(row.Expires) {
		return nil, nil
	}
	dead, err := k.o.Tokens.Revoked(ctx, "", []string{string(row.User), string(row.Client)}, row.IssuedAt)
	if err != nil || dead {
		return nil, err
	}
	return &state{row: row}, nil
}

// checkAccess verifies an access token of ours; nil when it is not good.
func (k *KeyManager) checkAccess(ctx context.Context, raw string) (*token.Claims, error) {
	if !token.LooksLikeJWT(raw) {
		return k.opaque(ctx, raw)
	}
	v, err := k.keys.verify(ctx, raw, k.o.Now())
	if errors.Is(err, errKeys) {
		return nil, err
	}
	if err != nil || v.Type != token.TypeAccess || v.TokenType != "" {
		return nil, nil
	}
	dead, err := k.o.Tokens.Revoked(ctx, v.ID, []string{v.EntityID, v.ClientID}, v.IssuedAt)
	if err != nil || dead {
		return nil, err
	}
	return &v.Claims, nil
}

// revokeEndpoint is RFC 7009: a token of another client, or none at all, is
// answered like a revoked one.
func (k *KeyManager) revokeEndpoint(q *request) error {
	p, err := readParams(q)
	if err != nil {
		return err
	}
	auth, err := clientOf(q, p)
	if err != nil {
		return revokeClient(err)
	}
	ctx := q.r.Context()
	c, _, err := k.authenticateClient(ctx, auth, k.o.ClientAddr(q.r))
	if err != nil {
		return revokeClient(err)
	}
	raw := p["token"]
	if raw == "" {
		return invalidRequest("Invalid revocation request")
	}
	ctx, changes := apim.TrackChanges(ctx)
	if err := k.Revoke(ctx, apim.Across(apim.Platform), c.ID, raw); err != nil {
		return err
	}
	if ids := changes.IDs(); len(ids) > 0 && k.o.Await != nil {
		k.o.Await(ctx, ids)
	}
	noStore(q.w)
	if callback := p["callback"]; validCallback(callback) {
		body := callback + "();"
		q.w.Header().Set("Content-Type", "application/javascript")
		q.w.Header().Set("X-Content-Type-Options", "nosniff")
		q.w.WriteHeader(http.StatusOK)
		q.w.Write([]byte(body))
		return nil
	}
	q.w.Header().Set("Content-Type", "application/json")
	q.w.Header().Set("Content-Length", "0")
	q.w.WriteHeader(http.StatusOK)
	return nil
}

// revokeClient gives a failed client authentication the text of this endpoint.
func revokeClient(err error) error {
	if e, ok := errors.AsType[*oauthError](err); ok && e.code == "invalid_client" {
		c := *e
		c.text = "Client Authentication failed."
		return &c
	}
	return err
}

// validCallback accepts names of script functions, so that the answer cannot
// be made to carry anything else.
func validCallback(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i, c := range s {
		letter := c == '_' || c == '$' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
		if !letter && (i == 0 || (c != '.' && (c < '0' || c > '9'))) {
			return false
		}
	}
	return true
}

// Revoke makes a token of the client worthless. Of a refresh token the whole
// family goes, with the access tokens issued beside it. A token that is not
// good any more, or of another client, changes nothing.
func (k *KeyManager) Revoke(ctx context.Context, s apim.Scope, id apim.ClientID, raw string) error {
	st, err := k.look(ctx, raw)
	if err != nil || st == nil {
		return err
	}
	switch {
	case st.claims != nil && st.claims.ClientID == string(id):
		return k.o.InTx(ctx, func(ctx context.Context) error {
			if st.opaque {
				if err := k.o.Ephemera.Delete(ctx, apim.EphemeralAccess, apim.Digest(token.Digest(raw))); err != nil {
					return err
				}
			}
			return k.revokeID(ctx, k.tenantOf(ctx, s, id), st.claims.ID, st.claims.Expires)
		})
	case st.row != nil && st.row.Client == id:
		return k.endFamily(ctx, st.row.Family, st.row.Tenant)
	}
	return nil
}

func (k *KeyManager) tenantOf(ctx context.Context, s apim.Scope, id apim.ClientID) apim.TenantID {
	if t := s.Tenant(); t != "" {
		return t
	}
	if c, err := k.client(ctx, id); err == nil {
		return c.Tenant
	}
	return apim.SuperTenant
}

// described is the body of an introspection (RFC 7662).
type described struct {
	Active    bool   `json:"active"`
	NotBefore int64  `json:"nbf,omitempty"`
	Scope     string `json:"scope,omitempty"`
	Username  string `json:"username,omitempty"`
	TokenType string `json:"token_type,omitempty"`
	ClientID  string `json:"client_id,omitempty"`
	IssuedAt  int64  `json:"iat,omitempty"`
	Expires   int64  `json:"exp,omitempty"`
	Aut       string `json:"aut,omitempty"`
	Audience  any    `json:"aud,omitempty"`
	ID        string `json:"jti,omitempty"`
	Subject   string `json:"sub,omitempty"`
	Issuer    string `json:"iss,omitempty"`
}

// introspectEndpoint describes a token to a user with the right to see
// applications, or to a client, of the path's tenant.
func (k *KeyManager) introspectEndpoint(q *request) error {
	ctx := q.r.Context()
	if err := k.mayIntrospect(q); err != nil {
		return err
	}
	p, err := readParams(q)
	if err != nil {
		return err
	}
	noStore(q.w)
	raw := p["token"]
	if raw == "" {
		write(q.w, http.StatusBadRequest, map[string]string{"error": "Invalid input"})
		return nil
	}
	st, err := k.look(ctx, raw)
	if err != nil {
		return err
	}
	d, err := k.describe(ctx, st)
	if err != nil {
		return err
	}
	return k.answerDescribed(q, d)
}

// describe renders a good token whose client and user are still good too.
func (k *KeyManager) describe(ctx context.Context, st *state) (*described, error) {
	if st == nil {
		return &described{}, nil
	}
	var client apim.ClientID
	var user apim.UserID
	if st.claims != nil {
		client = apim.ClientID(st.claims.ClientID)
		if st.claims.Aut == token.AutUser && !federated(st.claims) {
			user = apim.UserID(st.claims.EntityID)
		}
	} else {
		client, user = st.row.Client, st.row.User
	}
	c, err := k.client(ctx, client)
	if errors.Is(err, &fault.Missing) {
		return &described{}, nil
	}
	if err != nil {
		return nil, err
	}
	if c.Inactive {
		return &described{}, nil
	}
	name := c.Owner + "@" + string(c.Tenant)
	if user != "" {
		u, err := k.activeUser(ctx, user)
		if err != nil {
			return nil, err
		}
		if u == nil {
			return &described{}, nil
		}
		name = u.Name + "@" + string(u.Tenant)
	}
	if st.claims != nil && federated(st.claims) {
		name = st.claims.Subject
	}
	d := &described{Active: true, Username: name, ClientID: string(client)}
	if t := st.row; t != nil {
		d.TokenType, d.Scope = "Refresh", strings.Join(t.Scopes, " ")
		d.IssuedAt, d.NotBefore, d.Expires = t.IssuedAt.Unix(), t.IssuedAt.Unix(), t.Expires.Unix()
		d.Aut = token.AutUser
		return d, nil
	}
	t := st.claims
	d.TokenType, d.Scope, d.Aut = "JWT", t.Scope, t.Aut
	d.IssuedAt, d.NotBefore, d.Expires = t.IssuedAt.Unix(), t.NotBefore.Unix(), t.Expires.Unix()
	if st.opaque {
		d.TokenType = "Bearer"
	} else {
		d.ID, d.Subject, d.Issuer = t.ID, t.Subject, t.Issuer
	}
	d.Audience = t.Audience
	if len(t.Audience) == 1 {
		d.Audience = t.Audience[0]
	}
	return d, nil
}

// mayIntrospect admits a client of the path's tenant, a user of it with the
// permission to see applications, or a bearer with the scope for that.
func (k *KeyManager) mayIntrospect(q *request) error {
	ctx, addr := q.r.Context(), k.o.ClientAddr(q.r)
	denied := invalidClient("Client Authentication failed.")
	if raw, ok := bearer(q.r); ok {
		c, err := k.checkAccess(ctx, raw)
		if err != nil {
			return err
		}
		if c == nil || !c.HasScope("internal_application_mgt_view") {
			return denied
		}
		return nil
	}
	name, password, _, ok := basic(q.r)
	if !ok {
		return denied
	}
	if _, err := k.client(ctx, apim.ClientID(name)); err == nil {
		c, _, err := k.authenticateClient(ctx, clientAuth{id: name, secret: password, given: true}, addr)
		if err != nil {
			return revokeClient(err)
		}
		if c.Tenant != q.tenant {
			return denied
		}
		return nil
	} else if !errors.Is(err, &fault.Missing) {
		return err
	}
	u, err := k.o.Directory.Authenticate(ctx, name, apim.SuperTenant, password, addr)
	if errors.Is(err, &fault.NotAuthorized) || errors.Is(err, &fault.LoginDelayed) {
		return denied
	}
	if err != nil {
		return err
	}
	allowed, err := k.o.Directory.Permitted(ctx, u.Tenant, k.o.Directory.RolesOf(u), permViewApps)
	if err != nil {
		return err
	}
	if u.Tenant != q.tenant || !allowed {
		return denied
	}
	return nil
}

const permViewApps = "/permission/admin/manage/identity/applicationmgt/view"
