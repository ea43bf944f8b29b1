// Package auth decides who calls: it finds the credentials of a call, checks
// them against the snapshot, and says which application, subscription and kind
// of key stand behind them. It asks no other process.
package auth

import (
	"slices"
	"strings"
	"unique"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// Kind is the authentication an operation asks for.
type Kind uint8

// The kinds.
const (
	Any Kind = iota
	None
	Application
	User
)

// KindOf reads the snapshot's word; what it does not know asks for a credential.
func KindOf(s string) Kind {
	switch strings.ToLower(s) {
	case "none":
		return None
	case "application":
		return Application
	case "application user", "application_user":
		return User
	}
	return Any
}

// Rules is what an API accepts, compiled.
type Rules struct {
	ID, Tenant       string
	OAuth2, Keys     bool
	Basic            bool
	TLSMandatory     bool
	AuthHeader       string
	KeyHeader        string // also the name of the query parameter
	Audiences        []string
	AllManagers      bool
	Managers         []string
	Subscriptionless bool
	ScopeRoles       map[string][]string // roles each scope is bound to
	InternalOnly     bool                // created but not published
	Prototyped       bool
	Sandbox          bool   // there is a sandbox endpoint
	Production       bool   // there is a production endpoint
	Challenge        string // of a 401
	Missing          string // description of "no credentials"
}

const realm = ` realm="WSO2 API Manager"`

// Compile prepares an API's rules. authHeader is the gateway's default.
func Compile(a *snapshot.API, authHeader string) *Rules {
	s := &a.Security
	r := &Rules{
		ID: a.ID, Tenant: a.Tenant,
		OAuth2: s.OAuth2, Keys: s.APIKey, Basic: s.Basic, TLSMandatory: s.MutualTLS && s.MutualTLSMandatory,
		AuthHeader: authHeader, KeyHeader: "apikey",
		Audiences: a.Audiences, Managers: a.KeyManagers,
		AllManagers:      len(a.KeyManagers) == 0 || slices.Contains(a.KeyManagers, "all"),
		Subscriptionless: s.Subscriptionless,
		ScopeRoles:       a.ScopeRoles,
		InternalOnly:     a.State == "CREATED",
		Prototyped:       a.State == "PROTOTYPED",
		Sandbox:          len(a.Sandbox) > 0, Production: len(a.Production) > 0,
	}
	if slices.Contains(a.Audiences, "all") {
		r.Audiences = nil
	}
	if s.AuthHeader != "" {
		r.AuthHeader = s.AuthHeader
	}
	if s.APIKeyHeader != "" {
		r.KeyHeader = s.APIKeyHeader
	}
	challenges := []string{"Internal API Key" + realm}
	if r.OAuth2 {
		challenges = append(challenges, "Bearer"+realm)
	}
	if r.Basic {
		challenges = append(challenges, "Basic"+realm)
	}
	if r.Keys {
		challenges = append(challenges, "API Key"+realm)
	}
	if s.MutualTLS {
		challenges = append(challenges, "Mutual SSL"+realm)
	}
	// Few texts differ, so the APIs share them.
	r.Challenge = unique.Make(strings.Join(challenges, ", ") + `, error="invalid_token", error_description="The provided token is invalid"`).Value()
	r.Missing = unique.Make("Invalid Credentials. Make sure your API invocation call has a header: '" + r.AuthHeader +
		" : Bearer ACCESS_TOKEN' or '" + r.AuthHeader + " : Basic ACCESS_TOKEN' or '" + r.KeyHeader + ": API_KEY'").Value()
	return r
}

// Caller is who calls, as far as the credentials tell.
type Caller struct {
	Application  *snapshot.Application  // nil: internal key or anonymous
	Subscription *snapshot.Subscription // nil where none is needed
	KeyType      string                 // PRODUCTION or SANDBOX
	User         string                 // as the token names it; "anonymous"
	ConsumerKey  string
	Internal     bool
	Anonymous    bool
	Scheme       string // oauth2, apikey, internal-key, none
	AuthTo       string // what of the authorization header is for the backend
	claims       claims
}
