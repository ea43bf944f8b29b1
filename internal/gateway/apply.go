package gateway

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/gateway/route"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// Apply takes changed items, or with full everything that exists, compiles
// them aside and swaps the result in: a call sees the state before or after,
// never between. Items that did not compile are returned as "kind/id: cause";
// such an API keeps its last good flow, or stays unknown. Logging them is the
// caller's. items are not kept.
func (g *Gateway) Apply(full bool, v snapshot.Version, items []snapshot.Item) (failed []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	old := g.tables.Load()
	next := &tables{version: v, apis: old.apis, hosts: maps.Clone(old.hosts), everywhere: old.everywhere, all: old.all}
	if next.hosts == nil {
		next.hosts = map[string]route.Tree[api]{}
	}
	edit := old.facts.Change(full)
	mine := make([]*snapshot.Item, 0, len(items))
	for i := range items {
		it := &items[i]
		if it.Kind == snapshot.KindAPI {
			if g.serves(it.Env) {
				mine = append(mine, it)
			}
			continue
		}
		if err := edit.Apply(it); err != nil {
			failed = append(failed, it.Key.String()+": "+err.Error())
		}
	}
	defer func() { g.resetQuotas(old.facts, next.facts, items) }()
	failed = append(failed, g.applyAPIs(full, old, next, mine)...)
	next.facts = edit.Done()
	if edit.Issuers {
		g.auth.Verifier.SetIssuers(next.facts.Issuers())
	}
	g.tables.Store(next)
	g.failed.Store(int64(len(failed)))
	g.ready.Store(true)
	if edit.Issuers {
		g.keys.look()
	}
	return failed
}

// resetQuotas forgets what users of applications had used, where an item says
// so and the state before did not.
func (g *Gateway) resetQuotas(old, next *facts.Facts, items []snapshot.Item) {
	limiter, ok := g.o.Limiter.(resetter)
	if !ok {
		return
	}
	for i := range items {
		if items[i].Kind != snapshot.KindApplication || items[i].Deleted {
			continue
		}
		app, ok := next.Applications.Get(items[i].ID)
		if !ok {
			continue
		}
		was, had := old.Applications.Get(items[i].ID)
		for user, at := range app.ResetAt {
			if had && was.ResetAt[user].Equal(at) {
				continue
			}
			limiter.Reset(g.o.Now(), ApplicationKey(app.ID, user), at)
		}
	}
}

// serves reports whether this gateway serves an environment.
func (g *Gateway) serves(env string) bool {
	return len(g.o.Environments) == 0 || env == "" || slices.Contains(g.o.Environments, env)
}

// applyAPIs compiles what changed, on all cores, and rebinds only the contexts
// that are concerned.
func (g *Gateway) applyAPIs(full bool, old, next *tables, items []*snapshot.Item) (failed []string) {
	compiled := make([]*api, len(items))
	errs := make([]error, len(items))
	each(len(items), func(i int) {
		it := items[i]
		if it.Deleted {
			return
		}
		if a, ok := old.apis.Get(it.Key); ok && a.hash == it.Hash && it.Hash != "" {
			compiled[i] = a
			return
		}
		compiled[i], errs[i] = g.compile(it)
	})
	edit := facts.Begin(next.apis)
	touched := map[place]struct{}{}
	drop := func(a *api) {
		a.places(func(p place, _ bool) {
			g.claims.remove(p, a)
			touched[p] = struct{}{}
		})
	}
	there := make(map[snapshot.Key]bool, len(items))
	for i, it := range items {
		was, had := old.apis.Get(it.Key)
		switch {
		case it.Deleted:
			if had {
				drop(was)
				edit.Delete(it.Key)
			}
			continue
		case errs[i] != nil:
			failed = append(failed, it.Key.String()+": "+errs[i].Error())
			there[it.Key] = true
			continue
		}
		there[it.Key] = true
		a := compiled[i]
		if had && was == a {
			continue
		}
		if had {
			drop(was)
		}
		if a.state == "RETIRED" {
			edit.Delete(it.Key)
			continue
		}
		edit.Set(it.Key, a)
		a.places(func(p place, alias bool) {
			g.claims.add(p, claim{a, alias})
			touched[p] = struct{}{}
		})
	}
	if full {
		old.apis.Each(func(k snapshot.Key, a *api) bool {
			if !there[k] {
				drop(a)
				edit.Delete(k)
			}
			return true
		})
	}
	for p := range touched {
		next.settle(g.claims, p)
	}
	next.apis = edit.Done()
	return failed
}

// each calls fn for 0 to n-1 on all cores.
func each(n int, fn func(int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers < 2 || n < 8 {
		for i := range n {
			fn(i)
		}
		return
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				fn(i)
			}
		})
	}
	wg.Wait()
}
