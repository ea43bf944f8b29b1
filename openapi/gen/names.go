package main

import (
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// verbs are last segments that say what is done rather than what it is done to.
var verbs = map[string]bool{
	"block": true, "cancel": true, "change": true, "copy": true, "deploy": true, "export": true, "generate": true,
	"import": true, "map": true, "monetize": true, "publish": true, "regenerate": true, "reset": true, "restore": true,
	"revoke": true, "unblock": true, "undeploy": true, "validate": true,
}

// operationID names an operation: the verb, then the nouns of its path. A noun
// followed by a parameter, or the target of a create, is singular. A last
// segment that starts with a verb gives the verb itself.
func operationID(method, path string, list bool) string {
	segs := strings.Split(strings.Trim(path, "/"), "/")
	verb := map[string]string{"GET": "get", "POST": "create", "PUT": "update", "DELETE": "delete", "PATCH": "patch", "HEAD": "check"}[method]
	if method == "GET" && list {
		verb = "list"
	}
	var nouns []string
	for i, s := range segs {
		if strings.HasPrefix(s, "{") {
			if len(nouns) > 0 && !list || i < len(segs)-1 {
				nouns[len(nouns)-1] = singular(nouns[len(nouns)-1])
			}
			continue
		}
		last := i == len(segs)-1
		head, rest, _ := strings.Cut(s, "-")
		if last && i > 0 && verbs[head] {
			verb = head
			for j := range nouns {
				nouns[j] = singular(nouns[j])
			}
			n := camel(rest)
			if len(nouns) > 0 && strings.HasPrefix(n, nouns[len(nouns)-1]) {
				nouns = nouns[:len(nouns)-1]
			}
			if n != "" {
				nouns = append(nouns, n)
			}
			continue
		}
		nouns = append(nouns, camel(s))
	}
	if verb == "create" && len(nouns) > 0 {
		nouns[len(nouns)-1] = singular(nouns[len(nouns)-1])
	}
	return verb + strings.Join(nouns, "")
}

func singular(s string) string {
	switch {
	case strings.HasSuffix(s, "ies"):
		return strings.TrimSuffix(s, "ies") + "y"
	case strings.HasSuffix(s, "ss"), strings.HasSuffix(s, "us"), s == "Settings", s == "Me":
		return s
	}
	return strings.TrimSuffix(s, "s")
}

func camel(s string) string {
	var b strings.Builder
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == '-' || r == '.' || r == '_' }) {
		r := []rune(w)
		r[0] = unicode.ToUpper(r[0])
		b.WriteString(string(r))
	}
	return b.String()
}

// words splits a name for people: NotFound and not_found become "Not found".
func words(s string) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '_' || r == '-' || r == ':':
			b.WriteByte(' ')
		case i == 0:
			b.WriteRune(unicode.ToUpper(r))
		case unicode.IsUpper(r):
			b.WriteByte(' ')
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// listsThings reports whether a GET answers an array or a schema named ...List.
func listsThings(op *yaml.Node) bool {
	s := get(get(get(get(get(get(op, "responses"), "200"), "content"), "application/json"), "schema"), "$ref")
	if s != nil {
		return strings.HasSuffix(s.Value, "List")
	}
	t := get(get(get(get(get(get(op, "responses"), "200"), "content"), "application/json"), "schema"), "type")
	return t != nil && t.Value == "array"
}

func mapping() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode} }

func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func get(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func set(n *yaml.Node, key string, v *yaml.Node) {
	if v == nil {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = v
			return
		}
	}
	k := scalar(key)
	if key != "" && key[0] >= '0' && key[0] <= '9' {
		k.Style = yaml.SingleQuotedStyle
	}
	n.Content = append(n.Content, k, v)
}

// merge lays over onto n: mappings member by member, anything else as a whole;
// a null removes the member.
func merge(n, over *yaml.Node) {
	for i := 0; i+1 < len(over.Content); i += 2 {
		k, v := over.Content[i].Value, over.Content[i+1]
		if v.Tag == "!!null" {
			for j := 0; j+1 < len(n.Content); j += 2 {
				if n.Content[j].Value == k {
					n.Content = append(n.Content[:j:j], n.Content[j+2:]...)
					break
				}
			}
			continue
		}
		if old := get(n, k); old != nil && old.Kind == yaml.MappingNode && v.Kind == yaml.MappingNode && !refers(v) {
			n.Style = 0
			merge(old, v)
			continue
		}
		set(n, k, v)
	}
}

// refers reports whether n is a reference; one that over clears is not.
func refers(n *yaml.Node) bool {
	r := get(n, "$ref")
	return r != nil && r.Tag != "!!null"
}
