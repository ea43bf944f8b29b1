package route

import "strings"

// Tree maps contexts (paths without a trailing slash) to values. It is
// immutable: With and Without give a new tree that shares all but the changed
// branch, so that a swap costs the length of one context. The zero value is empty.
type Tree[V any] struct {
	root *node[V]
	n    int
}

type node[V any] struct {
	prefix string
	value  *V
	first  string // first byte of each child's prefix, sorted
	kids   []*node[V]
}

// Len is the number of contexts.
func (t Tree[V]) Len() int { return t.n }

// Longest finds the longest context that is path or is followed by "/" in it.
// n is the length of that context.
func (t Tree[V]) Longest(path string) (v *V, n int) {
	at := 0
	for nd := t.root; nd != nil; {
		if !strings.HasPrefix(path[at:], nd.prefix) {
			break
		}
		at += len(nd.prefix)
		if nd.value != nil && (at == len(path) || path[at] == '/') {
			v, n = nd.value, at
		}
		if at == len(path) {
			break
		}
		i := strings.IndexByte(nd.first, path[at])
		if i < 0 {
			break
		}
		nd = nd.kids[i]
	}
	return v, n
}

// Get is the value of exactly this context, or nil.
func (t Tree[V]) Get(context string) *V {
	if v, n := t.Longest(context); n == len(context) {
		return v
	}
	return nil
}

// With is the tree with context bound to v.
func (t Tree[V]) With(context string, v *V) Tree[V] {
	added := 1
	if t.Get(context) != nil {
		added = 0
	}
	return Tree[V]{root: insert(t.root, context, v), n: t.n + added}
}

// Without is the tree without context.
func (t Tree[V]) Without(context string) Tree[V] {
	if t.Get(context) == nil {
		return t
	}
	return Tree[V]{root: remove(t.root, context), n: t.n - 1}
}

func insert[V any](nd *node[V], key string, v *V) *node[V] {
	if nd == nil {
		return &node[V]{prefix: key, value: v}
	}
	k := common(nd.prefix, key)
	if k < len(nd.prefix) {
		lower := *nd
		lower.prefix = nd.prefix[k:]
		top := &node[V]{prefix: nd.prefix[:k], first: lower.prefix[:1], kids: []*node[V]{&lower}}
		if k == len(key) {
			top.value = v
			return top
		}
		return top.put(&node[V]{prefix: key[k:], value: v})
	}
	c := *nd
	if k == len(key) {
		c.value = v
		return &c
	}
	rest := key[k:]
	if i := strings.IndexByte(nd.first, rest[0]); i >= 0 {
		c.kids = append([]*node[V](nil), nd.kids...)
		c.kids[i] = insert(nd.kids[i], rest, v)
		return &c
	}
	return c.put(&node[V]{prefix: rest, value: v})
}

// put gives nd, which nobody else holds yet, one more child.
func (nd *node[V]) put(kid *node[V]) *node[V] {
	i := 0
	for i < len(nd.first) && nd.first[i] < kid.prefix[0] {
		i++
	}
	kids := make([]*node[V], 0, len(nd.kids)+1)
	kids = append(kids, nd.kids[:i]...)
	kids = append(kids, kid)
	nd.kids = append(kids, nd.kids[i:]...)
	nd.first = nd.first[:i] + kid.prefix[:1] + nd.first[i:]
	return nd
}

func remove[V any](nd *node[V], key string) *node[V] {
	rest := key[len(nd.prefix):]
	c := *nd
	if rest == "" {
		c.value = nil
	} else {
		i := strings.IndexByte(nd.first, rest[0])
		kid := remove(nd.kids[i], rest)
		if kid != nil {
			c.kids = append([]*node[V](nil), nd.kids...)
			c.kids[i] = kid
		} else {
			c.kids = append(append([]*node[V](nil), nd.kids[:i]...), nd.kids[i+1:]...)
			c.first = nd.first[:i] + nd.first[i+1:]
		}
	}
	if c.value == nil && len(c.kids) == 0 {
		return nil
	}
	if c.value == nil && len(c.kids) == 1 {
		only := *c.kids[0]
		only.prefix = c.prefix + only.prefix
		return &only
	}
	return &c
}

func common(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
