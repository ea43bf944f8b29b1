package auth

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

type claims = *token.Claims

// Claims are those of the token, or nil. They are shared.
func (c *Caller) Claims() *token.Claims { return c.claims }

// Kinds of keys.
const (
	Production = "PRODUCTION"
	Sandbox    = "SANDBOX"
)

// Authenticator checks credentials.
type Authenticator struct {
	Verifier    *token.Verifier
	Basic       *Basic    // nil: passwords cannot be checked here
	Opaque      *Opaque   // nil: opaque tokens cannot be looked up here
	Elsewhere   Elsewhere // nil: other key managers are not asked
	RequireType bool      // foreign access tokens must be of type at+jwt too
}

const (
	badDetail          = "Invalid Credentials. Make sure you have provided the correct security credentials"
	subscriptionDetail = "User is NOT authorized to access the Resource. API Subscription validation failed."
	scopeDetail        = "User is NOT authorized to access the Resource. Scope validation failed."
	maxKey             = 512 // longest API key looked at, bytes
)

func bad(rule string, pairs ...string) *exchange.Refusal {
	return exchange.Refuse(exchange.Auth, fault.GwBadCredentials.With(badDetail), rule, pairs...)
}

func forbidden(rule string, pairs ...string) *exchange.Refusal {
	return exchange.Refuse(exchange.Auth, fault.GwForbidden.With(subscriptionDetail), rule, pairs...)
}

// Check finds out who calls. The internal key is looked at first, on every
// API; then an operation that asks for nothing is served to anybody; then any
// one of the API's schemes suffices, and of several failures the one that is
// more than "missing" is told.
func (a *Authenticator) Check(x *exchange.Exchange, f *facts.Facts, r *Rules, kind Kind, scopes []string, now time.Time, c *Caller) *exchange.Refusal {
	header := x.Header.Get(r.AuthHeader)
	if header != "" {
		c.AuthTo = withoutOurs(header, r)
	}
	if key := x.Header.Get("Internal-Key"); key != "" {
		return a.internal(f, r, key, now, c)
	}
	if r.InternalOnly {
		if !a.presents(x, r) {
			return exchange.Refuse(exchange.Auth, fault.GwNoCredentials.With(r.Missing), "no-credentials", "state", "CREATED")
		}
		return forbidden("api-not-published", "state", "CREATED")
	}
	if kind == None {
		c.Anonymous, c.User, c.KeyType, c.Scheme = true, "anonymous", Production, "none"
		if !r.Production && r.Sandbox {
			c.KeyType = Sandbox
		}
		return nil
	}
	if r.TLSMandatory {
		return bad("client-certificate")
	}
	var worst *exchange.Refusal
	if r.OAuth2 && header != "" {
		if raw, _, ok := bearer(header); ok {
			if worst = a.oauth2(x, f, r, kind, scopes, raw, now, c); worst == nil {
				return nil
			}
		}
	}
	if r.Keys {
		if key := apiKey(x, r); key != "" {
			refusal := a.apiKey(x, f, r, key, now, c)
			if refusal == nil {
				return nil
			}
			if worst == nil {
				worst = refusal
			}
		}
	}
	if worst == nil && r.Basic && hasScheme(header, "Basic") {
		if worst = a.password(f, x, r, scopes, header, now, c); worst == nil {
			return nil
		}
	}
	if worst == nil {
		worst = exchange.Refuse(exchange.Auth, fault.GwNoCredentials.With(r.Missing), "no-credentials")
	}
	return worst
}

func (a *Authenticator) presents(x *exchange.Exchange, r *Rules) bool {
	return (r.OAuth2 || r.Basic) && x.Header.Get(r.AuthHeader) != "" || r.Keys && apiKey(x, r) != ""
}

// bearer takes the Bearer part out of an authorization header that may hold
// several schemes, separated by commas.
func bearer(header string) (tok, rest string, ok bool) {
	if len(header) > 7 && exchange.Fold(header[:7], "Bearer ") && strings.IndexByte(header, ',') < 0 {
		return strings.TrimSpace(header[7:]), "", true
	}
	exchange.EachToken(header, func(t string) bool {
		if !ok && len(t) > 7 && exchange.Fold(t[:7], "Bearer ") {
			tok, ok = strings.TrimSpace(t[7:]), true
			return true
		}
		if rest != "" {
			rest += ", "
		}
		rest += t
		return true
	})
	return tok, rest, ok
}

// withoutOurs is what of an authorization header is for the backend: all but
// tokens, and but passwords where the gateway itself takes them.
func withoutOurs(header string, r *Rules) string {
	_, rest, ok := bearer(header)
	if !ok {
		rest = header
	}
	if r.Basic && hasScheme(rest, "Basic") {
		return ""
	}
	return rest
}

func hasScheme(header, scheme string) (yes bool) {
	exchange.EachToken(header, func(t string) bool {
		yes = len(t) > len(scheme) && exchange.Fold(t[:len(scheme)], scheme) && t[len(scheme)] == ' '
		return !yes
	})
	return yes
}

func (a *Authenticator) oauth2(x *exchange.Exchange, f *facts.Facts, r *Rules, kind Kind, scopes []string, raw string, now time.Time, c *Caller) *exchange.Refusal {
	t, asked, refusal := a.verify(x.Ctx, f, r, raw, now)
	if refusal != nil {
		return refusal
	}
	km, key, m := manager(f, t, r, raw)
	if km == nil {
		return notOurs(f, r, t.Issuer, bad("key-manager", "issuer", t.Issuer))
	}
	if km.Online && !asked {
		if refusal := a.confirm(x.Ctx, km, raw, now); refusal != nil {
			return refusal
		}
	}
	if t.TokenType != "" && t.TokenType != "access_token" && !strings.EqualFold(t.TokenType, "bearer") {
		return bad("token-kind", "token_type", t.TokenType)
	}
	if (km.Resident || a.RequireType) && !strings.EqualFold(t.Type, token.TypeAccess) {
		return bad("token-type", "typ", t.Type)
	}
	if f.Revoked(&t.Claims, t.Subject, t.EntityID, key) {
		return bad("token-revoked", "jti", t.ID, "sub", t.Subject)
	}
	if len(r.Audiences) > 0 && !slices.ContainsFunc(t.Audience, func(s string) bool { return slices.Contains(r.Audiences, s) }) {
		return exchange.Refuse(exchange.Auth, fault.GwAudience.With("The audience of the access token is not accepted by this API"), "audience",
			"aud", strings.Join(t.Audience, " "), "accepted", strings.Join(r.Audiences, " "))
	}
	if kind == Application && t.Aut == token.AutUser || kind == User && t.Aut == token.AutApplication {
		return exchange.Refuse(exchange.Auth, fault.GwTokenKind.With("The type of the access token does not fit the resource"), "token-user", "aut", t.Aut)
	}
	if m == nil {
		return forbidden("consumer-key", "consumer_key", key, "key_manager", km.Name)
	}
	app, ok := f.Applications.Get(m.Application)
	if !ok {
		return forbidden("application", "application", m.Application)
	}
	c.Application, c.KeyType, c.ConsumerKey, c.claims, c.Scheme = app, m.KeyType, key, localClaims(km, &t.Claims), "oauth2"
	c.User = t.Subject
	if t.Aut == token.AutApplication {
		c.User = app.Owner
	}
	if refusal := subscribe(f, r, c); refusal != nil {
		return refusal
	}
	if len(scopes) > 0 && !hasScope(t, km, scopes) {
		return exchange.Refuse(exchange.Auth, fault.GwScope.With(scopeDetail), "scope",
			"required", strings.Join(scopes, " "), "granted", t.Scope, "sub", t.Subject)
	}
	return nil
}

func ruleOf(err error) string {
	for _, r := range [...]struct {
		err  error
		rule string
	}{
		{token.ErrExpired, "token-expired"},
		{token.ErrNotYet, "token-not-yet"},
		{token.ErrIssuer, "token-issuer"},
		{token.ErrUnknownKey, "token-key"},
		{token.ErrAlgorithm, "token-algorithm"},
		{token.ErrSignature, "token-signature"},
		{token.ErrTooLong, "token-length"},
		{token.ErrType, "token-type"},
		{token.ErrAudience, "audience"},
	} {
		if errors.Is(err, r.err) {
			return r.rule
		}
	}
	return "token-malformed"
}

// manager is the key manager, among those the token is valid for, that the API
// accepts and that knows the consumer key; failing that one the API accepts,
// with a nil mapping.
func manager(f *facts.Facts, t *token.Verified, r *Rules, raw string) (km *facts.KeyManager, key string, m *snapshot.KeyMapping) {
	for _, i := range t.Issuers {
		k, ok := i.Tag.(*facts.KeyManager)
		if !ok || !accepts(r, k) || !k.Takes(raw, &t.Claims) {
			continue
		}
		name := consumerKey(f, t, k)
		mapping, found := f.Keys.Get(facts.Consumer{KeyManager: k.ID, Key: name})
		if found {
			return k, name, mapping
		}
		if km == nil {
			km, key = k, name
		}
	}
	return km, key, nil
}

func consumerKey(f *facts.Facts, t *token.Verified, km *facts.KeyManager) string {
	switch km.ConsumerKeyClaim {
	case "aud": // of several, the one that is a client's
		for _, a := range t.Audience {
			if _, ok := f.Keys.Get(facts.Consumer{KeyManager: km.ID, Key: a}); ok {
				return a
			}
		}
	case "", "azp":
		if t.AuthorizedParty != "" {
			return t.AuthorizedParty
		}
		return t.ClientID
	case "client_id":
		return t.ClientID
	}
	s, _ := t.Text(km.ConsumerKeyClaim)
	return s
}

func hasScope(t *token.Verified, km *facts.KeyManager, need []string) bool {
	if km.ScopesClaim == "" || km.ScopesClaim == "scope" {
		return slices.ContainsFunc(need, t.HasScope)
	}
	granted, _ := t.Text(km.ScopesClaim)
	list := strings.Fields(granted)
	return slices.ContainsFunc(need, func(s string) bool { return slices.Contains(list, s) })
}

// subscribe checks the subscription of the caller's application.
func subscribe(f *facts.Facts, r *Rules, c *Caller) *exchange.Refusal {
	if r.Prototyped {
		c.KeyType = Production
		return nil
	}
	if r.Subscriptionless {
		return nil
	}
	s, ok := f.Subscriptions.Get(facts.Pair{Application: c.Application.ID, API: r.ID})
	if !ok {
		return forbidden("no-subscription", "application", c.Application.Name)
	}
	blocked := false
	switch s.State {
	case "BLOCKED":
		blocked = true
	case "PROD_ONLY_BLOCKED":
		blocked = c.KeyType == Production
	case "ON_HOLD", "REJECTED":
		return exchange.Refuse(exchange.Auth, fault.GwInactive.With("The subscription to this API is not active"), "subscription-inactive",
			"subscription", s.ID, "state", s.State)
	}
	if blocked {
		return exchange.Refuse(exchange.Auth, fault.GwBlocked.With("The subscription to this API is blocked"), "subscription-blocked",
			"subscription", s.ID, "state", s.State)
	}
	c.Subscription = s
	return nil
}

// internal checks the key that the publisher's console uses, good for one API
// whatever its state and schemes.
func (a *Authenticator) internal(f *facts.Facts, r *Rules, raw string, now time.Time, c *Caller) *exchange.Refusal {
	t, err := a.Verifier.Verify(raw, now)
	if err != nil {
		return bad("internal-key", "cause", err.Error())
	}
	resident := slices.ContainsFunc(t.Issuers, func(i *token.Issuer) bool {
		km, ok := i.Tag.(*facts.KeyManager)
		return ok && km.Resident
	})
	if t.TokenType != token.KindInternal || !resident {
		return bad("internal-key", "token_type", t.TokenType)
	}
	if f.Revoked(&t.Claims, t.Subject, t.EntityID) {
		return bad("token-revoked", "jti", t.ID)
	}
	if !slices.ContainsFunc(t.APIs, func(ref token.APIRef) bool { return ref.ID == r.ID }) {
		return forbidden("internal-key-api")
	}
	c.Internal, c.User, c.KeyType, c.claims, c.Scheme = true, t.Subject, Production, &t.Claims, "internal-key"
	if t.KeyType == Sandbox || !r.Production && r.Sandbox {
		c.KeyType = Sandbox
	}
	return nil
}

// apiKey finds the key in the header or the query of that name.
func apiKey(x *exchange.Exchange, r *Rules) string {
	if v := x.Header.Get(r.KeyHeader); v != "" {
		return v
	}
	if x.RawQuery == "" {
		return ""
	}
	v, _ := takeParam(x.RawQuery, r.KeyHeader)
	return v
}

// takeParam finds a query parameter and what remains of the query without it.
func takeParam(query, name string) (value, rest string) {
	if !contains(query, name) {
		return "", query
	}
	var b strings.Builder
	for part := range strings.SplitSeq(query, "&") {
		n, v, _ := strings.Cut(part, "=")
		if exchange.Fold(n, name) {
			if value == "" {
				value = v
			}
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(part)
	}
	return value, b.String()
}

func contains(s, name string) bool {
	for i := 0; i+len(name) <= len(s); i++ {
		if exchange.Fold(s[i:i+len(name)], name) {
			return true
		}
	}
	return false
}

// StripQuery is the query without the API key.
func StripQuery(query string, r *Rules) string {
	if query == "" {
		return ""
	}
	_, rest := takeParam(query, r.KeyHeader)
	return rest
}

func (a *Authenticator) apiKey(x *exchange.Exchange, f *facts.Facts, r *Rules, key string, now time.Time, c *Caller) *exchange.Refusal {
	if len(key) > maxKey {
		return bad("api-key-length")
	}
	k, ok := f.APIKeys.Get(token.Sum(key))
	if !ok {
		return bad("api-key-unknown")
	}
	if !k.Expires.IsZero() && !now.Before(k.Expires) {
		return bad("api-key-expired", "key", k.Name)
	}
	// A key without an API is its application's, good for whatever that subscribes to.
	if k.API != r.ID && (k.API != "" || k.Application == "") {
		return forbidden("api-key-api", "key", k.Name)
	}
	if len(k.Prefixes) > 0 && !slices.ContainsFunc(k.Prefixes, func(p netip.Prefix) bool { return p.Contains(x.Client) }) {
		return forbidden("api-key-address", "key", k.Name, "address", x.Client.String())
	}
	if len(k.Referers) > 0 {
		referer := x.Header.Get("Referer")
		if referer == "" || !slices.ContainsFunc(k.Referers, func(p string) bool { return glob(p, referer) }) {
			return forbidden("api-key-referer", "key", k.Name, "referer", referer)
		}
	}
	c.User, c.KeyType, c.Scheme = k.User, k.KeyType, "apikey"
	if c.KeyType == "" {
		c.KeyType = Production
	}
	if k.Application == "" {
		if r.Subscriptionless || r.Prototyped {
			c.Application = &noApplication
			return nil
		}
		return forbidden("api-key-application", "key", k.Name)
	}
	app, ok := f.Applications.Get(k.Application)
	if !ok {
		return forbidden("application", "application", k.Application)
	}
	c.Application = app
	return subscribe(f, r, c)
}

// noApplication stands for the application of a key that is bound to an API only.
var noApplication snapshot.Application

// glob matches the whole of s; "*" stands for anything.
func glob(pattern, s string) bool {
	pieces := strings.Split(strings.TrimSpace(pattern), "*")
	if len(pieces) == 1 {
		return pieces[0] == s
	}
	if !strings.HasPrefix(s, pieces[0]) {
		return false
	}
	s = s[len(pieces[0]):]
	for _, p := range pieces[1 : len(pieces)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, pieces[len(pieces)-1])
}
