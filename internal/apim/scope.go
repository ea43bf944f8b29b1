// Package apim holds the nouns of API management and their rules, without I/O:
// APIs, revisions, applications, subscriptions, tiers, users, tenants. Every
// other package speaks in its words.
package apim

import (
	"context"
	"time"
)

// TenantID is a tenant's domain, for example carbon.super. Domains never change.
type TenantID string

// SuperTenant is the tenant that exists from the first start.
const SuperTenant TenantID = "carbon.super"

// Capability names a reason to act across tenants.
type Capability string

// The capabilities there are.
const (
	SuperAdmin  Capability = "super-tenant administration"
	CrossTenant Capability = "cross-tenant subscription"
	Platform    Capability = "platform" // the system itself: relay, deploy, token end points that find the tenant by the key
)

// Scope says whose rows a query may see: one tenant's, or all of them under a
// named capability. The zero Scope sees nothing.
type Scope struct {
	tenant TenantID
	cross  Capability
}

// In is the scope of one tenant.
func In(t TenantID) Scope { return Scope{tenant: t} }

// Across is the scope of all tenants, for a reason.
func Across(c Capability) Scope { return Scope{cross: c} }

// Tenant is the tenant of the scope, empty when it spans all.
func (s Scope) Tenant() TenantID { return s.tenant }

// All reports whether the scope spans all tenants.
func (s Scope) All() bool { return s.tenant == "" && s.cross != "" }

// Valid reports whether the scope sees anything.
func (s Scope) Valid() bool { return s.tenant != "" || s.cross != "" }

// Sees reports whether rows of tenant t are visible in the scope.
func (s Scope) Sees(t TenantID) bool { return s.All() || (s.tenant != "" && s.tenant == t) }

// Meta is what every stored noun carries. The store maintains all of it but
// Tenant, which the creator sets.
type Meta struct {
	Tenant    TenantID
	Rev       int64 // counts updates from 1; an update of another Rev is refused
	CreatedAt time.Time
	UpdatedAt time.Time
	CreatedBy string
	UpdatedBy string
}

// Base gives the store access to the Meta embedded in a noun.
func (m *Meta) Base() *Meta { return m }

// Actor is who acts: the user of a token, or the system.
type Actor struct {
	User   string // name as the product shows it: alice, or alice@tenant for other tenants
	UserID UserID
	Tenant TenantID
	Roles  []string
	Scopes []string
	Client string // consumer key of the token
	Addr   string // client address, for the audit
	System bool   // the product itself
}

// Has reports whether the actor holds the role. Role names are compared as the
// identity package normalises them.
func (a *Actor) Has(role string) bool {
	for _, r := range a.Roles {
		if r == role {
			return true
		}
	}
	return false
}

// HasScope reports whether the actor's token carries the scope.
func (a *Actor) HasScope(scope string) bool {
	for _, s := range a.Scopes {
		if s == scope {
			return true
		}
	}
	return false
}

// Scope is the actor's own tenant.
func (a *Actor) Scope() Scope { return In(a.Tenant) }

type actorKey struct{}

// WithActor puts the actor into the context.
func WithActor(ctx context.Context, a *Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorFrom is the actor of the context; without one it is an anonymous actor
// with no rights.
func ActorFrom(ctx context.Context) *Actor {
	if a, ok := ctx.Value(actorKey{}).(*Actor); ok {
		return a
	}
	return &Actor{User: "anonymous"}
}
