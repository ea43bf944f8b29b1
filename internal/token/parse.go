package token

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxDepth bounds the nesting of header and claims.
const maxDepth = 16

// maxMembers bounds the members of header and claims, all levels together.
const maxMembers = 512

// parts are the three segments of a compact JWS, decoded.
type parts struct {
	signed  string // header "." payload, as sent
	header  header
	payload []byte
	sig     []byte
}

type header struct {
	alg, kid, typ string
}

// LooksLikeJWT reports whether s has the shape of a compact JWS, which is what
// tells a JWT from an opaque token.
func LooksLikeJWT(s string) bool {
	return strings.Count(s, ".") == 2 && strings.HasPrefix(s, "ey")
}

func split(raw string) (parts, error) {
	i := strings.IndexByte(raw, '.')
	j := strings.LastIndexByte(raw, '.')
	if i <= 0 || j == i || strings.IndexByte(raw[i+1:j], '.') >= 0 {
		return parts{}, errors.New("not three segments")
	}
	head, err := decodeSegment(raw[:i])
	if err != nil {
		return parts{}, fmt.Errorf("header: %w", err)
	}
	p := parts{signed: raw[:j]}
	if p.header, err = parseHeader(head); err != nil {
		return parts{}, fmt.Errorf("header: %w", err)
	}
	if p.payload, err = decodeSegment(raw[i+1 : j]); err != nil {
		return parts{}, fmt.Errorf("claims: %w", err)
	}
	if p.sig, err = decodeSegment(raw[j+1:]); err != nil {
		return parts{}, fmt.Errorf("signature: %w", err)
	}
	return p, nil
}

// KeyIDOf is the kid that a compact JWS names, unverified: good for finding the
// keys to verify it with. It is empty for whatever is not well-formed.
func KeyIDOf(raw string) string {
	head, _, ok := strings.Cut(raw, ".")
	if !ok || len(head) > maxHead {
		return ""
	}
	doc, err := decodeSegment(head)
	if err != nil {
		return ""
	}
	h, err := parseHeader(doc)
	if err != nil {
		return ""
	}
	return h.kid
}

// maxHead bounds the header that KeyIDOf reads, in bytes of base64url.
const maxHead = 2 << 10

var strictBase64 = base64.RawURLEncoding.Strict()

// decodeSegment accepts exactly one spelling of each byte string: no padding,
// no line breaks (which encoding/base64 would skip), no stray trailing bits.
func decodeSegment(s string) ([]byte, error) {
	if s == "" {
		return nil, errors.New("empty segment")
	}
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line break in base64url")
	}
	return strictBase64.DecodeString(s)
}

// members reads a JSON object, refusing duplicate names at any level, text
// that is not UTF-8, deep nesting and anything after the object.
func members(doc []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(doc) {
		return nil, errors.New("not UTF-8")
	}
	if err := checkJSON(doc); err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(doc, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("not an object")
	}
	return m, nil
}

func checkJSON(doc []byte) error {
	type level struct {
		names map[string]struct{} // nil in arrays
		name  bool                // a name comes next
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var stack []level
	total := 0
	for {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		if len(stack) > 0 {
			top := &stack[len(stack)-1]
			if s, ok := tok.(string); ok && top.names != nil && top.name {
				if _, dup := top.names[s]; dup {
					return errors.New("duplicate member")
				}
				if total++; total > maxMembers {
					return errors.New("too many members")
				}
				top.names[s] = struct{}{}
				top.name = false
				continue
			}
		}
		switch tok {
		case json.Delim('{'):
			stack = append(stack, level{names: map[string]struct{}{}, name: true})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
			if len(stack) > 0 {
				stack[len(stack)-1].name = true
			}
		default:
			if len(stack) == 0 {
				return errors.New("not an object")
			}
			stack[len(stack)-1].name = true
		}
		if len(stack) > maxDepth {
			return errors.New("nested too deeply")
		}
		if len(stack) == 0 {
			break
		}
	}
	if rest := doc[dec.InputOffset():]; len(bytes.TrimLeft(rest, " \t\r\n")) > 0 {
		return errors.New("data after the object")
	}
	return nil
}

// parseHeader refuses everything that would let the token choose its own key:
// jwk, jku, x5u, x5c, and any critical extension (we know none).
func parseHeader(doc []byte) (header, error) {
	m, err := members(doc)
	if err != nil {
		return header{}, err
	}
	for _, name := range []string{"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"} {
		if _, ok := m[name]; ok {
			return header{}, fmt.Errorf("member %s is not accepted", name)
		}
	}
	var h header
	for name, to := range map[string]*string{"alg": &h.alg, "kid": &h.kid, "typ": &h.typ} {
		if raw, ok := m[name]; ok {
			if err := text(raw, to); err != nil {
				return header{}, fmt.Errorf("member %s: %w", name, err)
			}
		}
	}
	if h.alg == "" {
		return header{}, errors.New("no algorithm")
	}
	return h, nil
}

func text(raw json.RawMessage, to *string) error {
	if len(raw) == 0 || raw[0] != '"' {
		return errors.New("not a string")
	}
	return json.Unmarshal(raw, to)
}

// parseClaims reads the payload. Registered claims of a wrong type are errors;
// scope may be a string or an array of strings.
func parseClaims(doc []byte) (*Claims, error) {
	m, err := members(doc)
	if err != nil {
		return nil, err
	}
	c := &Claims{}
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"iss", &c.Issuer},
		{"sub", &c.Subject},
		{"jti", &c.ID},
		{"azp", &c.AuthorizedParty},
		{"client_id", &c.ClientID},
		{"entity_id", &c.EntityID},
		{"aut", &c.Aut},
		{"token_type", &c.TokenType},
		{"keytype", &c.KeyType},
	} {
		if raw, ok := m[f.name]; ok {
			if err := text(raw, f.to); err != nil {
				return nil, fmt.Errorf("claim %s: %w", f.name, err)
			}
			delete(m, f.name)
		}
	}
	for _, f := range []struct {
		name string
		to   *time.Time
	}{{"exp", &c.Expires}, {"nbf", &c.NotBefore}, {"iat", &c.IssuedAt}} {
		if raw, ok := m[f.name]; ok {
			if *f.to, err = seconds(raw); err != nil {
				return nil, fmt.Errorf("claim %s: %w", f.name, err)
			}
			delete(m, f.name)
		}
	}
	if !c.IssuedAt.IsZero() {
		c.IssuedAt = issuedAt(c.IssuedAt, c.ID)
	}
	if raw, ok := m["aud"]; ok {
		if c.Audience, err = textOrList(raw); err != nil {
			return nil, fmt.Errorf("claim aud: %w", err)
		}
		delete(m, "aud")
	}
	if raw, ok := m["scope"]; ok {
		list, err := textOrList(raw)
		if err != nil {
			return nil, fmt.Errorf("claim scope: %w", err)
		}
		c.Scope = strings.Join(list, " ")
		delete(m, "scope")
	}
	c.scopes = strings.Fields(c.Scope)
	if raw, ok := m["subscribedAPIs"]; ok && c.TokenType == KindInternal {
		if err := json.Unmarshal(raw, &c.APIs); err != nil {
			return nil, fmt.Errorf("claim subscribedAPIs: %w", err)
		}
		delete(m, "subscribedAPIs")
	}
	if len(m) > 0 {
		c.Extra = m
	}
	return c, nil
}

func textOrList(raw json.RawMessage) ([]string, error) {
	if len(raw) > 0 && raw[0] == '[' {
		var list []*string
		if err := json.Unmarshal(raw, &list); err != nil {
			return nil, err
		}
		out := make([]string, len(list))
		for i, p := range list {
			if p == nil {
				return nil, errors.New("null in a list")
			}
			out[i] = *p
		}
		return out, nil
	}
	var s string
	if err := text(raw, &s); err != nil {
		return nil, err
	}
	return []string{s}, nil
}

// maxSeconds is 9999-12-31, the last moment other systems agree on.
const maxSeconds = 253402300799

func seconds(raw json.RawMessage) (time.Time, error) {
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || math.IsNaN(f) {
		return time.Time{}, errors.New("not a number")
	}
	// Some issuers write "never" as the largest integer of their language.
	f = min(f, maxSeconds)
	if f < 0 {
		return time.Time{}, errors.New("out of range")
	}
	return time.Unix(int64(f), 0).UTC(), nil
}

func sortedNames(m map[string]json.RawMessage) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}
