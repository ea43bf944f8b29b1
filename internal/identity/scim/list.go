package scim

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
)

// Page sizes of a list.
const (
	defaultCount = 100
	maxCount     = 1000
	scanPage     = 500 // how many are read at a time when a filter needs all
)

// window is the part of a list that is asked for.
type window struct {
	start, count int // start from 1
}

func windowOf(q url.Values) (window, error) {
	w := window{1, defaultCount}
	for name, n := range map[string]*int{"startIndex": &w.start, "count": &w.count} {
		s := q.Get(name)
		if s == "" {
			continue
		}
		v, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return w, bad("invalidValue", "%s is a whole number", name)
		}
		*n = int(v)
	}
	w.start, w.count = max(w.start, 1), min(max(w.count, 0), maxCount)
	return w, nil
}

// listing collects the hits of a window.
type listing struct {
	window
	total int
	items []any
}

// add counts a hit and reports whether it is in the window.
func (l *listing) add() bool {
	l.total++
	return l.total >= l.start && len(l.items) < l.count
}

func (l *listing) result() *result {
	if l.items == nil {
		l.items = []any{}
	}
	return &result{status: 200, body: map[string]any{
		"schemas": []string{listSchema}, "totalResults": l.total, "startIndex": l.start, "itemsPerPage": len(l.items), "Resources": l.items,
	}, list: true}
}

// narrowed is what of a filter the storage can decide: a condition on the name
// that every hit meets.
func narrowed(e expr, attr string) (where []apim.Cond) {
	switch e := e.(type) {
	case both:
		return append(narrowed(e.a, attr), narrowed(e.b, attr)...)
	case compare:
		v, ok := e.want.(string)
		if !ok || v == "" || e.path.sub != "" || !strings.EqualFold(e.path.attr, attr) || e.path.schema != "" && !isCore(e.path.schema) {
			return nil
		}
		switch e.op {
		case "eq":
			return []apim.Cond{{Col: "name", Op: apim.EqFold, Value: v}}
		case "co", "sw", "ew":
			return []apim.Cond{{Col: "name", Op: apim.Contains, Value: v}}
		}
	}
	return nil
}

func (c *call) listUsers(q url.Values) (*result, error) {
	w, err := windowOf(q)
	if err != nil {
		return nil, err
	}
	l := &listing{window: w}
	find := func(query apim.Query) (apim.Page[apim.User], error) {
		return c.s.o.Directory.Users(c.ctx, c.desk.Tenant(), query)
	}
	if q.Get("filter") == "" {
		page, err := find(apim.Query{Sort: "name", Offset: w.start - 1, Limit: max(w.count, 1)})
		if err != nil {
			return nil, err
		}
		for _, u := range page.Items[:min(len(page.Items), w.count)] {
			doc, err := c.userDoc(u)
			if err != nil {
				return nil, err
			}
			l.items = append(l.items, doc)
		}
		l.total = page.Total
		return l.result(), nil
	}
	e, err := parseFilter(q.Get("filter"))
	if err != nil {
		return nil, err
	}
	query := apim.Query{Sort: "name", Limit: scanPage, Where: narrowed(e, "userName")}
	for ; ; query.Offset += scanPage {
		page, err := find(query)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Items {
			doc, err := c.userDoc(u)
			if err != nil {
				return nil, err
			}
			if e.holds(doc) && l.add() {
				l.items = append(l.items, doc)
			}
		}
		if len(page.Items) < scanPage {
			return l.result(), nil
		}
	}
}

func (c *call) listRoles(k *kind, q url.Values) (*result, error) {
	w, err := windowOf(q)
	if err != nil {
		return nil, err
	}
	l := &listing{window: w}
	query := apim.Query{Sort: "name", Limit: scanPage}
	var e expr
	if f := q.Get("filter"); f != "" {
		if e, err = parseFilter(f); err != nil {
			return nil, err
		}
		query.Where = narrowed(e, "displayName")
	}
	// Members are read only where the filter or the answer needs them.
	members := c.wants(membersName(k))
	judged := strings.Contains(strings.ToLower(q.Get("filter")), membersName(k))
	for ; ; query.Offset += scanPage {
		page, err := c.s.o.Directory.Roles(c.ctx, c.desk.Tenant(), query)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Items {
			doc, err := c.roleDoc(k, r, judged)
			if err != nil {
				return nil, err
			}
			if e != nil && !e.holds(doc) || !l.add() {
				continue
			}
			if members && !judged {
				if doc, err = c.roleDoc(k, r, true); err != nil {
					return nil, err
				}
			}
			l.items = append(l.items, doc)
		}
		if len(page.Items) < scanPage {
			return l.result(), nil
		}
	}
}
