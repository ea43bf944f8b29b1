// Package identity knows who people are: users, roles and tenants, their
// passwords, and which scopes a role opens. It decides nothing about tokens;
// the key manager asks it who somebody is and what they may be granted
// (reference: keymanager §9, scopes, tenant-conf).
package identity

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
)

// table is what a noun's storage must offer; *store.Table does.
type table[T any, ID ~string] interface {
	Create(ctx context.Context, s apim.Scope, v *T) error
	Get(ctx context.Context, s apim.Scope, id ID) (*T, error)
	First(ctx context.Context, s apim.Scope, q apim.Query) (*T, error)
	Update(ctx context.Context, s apim.Scope, v *T) error
	Delete(ctx context.Context, s apim.Scope, id ID) error
	List(ctx context.Context, s apim.Scope, q apim.Query) (apim.Page[T], error)
}

// tokens is what a password reset needs from the token store; *store.Tokens does.
type tokens interface {
	Revoke(ctx context.Context, r *apim.Revocation) error
	DropRefreshOf(ctx context.Context, s apim.Scope, user apim.UserID, client apim.ClientID) error
}

// Options of a Directory. The tables, InTx and Tokens are required.
type Options struct {
	Tenants table[apim.Tenant, apim.TenantID]
	Confs   table[apim.TenantConf, apim.TenantID]
	Users   table[apim.User, apim.UserID]
	Roles   table[apim.Role, apim.RoleID]
	Tokens  tokens
	// InTx runs fn in one transaction that travels in its context.
	InTx func(ctx context.Context, fn func(ctx context.Context) error) error
	// TokenLife is how long the longest-lived token may be valid, and so how
	// long a revocation of all tokens of a user is kept; default 30 days.
	TokenLife time.Duration
	// OnTenant, when set, is called in the transaction that creates a tenant,
	// so that others can add what every tenant starts with.
	OnTenant func(ctx context.Context, t *apim.Tenant) error
	// Refused, when set, is told of each refused sign-in before it is answered.
	// Attempts of the product itself, which come from no address, are not told.
	Refused func(r Refusal)
	Hashing Hashing // cost of password hashes; zero: the default
	// Names, RoleNames and Passwords are what new ones must match as a whole;
	// nil: only the bounds of this package.
	Names, RoleNames, Passwords *regexp.Regexp
	// EmailNames lets a login name hold one @ of its own: only of two or more
	// the last one separates the tenant.
	EmailNames bool
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// Refusal is a sign-in that was refused.
type Refusal struct {
	Tenant  apim.TenantID // of the user, as given; empty for a client
	Name    string        // of the user, or the id of the client, as given
	Client  bool
	Addr    string
	Delayed bool   // not looked at: too many failures before it
	Cause   string // for the audit, never for the caller
}

// Directory is the users, roles and tenants of an installation.
type Directory struct {
	o      Options
	hasher *hasher
	guard  *guard
	proofs *proofs

	mu       sync.Mutex
	bindings map[apim.TenantID]cachedBindings
	tenants  map[apim.TenantID]cachedTenant
	dropped  map[apim.TenantID]time.Time // until then nothing of the tenant is cached
}

// Names of roles that have a meaning of their own (reference: scopes §4).
const (
	AdminRole    = "admin"
	EveryoneRole = "Internal/everyone"
)

// New makes a Directory over the store's tables.
func New(o Options) (*Directory, error) {
	if o.Tenants == nil || o.Confs == nil || o.Users == nil || o.Roles == nil || o.Tokens == nil || o.InTx == nil {
		return nil, errors.New("make directory: a table, Tokens or InTx is missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.TokenLife <= 0 {
		o.TokenLife = 30 * 24 * time.Hour
	}
	return &Directory{
		o:        o,
		hasher:   newHasher(o.Hashing, runtime.GOMAXPROCS(0)),
		guard:    newGuard(),
		proofs:   newProofs(),
		bindings: map[apim.TenantID]cachedBindings{},
		tenants:  map[apim.TenantID]cachedTenant{},
		dropped:  map[apim.TenantID]time.Time{},
	}, nil
}

// Drop forgets what is cached of a tenant, and caches nothing of it for a
// while, because the transaction that changed it may not have been committed
// yet. The application calls it when the change log reports a change made by
// another process; without that, such changes show within cacheLife.
func (d *Directory) Drop(t apim.TenantID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.bindings, t)
	delete(d.tenants, t)
	d.dropped[t] = d.o.Now().Add(dropLife)
}

// mayCache reports whether t was not dropped a moment ago; the caller holds mu.
func (d *Directory) mayCache(t apim.TenantID, now time.Time) bool {
	until, ok := d.dropped[t]
	if ok && !now.Before(until) {
		delete(d.dropped, t)
		return true
	}
	return !ok
}

// dropLife is longer than any transaction that changes a tenant.
const dropLife = 5 * time.Second

// cacheLife bounds how long this process may act on a tenant or its
// configuration after another process changed it.
const cacheLife = 2 * time.Second

// SplitName separates a login name into the name and its tenant:
// alice, alice@carbon.super, alice@tenant1.com. Without a tenant it is in def.
func SplitName(login string, def apim.TenantID) (name string, tenant apim.TenantID) {
	if i := strings.LastIndexByte(login, '@'); i > 0 && i < len(login)-1 {
		return login[:i], apim.TenantID(strings.ToLower(login[i+1:]))
	}
	return login, def
}

// split is SplitName under the rules of this installation.
func (d *Directory) split(login string, def apim.TenantID) (string, apim.TenantID) {
	if d.o.EmailNames && strings.Count(login, "@") < 2 && !strings.HasSuffix(login, "@"+string(apim.SuperTenant)) {
		return login, def
	}
	return SplitName(login, def)
}

// ShowName is the name the product shows: bare in the super tenant, with the
// domain elsewhere.
func ShowName(name string, tenant apim.TenantID) string {
	if tenant == apim.SuperTenant || tenant == "" {
		return name
	}
	return name + "@" + string(tenant)
}
