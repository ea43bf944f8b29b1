package definition

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// node is a value inside JSON text that is known to be valid. Members are found
// when asked for, so that a document of megabytes costs what is looked at, and
// every value keeps its bytes: numbers stay text, order stays order.
type node struct {
	src        []byte
	start, end int
}

// member is one name and value of an object.
type member struct {
	name     string
	keyStart int
	value    node
}

func (n node) ok() bool      { return n.src != nil }
func (n node) bytes() []byte { return n.src[n.start:n.end] }
func (n node) kind() byte {
	if !n.ok() {
		return 0
	}
	switch c := n.src[n.start]; c {
	case '{', '[', '"', 't', 'f', 'n':
		return c
	default:
		return '0'
	}
}

func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skip is the end of the value that starts at i.
func skip(b []byte, i int) int {
	if i >= len(b) {
		return len(b)
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
				if depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return len(b)
	}
	for i < len(b) && !strings.ContainsRune(",]} \n\t\r", rune(b[i])) {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// members lists an object's members in order; of anything else, none.
func (n node) members() []member {
	if n.kind() != '{' {
		return nil
	}
	var out []member
	i := space(n.src, n.start+1)
	for i < n.end && n.src[i] == '"' {
		m := member{keyStart: i}
		e := skipString(n.src, i)
		m.name = unquote(n.src[i:e])
		i = space(n.src, e)   // colon
		i = space(n.src, i+1) // value
		e = skip(n.src, i)
		m.value = node{n.src, i, e}
		out = append(out, m)
		i = space(n.src, e)
		if i < n.end && n.src[i] == ',' {
			i = space(n.src, i+1)
		}
	}
	return out
}

// items lists an array's elements; of anything else, none.
func (n node) items() []node {
	if n.kind() != '[' {
		return nil
	}
	var out []node
	i := space(n.src, n.start+1)
	for i < n.end-1 {
		e := skip(n.src, i)
		out = append(out, node{n.src, i, e})
		i = space(n.src, e)
		if i < n.end && n.src[i] == ',' {
			i = space(n.src, i+1)
		}
	}
	return out
}

// get follows names from n; an absent one gives a node that is not ok.
func (n node) get(names ...string) node {
	for _, name := range names {
		found := node{}
		for _, m := range n.members() {
			if m.name == name {
				found = m.value // the last of repeated members counts, as in encoding/json
			}
		}
		if !found.ok() {
			return node{}
		}
		n = found
	}
	return n
}

// text is a scalar as text: a string's contents, a number's or literal's bytes.
func (n node) text() string {
	switch n.kind() {
	case 0, '{', '[', 'n':
		return ""
	case '"':
		return unquote(n.bytes())
	}
	return string(n.bytes())
}

func (n node) isTrue() bool { return n.kind() == 't' }

// strings lists the texts of an array of scalars.
func (n node) strings() []string {
	var out []string
	for _, i := range n.items() {
		if t := i.text(); t != "" {
			out = append(out, t)
		}
	}
	return out
}

func unquote(b []byte) string {
	if len(b) >= 2 && bytes.IndexByte(b, 0x5c) < 0 && utf8.Valid(b) {
		return string(b[1 : len(b)-1])
	}
	var s string
	if json.Unmarshal(b, &s) != nil {
		return ""
	}
	return s
}

// quote is s as JSON, without escaping what HTML would mind.
func quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(s) != nil {
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
