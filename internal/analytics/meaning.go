package analytics

import "fmt"

// meanings says in a sentence what a rule of the gateway found. The guide of
// the gateway's errors lists the same rules.
var meanings = map[string]string{
	"no-api":                "No deployed API has this path, or the API is retired.",
	"resource":              "The API has no such resource.",
	"method":                "The resource exists, but not with this method.",
	"bad-path":              "The path or query is malformed, or has . or .. segments.",
	"tenant-case":           "The tenant in the path is written in the wrong case.",
	"transport":             "The API is served over https only.",
	"api-blocked":           "The API is blocked by its publisher.",
	"api-not-published":     "The API is not published yet; only an internal key opens it.",
	"no-credentials":        "The call carries none of the credentials that the API accepts.",
	"token-opaque":          "The bearer token is not a JWT.",
	"token-malformed":       "The bearer token is not a well-formed JWT.",
	"token-expired":         "The token has expired.",
	"token-not-yet":         "The token is not valid yet; check the clocks.",
	"token-issuer":          "The token comes from an issuer that is no key manager here.",
	"token-key":             "The token is signed with a key that its issuer does not publish.",
	"token-algorithm":       "The token is signed with an algorithm that its key does not allow.",
	"token-signature":       "The signature of the token is wrong.",
	"token-length":          "The token is too long.",
	"token-kind":            "The token is no access token: a refresh token, an internal key.",
	"token-type":            "The token is no access token by its type.",
	"token-revoked":         "The token was revoked, or its user or application was.",
	"token-user":            "The resource wants a token of a user, or of an application; this is the other kind.",
	"audience":              "The token is meant for another audience than this API.",
	"key-manager":           "The API does not accept tokens of this key manager.",
	"consumer-key":          "The token's client belongs to no application.",
	"no-subscription":       "The application is not subscribed to the API.",
	"subscription-inactive": "The subscription is on hold or was rejected.",
	"subscription-blocked":  "The subscription is blocked by the publisher.",
	"scope":                 "The token lacks a scope that the operation asks for.",
	"api-key-unknown":       "There is no such API key; it may have been revoked.",
	"api-key-length":        "What was sent as an API key is too long for one.",
	"api-key-expired":       "The API key has expired.",
	"api-key-api":           "The API key is for another API, or bound to none.",
	"api-key-application":   "The API key is bound to no application.",
	"api-key-address":       "The API key may not be used from this address.",
	"api-key-referer":       "The API key may not be used from this page.",
	"basic-malformed":       "The Basic credentials are not well-formed.",
	"basic-password":        "The user name or password is wrong.",
	"basic-delayed":         "Too many wrong passwords; the next attempt has to wait.",
	"basic-crowded":         "Too many passwords are being checked at once.",
	"basic-tenant":          "The user is of another tenant than the API.",
	"identity-away":         "The identity role, which checks passwords, cannot be asked.",
	"application":           "The caller's application is not approved, or is gone.",
	"basic-not-verifiable":  "This gateway has nobody to check Basic credentials.",
	"client-certificate":    "The API asks for a client certificate.",
	"internal-key":          "The internal key is malformed or has expired.",
	"internal-key-api":      "The internal key is for another API.",
	"endpoint-of-key":       "The API has no endpoint for keys of this type (production or sandbox).",
	"endpoint-suspended":    "The backend failed before and is left alone for a moment.",
	"api-limit":             "The limit of the API is used up.",
	"resource-limit":        "The limit of the operation is used up.",
	"subscription-limit":    "The plan of the subscription is used up.",
	"burst-limit":           "Too many calls at once for the plan of the subscription.",
	"application-limit":     "The limit of the application is used up.",
	"custom-limit":          "A custom limit is used up.",
	"backend-limit":         "The backend takes no more calls in this second.",
	"backend-io":            "The connection to the backend broke.",
	"backend-timeout":       "The backend did not answer in time.",
	"backend-busy":          "Too many calls wait for a connection to the backend.",
	"backend-connect":       "The backend cannot be reached.",
	"backend-address":       "The address of the backend is one that gateways do not call.",
	"backend-closed":        "The backend closed the connection without an answer.",
	"backend-protocol":      "The backend's answer is not valid HTTP.",
	"body-incomplete":       "The request body ended before its announced length.",
	"environment":           "The key is for sandbox and this gateway for production, or the other way round.",
	"upgrade":               "The API does not speak the protocol that the call wants to change to.",
	"overload":              "The gateway is at its limit of concurrent calls.",
	"internal":              "An error inside the gateway; its log tells more.",
}

// ruleMeaning is what a rule found; one without a sentence of its own is named.
func ruleMeaning(rule string, code int) string {
	if m, ok := meanings[rule]; ok {
		return m
	}
	return fmt.Sprintf("Refused with code %d by the rule %s.", code, rule)
}
