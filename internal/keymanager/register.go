package keymanager

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// originDCR marks clients registered through the tools' registration.
const originDCR = "dcr"

// defaultNames is the original's pattern with @ added, which its command line
// tool's own tests need.
const defaultNames = `[\sa-zA-Z0-9._@-]*`

// maxNameLen bounds a client's name, in bytes.
const maxNameLen = 255

func namePattern(p string) (*regexp.Regexp, error) {
	if p == "" {
		p = defaultNames
	}
	re, err := regexp.Compile(`^(?:` + p + `)$`)
	if err != nil {
		return nil, fmt.Errorf("pattern of client names: %w", err)
	}
	return re, nil
}

type registration struct {
	ClientName  string `json:"clientName"`
	Owner       string `json:"owner"`
	GrantType   string `json:"grantType"`
	CallbackURL string `json:"callbackUrl"`
	SaaSApp     bool   `json:"saasApp"`
	TokenType   string `json:"tokenType"`
}

type registered struct {
	ClientID         string  `json:"clientId"`
	ClientName       string  `json:"clientName"`
	CallBackURL      *string `json:"callBackURL"`
	ClientSecret     string  `json:"clientSecret"`
	IsSaaS           bool    `json:"isSaasApplication"`
	AppOwner         *string `json:"appOwner"`
	JSONString       string  `json:"jsonString"`
	JSONAppAttribute string  `json:"jsonAppAttribute"`
	ApplicationUUID  *string `json:"applicationUUID"`
	TokenType        string  `json:"tokenType"`
}

// refusal is the error body of this endpoint.
func refusal(q *request, status, code int, message, description string) error {
	if status == http.StatusUnauthorized {
		q.w.Header().Set("WWW-Authenticate", "Basic realm="+`"`+"cardea"+`"`)
	}
	write(q.w, status, struct {
		Code        int    `json:"code"`
		Message     string `json:"message"`
		Description string `json:"description"`
		MoreInfo    string `json:"moreInfo"`
	}{code, message, description, ""})
	return nil
}

// registerEndpoint is the registration that tools of the original use first.
// It is idempotent by name: a second call returns the client as it is
// (reference: keymanager §7).
func (k *KeyManager) registerEndpoint(q *request) error {
	ctx := q.r.Context()
	login, password, _, ok := basic(q.r)
	if !ok {
		return refusal(q, http.StatusUnauthorized, 401, "", "Unauthenticated request")
	}
	u, err := k.o.Directory.Authenticate(ctx, login, apim.SuperTenant, password, k.o.ClientAddr(q.r))
	if errors.Is(err, &fault.NotAuthorized) || errors.Is(err, &fault.LoginDelayed) {
		return refusal(q, http.StatusUnauthorized, 401, "", "Unauthenticated request")
	}
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	if err != nil {
		return refusal(q, http.StatusRequestEntityTooLarge, 413, "Payload Too Large", "The request body is too large.")
	}
	var in registration
	if err := decode(body, &in); err != nil {
		return refusal(q, http.StatusBadRequest, 400, "Bad Request", "The request body is not well-formed: "+err.Error())
	}
	if in.Owner == "" {
		in.Owner = login
	}
	ownerName, ownerTenant := splitName(in.Owner, apim.SuperTenant)
	super := u.Tenant == apim.SuperTenant && strings.EqualFold(u.Name, k.o.SuperAdmin)
	if !super && !sameOwner(u, ownerName, ownerTenant) {
		return refusal(q, http.StatusBadRequest, 400, "Bad Request",
			fmt.Sprintf("Logged in user '%s' and application owner '%s' should be same.", login, in.Owner))
	}
	unavailable := func() error {
		// The original answers this body with status 500; a client's mistake is
		// never a 500 here.
		return refusal(q, http.StatusBadRequest, 500, "Bad Request",
			fmt.Sprintf("OAuth app '%s' creation or updating failed. Dynamic Client Registration Service not available.", in.ClientName))
	}
	if strings.TrimSpace(in.ClientName) == "" || len(in.ClientName) > maxNameLen || !k.names.MatchString(in.ClientName) {
		return unavailable()
	}
	owner := u
	if super && !sameOwner(u, ownerName, ownerTenant) {
		owner, err = k.o.Directory.User(ctx, ownerTenant, ownerName)
		if errors.Is(err, &fault.Missing) {
			return unavailable()
		}
		if err != nil {
			return err
		}
	}
	if err := checkCallback(in.CallbackURL); err != nil {
		return refusal(q, http.StatusBadRequest, 400, "Bad Request", err.Error())
	}
	out, err := k.register(ctx, in, owner)
	if errors.Is(err, &fault.NotPermitted) {
		return refusal(q, http.StatusForbidden, 403, "Forbidden", "Access is forbidden to the application")
	}
	if err != nil {
		return err
	}
	noStore(q.w)
	write(q.w, http.StatusOK, out)
	return nil
}

// sameOwner compares a user with an owner as it was written; a user of a
// secondary store may leave the store's prefix out.
func sameOwner(u *apim.User, name string, t apim.TenantID) bool {
	if u.Tenant != t {
		return false
	}
	if strings.EqualFold(u.Name, name) {
		return true
	}
	_, bare, ok := strings.Cut(u.Name, "/")
	return ok && strings.EqualFold(bare, name)
}

// register finds or creates the client; fault.NotPermitted when it exists and
// is somebody else's, so that nobody is handed another's secret.
func (k *KeyManager) register(ctx context.Context, in registration, owner *apim.User) (*registered, error) {
	s := apim.In(owner.Tenant)
	byName := apim.Where("name", in.ClientName)
	var secret string
	c, err := k.o.Clients.First(ctx, s, byName)
	fresh := errors.Is(err, &fault.Missing)
	if fresh {
		c = newClient(in, owner)
		secret, err = k.CreateClient(ctx, s, c)
		if errors.Is(err, &fault.Exists) { // a concurrent registration came first
			fresh = false
			c, err = k.o.Clients.First(ctx, s, byName)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("register client: %w", err)
	}
	out := &registered{
		ClientID: string(c.ID), ClientName: c.Name, ClientSecret: secret, IsSaaS: c.SaaS,
		JSONAppAttribute: "{}", TokenType: c.TokenType,
	}
	if c.Callback != "" {
		out.CallBackURL = &c.Callback
	}
	facts := struct {
		Redirect string `json:"redirect_uris,omitempty"`
		Name     string `json:"client_name,omitempty"`
		Grants   string `json:"grant_types"`
	}{Grants: strings.Join(c.Grants, " ")}
	if fresh {
		out.AppOwner = &in.Owner
		facts.Redirect, facts.Name = c.Callback, c.Name
	} else {
		if c.OwnerID != owner.ID {
			return nil, fault.NotPermitted.Because(errors.New("client of another owner"))
		}
		if out.ClientSecret, err = k.openSecret(c); err != nil {
			return nil, fmt.Errorf("register client: %w", err)
		}
	}
	b, err := json.Marshal(facts)
	if err != nil {
		return nil, fmt.Errorf("register client: %w", err)
	}
	out.JSONString = string(b)
	return out, nil
}

func newClient(in registration, owner *apim.User) *apim.Client {
	c := &apim.Client{
		Name: in.ClientName, Owner: owner.Name, OwnerID: owner.ID,
		Callback: in.CallbackURL, SaaS: in.SaaSApp, TokenType: in.TokenType,
		SkipConsent: true, Origin: originDCR,
	}
	c.Tenant = owner.Tenant
	if c.TokenType == "" {
		c.TokenType = "DEFAULT"
	}
	for _, g := range strings.Fields(in.GrantType) {
		if in.CallbackURL == "" && (g == "authorization_code" || g == "implicit") {
			continue
		}
		if !slices.Contains(c.Grants, g) {
			c.Grants = append(c.Grants, g)
		}
	}
	return c
}

// decode reads one JSON object and ignores members it does not know.
func decode(body []byte, v any) error {
	if t := bytes.TrimLeft(body, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return errors.New("an object is expected")
	}
	if err := json.Unmarshal(body, v); err != nil {
		if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return fmt.Errorf("member %s is of the wrong type", e.Field)
		}
		return errors.New("invalid JSON")
	}
	return nil
}

// checkCallback refuses addresses that could run script or carry the code
// elsewhere. Texts without a scheme are kept, as the original does, and never
// redirected to.
func checkCallback(s string) error {
	if s == "" {
		return nil
	}
	if len(s) > 2048 {
		return errors.New("The callback URL is too long.")
	}
	if p, ok := strings.CutPrefix(s, "regexp="); ok {
		if _, err := regexp.Compile(p); err != nil {
			return errors.New("The callback URL is not a valid pattern.")
		}
		return nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || strings.ContainsAny(s, " \t\r\n"):
		return errors.New("The callback URL is not valid.")
	case slices.Contains([]string{"javascript", "data", "file", "vbscript"}, strings.ToLower(u.Scheme)):
		return errors.New("The scheme of the callback URL is not allowed.")
	case strings.Contains(s, "#"):
		return errors.New("The callback URL must not have a fragment.")
	case s == "*" || strings.Contains(u.Host, "*"):
		return errors.New("The callback URL must not have wildcards.")
	}
	return nil
}
