package exchange

import "github.com/cardea-apim/cardea/internal/http1"

// Field is one header field as it was received or will be sent.
type Field = http1.Field

// Header is a list of fields in wire order. Names compare without case.
type Header []Field

// Get is the value of the first field of that name, or "".
func (h Header) Get(name string) string {
	for i := range h {
		if Fold(h[i].Name, name) {
			return h[i].Value
		}
	}
	return ""
}

// Has reports whether there is a field of that name.
func (h Header) Has(name string) bool {
	for i := range h {
		if Fold(h[i].Name, name) {
			return true
		}
	}
	return false
}

// Add appends a field.
func (h *Header) Add(name, value string) { *h = append(*h, Field{Name: name, Value: value}) }

// Set replaces all fields of that name by one, in the place of the first.
func (h *Header) Set(name, value string) {
	out, done := (*h)[:0], false
	for _, f := range *h {
		if Fold(f.Name, name) {
			if done {
				continue
			}
			f.Value, done = value, true
		}
		out = append(out, f)
	}
	if !done {
		out = append(out, Field{Name: name, Value: value})
	}
	*h = out
}

// Del removes all fields of that name.
func (h *Header) Del(name string) {
	out := (*h)[:0]
	for _, f := range *h {
		if !Fold(f.Name, name) {
			out = append(out, f)
		}
	}
	*h = out
}

// Fold reports whether two header names are the same, ignoring ASCII case.
func Fold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if x, y := a[i], b[i]; x != y && lower(x) != lower(y) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// EachToken calls fn for every element of a comma-separated value, without
// blanks around it, until fn returns false. Empty elements are skipped.
func EachToken(value string, fn func(string) bool) {
	for len(value) > 0 {
		i := 0
		for i < len(value) && value[i] != ',' {
			i++
		}
		if t := trim(value[:i]); t != "" && !fn(t) {
			return
		}
		if i == len(value) {
			return
		}
		value = value[i+1:]
	}
}

func trim(s string) string {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
