package app

import (
	"context"

	"github.com/cardea-apim/cardea/internal/analytics"
	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/store"
)

// names tells analytics, which knows ids, what they are called.
type names struct{ db *store.DB }

// APIs names APIs.
func (n names) APIs(ctx context.Context, t apim.TenantID, ids []string) (map[string]analytics.Name, error) {
	return named(ctx, n.db.APIs, t, ids, func(v *apim.API) (string, analytics.Name) {
		return string(v.ID), analytics.Name{Name: v.Name, Version: v.Version}
	})
}

// Applications names applications and their owners.
func (n names) Applications(ctx context.Context, t apim.TenantID, ids []string) (map[string]analytics.Name, error) {
	return named(ctx, n.db.Applications, t, ids, func(v *apim.Application) (string, analytics.Name) {
		return string(v.ID), analytics.Name{Name: v.Name, Owner: v.Owner}
	})
}

func named[T any, ID ~string](ctx context.Context, in *store.Table[T, ID], t apim.TenantID, ids []string, name func(*T) (string, analytics.Name)) (map[string]analytics.Name, error) {
	page, err := in.List(ctx, apim.In(t), apim.Query{Where: []apim.Cond{{Col: "id", Op: apim.OneOf, Value: ids}}})
	if err != nil {
		return nil, err
	}
	out := make(map[string]analytics.Name, len(page.Items))
	for _, v := range page.Items {
		id, n := name(v)
		out[id] = n
	}
	return out, nil
}
