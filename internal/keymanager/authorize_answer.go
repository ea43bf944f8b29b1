package keymanager

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// codeLife is how long a code may be redeemed, codeKept how long its use is
// remembered, so that a replay revokes what it gave.
const (
	codeLife = 5 * time.Minute
	codeKept = 25 * time.Hour
)

// code is what an authorization code stands for.
type code struct {
	Redirect  string      `json:"redirect"`
	Scopes    []string    `json:"scopes"`
	Nonce     string      `json:"nonce,omitempty"`
	Challenge string      `json:"challenge,omitempty"`
	Plain     bool        `json:"plain,omitempty"`
	User      apim.UserID `json:"user"`
	AuthTime  time.Time   `json:"auth_time"`
	Session   string      `json:"sid"`
	Until     time.Time   `json:"until"`

	Family        string    `json:"family,omitempty"` // what it gave, once it was used
	Access        string    `json:"access,omitempty"`
	AccessExpires time.Time `json:"access_expires,omitzero"`
}

// finish answers a request that the person has agreed to.
func (k *KeyManager) finish(q *request, key string, a *authRequest, s *session, u *apim.User, c *apim.Client, granted []string) error {
	ctx := q.r.Context()
	if key != "" {
		_, won, err := k.o.Ephemera.Use(ctx, apim.EphemeralState, apim.Digest(token.Digest(key)), k.o.Now())
		if errors.Is(err, &fault.Missing) || (err == nil && !won) {
			return &shownError{"invalid_request", textLost}
		}
		if err != nil {
			return fmt.Errorf("end authorization request: %w", err)
		}
		dropped := k.cookie(nonceCookie+key, "", "/", -1)
		q.w.Header().Add("Set-Cookie", dropped.String())
	}
	v := url.Values{}
	who := subject{client: c, userID: u.ID, tenant: u.Tenant}
	facts := idFacts{nonce: a.Nonce, authTime: s.doc.AuthTime, sid: s.doc.SID, method: "pwd"}
	if a.wants("code") {
		raw := token.NewSecret() + token.NewSecret()
		if err := k.putCode(ctx, raw, a, s, u, c, granted); err != nil {
			return err
		}
		v.Set("code", raw)
		facts.code = raw
	}
	if a.wants("token") {
		raw, claims, err := k.access(ctx, who, granted, 0)
		if err != nil {
			return err
		}
		facts.access = raw
		v.Set("access_token", raw)
		v.Set("token_type", "Bearer")
		v.Set("expires_in", strconv.FormatInt(claims.Expires.Unix()-claims.IssuedAt.Unix(), 10))
		v.Set("scope", claims.Scope)
	}
	if a.wants("id_token") && slices.Contains(granted, "openid") {
		raw, err := k.signIDToken(ctx, who, u, granted, facts)
		if err != nil {
			return err
		}
		v.Set("id_token", raw)
	}
	if err := k.joinSession(ctx, s, c); err != nil {
		return err
	}
	v.Set("session_state", sessionState(string(c.ID), a.Redirect, s.doc.SID))
	return k.send(q, a, v)
}

func (k *KeyManager) putCode(ctx context.Context, raw string, a *authRequest, s *session, u *apim.User, c *apim.Client, granted []string) error {
	now := k.o.Now()
	doc, err := json.Marshal(code{
		Redirect: a.Redirect, Scopes: granted, Nonce: a.Nonce, Challenge: a.Challenge, Plain: a.Plain,
		User: u.ID, AuthTime: s.doc.AuthTime, Session: s.doc.SID, Until: now.Add(codeLife),
	})
	if err != nil {
		return fmt.Errorf("make code: %w", err)
	}
	err = k.o.Ephemera.Put(ctx, &apim.Ephemeral{
		Kind: apim.EphemeralCode, Hash: apim.Digest(token.Digest(raw)), Tenant: c.Tenant, Subject: string(u.ID),
		Client: string(c.ID), Created: now, Expires: now.Add(codeKept), Doc: doc,
	})
	if err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	return nil
}

// sessionState is OpenID Connect Session Management §3.2.
func sessionState(client, redirect, sid string) string {
	salt := token.NewSecret()[:16]
	sum := sha256.Sum256([]byte(client + " " + origin(redirect) + " " + sid + " " + salt))
	return base64.RawURLEncoding.EncodeToString(sum[:]) + "." + salt
}

const (
	textBadCode  = "Invalid authorization code received from token request"
	textUsedCode = "Inactive authorization code received from token request"
	textOldCode  = "Expired or Revoked authorization code received from token request"
)

// redeem is the authorization code grant. The code is consumed and what it
// gives is stored in one transaction, by one atomic compare-and-set. Whoever
// presents a code that was used already, as its client and with its verifier,
// ends what it gave (RFC 6749 §4.1.2, RFC 9700 §2.1.1).
func (k *KeyManager) redeem(ctx context.Context, g *grantRequest) (*issued, error) {
	raw := g.p["code"]
	if raw == "" {
		return nil, invalidRequest("Missing parameters: code")
	}
	hash := apim.Digest(token.Digest(raw))
	row, err := k.o.Ephemera.Get(ctx, apim.EphemeralCode, hash)
	if errors.Is(err, &fault.Missing) {
		return nil, invalidGrant(textBadCode)
	}
	if err != nil {
		return nil, fmt.Errorf("find code: %w", err)
	}
	d := &code{}
	if err := json.Unmarshal(row.Doc, d); err != nil {
		return nil, fmt.Errorf("read code: %w", err)
	}
	now := k.o.Now()
	switch {
	case row.Client != string(g.client.ID):
		return nil, invalidGrant(textBadCode)
	case !sameText(g.p["redirect_uri"], d.Redirect):
		return nil, invalidGrant("Callback url mismatch")
	case !d.proven(g.p["code_verifier"]):
		return nil, invalidGrant("PKCE validation failed")
	case !row.Used.IsZero():
		return nil, k.replayed(ctx, row, d)
	case !now.Before(d.Until):
		return nil, invalidGrant(textOldCode)
	}
	u, err := k.activeUser(ctx, d.User)
	if err != nil {
		return nil, err
	}
	if u == nil {
		return nil, invalidGrant(textOldCode)
	}
	dead, err := k.o.Tokens.Revoked(ctx, "", []string{string(d.User), string(g.client.ID)}, row.Created)
	if err != nil {
		return nil, fmt.Errorf("check revocations: %w", err)
	}
	if dead {
		return nil, invalidGrant(textOldCode)
	}
	// What the user has lost since is not granted.
	granted, err := k.grantScopes(ctx, g.client.Tenant, u.Tenant, k.o.Directory.RolesOf(u), d.Scopes)
	if err != nil {
		return nil, err
	}
	out, refresh, claims, err := k.codeTokens(ctx, g.client, u, granted, d)
	if err != nil {
		return nil, err
	}
	var lost *apim.Ephemeral
	err = k.o.InTx(ctx, func(ctx context.Context) error {
		e, won, err := k.o.Ephemera.Use(ctx, apim.EphemeralCode, hash, now)
		if err != nil {
			return err
		}
		if lost = nil; !won {
			lost = e
			return nil
		}
		if refresh != nil {
			if err := k.o.Tokens.PutRefresh(ctx, refresh); err != nil {
				return err
			}
		}
		return k.o.Ephemera.Change(ctx, apim.EphemeralCode, hash, func(e *apim.Ephemeral) (err error) {
			given := *d
			given.Access, given.AccessExpires = claims.ID, claims.Expires
			if refresh != nil {
				given.Family = refresh.Family
			}
			e.Doc, err = json.Marshal(given)
			return err
		})
	})
	switch {
	case errors.Is(err, &fault.Missing):
		return nil, invalidGrant(textBadCode)
	case err != nil:
		return nil, fmt.Errorf("redeem code: %w", err)
	case lost != nil:
		given := &code{}
		if err := json.Unmarshal(lost.Doc, given); err != nil {
			return nil, fmt.Errorf("read code: %w", err)
		}
		return nil, k.replayed(ctx, lost, given)
	}
	return out, nil
}

// codeTokens makes what a code gives, without storing it.
func (k *KeyManager) codeTokens(ctx context.Context, c *apim.Client, u *apim.User, granted []string, d *code) (*issued, *apim.RefreshToken, *token.Claims, error) {
	s := subject{client: c, userID: u.ID, tenant: u.Tenant}
	raw, claims, err := k.access(ctx, s, granted, 0)
	if err != nil {
		return nil, nil, nil, err
	}
	out := answer(raw, claims)
	if slices.Contains(granted, "openid") {
		out.ID, err = k.signIDToken(ctx, s, u, granted, idFacts{
			access: raw, nonce: d.Nonce, authTime: d.AuthTime, sid: d.Session, method: "pwd",
		})
		if err != nil {
			return nil, nil, nil, err
		}
	}
	if !slices.Contains(c.Grants, "refresh_token") || slices.Contains(k.o.RefusedGrants, "refresh_token") {
		return out, nil, claims, nil
	}
	var row *apim.RefreshToken
	out.Refresh, row, err = k.refresh(ctx, s, showName(u.Name, u.Tenant), granted, "", claims)
	return out, row, claims, err
}

// proven checks the PKCE verifier; one without a challenge is refused too, or
// the challenge could be stripped from the request.
func (d *code) proven(verifier string) bool {
	if d.Challenge == "" {
		return verifier == ""
	}
	if !verifierShape(verifier) {
		return false
	}
	if !d.Plain {
		sum := sha256.Sum256([]byte(verifier))
		verifier = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return sameText(verifier, d.Challenge)
}

// replayed ends what a code gave when it comes a second time.
func (k *KeyManager) replayed(ctx context.Context, row *apim.Ephemeral, d *code) error {
	if d.Family != "" {
		if err := k.endFamily(ctx, d.Family, row.Tenant); err != nil {
			return err
		}
	}
	if d.Access != "" && k.o.Now().Before(d.AccessExpires) {
		if err := k.revokeID(ctx, row.Tenant, d.Access, d.AccessExpires); err != nil {
			return err
		}
	}
	k.o.Log.WarnContext(ctx, "authorization code presented again; what it gave is revoked", "client", row.Client, "user", row.Subject)
	return invalidGrant(textUsedCode)
}

// sameText compares in a time that tells nothing of the content.
func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
