package rest

import (
	"net/http"
	"net/url"
	"sort"
	"strings"
)

// node is one segment of the tree of paths. A literal wins over a parameter.
type node struct {
	literal map[string]*node
	param   *node
	ops     map[string]*operation // by method
}

func newNode() *node { return &node{literal: map[string]*node{}, ops: map[string]*operation{}} }

func (n *node) add(op *operation) {
	for _, seg := range strings.Split(strings.Trim(op.Path, "/"), "/") {
		if strings.HasPrefix(seg, "{") {
			if n.param == nil {
				n.param = newNode()
			}
			op.names = append(op.names, strings.Trim(seg, "{}"))
			n = n.param
			continue
		}
		if n.literal[seg] == nil {
			n.literal[seg] = newNode()
		}
		n = n.literal[seg]
	}
	n.ops[op.Method] = op
}

// find walks an escaped path, decoding each segment once, so that %2F never
// separates. A trailing slash is tolerated.
func (n *node) find(raw string) (*node, map[string]string, bool) {
	raw = strings.TrimPrefix(raw, "/")
	raw = strings.TrimSuffix(raw, "/")
	segs := strings.Split(raw, "/")
	if len(segs) > 32 {
		return nil, nil, false
	}
	for i, seg := range segs {
		d, err := url.PathUnescape(seg)
		if err != nil || d == "." || d == ".." || strings.ContainsRune(d, 0) {
			return nil, nil, false
		}
		segs[i] = d
	}
	found, values := n.walk(segs, nil)
	if found == nil {
		return nil, nil, false
	}
	params := map[string]string{}
	for _, op := range found.ops {
		for i, name := range op.names {
			if i < len(values) {
				params[name] = values[i]
			}
		}
	}
	return found, params, true
}

// walk tries the literal first and falls back to the parameter, so that an id
// may have the same text as a sibling's literal.
func (n *node) walk(segs, values []string) (*node, []string) {
	if len(segs) == 0 {
		if len(n.ops) == 0 {
			return nil, nil
		}
		return n, values
	}
	if l := n.literal[segs[0]]; l != nil {
		if found, v := l.walk(segs[1:], values); found != nil {
			return found, v
		}
	}
	if n.param != nil && segs[0] != "" {
		return n.param.walk(segs[1:], append(values[:len(values):len(values)], segs[0]))
	}
	return nil, nil
}

func (n *node) allow() string {
	var m []string
	for k := range n.ops {
		m = append(m, k)
	}
	if n.ops[http.MethodGet] != nil && n.ops[http.MethodHead] == nil {
		m = append(m, http.MethodHead)
	}
	m = append(m, http.MethodOptions)
	sort.Strings(m)
	return strings.Join(m, ", ")
}
