package scim

import (
	"reflect"
	"slices"
	"strings"
)

// operation is one step of a PATCH (RFC 7644 §3.5.2).
type operation struct {
	op    string
	path  string
	value any
	given bool // a value was sent
}

// maxOperations bounds one PATCH.
const maxOperations = 1000

// operationsOf reads a PatchOp message.
func operationsOf(doc map[string]any) ([]operation, error) {
	if err := wantSchema(doc, patchSchema); err != nil {
		return nil, err
	}
	v, _ := lookup(doc, "Operations")
	list, ok := v.([]any)
	if !ok || len(list) == 0 || len(list) > maxOperations {
		return nil, bad("invalidSyntax", "want Operations, 1 to %d of them", maxOperations)
	}
	out := make([]operation, len(list))
	for i, v := range list {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, bad("invalidSyntax", "an operation is an object")
		}
		name, _ := lookup(m, "op")
		op, _ := name.(string)
		out[i].op = strings.ToLower(op)
		if !slices.Contains([]string{"add", "replace", "remove"}, out[i].op) {
			return nil, bad("invalidSyntax", "%.32q is none of add, replace and remove", op)
		}
		if p, ok := lookup(m, "path"); ok && p != nil {
			if out[i].path, ok = p.(string); !ok {
				return nil, bad("invalidPath", "a path is text")
			}
		}
		out[i].value, out[i].given = lookup(m, "value")
		if out[i].op != "remove" && !out[i].given {
			return nil, bad("invalidValue", "%s needs a value", out[i].op)
		}
		if out[i].op == "remove" && out[i].path == "" {
			return nil, bad("noTarget", "remove needs a path")
		}
	}
	return out, nil
}

// wantSchema checks that a message names its schema, if it names any.
func wantSchema(doc map[string]any, schema string) error {
	v, ok := lookup(doc, "schemas")
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok || !slices.ContainsFunc(list, func(e any) bool { s, ok := e.(string); return ok && strings.EqualFold(s, schema) }) {
		return bad("invalidSyntax", "schemas must hold %s", schema)
	}
	return nil
}

// patch applies operations to a resource of kind k.
func patch(k *kind, doc map[string]any, ops []operation) error {
	for _, o := range ops {
		if o.path != "" {
			if err := patchPath(k, doc, o); err != nil {
				return err
			}
			continue
		}
		m, ok := o.value.(map[string]any)
		if !ok {
			return bad("invalidValue", "without a path the value is an object")
		}
		for name, v := range m {
			if strings.EqualFold(name, "schemas") {
				continue
			}
			if err := patchPath(k, doc, operation{op: o.op, path: name, value: v, given: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// target is where a path leads: an attribute, perhaps some of its elements, and
// perhaps a part of it or of them.
type target struct {
	attrPath
	filter expr
}

func parseTarget(s string) (target, error) {
	if len(s) > maxFilter {
		return target{}, bad("invalidPath", "the path is longer than %d bytes", maxFilter)
	}
	p := &parser{s: s}
	path, err := p.path()
	if err != nil {
		return target{}, bad("invalidPath", "%.128q is not a path", s)
	}
	t := target{attrPath: path}
	if p.i < len(s) && s[p.i] == '[' {
		if path.sub != "" {
			return t, bad("invalidPath", "%.128q is not a path", s)
		}
		p.i++
		if t.filter, err = p.closed(0, ']'); err != nil {
			return t, bad("invalidFilter", "the filter in %.128q cannot be read", s)
		}
		if sub, ok := strings.CutPrefix(s[p.i:], "."); ok {
			t.sub, p.i = sub, len(s)
		}
	}
	if p.i != len(s) || strings.ContainsAny(t.sub, ".[]: ") {
		return t, bad("invalidPath", "%.128q is not a path", s)
	}
	return t, nil
}

func patchPath(k *kind, doc map[string]any, o operation) error {
	t, err := parseTarget(o.path)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(schemaIDs, func(s string) bool { return s == t.attr }) {
		return patchExtension(k, doc, t.attr, o)
	}
	a := k.attribute(t.schema, t.attr)
	if a == nil {
		return bad("invalidPath", "there is no attribute %.128q", o.path)
	}
	if a.readOnly {
		return bad("mutability", "%s cannot be changed", a.name)
	}
	in := doc
	if t.schema != "" && !isCore(t.schema) {
		if in = holder(doc, t.schema); in == nil {
			in = map[string]any{}
			doc[t.schema] = in
		}
	}
	if a.multi {
		return patchMulti(in, a, t, o)
	}
	if t.filter != nil {
		return bad("invalidPath", "%s is not multi-valued", a.name)
	}
	if t.sub == "" {
		return patchSingle(in, a, o)
	}
	sub := a.sub(t.sub)
	if sub == nil {
		return bad("invalidPath", "there is no attribute %.128q", o.path)
	}
	m, _ := in[a.name].(map[string]any)
	if m == nil {
		m = map[string]any{}
	}
	if o.op == "remove" || o.value == nil {
		delete(m, sub.name)
	} else {
		m[sub.name] = o.value
	}
	if in[a.name] = m; len(m) == 0 {
		delete(in, a.name)
	}
	return nil
}

func patchExtension(k *kind, doc map[string]any, schema string, o operation) error {
	if o.op == "remove" {
		delete(doc, schema)
		return nil
	}
	m, ok := o.value.(map[string]any)
	if !ok {
		return bad("invalidValue", "the value of %s is an object", schema)
	}
	for name, v := range m {
		if strings.EqualFold(name, "schemas") {
			continue
		}
		if err := patchPath(k, doc, operation{op: o.op, path: schema + ":" + name, value: v, given: true}); err != nil {
			return err
		}
	}
	return nil
}

func patchSingle(in map[string]any, a *attribute, o operation) error {
	if o.op == "remove" || o.value == nil {
		if a.required {
			return bad("mutability", "%s cannot be removed", a.name)
		}
		delete(in, a.name)
		return nil
	}
	next, ok := o.value.(map[string]any)
	if old, was := in[a.name].(map[string]any); ok && was {
		for name, v := range next { // parts that are not sent stay (RFC 7644 §3.5.2.1, §3.5.2.3)
			if sub := a.sub(name); sub != nil {
				old[sub.name] = v
			}
		}
		return nil
	}
	in[a.name] = o.value
	return nil
}

// elements reads the value of a multi-valued attribute: one or several.
func elements(a *attribute, v any) []any {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	out := make([]any, 0, len(list))
	for _, e := range list {
		if _, ok := e.(map[string]any); !ok && len(a.subs) > 0 {
			e = map[string]any{"value": e} // some clients send the bare value
		}
		out = append(out, e)
	}
	return out
}

func patchMulti(in map[string]any, a *attribute, t target, o operation) error {
	old, _ := in[a.name].([]any)
	if t.filter != nil || t.sub != "" {
		return patchElements(in, a, t, o, old)
	}
	switch o.op {
	case "replace":
		if in[a.name] = elements(a, o.value); o.value == nil {
			delete(in, a.name)
		}
	case "add":
		for _, e := range elements(a, o.value) {
			if slices.ContainsFunc(old, func(h any) bool { return same(h, e) }) {
				continue
			}
			if isPrimary(e) {
				clearPrimary(old)
			}
			old = append(old, e)
		}
		in[a.name] = old
	case "remove":
		if !o.given || o.value == nil {
			delete(in, a.name)
			return nil
		}
		gone := elements(a, o.value) // only these, as some clients ask
		in[a.name] = slices.DeleteFunc(old, func(h any) bool {
			return slices.ContainsFunc(gone, func(e any) bool { return same(h, e) })
		})
	}
	return nil
}

func patchElements(in map[string]any, a *attribute, t target, o operation, old []any) error {
	var sub *attribute
	if t.sub != "" {
		if sub = a.sub(t.sub); sub == nil {
			return bad("invalidPath", "there is no attribute %.128q", o.path)
		}
	}
	hit := false
	var out []any
	for _, e := range old {
		m, ok := e.(map[string]any)
		if !ok || t.filter != nil && !t.filter.holds(m) {
			out = append(out, e)
			continue
		}
		hit = true
		switch {
		case o.op == "remove" && sub == nil:
			continue
		case o.op == "remove":
			delete(m, sub.name)
		case sub != nil:
			m[sub.name] = o.value
		default:
			next, ok := o.value.(map[string]any)
			if !ok {
				return bad("invalidValue", "the value of %s is an object", a.name)
			}
			for name, v := range next {
				m[name] = v
			}
		}
		if isPrimary(m) {
			others := slices.DeleteFunc(slices.Clone(old), func(x any) bool { return same(x, e) })
			clearPrimary(others)
		}
		out = append(out, m)
	}
	if !hit && o.op != "remove" {
		m := newElement(t.filter)
		if m == nil {
			return bad("noTarget", "nothing matches %.128q", o.path)
		}
		if sub != nil {
			m[sub.name] = o.value
		} else if next, ok := o.value.(map[string]any); ok {
			for name, v := range next {
				m[name] = v
			}
		}
		out = append(out, m)
	}
	in[a.name] = out
	return nil
}

// newElement is an element that an equality, such as type eq "work", describes;
// nil for other filters.
func newElement(e expr) map[string]any {
	c, ok := e.(compare)
	if !ok || c.op != "eq" || c.path.sub != "" || c.want == nil {
		return nil
	}
	return map[string]any{c.path.attr: c.want}
}

func same(a, b any) bool {
	m, ok1 := a.(map[string]any)
	n, ok2 := b.(map[string]any)
	if !ok1 || !ok2 {
		return reflect.DeepEqual(a, b)
	}
	v, has1 := lookup(m, "value")
	w, has2 := lookup(n, "value")
	if !has1 || !has2 {
		return reflect.DeepEqual(m, n)
	}
	t, ok := lookup(n, "type")
	u, _ := lookup(m, "type")
	return reflect.DeepEqual(v, w) && (!ok || reflect.DeepEqual(t, u))
}

func isPrimary(e any) bool {
	m, _ := e.(map[string]any)
	v, _ := lookup(m, "primary")
	b, _ := truth(v)
	return b
}

func clearPrimary(list []any) {
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && isPrimary(m) {
			m["primary"] = false
		}
	}
}
