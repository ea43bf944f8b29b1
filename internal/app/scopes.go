package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/store"
)

// scopeIndex finds the API that defines a scope without reading every API on
// each token. It catches up with what changed since the last look; what it
// finds is checked against the API itself, so that a removed scope opens nothing.
type scopeIndex struct {
	db *store.DB

	mu   sync.Mutex
	seen map[apim.TenantID]time.Time
	by   map[scopeKey]map[apim.APIID]bool
}

type scopeKey struct {
	tenant apim.TenantID
	name   string
}

// overlap covers clocks of control nodes that differ a little, and the rounding
// of times in the database.
const overlap = 5 * time.Second

func newScopeIndex(db *store.DB) *scopeIndex {
	return &scopeIndex{db: db, seen: map[apim.TenantID]time.Time{}, by: map[scopeKey]map[apim.APIID]bool{}}
}

// roles gives the roles that an API or a shared scope of the tenant binds a
// scope to; known is false when there is none.
func (x *scopeIndex) roles(ctx context.Context, t apim.TenantID, scope string) (roles []string, known bool, err error) {
	shared, err := x.db.SharedScopes.First(ctx, apim.In(t), apim.Where("name", scope))
	switch {
	case err == nil:
		return shared.Roles, true, nil
	case !isMissing(err):
		return nil, false, fmt.Errorf("look for scope: %w", err)
	}
	if err := x.catchUp(ctx, t); err != nil {
		return nil, false, err
	}
	x.mu.Lock()
	ids := make([]apim.APIID, 0, 1)
	for id := range x.by[scopeKey{t, scope}] {
		ids = append(ids, id)
	}
	x.mu.Unlock()
	for _, id := range ids {
		api, err := x.db.APIs.Get(ctx, apim.In(t), id)
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("look for scope: %w", err)
		}
		for _, s := range api.Scopes {
			if s.Name == scope {
				return s.Roles, true, nil
			}
		}
	}
	return nil, false, nil
}

func (x *scopeIndex) catchUp(ctx context.Context, t apim.TenantID) error {
	x.mu.Lock()
	since := x.seen[t]
	x.mu.Unlock()
	started := time.Now()
	q := apim.Query{}
	if !since.IsZero() {
		q.Where = []apim.Cond{{Col: "updated", Op: apim.Gt, Value: since}}
	}
	page, err := x.db.APIs.List(ctx, apim.In(t), q)
	if err != nil {
		return fmt.Errorf("look for scopes: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, api := range page.Items {
		for _, s := range api.Scopes {
			k := scopeKey{t, s.Name}
			if x.by[k] == nil {
				x.by[k] = map[apim.APIID]bool{}
			}
			x.by[k][api.ID] = true
		}
	}
	if next := started.Add(-overlap); next.After(x.seen[t]) {
		x.seen[t] = next
	}
	return nil
}
