package token

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrInactive is what Introspected says of a token that is worth nothing.
var ErrInactive = errors.New("token is not active")

// Peek reads the claims of a JWT without checking anything but its shape: only
// to find out whom to ask about it.
func Peek(raw string) (*Claims, error) {
	if len(raw) > DefaultMaxLength {
		return nil, ErrTooLong
	}
	p, err := split(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c, err := parseClaims(p.payload)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c.Type, c.KeyID = p.header.typ, p.header.kid
	return c, nil
}

// Introspected reads an introspection answer (RFC 7662 §2.2). Of a token
// that is not active, that is no access token, or that is bound to a key, which
// an introspection cannot prove, it answers ErrInactive.
func Introspected(doc []byte) (*Claims, error) {
	m, err := members(doc)
	if err != nil {
		return nil, fmt.Errorf("read introspection: %w", err)
	}
	var active bool
	if err := json.Unmarshal(m["active"], &active); err != nil {
		return nil, errors.New("read introspection: active is missing")
	}
	if _, bound := m["cnf"]; !active || bound {
		return nil, ErrInactive
	}
	c, err := parseClaims(doc)
	if err != nil {
		return nil, fmt.Errorf("read introspection: %w", err)
	}
	kind := c.TokenType
	if kind == "" {
		kind, _ = c.Text("typ")
	}
	switch strings.ToLower(kind) {
	case "bearer", "jwt", "access_token", "at+jwt":
	default: // a refresh token is active too
		return nil, ErrInactive
	}
	c.Type, c.TokenType = TypeAccess, ""
	if c.Subject == "" {
		c.Subject, _ = c.Text("username")
	}
	delete(c.Extra, "active")
	return c, nil
}
