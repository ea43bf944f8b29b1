// Package token makes and checks the credentials that travel with a call: JSON
// Web Tokens of our own and of foreign issuers, API keys and their hashes. It
// knows no storage and no network, so that a gateway can verify with its
// control plane away. Algorithms are pinned by the key set, never chosen by
// the token (reference: security, keymanager §4).
package token

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Header types of the tokens we make.
const (
	TypeAccess  = "at+jwt"
	TypeRefresh = "rt+jwt"
	TypeID      = "JWT"

	TypeIntrospection = "token-introspection+jwt" // RFC 9701
)

// Values of the claims aut and token_type.
const (
	AutApplication = "APPLICATION"
	AutUser        = "APPLICATION_USER"

	KindRefresh  = "refresh_token"
	KindInternal = "InternalKey"
)

// Claims is what a token says. A *Claims that Verify returned is shared and
// must not be changed.
type Claims struct {
	Type   string // header typ; empty when the header has none
	KeyID  string // header kid
	Issuer string // iss

	Subject         string   // sub
	ID              string   // jti
	Audience        []string // aud
	AuthorizedParty string   // azp
	ClientID        string   // client_id
	EntityID        string   // entity_id: user id or consumer key, by which tokens are revoked together
	Scope           string   // scope, or its elements joined by blanks when it came as an array
	Aut             string   // aut: APPLICATION or APPLICATION_USER
	TokenType       string   // token_type: empty for access tokens
	KeyType         string   // keytype: PRODUCTION or SANDBOX, in internal keys
	APIs            []APIRef // subscribedAPIs, in internal keys

	IssuedAt  time.Time // iat; zero when absent
	NotBefore time.Time // nbf; zero when absent
	Expires   time.Time // exp; zero when absent

	// Extra holds every other member, as sent.
	Extra map[string]json.RawMessage

	scopes []string
}

// APIRef names an API an internal key is good for.
type APIRef struct {
	ID      string `json:"uuid"`
	Name    string `json:"name"`
	Context string `json:"context"`
	Version string `json:"version"`
}

// Scopes is Scope split at blanks. It allocates only for claims that were not
// made by Verify.
func (c *Claims) Scopes() []string {
	if c.scopes != nil || c.Scope == "" {
		return c.scopes
	}
	return strings.Fields(c.Scope)
}

// HasScope reports whether the token carries the scope.
func (c *Claims) HasScope(name string) bool {
	for rest := c.Scope; rest != ""; {
		var s string
		s, rest, _ = strings.Cut(rest, " ")
		if s == name {
			return true
		}
	}
	return false
}

// Text is the value of a claim as text: a string, a number as written, or the
// elements of an array of strings joined by blanks. It is for claims whose
// name is configuration (consumerKeyClaim, scopesClaim); ok is false when the
// claim is absent or of another type.
func (c *Claims) Text(name string) (value string, ok bool) {
	switch name {
	case "iss":
		return c.Issuer, c.Issuer != ""
	case "sub":
		return c.Subject, c.Subject != ""
	case "jti":
		return c.ID, c.ID != ""
	case "azp":
		return c.AuthorizedParty, c.AuthorizedParty != ""
	case "client_id":
		return c.ClientID, c.ClientID != ""
	case "entity_id":
		return c.EntityID, c.EntityID != ""
	case "scope":
		return c.Scope, c.Scope != ""
	case "aut":
		return c.Aut, c.Aut != ""
	case "aud":
		return strings.Join(c.Audience, " "), len(c.Audience) > 0
	}
	raw, ok := c.Extra[name]
	if !ok {
		return "", false
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s, true
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return strings.Join(list, " "), len(list) > 0
	}
	var n json.Number
	if json.Unmarshal(raw, &n) == nil && n != "" {
		return n.String(), true
	}
	return "", false
}

// append writes the claims as a JSON object in the order the original uses.
func (c *Claims) append(b []byte) []byte {
	b = append(b, '{')
	str := func(name, v string) {
		if v != "" {
			b = appendName(b, name)
			b = appendString(b, v)
		}
	}
	num := func(name string, t time.Time) {
		if !t.IsZero() {
			b = appendName(b, name)
			b = strconv.AppendInt(b, t.Unix(), 10)
		}
	}
	str("sub", c.Subject)
	str("aut", c.Aut)
	switch len(c.Audience) {
	case 0:
	case 1:
		str("aud", c.Audience[0])
	default:
		b = appendName(b, "aud")
		for i, a := range c.Audience {
			b = append(b, "[,"[min(i, 1)])
			b = appendString(b, a)
		}
		b = append(b, ']')
	}
	num("nbf", c.NotBefore)
	str("azp", c.AuthorizedParty)
	str("entity_id", c.EntityID)
	str("scope", c.Scope)
	str("iss", c.Issuer)
	str("keytype", c.KeyType)
	if len(c.APIs) > 0 {
		b = appendName(b, "subscribedAPIs")
		list, err := json.Marshal(c.APIs)
		if err != nil {
			panic("token: encode strings: " + err.Error())
		}
		b = append(b, list...)
	}
	str("token_type", c.TokenType)
	num("exp", c.Expires)
	num("iat", c.IssuedAt)
	str("jti", c.ID)
	str("client_id", c.ClientID)
	for _, name := range sortedNames(c.Extra) {
		b = appendName(b, name)
		b = append(b, c.Extra[name]...)
	}
	return append(b, '}')
}

func appendName(b []byte, name string) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	b = appendString(b, name)
	return append(b, ':')
}

// appendString quotes s as JSON. Text that is not UTF-8 cannot come from a
// request (all inputs are checked) and is replaced as encoding/json does.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			q, err := json.Marshal(s)
			if err != nil {
				panic("token: encode string: " + err.Error())
			}
			return append(b, q...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
