package main

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// nullable marks every optional member of an object as nullable. The original
// writes members without a value as null and reads null as absent, which its
// interface facts do not say.
func (g *generator) nullable(n *yaml.Node) {
	if n == nil {
		return
	}
	if props := get(n, "properties"); n.Kind == yaml.MappingNode && props != nil && props.Kind == yaml.MappingNode {
		required := map[string]bool{}
		leaves(get(n, "required"), required)
		for i := 0; i+1 < len(props.Content); i += 2 {
			if !required[props.Content[i].Value] {
				g.allowNull(props.Content[i+1])
			}
		}
	}
	for _, c := range n.Content {
		g.nullable(c)
	}
}

func (g *generator) allowNull(s *yaml.Node) {
	if s.Kind != yaml.MappingNode {
		return
	}
	if r := get(s, "$ref"); r != nil {
		name := strings.TrimPrefix(r.Value, "#/components/schemas/")
		s = get(get(get(g.facts, "components"), "schemas"), name)
	}
	if s == nil || get(s, "nullable") != nil {
		return
	}
	parts := get(s, "allOf")
	if parts != nil { // null must satisfy every part
		for _, part := range parts.Content {
			g.allowNull(part)
		}
	}
	if get(s, "type") != nil || parts != nil {
		set(s, "nullable", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	}
}

// nullableAnswers does so for the schemas that operations give inline.
func (g *generator) nullableAnswers(paths *yaml.Node) {
	for _, item := range paths.Content {
		for _, op := range item.Content {
			g.nullable(get(op, "responses"))
		}
	}
}
