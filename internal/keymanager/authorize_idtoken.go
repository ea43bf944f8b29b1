package keymanager

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

// idFacts is what an id token says besides the user.
type idFacts struct {
	access   string // the access token beside it
	code     string // the code beside it
	nonce    string
	authTime time.Time
	sid      string
	method   string // amr
}

// signIDToken makes an id token (OpenID Connect Core §2, §3.3.2.11).
func (k *KeyManager) signIDToken(ctx context.Context, s subject, u *apim.User, scopes []string, f idFacts) (string, error) {
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
	c.Extra = map[string]json.RawMessage{"amr": json.RawMessage(`[` + string(quote(f.method)) + `]`)}
	for name, value := range userClaims(u, scopes) {
		c.Extra[name] = quote(value)
	}
	for name, value := range map[string]string{"nonce": f.nonce, "sid": f.sid} {
		if value != "" {
			c.Extra[name] = quote(value)
		}
	}
	for name, of := range map[string]string{"at_hash": f.access, "c_hash": f.code} {
		if of != "" {
			c.Extra[name] = quote(token.HalfHash(signer.Algorithm(), of))
		}
	}
	if !f.authTime.IsZero() {
		c.Extra["auth_time"] = json.RawMessage(strconv.FormatInt(f.authTime.Unix(), 10))
	}
	return signer.Sign(c)
}

// readHint verifies an id token of ours that may have expired; nil when it is
// none.
func (k *KeyManager) readHint(ctx context.Context, raw string) (*token.Claims, error) {
	parts := strings.Split(raw, ".")
	if len(raw) > k.o.TokenMaxSize || len(parts) != 3 {
		return nil, nil
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, nil
	}
	var at struct {
		Issued int64 `json:"iat"`
	}
	if json.Unmarshal(body, &at) != nil {
		return nil, nil
	}
	// Judged at the moment it was made, so that only its end does not count.
	v, err := k.keys.verify(ctx, raw, time.Unix(at.Issued, 0))
	if errors.Is(err, errKeys) {
		return nil, err
	}
	if err != nil || v.Type != token.TypeID || v.TokenType != "" || len(v.Audience) != 1 {
		return nil, nil
	}
	return &v.Claims, nil
}
