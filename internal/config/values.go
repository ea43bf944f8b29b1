package config

import (
	"slices"
	"strings"
	"time"
)

// Values are the effective settings by key, all of them already checked
// against the types of the catalogue. The getters therefore return no errors;
// their last argument is what an absent key means.
type Values struct {
	m      map[string]any
	order  []string
	prefix string // of an element of an array of tables
}

func (v Values) get(key string) (any, bool) {
	x, ok := v.m[join(v.prefix, key)]
	return x, ok
}

// Has reports whether the operator set the key.
func (v Values) Has(key string) bool { _, ok := v.get(key); return ok }

// String is a text.
func (v Values) String(key, absent string) string {
	if x, ok := v.get(key); ok {
		return asString(x)
	}
	return absent
}

// Secret is a text that cannot be printed.
func (v Values) Secret(key string, absent Secret) Secret {
	if x, ok := v.get(key); ok {
		return Secret(asString(x))
	}
	return absent
}

// Bool is a switch.
func (v Values) Bool(key string, absent bool) bool {
	if x, ok := v.get(key); ok {
		if b, err := asBool(x); err == nil {
			return b
		}
	}
	return absent
}

// Int is a whole number.
func (v Values) Int(key string, absent int) int {
	if x, ok := v.get(key); ok {
		if n, err := asInt(x); err == nil {
			return int(n)
		}
	}
	return absent
}

// List is a list of texts.
func (v Values) List(key string, absent []string) []string {
	if x, ok := v.get(key); ok {
		if l, err := asList(x); err == nil {
			return l
		}
	}
	return absent
}

// Duration is a time; a bare number is in the key's own unit (seconds when the
// catalogue names none).
func (v Values) Duration(key string, absent time.Duration) time.Duration {
	x, ok := v.get(key)
	if !ok {
		return absent
	}
	unit := "s"
	if r, ok := theCatalogue().find(pathOf(join(v.prefix, key))); ok {
		if u, ok := strings.CutPrefix(r.typ, "d:"); ok {
			unit = u
		}
	}
	if d, err := asDuration(x, unit); err == nil {
		return d
	}
	return absent
}

// Each gives the elements of an array of tables, in order.
func (v Values) Each(key string) []Values {
	full := join(v.prefix, key)
	var out []Values
	for _, k := range v.order {
		rest, ok := strings.CutPrefix(k, full+"[")
		if !ok {
			continue
		}
		n, _, ok := strings.Cut(rest, "]")
		if !ok {
			continue
		}
		elem := full + "[" + n + "]"
		if !slices.ContainsFunc(out, func(o Values) bool { return o.prefix == elem }) {
			out = append(out, Values{m: v.m, order: v.order, prefix: elem})
		}
	}
	return out
}

// Under is an open table as texts, by the rest of the key.
func (v Values) Under(key string) map[string]string {
	full := join(v.prefix, key) + "."
	out := map[string]string{}
	for _, k := range v.order {
		if rest, ok := strings.CutPrefix(k, full); ok {
			out[rest] = asString(v.m[k])
		}
	}
	return out
}

// pathOf splits a key and drops element numbers.
func pathOf(key string) []string {
	segs := strings.Split(key, ".")
	for i, s := range segs {
		if at := strings.IndexByte(s, '['); at > 0 && strings.HasSuffix(s, "]") {
			segs[i] = s[:at]
		}
	}
	return segs
}
