package apim

import (
	"context"
	"sync"

	"github.com/cardea-apim/cardea/internal/snapshot"
)

// Change says that a noun changed. It is a row of the transaction that changed
// it; the relay gives it a version after commit.
type Change struct {
	ID     int64 // row number in the change log
	Tenant TenantID
	Kind   string // the store's name of the noun: api, revision, deployment, application, ...
	Object string // the noun's id
	Op     string // create, update, delete
	Parent string // what the noun belongs to, where a consumer needs it after a delete
}

// Versioned is a change with the snapshot items it leads to, as the relay
// hands it to the change log. A Change with ID 0 stands for no row of the log
// (a rebuild): it is given a sequence number of its own like the others.
type Versioned struct {
	Change Change
	Items  []snapshot.Item
	With   int64 // ID of an earlier change of the batch whose items are this one's too; 0: none
}

// Parented is a noun whose identity at the gateway is not its own id. The store
// writes ChangeParent into Change.Parent of every change of it.
type Parented interface{ ChangeParent() string }

// ChangeParent is application + "/" + API.
func (s *Subscription) ChangeParent() string { return string(s.Application) + "/" + string(s.API) }

// ChangeParent is key manager + "/" + consumer key.
func (k *KeyMapping) ChangeParent() string { return k.KeyManager + "/" + string(k.ConsumerKey) }

// ChangeParent is the hash of the key.
func (k *APIKey) ChangeParent() string { return string(k.Hash) }

// ChangeParent is level + "/" + name.
func (p *ThrottlePolicy) ChangeParent() string { return string(p.Level) + "/" + p.Name }

// ChangeParent is the name.
func (e *Environment) ChangeParent() string { return e.Name }

// Changes collects the changes written under a context, so that the edge can
// wait for the gateways to acknowledge them.
type Changes struct {
	mu  sync.Mutex
	ids []int64
}

// Add notes committed changes.
func (c *Changes) Add(ids ...int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = append(c.ids, ids...)
}

// IDs lists the changes so far, oldest first.
func (c *Changes) IDs() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]int64(nil), c.ids...)
}

type changesKey struct{}

// TrackChanges returns a context under which the store notes every change it commits.
func TrackChanges(ctx context.Context) (context.Context, *Changes) {
	c := &Changes{}
	return context.WithValue(ctx, changesKey{}, c), c
}

// ChangesFrom is the tracker of the context, or nil.
func ChangesFrom(ctx context.Context) *Changes {
	c, _ := ctx.Value(changesKey{}).(*Changes)
	return c
}
