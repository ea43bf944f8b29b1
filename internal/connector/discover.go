package connector

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest/fetch"
)

// Discover reads a discovery document (OpenID Connect Discovery, RFC 8414) and
// fills a key manager of a type with what it says. A document that is none, or
// an address that gives none, is not ok.
func (c *Connector) Discover(ctx context.Context, address, kind string) (km *apim.KeyManager, ok bool, err error) {
	res, err := c.http.Send(ctx, &fetch.Request{Method: http.MethodGet, URL: address, Header: http.Header{"Accept": {"application/json"}}, Limit: answerLimit})
	if err != nil {
		return nil, false, fault.BadRequest.With("The discovery document cannot be fetched from this address").Because(err)
	}
	var d struct {
		Issuer        string   `json:"issuer"`
		Authorize     string   `json:"authorization_endpoint"`
		Token         string   `json:"token_endpoint"`
		Revoke        string   `json:"revocation_endpoint"`
		Introspection string   `json:"introspection_endpoint"`
		UserInfo      string   `json:"userinfo_endpoint"`
		Registration  string   `json:"registration_endpoint"`
		JWKS          string   `json:"jwks_uri"`
		Grants        []string `json:"grant_types_supported"`
	}
	if res.Status != http.StatusOK || json.Unmarshal(res.Body, &d) != nil || d.Issuer == "" || (d.Token == "" && d.JWKS == "") {
		return nil, false, nil
	}
	t, known := TypeOf(kind)
	if !known {
		t, _ = TypeOf("custom")
	}
	km = &apim.KeyManager{
		Type: kind, Enabled: true, Issuer: d.Issuer, TokenType: "DIRECT", Grants: d.Grants, JWKSURL: d.JWKS,
		ConsumerKeyClaim: t.KeyClaim, ScopesClaim: t.ScopesClaim, PermissionType: "PUBLIC",
		Endpoints: map[string]string{"wellKnownEndpoint": address},
	}
	for name, v := range map[string]string{
		"authorizeEndpoint": d.Authorize, "tokenEndpoint": d.Token, "displayTokenEndpoint": d.Token, "revokeEndpoint": d.Revoke,
		"displayRevokeEndpoint": d.Revoke, "introspectionEndpoint": d.Introspection, "userInfoEndpoint": d.UserInfo,
		"clientRegistrationEndpoint": d.Registration,
	} {
		if v = strings.TrimSpace(v); v != "" {
			km.Endpoints[name] = v
		}
	}
	if d.JWKS != "" {
		certs, err := json.Marshal(map[string]string{"type": "JWKS", "value": d.JWKS})
		if err != nil {
			return nil, false, err
		}
		km.Certificates = certs
	}
	return km, true, nil
}
