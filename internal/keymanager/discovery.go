package keymanager

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

// discoveryEndpoint lists what works, and no more.
func (k *KeyManager) discoveryEndpoint(q *request) error {
	set, err := k.keys.public(q.r.Context(), q.tenant)
	if err != nil {
		return err
	}
	prefix := ""
	if q.tenant != apim.SuperTenant {
		prefix = "/t/" + string(q.tenant)
	}
	claims := []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "sid", "amr", "at_hash", "c_hash", "preferred_username"}
	for _, c := range oidcClaims {
		claims = append(claims, c.name)
	}
	auth := []string{"client_secret_basic", "client_secret_post"}
	write(q.w, http.StatusOK, struct {
		Issuer        string   `json:"issuer"`
		Authorize     string   `json:"authorization_endpoint,omitempty"`
		Token         string   `json:"token_endpoint"`
		Userinfo      string   `json:"userinfo_endpoint"`
		Revoke        string   `json:"revocation_endpoint"`
		RevokeAuth    []string `json:"revocation_endpoint_auth_methods_supported"`
		Introspect    string   `json:"introspection_endpoint"`
		IntroAuth     []string `json:"introspection_endpoint_auth_methods_supported"`
		JWKS          string   `json:"jwks_uri"`
		Scopes        []string `json:"scopes_supported"`
		Claims        []string `json:"claims_supported"`
		ResponseTypes []string `json:"response_types_supported"`
		ResponseModes []string `json:"response_modes_supported"`
		Challenges    []string `json:"code_challenge_methods_supported"`
		Prompts       []string `json:"prompt_values_supported"`
		PAR           string   `json:"pushed_authorization_request_endpoint"`
		Device        string   `json:"device_authorization_endpoint,omitempty"`
		EndSession    string   `json:"end_session_endpoint"`
		Iss           bool     `json:"authorization_response_iss_parameter_supported"`
		Request       bool     `json:"request_parameter_supported"`
		RequestURI    bool     `json:"request_uri_parameter_supported"`
		ClaimsParam   bool     `json:"claims_parameter_supported"`
		Grants        []string `json:"grant_types_supported"`
		Subjects      []string `json:"subject_types_supported"`
		IDAlgs        []string `json:"id_token_signing_alg_values_supported"`
		TokenAuth     []string `json:"token_endpoint_auth_methods_supported"`
	}{
		Issuer:        k.o.Issuer,
		Authorize:     k.o.URL + "/oauth2/authorize",
		Token:         k.o.URL + "/oauth2/token",
		Userinfo:      k.o.URL + "/oauth2/userinfo",
		Revoke:        k.o.URL + "/oauth2/revoke",
		RevokeAuth:    auth,
		Introspect:    k.o.URL + prefix + "/oauth2/introspect",
		IntroAuth:     auth[:1],
		JWKS:          k.o.URL + prefix + "/oauth2/jwks",
		Scopes:        []string{"openid", "profile", "email", "phone"},
		Claims:        claims,
		ResponseTypes: k.offeredTypes(),
		ResponseModes: []string{"query", "fragment", "form_post"},
		Challenges:    []string{"S256", "plain"},
		Prompts:       []string{"none", "login", "consent", "select_account"},
		PAR:           k.o.URL + "/oauth2/par",
		Device:        k.deviceEndpointURL(),
		EndSession:    k.o.URL + "/oidc/logout",
		Iss:           true,
		Grants:        k.Offered(),
		Subjects:      []string{"public"},
		IDAlgs:        algorithms(set),
		TokenAuth:     auth,
	})
	return nil
}

// offeredTypes are the response types whose grants are not switched off.
func (k *KeyManager) offeredTypes() []string {
	offered := k.Offered()
	return slices.DeleteFunc(slices.Clone(responseTypes), func(t string) bool {
		words := strings.Fields(t)
		code := slices.Contains(words, "code") || t == "none"
		implicit := slices.Contains(words, "token") || slices.Contains(words, "id_token")
		return code && !slices.Contains(offered, "authorization_code") || implicit && !slices.Contains(offered, "implicit")
	})
}

// jwksEndpoint publishes the keys that verify our tokens.
func (k *KeyManager) jwksEndpoint(q *request) error {
	set, err := k.keys.public(q.r.Context(), q.tenant)
	if err != nil {
		return err
	}
	writeRaw(q.w, http.StatusOK, set.JWKS())
	return nil
}

// userinfoEndpoint tells a client about the user of its token (OpenID Connect
// Core §5.3, RFC 6750 for the errors).
func (k *KeyManager) userinfoEndpoint(q *request) error {
	ctx := q.r.Context()
	refuse := func(status int, code, text string) error {
		q.w.Header().Set("WWW-Authenticate", `Bearer error="`+code+`"`)
		write(q.w, status, struct {
			Text string `json:"error_description"`
			Code string `json:"error"`
		}{text, code})
		return nil
	}
	raw, ok := bearer(q.r)
	if !ok && q.r.Method == http.MethodPost && strings.HasPrefix(q.r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		p, err := readParams(q)
		if err != nil {
			return err
		}
		raw, ok = p["access_token"], p["access_token"] != ""
	}
	if !ok {
		return refuse(http.StatusBadRequest, "invalid_request", "Bearer token missing")
	}
	c, err := k.checkAccess(ctx, raw)
	if err != nil {
		return err
	}
	var u *apim.User
	if c != nil && c.Aut == token.AutUser {
		if u, err = k.activeUser(ctx, apim.UserID(c.EntityID)); err != nil {
			return err
		}
	}
	if c == nil || (u == nil && c.Aut == token.AutUser) {
		return refuse(http.StatusUnauthorized, "invalid_token", "Access token validation failed")
	}
	if !c.HasScope("openid") {
		return refuse(http.StatusForbidden, "insufficient_scope", "Access token does not have the openid scope")
	}
	out := map[string]string{"sub": c.Subject}
	if u != nil {
		for name, value := range userClaims(u, c.Scopes()) {
			out[name] = value
		}
	}
	noStore(q.w)
	write(q.w, http.StatusOK, out)
	return nil
}
