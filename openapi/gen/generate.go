package main

import (
	"fmt"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

type generator struct {
	facts, prose *yaml.Node
	used         map[string]bool   // #/components/... reached so far
	ids          map[string]string // operationId to method and path
}

func (g *generator) run(list []listed) (*yaml.Node, error) {
	out := mapping()
	set(out, "openapi", scalar("3.0.3"))
	info := get(g.prose, "info")
	if info == nil {
		return nil, fmt.Errorf("prose has no info")
	}
	set(out, "info", info)
	set(out, "servers", get(g.facts, "servers"))

	g.nullableAnswers(get(g.facts, "paths"))
	g.nullable(get(g.facts, "components"))
	paths, tags := mapping(), map[string]bool{}
	for _, l := range list {
		item := get(get(g.facts, "paths"), l.path)
		op := get(item, strings.ToLower(l.method))
		if op == nil {
			return nil, fmt.Errorf("%s %s is not among the facts", l.method, l.path)
		}
		op, err := g.operation(l, op, tags)
		if err != nil {
			return nil, err
		}
		p := get(paths, l.path)
		if p == nil {
			p = mapping()
			set(paths, l.path, p)
			if params := get(item, "parameters"); params != nil {
				set(p, "parameters", params)
				g.reach(params)
			}
		}
		set(p, strings.ToLower(l.method), op)
	}
	tagList, err := g.tags(tags)
	if err != nil {
		return nil, err
	}
	set(out, "tags", tagList)
	set(out, "paths", paths)
	comps, err := g.components()
	if err != nil {
		return nil, err
	}
	set(out, "components", comps)
	return out, g.unusedProse()
}

// operation copies the facts of one operation and adds our prose.
func (g *generator) operation(l listed, facts *yaml.Node, tags map[string]bool) (*yaml.Node, error) {
	id := l.id
	if id == "" {
		id = operationID(l.method, l.path, l.method == "GET" && listsThings(facts))
	}
	where := l.method + " " + l.path
	if other, dup := g.ids[id]; dup {
		return nil, fmt.Errorf("operationId %s of %s is taken by %s: give one in the .operations file", id, where, other)
	}
	g.ids[id] = where
	text := get(get(g.prose, "operations"), id)
	if get(text, "summary") == nil {
		return nil, fmt.Errorf("operation %s (%s) has no summary in the prose", id, where)
	}
	op := mapping()
	if t := get(facts, "tags"); t != nil {
		set(op, "tags", t)
		for _, n := range t.Content {
			tags[n.Value] = true
		}
	}
	set(op, "operationId", scalar(id))
	set(op, "summary", get(text, "summary"))
	if d := get(text, "description"); d != nil {
		set(op, "description", d)
	}
	for i := 0; i+1 < len(facts.Content); i += 2 {
		k, v := facts.Content[i].Value, facts.Content[i+1]
		switch k {
		case "tags", "operationId", "summary", "description":
			continue
		case "security":
		}
		set(op, k, v)
	}
	if get(op, "security") == nil {
		if s := get(g.facts, "security"); s != nil {
			set(op, "security", s)
		}
	}
	describeResponses(get(op, "responses"))
	g.reach(op)
	return op, nil
}

func (g *generator) tags(used map[string]bool) (*yaml.Node, error) {
	seq := &yaml.Node{Kind: yaml.SequenceNode}
	var names []string
	for n := range used {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		d := get(get(g.prose, "tags"), n)
		if d == nil {
			return nil, fmt.Errorf("tag %q has no description in the prose", n)
		}
		t := mapping()
		set(t, "name", scalar(n))
		set(t, "description", d)
		seq.Content = append(seq.Content, t)
	}
	return seq, nil
}

// reach notes every component that n refers to, transitively.
func (g *generator) reach(n *yaml.Node) {
	if n == nil {
		return
	}
	if n.Kind == yaml.MappingNode {
		if r := get(n, "$ref"); r != nil && strings.HasPrefix(r.Value, "#/components/") && !g.used[r.Value] {
			g.used[r.Value] = true
			kind, name, _ := strings.Cut(strings.TrimPrefix(r.Value, "#/components/"), "/")
			g.reach(get(get(get(g.facts, "components"), kind), name))
		}
	}
	for _, c := range n.Content {
		g.reach(c)
	}
}

func (g *generator) components() (*yaml.Node, error) {
	out := mapping()
	all := get(g.facts, "components")
	for i := 0; i+1 < len(all.Content); i += 2 {
		kind, group := all.Content[i].Value, all.Content[i+1]
		if kind == "securitySchemes" {
			set(out, kind, g.schemes(group))
			continue
		}
		kept := mapping()
		for j := 0; j+1 < len(group.Content); j += 2 {
			name, v := group.Content[j].Value, group.Content[j+1]
			ref := "#/components/" + kind + "/" + name
			if !g.used[ref] {
				continue
			}
			if v == nil {
				return nil, fmt.Errorf("%s is empty", ref)
			}
			if kind == "responses" && get(v, "description") != nil {
				set(v, "description", scalar(words(name)))
			}
			if d := get(get(g.prose, kind), name); d != nil && d.Kind == yaml.ScalarNode {
				set(v, "description", d)
			}
			set(kept, name, v)
		}
		if len(kept.Content) > 0 {
			set(out, kind, kept)
		}
	}
	for ref := range g.used {
		kind, name, _ := strings.Cut(strings.TrimPrefix(ref, "#/components/"), "/")
		if get(get(out, kind), name) == nil {
			return nil, fmt.Errorf("%s is referred to and not among the facts", ref)
		}
	}
	return out, nil
}

// schemes copies the security schemes with only the scopes in use.
func (g *generator) schemes(group *yaml.Node) *yaml.Node {
	used := map[string]bool{}
	for id := range g.ids {
		method, path, _ := strings.Cut(g.ids[id], " ")
		op := get(get(get(g.facts, "paths"), path), strings.ToLower(method))
		sec := get(op, "security")
		if sec == nil {
			sec = get(g.facts, "security")
		}
		leaves(sec, used)
	}
	prune(group, used)
	return group
}

func leaves(n *yaml.Node, out map[string]bool) {
	if n == nil {
		return
	}
	if n.Kind == yaml.ScalarNode {
		out[n.Value] = true
	}
	for _, c := range n.Content {
		leaves(c, out)
	}
}

func prune(n *yaml.Node, used map[string]bool) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != "scopes" {
			prune(n.Content[i+1], used)
			continue
		}
		kept := mapping()
		for j, s := 0, n.Content[i+1]; j+1 < len(s.Content); j += 2 {
			if used[s.Content[j].Value] {
				set(kept, s.Content[j].Value, scalar(words(strings.TrimPrefix(s.Content[j].Value, "apim:"))))
			}
		}
		n.Content[i+1] = kept
	}
}

// unusedProse fails on prose about operations that are not listed.
func (g *generator) unusedProse() error {
	ops := get(g.prose, "operations")
	if ops == nil {
		return nil
	}
	for i := 0; i+1 < len(ops.Content); i += 2 {
		if _, ok := g.ids[ops.Content[i].Value]; !ok {
			return fmt.Errorf("prose about unknown operation %s", ops.Content[i].Value)
		}
	}
	return nil
}

var statusText = map[string]string{
	"200": "Done", "201": "Created", "202": "Accepted for approval", "204": "Nothing to return",
	"303": "See the given location", "304": "Not modified", "400": "Malformed or against a rule",
	"401": "Not authenticated, or without a scope that opens the operation", "403": "Refused by a rule",
	"404": "Not found", "406": "No such representation", "409": "In conflict with what exists",
	"412": "Changed in the meantime", "415": "Media type not supported", "500": "Server error",
}

func describeResponses(n *yaml.Node) {
	if n == nil {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if r := n.Content[i+1]; get(r, "$ref") == nil {
			text := statusText[n.Content[i].Value]
			if text == "" {
				text = "Answer"
			}
			set(r, "description", scalar(text))
		}
	}
}
