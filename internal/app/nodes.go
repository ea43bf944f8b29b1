package app

import (
	"context"
	"time"

	"github.com/cardea-apim/cardea/internal/node"
)

// busPort is where other nodes reach the bus inside a control process, before the offset.
const busPort = 4222

// renewIdentity asks for a new node certificate long before the old one ends.
func (a *App) renewIdentity(ctx context.Context, c *node.Client) error {
	t := time.NewTicker(6 * time.Hour)
	defer t.Stop()
	for {
		renewed, err := c.Renew(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			a.log.WarnContext(ctx, "node certificate not renewed", "err", err)
		case renewed:
			a.log.InfoContext(ctx, "node certificate renewed")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}
