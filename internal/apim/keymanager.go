package apim

import (
	"encoding/json"
	"fmt"
)

// Foreign is what gateways must know of a key manager that is not our own.
type Foreign struct {
	SelfValidation *bool       `json:"enableSelfValidationJWT"` // nil: yes; otherwise each token is introspected
	Claims         []ClaimMap  `json:"claimMapping"`
	Rules          []TokenRule `json:"tokenValidation"`
}

// ClaimMap renames a claim of foreign tokens.
type ClaimMap struct {
	Remote string `json:"remoteClaim"`
	Local  string `json:"localClaim"`
}

// TokenRule says which tokens a key manager is asked about: of several one
// must hold. Value is a regular expression (REFERENCE, REGEX) or an object of
// claims and the regular expressions they match (JWT).
type TokenRule struct {
	ID     json.RawMessage `json:"id,omitempty"`
	Enable bool            `json:"enable"`
	Type   string          `json:"type"`
	Value  json.RawMessage `json:"value"`
}

// Foreign reads the members of Extra that gateways act on.
func (k *KeyManager) Foreign() (*Foreign, error) {
	var out Foreign
	if len(k.Extra) > 0 {
		if err := json.Unmarshal(k.Extra, &out); err != nil {
			return nil, fmt.Errorf("read key manager %s: %w", k.ID, err)
		}
	}
	return &out, nil
}

// SelfValidates reports whether gateways check its JWTs themselves.
func (k *KeyManager) SelfValidates(x *Foreign) bool {
	return (x.SelfValidation == nil || *x.SelfValidation) && k.Properties["self_validate_jwt"] != "false"
}

// Text is the value of a rule as text.
func (r *TokenRule) Text() string {
	var s string
	if json.Unmarshal(r.Value, &s) == nil {
		return s
	}
	return string(r.Value)
}

// Wanted are the claims that a rule of type JWT looks at. The object may be
// given as text, and may hold the claims below "body".
func (r *TokenRule) Wanted() (map[string]string, error) {
	doc := []byte(r.Text())
	var outer struct {
		Body map[string]string `json:"body"`
	}
	if err := json.Unmarshal(doc, &outer); err == nil && len(outer.Body) > 0 {
		return outer.Body, nil
	}
	var flat map[string]string
	if err := json.Unmarshal(doc, &flat); err != nil {
		return nil, fmt.Errorf("read token rule: %w", err)
	}
	return flat, nil
}
