package scim

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bounds of a filter.
const (
	maxFilter      = 4096 // bytes
	maxFilterDepth = 20
)

// expr is a filter (RFC 7644 §3.4.2.2). It holds or not for a resource.
type expr interface{ holds(doc map[string]any) bool }

type (
	both   struct{ a, b expr }
	either struct{ a, b expr }
	not    struct{ e expr }
	// compare is one attribute compared with a value; op pr has none.
	compare struct {
		path attrPath
		op   string
		want any
	}
	// within is attr[filter]: an element of a multi-valued attribute matches.
	within struct {
		path attrPath
		e    expr
	}
)

// attrPath names an attribute: the schema when it is given, the attribute, and
// the part of it.
type attrPath struct{ schema, attr, sub string }

func (f both) holds(d map[string]any) bool   { return f.a.holds(d) && f.b.holds(d) }
func (f either) holds(d map[string]any) bool { return f.a.holds(d) || f.b.holds(d) }
func (f not) holds(d map[string]any) bool    { return !f.e.holds(d) }

func (f within) holds(d map[string]any) bool {
	for _, v := range f.path.values(d) {
		if m, ok := v.(map[string]any); ok && f.e.holds(m) {
			return true
		}
	}
	return false
}

func (f compare) holds(d map[string]any) bool {
	vals := f.path.values(d)
	if f.op == "pr" {
		for _, v := range vals {
			if present(v) {
				return true
			}
		}
		return false
	}
	if len(vals) == 0 {
		return f.op == "ne" && f.want != nil || f.op == "eq" && f.want == nil
	}
	if f.op == "ne" {
		for _, v := range vals {
			if is(v, "eq", f.want, f.path.exact()) {
				return false
			}
		}
		return true
	}
	for _, v := range vals {
		if is(v, f.op, f.want, f.path.exact()) {
			return true
		}
	}
	return false
}

// exact reports whether values of the attribute are compared with their case.
func (p attrPath) exact() bool {
	a := strings.ToLower(p.attr)
	return a == "id" || a == "externalid" || a == "$ref" || p.sub == "$ref"
}

// values are what the path leads to: each element of a multi-valued attribute,
// of which a complex one without a part stands for its value.
func (p attrPath) values(d map[string]any) []any {
	v, ok := lookup(holder(d, p.schema), p.attr)
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	if p.sub == "" {
		return list
	}
	var out []any
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			if v, ok := lookup(m, p.sub); ok {
				out = append(out, v)
			}
		}
	}
	return out
}

// holder is the object that holds a schema's attributes.
func holder(d map[string]any, schema string) map[string]any {
	if schema == "" || isCore(schema) {
		return d
	}
	v, _ := lookup(d, schema)
	m, _ := v.(map[string]any)
	return m
}

// lookup finds a member, ignoring case.
func lookup(m map[string]any, name string) (any, bool) {
	if v, ok := m[name]; ok {
		return v, true
	}
	for k, v := range m {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return nil, false
}

func present(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}

// is compares one value.
func is(v any, op string, want any, exact bool) bool {
	if m, ok := v.(map[string]any); ok {
		v, _ = lookup(m, "value")
	}
	switch have := v.(type) {
	case bool:
		w, ok := truth(want)
		return ok && op == "eq" && have == w
	case string:
		w, ok := want.(string)
		if !ok {
			return false
		}
		if a, err := time.Parse(time.RFC3339, have); err == nil {
			if b, err := time.Parse(time.RFC3339, w); err == nil {
				return ordered(a.Compare(b), op)
			}
		}
		if !exact {
			have, w = strings.ToLower(have), strings.ToLower(w)
		}
		switch op {
		case "co":
			return strings.Contains(have, w)
		case "sw":
			return strings.HasPrefix(have, w)
		case "ew":
			return strings.HasSuffix(have, w)
		}
		return ordered(strings.Compare(have, w), op)
	case json.Number:
		w, ok := want.(json.Number)
		if !ok {
			return false
		}
		a, err1 := have.Float64()
		b, err2 := w.Float64()
		if err1 != nil || err2 != nil {
			return false
		}
		switch {
		case a < b:
			return ordered(-1, op)
		case a > b:
			return ordered(1, op)
		}
		return ordered(0, op)
	case nil:
		return op == "eq" && want == nil
	}
	return false
}

func ordered(c int, op string) bool {
	switch op {
	case "eq":
		return c == 0
	case "gt":
		return c > 0
	case "ge":
		return c >= 0
	case "lt":
		return c < 0
	case "le":
		return c <= 0
	}
	return false
}

// truth reads a truth value, also one that came as a string.
func truth(v any) (b, ok bool) {
	switch v := v.(type) {
	case bool:
		return v, true
	case string:
		b, err := strconv.ParseBool(strings.ToLower(v))
		return b, err == nil
	}
	return false, false
}

// parseFilter reads a whole filter.
func parseFilter(s string) (expr, error) {
	if len(s) > maxFilter {
		return nil, bad("invalidFilter", "the filter is longer than %d bytes", maxFilter)
	}
	p := &parser{s: s}
	e, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.i < len(p.s) {
		return nil, p.wrong("the end")
	}
	return e, nil
}

type parser struct {
	s string
	i int
}

func (p *parser) wrong(want string) error {
	return bad("invalidFilter", "at %d of the filter: want %s", p.i+1, want)
}

func (p *parser) space() {
	for p.i < len(p.s) && p.s[p.i] == ' ' {
		p.i++
	}
}

// word takes the next word when it is w, ignoring case.
func (p *parser) word(w string) bool {
	p.space()
	end := p.i + len(w)
	if end > len(p.s) || !strings.EqualFold(p.s[p.i:end], w) || end < len(p.s) && isName(p.s[end]) {
		return false
	}
	p.i = end
	return true
}

func (p *parser) sign(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *parser) or(depth int) (expr, error) {
	a, err := p.and(depth)
	for err == nil && p.word("or") {
		var b expr
		b, err = p.and(depth)
		a = either{a, b}
	}
	return a, err
}

func (p *parser) and(depth int) (expr, error) {
	a, err := p.one(depth)
	for err == nil && p.word("and") {
		var b expr
		b, err = p.one(depth)
		a = both{a, b}
	}
	return a, err
}

func (p *parser) one(depth int) (expr, error) {
	if depth > maxFilterDepth {
		return nil, bad("invalidFilter", "the filter is nested deeper than %d levels", maxFilterDepth)
	}
	if at := p.i; p.word("not") {
		if p.sign('(') {
			e, err := p.closed(depth, ')')
			return not{e}, err
		}
		p.i = at
	}
	if p.sign('(') {
		return p.closed(depth, ')')
	}
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	if p.i < len(p.s) && p.s[p.i] == '[' {
		p.i++
		e, err := p.closed(depth, ']')
		return within{path, e}, err
	}
	for _, op := range []string{"pr", "eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"} {
		if !p.word(op) {
			continue
		}
		if op == "pr" {
			return compare{path, op, nil}, nil
		}
		v, err := p.value()
		return compare{path, op, v}, err
	}
	return nil, p.wrong("one of eq ne co sw ew pr gt ge lt le")
}

func (p *parser) closed(depth int, end byte) (expr, error) {
	e, err := p.or(depth + 1)
	if err == nil && !p.sign(end) {
		err = p.wrong(strconv.QuoteRune(rune(end)))
	}
	return e, err
}

func isName(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '$'
}

// path reads [schema:]attr[.sub].
func (p *parser) path() (attrPath, error) {
	p.space()
	start := p.i
	for p.i < len(p.s) && (isName(p.s[p.i]) || p.s[p.i] == ':' || p.s[p.i] == '.') {
		p.i++
	}
	if start == p.i {
		return attrPath{}, p.wrong("an attribute")
	}
	return splitPath(p.s[start:p.i])
}

// splitPath separates urn:...:User:name.familyName.
func splitPath(s string) (attrPath, error) {
	var a attrPath
	if len(s) >= 4 && strings.EqualFold(s[:4], "urn:") {
		for _, known := range schemaIDs {
			if len(s) >= len(known) && strings.EqualFold(s[:len(known)], known) {
				if len(s) == len(known) {
					return attrPath{attr: known}, nil
				}
				if s[len(known)] == ':' {
					a.schema, s = known, s[len(known)+1:]
					break
				}
			}
		}
		if a.schema == "" {
			return a, bad("invalidPath", "unknown schema in %.128q", s)
		}
	}
	a.attr, a.sub, _ = strings.Cut(s, ".")
	if a.attr == "" || strings.ContainsAny(a.sub, ".:") || strings.Contains(a.attr, ":") {
		return a, bad("invalidPath", "%.128q is not the path of an attribute", s)
	}
	return a, nil
}

// value reads a JSON value that is neither object nor array.
func (p *parser) value() (any, error) {
	p.space()
	d := json.NewDecoder(strings.NewReader(p.s[p.i:]))
	d.UseNumber()
	tok, err := d.Token()
	if err != nil {
		return nil, p.wrong(`a value such as "text", true or 1`)
	}
	if _, ok := tok.(json.Delim); ok {
		return nil, p.wrong(`a value such as "text", true or 1`)
	}
	p.i += int(d.InputOffset())
	return tok, nil
}

func (p attrPath) String() string {
	s := p.attr
	if p.sub != "" {
		s += "." + p.sub
	}
	if p.schema != "" {
		s = fmt.Sprintf("%s:%s", p.schema, s)
	}
	return s
}
