package scim

import (
	"slices"
	"strings"
)

// names reads a list of attributes.
func names(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// wants reports whether the answer has the attribute.
func (c *call) wants(attr string) bool {
	names := func(list []string, whole bool) bool {
		return slices.ContainsFunc(list, func(s string) bool {
			p, err := splitPath(s)
			return err == nil && strings.EqualFold(p.attr, attr) && (!whole || p.sub == "")
		})
	}
	if len(c.only) > 0 {
		return names(c.only, false)
	}
	return !names(c.excluded, true)
}

// project keeps of the resources what the caller asked for (RFC 7644 §3.9).
func (c *call) project(res *result) {
	if len(c.only)+len(c.excluded) == 0 || res.body == nil {
		return
	}
	doc, ok := res.body.(map[string]any)
	if !ok {
		return
	}
	if !res.list {
		res.body = c.projected(doc)
		return
	}
	items, _ := doc["Resources"].([]any)
	for i, e := range items {
		items[i] = c.projected(e.(map[string]any))
	}
}

var always = []string{"schemas", "id", "userName", "displayName"}

func (c *call) projected(doc map[string]any) map[string]any {
	out := map[string]any{}
	if len(c.only) == 0 {
		for name, v := range doc {
			out[name] = v
		}
		for _, s := range c.excluded {
			p, err := splitPath(s)
			if err != nil || slices.ContainsFunc(always[:2], func(a string) bool { return strings.EqualFold(a, p.attr) }) {
				continue
			}
			drop(out, p)
		}
		return out
	}
	for _, name := range always {
		if v, ok := doc[name]; ok && (name != "displayName" || doc["userName"] == nil) {
			out[name] = v
		}
	}
	for _, s := range c.only {
		if p, err := splitPath(s); err == nil {
			keep(out, doc, p)
		}
	}
	return out
}

// keep copies what the path names from a document to another.
func keep(out, doc map[string]any, p attrPath) {
	from, to := doc, out
	if p.schema != "" && !isCore(p.schema) {
		if from = holder(doc, p.schema); from == nil {
			return
		}
		if to = holder(out, p.schema); to == nil {
			to = map[string]any{}
			out[p.schema] = to
		}
	}
	for name, v := range from {
		if !strings.EqualFold(name, p.attr) {
			continue
		}
		if p.sub == "" {
			to[name] = v
			return
		}
		part := func(e any, had any) any {
			m, _ := e.(map[string]any)
			kept, _ := had.(map[string]any)
			if kept == nil {
				kept = map[string]any{}
			}
			if v, ok := lookup(m, p.sub); ok {
				kept[p.sub] = v
			}
			return kept
		}
		if list, ok := v.([]any); ok {
			had, _ := to[name].([]any)
			kept := make([]any, len(list))
			for i, e := range list {
				var h any
				if i < len(had) {
					h = had[i]
				}
				kept[i] = part(e, h)
			}
			to[name] = kept
			return
		}
		to[name] = part(v, to[name])
		return
	}
}

// drop removes what the path names. Parts are removed from copies.
func drop(out map[string]any, p attrPath) {
	in := out
	if p.schema != "" && !isCore(p.schema) {
		if in = holder(out, p.schema); in == nil {
			return
		}
	}
	for name, v := range in {
		if !strings.EqualFold(name, p.attr) {
			continue
		}
		if p.sub == "" {
			delete(in, name)
			return
		}
		list, many := v.([]any)
		if !many {
			list = []any{v}
		}
		for _, e := range list {
			if m, ok := e.(map[string]any); ok {
				for sub := range m {
					if strings.EqualFold(sub, p.sub) {
						delete(m, sub)
					}
				}
			}
		}
		return
	}
}
