package keymanager

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// checkRequest validates the parameters of a request.
func (k *KeyManager) checkRequest(ctx context.Context, t apim.TenantID, p params) (*authRequest, error) {
	id := p["client_id"]
	if id == "" {
		return nil, &shownError{"invalid_request", "Client Id is not present in the authorization request"}
	}
	c, err := k.authorizeClient(ctx, id)
	if err != nil {
		return nil, err
	}
	redirect := p["redirect_uri"]
	if redirect == "" {
		return nil, &shownError{"invalid_request", "Redirect URI is not present in the authorization request"}
	}
	if !redirectAllowed(c.Callback, redirect) {
		return nil, &shownError{"invalid_callback", "callback.not.match"}
	}
	a := &authRequest{
		Client: c.ID, Redirect: redirect, Tenant: t, Nonce: p["nonce"], State: p["state"], Hint: p["login_hint"],
		Scopes: strings.Fields(p["scope"]), Prompt: strings.Fields(p["prompt"]), MaxAge: -1, Mode: "query",
	}
	_, a.HasState = p["state"]
	fail := func(code, text string) (*authRequest, error) { return nil, &sentError{a, code, text} }
	words := strings.Fields(p["response_type"])
	slices.Sort(words)
	a.Type = strings.Join(words, " ")
	if a.wants("token") || a.wants("id_token") {
		a.Mode = "fragment"
	}
	switch mode := p["response_mode"]; {
	case mode == "":
	case mode == "query" && a.Mode == "fragment":
		return fail("invalid_request", "The response mode query is not allowed for this response type.")
	case mode == "query", mode == "fragment", mode == "form_post":
		a.Mode = mode
	default:
		return fail("invalid_request", "The response mode is not supported.")
	}
	switch {
	case a.Type == "":
		return fail("invalid_request", "Missing response_type parameter value")
	case !slices.Contains(responseTypes, a.Type):
		return fail("unsupported_response_type", "The response type is not supported.")
	case p["request"] != "":
		return fail("request_not_supported", "Request objects are not supported.")
	case p["request_uri"] != "":
		return fail("request_uri_not_supported", "Only pushed requests can be referred to.")
	case !k.mayAsk(c, a):
		return fail("unauthorized_client", "not.authorized.to.use.requested.grant.type")
	case len(a.Scopes) > maxScopes:
		return fail("invalid_scope", "Too many scopes are requested.")
	case a.wants("id_token") && a.Nonce == "":
		return fail("invalid_request", "The nonce is required for this response type.")
	case a.wants("id_token") && !slices.Contains(a.Scopes, "openid"):
		return fail("invalid_request", "The scope openid is required for this response type.")
	case a.prompts("none") && len(a.Prompt) > 1:
		return fail("invalid_request", "The prompt none excludes others.")
	case slices.ContainsFunc(a.Prompt, func(s string) bool {
		return !slices.Contains([]string{"none", "login", "consent", "select_account"}, s)
	}):
		return fail("invalid_request", "The prompt is not supported.")
	}
	if s := p["max_age"]; s != "" {
		if a.MaxAge, err = strconv.ParseInt(s, 10, 64); err != nil || a.MaxAge < 0 {
			return fail("invalid_request", "The max_age is not a number of seconds.")
		}
	}
	if text := a.readChallenge(c, p); text != "" {
		return fail("invalid_request", text)
	}
	if hint := p["id_token_hint"]; hint != "" {
		h, err := k.readHint(ctx, hint)
		if err != nil {
			return nil, err
		}
		if h == nil {
			return fail("invalid_request", "The id_token_hint is not a token of this server.")
		}
		a.Subject = h.Subject
	}
	return a, nil
}

// authorizeClient finds the client of a request that nobody has authenticated.
func (k *KeyManager) authorizeClient(ctx context.Context, id string) (*apim.Client, error) {
	unknown := func() error {
		return &shownError{"invalid_client", "A valid OAuth client could not be found for client_id: " + id}
	}
	if len(id) > 255 {
		return nil, &shownError{"invalid_client", "A valid OAuth client could not be found for client_id"}
	}
	c, err := k.client(ctx, apim.ClientID(id))
	if errors.Is(err, &fault.Missing) {
		return nil, unknown()
	}
	if err != nil {
		return nil, fmt.Errorf("find client: %w", err)
	}
	active, err := k.o.Directory.Active(ctx, c.Tenant)
	if err != nil {
		return nil, fmt.Errorf("find client: %w", err)
	}
	if c.Inactive || !active {
		return nil, &shownError{"invalid_client", "Oauth application is not in active state."}
	}
	return c, nil
}

// mayAsk reports whether the client has the grants of the response type.
func (k *KeyManager) mayAsk(c *apim.Client, a *authRequest) bool {
	may := func(grant string) bool {
		return slices.Contains(c.Grants, grant) && !slices.Contains(k.o.RefusedGrants, grant)
	}
	if (a.wants("code") || a.Type == "none") && !may("authorization_code") {
		return false
	}
	return !a.wants("token") && !a.wants("id_token") || may("implicit")
}

// readChallenge takes the PKCE parameters (RFC 7636 §4.3); the text says what
// is wrong with them.
func (a *authRequest) readChallenge(c *apim.Client, p params) string {
	challenge, method := p["code_challenge"], p["code_challenge_method"]
	switch {
	case challenge == "" && method != "":
		return "PKCE code challenge is missing"
	case challenge == "" && c.PKCEMandatory && a.wants("code"):
		return "PKCE is mandatory for this application. PKCE Challenge is not provided or is not upto RFC 7636 specification."
	case challenge == "":
		return ""
	case method == "" || method == "plain":
		if !c.PKCEPlain {
			return "This application does not support \"plain\" transformation algorithm of PKCE."
		}
		a.Plain = true
		if !verifierShape(challenge) {
			return "PKCE code challenge is malformed"
		}
	case method != "S256":
		return "Unsupported PKCE Challenge Method"
	default:
		if b, err := base64.RawURLEncoding.Strict().DecodeString(challenge); err != nil || len(b) != 32 {
			return "PKCE code challenge is malformed"
		}
	}
	a.Challenge = challenge
	return ""
}

// verifierShape is RFC 7636 §4.1.
func verifierShape(s string) bool {
	return len(s) >= 43 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~", r)
	})
}
