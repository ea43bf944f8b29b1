package publish

import (
	"context"
	"fmt"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// term is one condition of a search: words or a quoted phrase under a key.
type term struct {
	key   string // lower case; empty: the name
	value string
	exact bool
}

// parseSearch reads the query language of the publisher: key:value pairs and
// bare words, quotes for exact values. Different keys are ANDed, the same key
// repeated and terms joined by OR are alternatives.
func parseSearch(q string) ([][]term, error) {
	if len(q) > 2048 {
		return nil, fault.BadRequest.With("query: is too long")
	}
	var groups [][]term
	byKey := map[string]int{}
	or, bare := false, -1
	for _, t := range tokens(q) {
		if !t.exact && t.key == "" {
			if t.value == "AND" {
				or, bare = false, -1
				continue
			}
			if t.value == "OR" {
				or, bare = true, -1
				continue
			}
		}
		t.value = strings.Trim(t.value, "*")
		if t.value == "" {
			continue
		}
		if len(groups) >= 32 {
			return nil, fault.BadRequest.With("query: has too many conditions")
		}
		at, seen := byKey[t.key]
		switch {
		case or && len(groups) > 0:
			at = len(groups) - 1
			groups[at] = append(groups[at], t)
		case t.key == "" && !t.exact && bare >= 0: // words in a row are one phrase
			g := groups[bare]
			g[len(g)-1].value += " " + t.value
			continue
		case seen:
			groups[at] = append(groups[at], t)
		default:
			at = len(groups)
			groups = append(groups, []term{t})
			byKey[t.key] = at
		}
		or, bare = false, -1
		if t.key == "" && !t.exact {
			bare = at
		}
	}
	return groups, nil
}

// tokens splits at blanks outside of quotes.
func tokens(q string) []term {
	var out []term
	for i := 0; i < len(q); {
		if q[i] == ' ' || q[i] == '\t' {
			i++
			continue
		}
		var t term
		j := i
		for j < len(q) && !strings.ContainsRune(" \t\"", rune(q[j])) {
			if q[j] == ':' && t.key == "" {
				t.key = strings.ToLower(q[i:j])
				i = j + 1
			}
			j++
		}
		if j < len(q) && q[j] == '"' {
			end := strings.IndexByte(q[j+1:], '"')
			if end < 0 {
				end = len(q) - j - 1
			}
			t.value, t.exact = q[j+1:j+1+end], true
			j = min(len(q), j+end+2)
		} else {
			t.value = q[i:j]
		}
		if t.value == "" && t.key != "" && !t.exact { // "name: pizza"
			for j < len(q) && q[j] == ' ' {
				j++
			}
			k := j
			for k < len(q) && q[k] != ' ' {
				k++
			}
			t.value = strings.Trim(q[j:k], `"`)
			j = k
		}
		out = append(out, t)
		i = j
	}
	return out
}

// condition translates a term for the store; ok is false if it can only be
// decided on the API itself.
func (t term) condition() (c apim.Cond, ok bool) {
	op := apim.Contains
	if t.exact {
		op = apim.EqFold
	}
	switch t.key {
	case "", "name":
		return apim.Cond{Col: "name", Op: op, Value: t.value}, true
	case "version", "context", "provider", "description":
		return apim.Cond{Col: t.key, Op: op, Value: t.value}, true
	case "displayname", "display-name":
		return apim.Cond{Col: "display_name", Op: op, Value: t.value}, true
	case "status", "lcstate":
		return apim.Cond{Col: "state", Op: apim.Eq, Value: strings.ToUpper(t.value)}, true
	case "tag", "tags":
		return apim.Cond{Col: "tag", Op: apim.EqFold, Value: t.value}, true
	case "api-category":
		return apim.Cond{Col: "category", Op: apim.EqFold, Value: t.value}, true
	case "type":
		v := strings.ToUpper(t.value)
		if v == "API" {
			return apim.Cond{Col: "name", Op: apim.Contains, Value: ""}, true
		}
		return apim.Cond{Col: "type", Op: apim.Eq, Value: v}, true
	}
	return apim.Cond{}, false
}

// match decides a term on an API.
func (t term) match(a *apim.API) bool {
	has := func(s string) bool {
		if t.exact {
			return strings.EqualFold(s, t.value)
		}
		return strings.Contains(strings.ToLower(s), strings.ToLower(t.value))
	}
	anyOf := func(list []string) bool {
		for _, s := range list {
			if strings.EqualFold(s, t.value) {
				return true
			}
		}
		return false
	}
	switch t.key {
	case "", "name":
		return has(a.Name)
	case "displayname", "display-name":
		return has(a.DisplayName)
	case "version":
		return has(a.Version)
	case "context":
		return has(a.Context)
	case "provider":
		return has(a.Provider)
	case "description":
		return has(a.Description)
	case "status", "lcstate":
		return strings.EqualFold(string(a.State), t.value)
	case "tag", "tags":
		return anyOf(a.Tags)
	case "api-category":
		return anyOf(a.Categories)
	case "type":
		return strings.EqualFold(a.Type, t.value) || strings.EqualFold(t.value, "API")
	case "gatewaytype":
		return has(a.GatewayType)
	case "subcontext":
		for _, o := range a.Operations {
			if has(o.Target) {
				return true
			}
		}
		return false
	case "content":
		if has(a.Name) || has(a.Description) || has(a.Context) {
			return true
		}
		for _, o := range a.Operations {
			if has(o.Target) {
				return true
			}
		}
		return anyOf(a.Tags)
	case "doc", "label":
		return false
	}
	for _, p := range a.Properties {
		if strings.EqualFold(p.Name, t.key) && has(p.Value) {
			return true
		}
	}
	return false
}

// Listing says which page of the APIs is wanted.
type Listing struct {
	Query         string
	Sort          string // a column of the store; empty: created
	Desc          bool
	Offset, Limit int
	Content       bool // bare words search everything, not only the name
}

// List finds APIs that the caller may see.
func (s *Service) List(ctx context.Context, l Listing) (apim.Page[apim.API], error) {
	a := apim.ActorFrom(ctx)
	groups, err := parseSearch(l.Query)
	if err != nil {
		return apim.Page[apim.API]{}, err
	}
	q := apim.Query{Sort: l.Sort, Desc: l.Desc}
	var rest [][]term
	for _, g := range groups {
		var conds []apim.Cond
		for i := range g {
			if l.Content && g[i].key == "" {
				g[i].key = "content"
			}
			if c, ok := g[i].condition(); ok {
				conds = append(conds, c)
			}
		}
		if len(conds) == len(g) {
			q.Any = append(q.Any, conds)
		} else {
			rest = append(rest, g)
		}
	}
	all := a.System || hasRole(a, "admin")
	if !all {
		// APIs written before this was kept tell only by themselves.
		unknown, err := s.APIs.Count(ctx, a.Scope(), apim.Where("editors", ""))
		if err != nil {
			return apim.Page[apim.API]{}, fmt.Errorf("list apis: %w", err)
		}
		if unknown == 0 && len(a.Roles) <= maxRoles {
			q.Any = append(q.Any, seenBy(a))
			all = true
		}
	}
	if len(rest) == 0 && all {
		q.Offset, q.Limit = l.Offset, l.Limit
		p, err := s.APIs.List(ctx, a.Scope(), q)
		if err != nil {
			return p, fmt.Errorf("list apis: %w", err)
		}
		return p, nil
	}
	p, err := s.APIs.List(ctx, a.Scope(), q)
	if err != nil {
		return p, fmt.Errorf("list apis: %w", err)
	}
	var kept []*apim.API
	for _, api := range p.Items {
		if canSee(a, api) && matchAll(rest, api) {
			kept = append(kept, api)
		}
	}
	p.Total = len(kept)
	p.Items = nil
	if l.Offset < len(kept) {
		p.Items = kept[l.Offset:min(len(kept), l.Offset+l.Limit)]
	}
	return p, nil
}

// maxRoles bounds a condition; who has more is compared API by API.
const maxRoles = 200

// seenBy is canSee as conditions for the store, any of which suffices.
func seenBy(a *apim.Actor) []apim.Cond {
	out := []apim.Cond{
		{Col: "editors", Op: apim.Eq, Value: apim.EveryEditor},
		{Col: "provider", Op: apim.Eq, Value: a.User},
	}
	for _, r := range a.Roles {
		out = append(out, apim.Cond{Col: "editors", Op: apim.Contains, Value: "\n" + strings.ToLower(r) + "\n"})
	}
	return out
}

func matchAll(groups [][]term, a *apim.API) bool {
	for _, g := range groups {
		hit := false
		for _, t := range g {
			if t.match(a) {
				hit = true
				break
			}
		}
		if !hit {
			return false
		}
	}
	return true
}

// Taken reports whether an API matches a validation query: name:X, context:X,
// or a bare name, all ignoring case and exact.
func (s *Service) Taken(ctx context.Context, query string) (bool, error) {
	a := apim.ActorFrom(ctx)
	key, value, ok := strings.Cut(query, ":")
	if !ok {
		key, value = "name", query
	}
	value = strings.Trim(strings.TrimSpace(value), `"`)
	if value == "" {
		return false, fault.BadRequest.With("query: has no value")
	}
	var q apim.Query
	switch strings.ToLower(strings.TrimSpace(key)) {
	case "name":
		q = apim.Where("name_folded", strings.ToLower(value))
	case "context":
		c, template, err := normalContext(a.Tenant, value)
		if err != nil {
			return false, err
		}
		q = apim.Query{Any: [][]apim.Cond{{{Col: "context", Op: apim.EqFold, Value: c}, {Col: "context_template", Op: apim.Eq, Value: template}}}}
	default:
		return false, fault.BadRequest.With("query: expected name: or context:")
	}
	n, err := s.APIs.Count(ctx, a.Scope(), q)
	if err != nil {
		return false, fmt.Errorf("count apis: %w", err)
	}
	return n > 0, nil
}
