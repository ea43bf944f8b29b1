// Package deploy takes committed changes to the gateways. A relay, of which one
// holds the lease at a time, gives each change its version and translates it
// into snapshot items; it is the only maker of items. A feed streams them to
// gateways in this process and, over mutual TLS, in others. Receipts tell which
// gateway runs what.
package deploy

import (
	"context"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

const (
	// Lease is how long a gateway counts as alive after its last sign of life,
	// and how long a relay may be silent before another takes over.
	Lease = 3 * time.Second
	// Patience bounds how long a write waits for gateways.
	Patience = 2 * time.Second
)

// Reader is what deploying needs of the storage of a noun.
type Reader[T any, ID ~string] interface {
	Get(ctx context.Context, s apim.Scope, id ID) (*T, error)
	First(ctx context.Context, s apim.Scope, q apim.Query) (*T, error)
	List(ctx context.Context, s apim.Scope, q apim.Query) (apim.Page[T], error)
}

// Revocations is what deploying needs of the storage of tokens.
type Revocations interface {
	Revocation(ctx context.Context, id string) (*apim.Revocation, error)
	Revocations(ctx context.Context, now time.Time) ([]*apim.Revocation, error)
}

// Source is where nouns are read. A *store.Table is a Reader.
type Source struct {
	Tenants       Reader[apim.Tenant, apim.TenantID]
	SigningKeys   Reader[apim.SigningKey, apim.KeyID]
	APIs          Reader[apim.API, apim.APIID]
	Revisions     Reader[apim.Revision, apim.RevisionID]
	Deployments   Reader[apim.Deployment, apim.DeploymentID]
	Applications  Reader[apim.Application, apim.AppID]
	KeyMappings   Reader[apim.KeyMapping, apim.KeyMappingID]
	Subscriptions Reader[apim.Subscription, apim.SubscriptionID]
	APIKeys       Reader[apim.APIKey, string]
	Policies      Reader[apim.ThrottlePolicy, string]
	Environments  Reader[apim.Environment, string]
	KeyManagers   Reader[apim.KeyManager, string]
	Revocations   Revocations
}

// waker tells that changes or acknowledgements were committed. Each call makes
// a channel of its own, which cancel takes back.
type waker interface {
	Wake() (wake <-chan struct{}, cancel func())
}

// relayLog is the relay's side of the change log.
type relayLog interface {
	waker
	Lease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error)
	ReleaseLease(ctx context.Context, name, holder string) error
	Pending(ctx context.Context, limit int) ([]apim.Change, error)
	Publish(ctx context.Context, holder string, changes []apim.Versioned) (snapshot.Version, error)
	Items(ctx context.Context, after snapshot.Version, envs []string, limit int) (d snapshot.Delta, more bool, err error)
	Body(ctx context.Context, hash string) ([]byte, error)
}

// feedLog is the gateways' side of the change log.
type feedLog interface {
	waker
	Head(ctx context.Context) (snapshot.Version, error)
	Items(ctx context.Context, after snapshot.Version, envs []string, limit int) (d snapshot.Delta, more bool, err error)
	Body(ctx context.Context, hash string) ([]byte, error)
	SaveGateway(ctx context.Context, gw apim.GatewayNode) error
}

// receiptLog is what a receipt is made of.
type receiptLog interface {
	waker
	Head(ctx context.Context) (snapshot.Version, error)
	VersionsOf(ctx context.Context, changeIDs []int64) (v snapshot.Version, all bool, err error)
	Gateways(ctx context.Context) ([]apim.GatewayNode, error)
}

// platform is the scope of everything here: gateways serve all tenants.
var platform = apim.Across(apim.Platform)
