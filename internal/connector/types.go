// Package connector speaks to the key managers of others: it registers the
// OAuth clients of applications there, changes and removes them, gets and
// revokes tokens, and reads discovery documents. One connector follows the
// standards (RFC 7591, 7592, 6749, 7009, 8414); where products differ, a table
// says how (reference: keymanager §13).
package connector

import "slices"

// Field is one setting of a type of key manager. Secret ones are sealed and
// read back masked.
type Field struct {
	Name, Label string
	Required    bool
	Secret      bool
}

// access is how a registration endpoint wants to know who asks.
type access int

const (
	anyAccess    access = iota // whatever the settings allow: a token, a client, a user, or nobody
	clientAccess               // a token that the settings' client gets by client credentials
	userAccess                 // Basic, the settings' user
	sswsAccess                 // Okta's API key
)

// Type is a kind of key manager.
type Type struct {
	Name, Label string
	KeyClaim    string // default consumerKeyClaim
	ScopesClaim string // default scopesClaim
	Fields      []Field

	access    access
	scope     string // asked for with the token of clientAccess
	secretURL string // below a client's address: makes a new secret
	auth0     bool   // clients are made by the management interface, not by RFC 7591
	noClients bool   // clients cannot be made from here; existing ones are mapped
}

// Types are those that can be registered, by name.
var Types = []Type{
	{Name: "Asgardeo", Label: "Asgardeo", KeyClaim: "azp", ScopesClaim: "scope", Fields: []Field{{"client_id", "Client ID", true, false}, {"client_secret", "Client secret", true, true}}, access: clientAccess, scope: "internal_dcr_create internal_dcr_view internal_dcr_update internal_dcr_delete"},
	{Name: "Auth0", Label: "Auth0", KeyClaim: "azp", ScopesClaim: "scope", Fields: []Field{{"client_id", "Client ID", true, false}, {"client_secret", "Client secret", true, true}, {"audience", "Audience", true, false}}, access: clientAccess, auth0: true, secretURL: "/rotate-secret"},
	{Name: "AzureAD", Label: "Azure AD", KeyClaim: "appid", ScopesClaim: "scp", Fields: []Field{{"client_id", "Client ID", true, false}, {"client_secret", "Client secret", true, true}}, noClients: true},
	{Name: "Forgerock", Label: "ForgeRock", KeyClaim: "aud", ScopesClaim: "scp", Fields: []Field{{"client_id", "Client ID", true, false}, {"client_secret", "Client secret", true, true}}, access: clientAccess, scope: "dynamic_client_registration"},
	{Name: "KeyCloak", Label: "Keycloak", KeyClaim: "azp", ScopesClaim: "scope", Fields: []Field{{"client_id", "Client ID", true, false}, {"client_secret", "Client secret", true, true}}, access: clientAccess},
	{Name: "Okta", Label: "Okta", KeyClaim: "cid", ScopesClaim: "scp", Fields: []Field{{"apiKey", "API key", true, true}, {"client_id", "Client ID", true, false}, {"client_secret", "Client secret", true, true}}, access: sswsAccess, secretURL: "/lifecycle/newSecret"},
	{Name: "PingFederate", Label: "PingFederate", KeyClaim: "client_id_name", ScopesClaim: "scope", Fields: []Field{{"username", "User name", true, false}, {"password", "Password", true, true}, {"client_id", "Client ID", true, false}, {"client_secret", "Client secret", true, true}}, access: userAccess},
	{Name: "WSO2-IS", Label: "WSO2 Identity Server", KeyClaim: "azp", ScopesClaim: "scope", Fields: []Field{{"Username", "User name", true, false}, {"Password", "Password", true, true}}, access: userAccess},
	{Name: "WSO2-IS-7", Label: "WSO2 Identity Server 7", KeyClaim: "azp", ScopesClaim: "scope", Fields: []Field{{"api_resource_management_endpoint", "API resource management endpoint", true, false}, {"is7_roles_endpoint", "Roles endpoint", true, false}, {"Username", "User name", false, false}, {"Password", "Password", false, true}}, access: userAccess},
	{Name: "custom", Label: "Other OpenID Connect provider", KeyClaim: "azp", ScopesClaim: "scope", Fields: []Field{{"initial_access_token", "Initial access token", false, true}, {"client_id", "Client ID", false, false}, {"client_secret", "Client secret", false, true}}},
}

// TypeOf finds a type.
func TypeOf(name string) (Type, bool) {
	i := slices.IndexFunc(Types, func(t Type) bool { return t.Name == name })
	if i < 0 {
		return Type{}, false
	}
	return Types[i], true
}

// MakesClients reports whether clients of this type can be made from here.
func (t Type) MakesClients() bool { return !t.noClients }
