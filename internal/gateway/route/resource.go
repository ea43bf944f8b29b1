package route

import (
	"fmt"
	"slices"
	"strings"
)

// Resource is one template and verb of an API.
type Resource struct{ Target, Verb string }

// Found says how far a look-up came.
type Found uint8

// How far a look-up came.
const (
	NoPath Found = iota // 404
	NoVerb              // 405
	Match
)

// Matcher finds the resource of an API. Templates without wildcards go before
// those with; among them, from left to right, a literal segment goes before a
// pattern, a variable, "*", "{+x}" and a final "/*". A template that matches
// but lacks the verb lets the next one try.
type Matcher struct {
	root  rnode
	verbs []string
	query map[int32][]string // resources that need parameters
}

type rnode struct {
	key   string   // literal that leads here
	lits  []*rnode // sorted by key
	param *rnode
	rare  *rare
	leaf  []leaf
}

// rare is what few nodes have.
type rare struct {
	pats []*pattern // most specific first
	star *rnode
	plus []leaf
	rest []leaf
}

type pattern struct {
	seg  segment
	next rnode
}

type leaf struct {
	op   int32
	verb uint8
}

// NewMatcher compiles the resources of an API. Of equal templates and verbs
// the first counts.
func NewMatcher(resources []Resource) (*Matcher, error) {
	m := &Matcher{}
	for i, r := range resources {
		t, err := parseTemplate(r.Target)
		if err != nil {
			return nil, fmt.Errorf("resource %s %s: %w", r.Verb, r.Target, err)
		}
		verb := strings.ToUpper(r.Verb)
		v := slices.Index(m.verbs, verb)
		if v < 0 {
			if len(m.verbs) == 255 {
				return nil, fmt.Errorf("resource %s %s: too many verbs", r.Verb, r.Target)
			}
			v = len(m.verbs)
			m.verbs = append(m.verbs, verb)
		}
		m.add(&t, leaf{op: int32(i), verb: uint8(v)})
	}
	return m, nil
}

func (m *Matcher) add(t *template, l leaf) {
	nd := &m.root
	for i := range t.segments {
		s := &t.segments[i]
		switch s.rank {
		case rankLiteral:
			nd = nd.literal(s.text)
		case rankPattern:
			nd = nd.extra().pattern(s)
		case rankParam:
			if nd.param == nil {
				nd.param = &rnode{}
			}
			nd = nd.param
		case rankStar:
			if nd.extra().star == nil {
				nd.rare.star = &rnode{}
			}
			nd = nd.rare.star
		case rankPlus:
			nd.extra().plus = m.append(nd.rare.plus, t, l)
			return
		case rankRest:
			nd.extra().rest = m.append(nd.rare.rest, t, l)
			return
		}
	}
	nd.leaf = m.append(nd.leaf, t, l)
}

// append adds l; leaves that need more query parameters go first.
func (m *Matcher) append(to []leaf, t *template, l leaf) []leaf {
	if len(t.query) > 0 {
		if m.query == nil {
			m.query = map[int32][]string{}
		}
		m.query[l.op] = t.query
	}
	at := len(to)
	for i := range to {
		if len(m.query[to[i].op]) < len(t.query) {
			at = i
			break
		}
	}
	return slices.Clip(slices.Insert(to, at, l))
}

func (nd *rnode) literal(key string) *rnode {
	i, ok := slices.BinarySearchFunc(nd.lits, key, func(k *rnode, s string) int { return strings.Compare(k.key, s) })
	if !ok {
		nd.lits = slices.Clip(slices.Insert(nd.lits, i, &rnode{key: key}))
	}
	return nd.lits[i]
}

func (nd *rnode) extra() *rare {
	if nd.rare == nil {
		nd.rare = &rare{}
	}
	return nd.rare
}

func (r *rare) pattern(s *segment) *rnode {
	i, ok := slices.BinarySearchFunc(r.pats, s, func(p *pattern, s *segment) int { return comparePatterns(&p.seg, s) })
	if !ok {
		r.pats = slices.Insert(r.pats, i, &pattern{seg: *s})
	}
	return &r.pats[i].next
}

// Find looks up the decoded path below the API's context. op is the index of
// the resource in the list given to NewMatcher.
func (m *Matcher) Find(rest, query, verb string) (op int, found Found) {
	s := search{m: m, verb: -1, query: query}
	for i, v := range m.verbs {
		if v == verb {
			s.verb = i
		}
	}
	rest = strings.TrimPrefix(rest, "/")
	more := rest != "" // before the trailing slash goes: "//" has one, empty, segment
	rest = strings.TrimSuffix(rest, "/")
	if op, ok := s.walk(&m.root, rest, more, false); ok {
		return op, Match
	}
	if op, ok := s.walk(&m.root, rest, more, true); ok {
		return op, Match
	}
	if s.seen {
		return -1, NoVerb
	}
	return -1, NoPath
}

type search struct {
	m     *Matcher
	verb  int
	query string
	seen  bool
}

// walk visits each node at most once, so its cost is bounded by the size of
// the API and not by the path.
func (s *search) walk(nd *rnode, rest string, more, wild bool) (int, bool) {
	if more {
		seg, tail, tailMore := cut(rest)
		if i, ok := slices.BinarySearchFunc(nd.lits, seg, func(k *rnode, t string) int { return strings.Compare(k.key, t) }); ok {
			if op, ok := s.walk(nd.lits[i], tail, tailMore, wild); ok {
				return op, true
			}
		}
		if nd.rare != nil {
			for _, p := range nd.rare.pats {
				if p.seg.match(seg) {
					if op, ok := s.walk(&p.next, tail, tailMore, wild); ok {
						return op, true
					}
				}
			}
		}
		if nd.param != nil && seg != "" {
			if op, ok := s.walk(nd.param, tail, tailMore, wild); ok {
				return op, true
			}
		}
		if wild && nd.rare != nil && nd.rare.star != nil && seg != "" {
			if op, ok := s.walk(nd.rare.star, tail, tailMore, wild); ok {
				return op, true
			}
		}
	} else if op, ok := s.pick(nd.leaf); ok {
		return op, true
	}
	if wild && nd.rare != nil {
		if more && rest != "" {
			if op, ok := s.pick(nd.rare.plus); ok {
				return op, true
			}
		}
		return s.pick(nd.rare.rest)
	}
	return 0, false
}

// cut takes the first segment. more tells "a/" (an empty segment follows) from "a".
func cut(rest string) (seg, tail string, more bool) {
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[:i], rest[i+1:], true
	}
	return rest, "", false
}

func (s *search) pick(leaves []leaf) (int, bool) {
	for _, l := range leaves {
		if need := s.m.query[l.op]; len(need) > 0 && !hasParams(s.query, need) {
			continue
		}
		s.seen = true
		if int(l.verb) == s.verb {
			return int(l.op), true
		}
	}
	return 0, false
}

func hasParams(query string, need []string) bool {
	for _, n := range need {
		ok := false
		for part := range strings.SplitSeq(query, "&") {
			name, _, _ := strings.Cut(part, "=")
			if part == n || name == n {
				ok = true
				break
			}
		}
		if !ok {
			return false
		}
	}
	return true
}
