package gateway

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/gateway/route"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// tables is one immutable state of all a call may need.
type tables struct {
	version snapshot.Version
	facts   *facts.Facts
	apis    facts.Table[snapshot.Key, *api]
	// hosts has, per virtual host, the APIs bound to it; everywhere those bound
	// to none; all has every API and serves hosts nobody is bound to, so that an
	// address works where only a name was configured.
	hosts      map[string]route.Tree[api]
	everywhere route.Tree[api]
	all        route.Tree[api]
}

// lookup finds the API of a path and the length of the context it was found by.
func (t *tables) lookup(host, path string) (*api, int) {
	if len(t.hosts) > 0 {
		if tree, ok := t.host(host); ok {
			a, n := tree.Longest(path)
			b, m := t.everywhere.Longest(path)
			if b != nil && m > n {
				return b, m
			}
			return a, n
		}
	}
	return t.all.Longest(path)
}

func (t *tables) host(host string) (route.Tree[api], bool) {
	tree, ok := t.hosts[hostOnly(host)]
	if !ok {
		tree, ok = t.hosts[strings.ToLower(hostOnly(host))]
	}
	return tree, ok
}

// place is a context on a virtual host ("" for those bound to none, "*" for all).
type place struct{ host, context string }

// claim is one API's wish to be found at a place.
type claim struct {
	a     *api
	alias bool
}

// places lists where an API is found. alias tells the default version's context.
func (a *api) places(fn func(p place, alias bool)) {
	at := func(host string) {
		fn(place{host, a.context}, false)
		if a.alias != "" {
			fn(place{host, a.alias}, true)
		}
	}
	at("*")
	if len(a.vhosts) == 0 {
		at("")
	}
	for _, h := range a.vhosts {
		at(h)
	}
}

// better orders claims to one place: a version's own context goes before the
// alias of another, then the environment and id decide, so that every gateway
// decides alike.
func better(x, y claim) int {
	if x.alias != y.alias {
		if y.alias {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(x.a.env, y.a.env), cmp.Compare(x.a.id, y.a.id))
}

// claims are all wishes; only the first of a place is served.
type claims map[place][]claim

func (m claims) add(p place, c claim) {
	list := append(m[p], c)
	slices.SortFunc(list, better)
	m[p] = list
}

func (m claims) remove(p place, a *api) {
	list := slices.DeleteFunc(slices.Clone(m[p]), func(c claim) bool { return c.a == a })
	if len(list) == 0 {
		delete(m, p)
		return
	}
	m[p] = list
}

// settle binds a place in the trees to the first claim to it.
func (t *tables) settle(m claims, p place) {
	var winner *api
	if list := m[p]; len(list) > 0 {
		winner = list[0].a
	}
	bind := func(tree route.Tree[api]) route.Tree[api] {
		if winner == nil {
			return tree.Without(p.context)
		}
		return tree.With(p.context, winner)
	}
	switch p.host {
	case "*":
		t.all = bind(t.all)
	case "":
		t.everywhere = bind(t.everywhere)
	default:
		tree := bind(t.hosts[p.host])
		if tree.Len() == 0 {
			delete(t.hosts, p.host)
		} else {
			t.hosts[p.host] = tree
		}
	}
}
