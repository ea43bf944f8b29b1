package store

import (
	"context"
	"fmt"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Add stores a row unless there is one of its kind and hash, even one whose
// time is over. Of any number of racing callers exactly one has added it.
func (t *Ephemera) Add(ctx context.Context, e *apim.Ephemeral) (added bool, err error) {
	if e.Kind == "" || e.Hash == "" {
		return false, fmt.Errorf("add ephemeral: %w", fault.BadRequest.With("needs a kind and a hash"))
	}
	err = t.d.write(ctx, func(ctx context.Context, x *tx) error {
		n, err := x.affect(ctx, "INSERT INTO ephemera ("+ephemeralColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (kind, hash) DO NOTHING",
			e.Kind, string(e.Hash), string(e.Tenant), clean(e.Subject), clean(e.Client),
			micros(e.Created), micros(e.Expires), micros(e.Used), string(e.Doc))
		added = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("add %s: %w", e.Kind, err)
	}
	return added, nil
}
