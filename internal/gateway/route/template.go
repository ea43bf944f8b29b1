package route

import (
	"cmp"
	"fmt"
	"strings"
)

// rank orders the kinds of segments: the smaller is the more specific.
type rank uint8

const (
	rankLiteral rank = iota
	rankPattern      // literals and variables mixed: {a}.json
	rankParam        // {a}
	rankStar         // * between other segments: exactly one segment
	rankPlus         // {+a} at the end: one segment or more
	rankRest         // /* at the end: anything, also nothing
)

// segment is one parsed part of a template.
type segment struct {
	rank   rank
	text   string   // literal, decoded
	pieces []string // of a pattern: literals around the variables; first and last may be empty
	empty  []bool   // of a pattern: whether variable i may match nothing ("*")
	weight int      // of a pattern: bytes of its literals
}

// template is a parsed URI template.
type template struct {
	segments []segment
	query    []string // names that must be in the query, with "=value" when fixed
}

// MaxSegments bounds the depth of a template.
const MaxSegments = 128

func parseTemplate(target string) (template, error) {
	var t template
	path, query := splitQuery(target)
	if query != "" {
		for part := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(part, "=")
			if strings.ContainsAny(value, "{*") || value == "" {
				t.query = append(t.query, name)
			} else if name != "" {
				t.query = append(t.query, name+"="+value)
			}
		}
	}
	path = strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/")
	if path == "" {
		return t, nil
	}
	parts := strings.Split(path, "/")
	if len(parts) > MaxSegments {
		return t, fmt.Errorf("template has more than %d segments", MaxSegments)
	}
	for i, part := range parts {
		s, err := parseSegment(part, i == len(parts)-1)
		if err != nil {
			return t, err
		}
		t.segments = append(t.segments, s)
	}
	return t, nil
}

// splitQuery cuts at the first "?" outside of braces.
func splitQuery(target string) (path, query string) {
	depth := 0
	for i := range len(target) {
		switch target[i] {
		case '{':
			depth++
		case '}':
			depth--
		case '?':
			if depth == 0 {
				return target[:i], target[i+1:]
			}
		}
	}
	return target, ""
}

func parseSegment(part string, last bool) (segment, error) {
	if part == "*" {
		if last {
			return segment{rank: rankRest}, nil
		}
		return segment{rank: rankStar}, nil
	}
	if !strings.ContainsAny(part, "{}*") {
		text, err := decode(part)
		if err != nil {
			text = part // a literal percent sign in a template
		}
		if text == "." || text == ".." {
			return segment{}, fmt.Errorf("template has a dot segment")
		}
		return segment{rank: rankLiteral, text: text}, nil
	}
	s := segment{rank: rankPattern}
	rest, literal := part, ""
	for rest != "" {
		switch c := rest[0]; c {
		case '*':
			s.pieces, s.empty = append(s.pieces, literal), append(s.empty, true)
			literal, rest = "", rest[1:]
		case '{':
			end := strings.IndexByte(rest, '}')
			if end < 2 || strings.IndexByte(rest[1:end], '{') >= 0 {
				return s, fmt.Errorf("template segment %q: braces do not match", part)
			}
			if rest == part && end == len(part)-1 {
				if part[1] == '+' && last {
					return segment{rank: rankPlus}, nil
				}
				return segment{rank: rankParam}, nil
			}
			s.pieces, s.empty = append(s.pieces, literal), append(s.empty, false)
			literal, rest = "", rest[end+1:]
		case '}':
			return s, fmt.Errorf("template segment %q: braces do not match", part)
		default:
			literal, rest = literal+string(c), rest[1:]
		}
	}
	s.pieces = append(s.pieces, literal)
	for i, p := range s.pieces {
		if text, err := decode(p); err == nil {
			s.pieces[i] = text
		}
		s.weight += len(s.pieces[i])
	}
	s.text = part
	return s, nil
}

// match reports whether a pattern segment matches text. The leftmost place for
// each literal is always as good as any later one, so there is no backtracking.
func (s *segment) match(text string) bool {
	if !strings.HasPrefix(text, s.pieces[0]) {
		return false
	}
	text = text[len(s.pieces[0]):]
	n := len(s.empty)
	for i := range n {
		least := 1
		if s.empty[i] {
			least = 0
		}
		if len(text) < least {
			return false
		}
		lit := s.pieces[i+1]
		if i == n-1 {
			return len(text)-least >= len(lit) && strings.HasSuffix(text, lit)
		}
		j := strings.Index(text[least:], lit)
		if j < 0 {
			return false
		}
		text = text[least+j+len(lit):]
	}
	return true
}

// comparePatterns puts the pattern with more literal bytes first.
func comparePatterns(a, b *segment) int {
	return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(len(a.empty), len(b.empty)), cmp.Compare(a.text, b.text))
}
