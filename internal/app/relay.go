package app

import (
	"context"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/store"
)

// relayLog gives the relay the change log in the words of package apim.
type relayLog struct{ *store.ChangeLog }

// Publish gives changes their versions and stores their items.
func (l relayLog) Publish(ctx context.Context, holder string, changes []apim.Versioned) (snapshot.Version, error) {
	out := make([]store.Versioned, len(changes))
	for i, c := range changes {
		out[i] = store.Versioned(c)
	}
	return l.ChangeLog.Publish(ctx, holder, out)
}
