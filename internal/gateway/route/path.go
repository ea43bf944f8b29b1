// Package route finds the API and the resource a call is for.
//
// The rules for paths, each tested:
//   - The raw path is split on "/"; each segment is decoded once and only for
//     matching. The original bytes are what a backend gets.
//   - %2F is a byte of its segment and never separates; the case of the digits
//     of a percent escape does not matter.
//   - A segment that is "." or ".." in any encoding, also doubly encoded, also
//     before ";params" or beside an encoded "/" or "\", is refused (400). So
//     are broken percent escapes, %00 and control characters.
//   - Any other double encoding is decoded once: %2541 is the text "%41".
//   - ";params" belong to their segment when the backend ignores them and do
//     not when it looks at them. Both readings must lead to the same resource,
//     or only one of them to any; otherwise the call is refused (400).
//   - One trailing "/" is ignored for matching.
package route

import (
	"errors"
	"strings"
)

// Why a path is refused with 400.
var (
	ErrEscape    = errors.New("broken percent escape")
	ErrDots      = errors.New("dot segment")
	ErrControl   = errors.New("control character or fragment in path")
	ErrAbsolute  = errors.New("path does not begin with a slash")
	ErrAmbiguous = errors.New("path parameters change the resource")
)

// slash stands for an encoded "/" in a decoded path; the byte itself is refused.
const slash = '\x00'

// Path is a path made ready for matching.
type Path struct {
	Raw     string // as received
	Decoded string // each segment decoded once, an encoded "/" as NUL
	Params  bool   // some segment has ";params"
}

// Parse checks a raw path. It allocates only when there is something to decode.
func Parse(raw string) (Path, error) {
	p := Path{Raw: raw, Decoded: raw}
	if raw == "" || raw[0] != '/' {
		return p, ErrAbsolute
	}
	escaped, dotted := false, false
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == '%':
			escaped = true
		case c == ';':
			p.Params = true
		case c == '.':
			dotted = true
		case c == '\\':
			dotted = true
		case c < 0x20 || c == 0x7f || c == '#':
			return p, ErrControl
		}
	}
	if escaped {
		d, err := decode(raw)
		if err != nil {
			return p, err
		}
		p.Decoded = d
		dotted = true
	}
	if dotted && hasDots(p.Decoded) {
		return p, ErrDots
	}
	return p, nil
}

func decode(raw string) (string, error) {
	if strings.IndexByte(raw, '%') < 0 {
		return raw, nil
	}
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(raw) {
			return "", ErrEscape
		}
		hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
		if hi < 0 || lo < 0 {
			return "", ErrEscape
		}
		i += 2
		switch c = byte(hi<<4 | lo); {
		case c == '/':
			c = slash
		case c < 0x20 || c == 0x7f:
			return "", ErrControl
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// maxDecode bounds how often hasDots decodes what was encoded repeatedly.
const maxDecode = 4

func hasDots(decoded string) bool {
	for range maxDecode {
		start := 0
		for i := 0; i <= len(decoded); i++ {
			if i < len(decoded) && decoded[i] != '/' && decoded[i] != '\\' && decoded[i] != slash {
				continue
			}
			seg := decoded[start:i]
			if j := strings.IndexByte(seg, ';'); j >= 0 {
				seg = seg[:j]
			}
			if seg == "." || seg == ".." {
				return true
			}
			start = i + 1
		}
		if strings.IndexByte(decoded, '%') < 0 {
			return false
		}
		next, ok := decodeLoosely(decoded)
		if !ok {
			return false
		}
		decoded = next
	}
	return false
}

// decodeLoosely decodes the escapes that are whole and leaves the rest; ok is
// false when there was none.
func decodeLoosely(s string) (out string, ok bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				ok = true
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b), ok
}

// stripParams removes ";params" from every segment of a raw path's decoded
// form. A ";" that was encoded is data and stays.
func stripParams(raw string) (string, error) {
	var b strings.Builder
	skip := false
	for i := range len(raw) {
		switch raw[i] {
		case '/':
			skip = false
		case ';':
			skip = true
		}
		if !skip {
			b.WriteByte(raw[i])
		}
	}
	return decode(b.String())
}

// Resource looks the path below a context of n bytes (of Decoded) up in m.
func (p *Path) Resource(n int, m *Matcher, query, verb string) (op int, found Found, err error) {
	op, found = m.Find(p.Decoded[n:], query, verb)
	if !p.Params {
		return op, found, nil
	}
	bare, err := stripParams(p.Rest(n))
	if err != nil {
		return -1, NoPath, err
	}
	op2, found2 := m.Find(bare, query, verb)
	switch {
	case found == Match && found2 == Match && op != op2:
		return -1, NoPath, ErrAmbiguous
	case found2 > found:
		return op2, found2, nil
	}
	return op, found, nil
}

// Rest is what follows the first n bytes of the decoded path, in the raw path:
// the part of the call below a context of n bytes.
func (p *Path) Rest(n int) string {
	if len(p.Raw) == len(p.Decoded) {
		return p.Raw[n:]
	}
	i := 0
	for d := 0; d < n && i < len(p.Raw); d++ {
		if p.Raw[i] == '%' {
			i += 3
		} else {
			i++
		}
	}
	return p.Raw[i:]
}
