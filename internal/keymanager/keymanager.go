// Package keymanager is the OAuth 2 authorization server: it issues, renews,
// revokes and describes tokens, registers clients, and tells the management
// APIs who calls them. Users, roles and scopes of roles are asked of the
// directory it is given (reference: keymanager).
package keymanager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
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

// tokens stores refresh tokens and revocations; *store.Tokens does.
type tokens interface {
	PutRefresh(ctx context.Context, t *apim.RefreshToken) error
	UseRefresh(ctx context.Context, hash apim.Digest, now time.Time) (t *apim.RefreshToken, won bool, err error)
	Refresh(ctx context.Context, hash apim.Digest) (*apim.RefreshToken, error)
	DropFamily(ctx context.Context, family string) ([]*apim.RefreshToken, error)
	DropRefreshOf(ctx context.Context, s apim.Scope, user apim.UserID, client apim.ClientID) error
	Revoke(ctx context.Context, r *apim.Revocation) error
	Revoked(ctx context.Context, jti string, entities []string, issuedAt time.Time) (bool, error)
}

// ephemera stores codes, sessions, consents, opaque tokens and whatever else
// has an end; *store.Ephemera does.
type ephemera interface {
	Put(ctx context.Context, e *apim.Ephemeral) error
	Add(ctx context.Context, e *apim.Ephemeral) (added bool, err error)
	Get(ctx context.Context, kind string, hash apim.Digest) (*apim.Ephemeral, error)
	Use(ctx context.Context, kind string, hash apim.Digest, now time.Time) (e *apim.Ephemeral, won bool, err error)
	Change(ctx context.Context, kind string, hash apim.Digest, fn func(*apim.Ephemeral) error) error
	Delete(ctx context.Context, kind string, hash apim.Digest) error
	DeleteOf(ctx context.Context, kind string, tenant apim.TenantID, subject, client string) (n int, err error)
	List(ctx context.Context, kind string, tenant apim.TenantID, subject string, limit int) ([]*apim.Ephemeral, error)
}

// directory knows the people; *identity.Directory does.
type directory interface {
	Authenticate(ctx context.Context, login string, def apim.TenantID, password, addr string) (*apim.User, error)
	User(ctx context.Context, t apim.TenantID, name string) (*apim.User, error)
	UserByID(ctx context.Context, s apim.Scope, id apim.UserID) (*apim.User, error)
	RolesOf(u *apim.User) []string
	ScopeRoles(ctx context.Context, t apim.TenantID, scope string) (roles []string, bound bool, err error)
	AllScopes(ctx context.Context, t apim.TenantID, roles []string) ([]string, error)
	Permitted(ctx context.Context, t apim.TenantID, roles []string, permission string) (bool, error)
	Active(ctx context.Context, t apim.TenantID) (bool, error)
	// Wait, Failed and Succeeded slow the guessing of client secrets.
	Wait(account, addr string) time.Duration
	Failed(account, addr string)
	Succeeded(account, addr string)
}

// Sealer encrypts what must be read back; *seal.Box does.
type Sealer interface {
	Seal(plain []byte) string
	Open(sealed string) ([]byte, error)
}

// Options of a KeyManager. The tables, Tokens, Ephemera, InTx, Directory, Sealer
// and URL are required.
type Options struct {
	Clients     table[apim.Client, apim.ClientID]
	SigningKeys table[apim.SigningKey, apim.KeyID]
	Tokens      tokens
	Ephemera    ephemera
	Directory   directory
	Sealer      Sealer
	// InTx runs fn in one transaction that travels in its context.
	InTx func(ctx context.Context, fn func(ctx context.Context) error) error

	// URL is the base of all addresses given out, such as
	// https://localhost:9443, from the configuration and never from a request.
	URL string
	// Issuer is the value of iss; default URL + "/oauth2/token".
	Issuer string
	// Algorithm of new signing keys: RS256 (default) or another of token.Algorithms.
	Algorithm string
	// KeyLead is how long a new key is published before its first use;
	// default 10 min.
	KeyLead time.Duration

	// APIScopes gives the roles a scope that an API or a shared scope defines
	// is bound to; known is false when no API of the tenant has it. nil: none.
	APIScopes func(ctx context.Context, t apim.TenantID, scope string) (roles []string, known bool, err error)

	// Trusted finds an issuer whose tokens a tenant takes in exchange for ours,
	// with keys that know the key id if its key set does; nil for one that is
	// not trusted. Without it there is no JWT bearer grant and no token exchange.
	Trusted func(ctx context.Context, t apim.TenantID, issuer, kid string) (*Trusted, error)

	AppLife     time.Duration // application access tokens; default 1 h
	UserLife    time.Duration // user access tokens; default 1 h
	RefreshLife time.Duration // refresh tokens; default 24 h
	IDLife      time.Duration // id tokens; default 1 h
	// RaceGrace is how long after its use a repeated refresh token is taken
	// for a race and not for a theft; default 2 s.
	RaceGrace time.Duration

	RefusedGrants []string // grant types that are switched off
	// FreeScopes are patterns of scopes that need no role; nil: openid and device_*.
	FreeScopes []string

	SuperAdmin   string // name of the super administrator in carbon.super; default admin
	TokenMaxSize int    // bytes of a token that is issued or looked at; default token.DefaultMaxLength
	// NamePattern is what names of registered clients must match; default
	// letters, digits, white space and . _ - @.
	NamePattern string
	// Await returns when gateways run the given changes, or after a bounded
	// time; nil: a revocation is answered as soon as it is stored.
	Await func(ctx context.Context, changes []int64)
	// ClientAddr is the address a request came from; nil: the peer's.
	ClientAddr func(*http.Request) string
	Log        *slog.Logger
	Now        func() time.Time // nil: time.Now
}

// Defaults of Options.
const (
	defaultLife        = time.Hour
	defaultRefreshLife = 24 * time.Hour
	defaultKeyLead     = 10 * time.Minute
	defaultRaceGrace   = 2 * time.Second
)

// KeyManager is the resident key manager.
type KeyManager struct {
	o       Options
	host    string // for the realm of challenges
	keys    *keyring
	clients *clientCache
	names   interface{ MatchString(string) bool }
	free    []*regexp.Regexp // scopes that need no role
}

// New makes a KeyManager. EnsureKeys must have run before it can issue.
func New(o Options) (*KeyManager, error) {
	if o.Clients == nil || o.SigningKeys == nil || o.Tokens == nil || o.Ephemera == nil || o.Directory == nil || o.Sealer == nil || o.InTx == nil {
		return nil, errors.New("make key manager: a table, Tokens, Ephemera, Directory, Sealer or InTx is missing")
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("make key manager: URL %q is not a base address", o.URL)
	}
	o.URL = strings.TrimSuffix(o.URL, "/")
	if o.Issuer == "" {
		o.Issuer = o.URL + "/oauth2/token"
	}
	switch o.Algorithm {
	case "":
		o.Algorithm = "RS256"
	default:
		if !slices.Contains(token.Algorithms(), o.Algorithm) {
			return nil, fmt.Errorf("make key manager: algorithm %q: want one of %v", o.Algorithm, token.Algorithms())
		}
	}
	for d, def := range map[*time.Duration]time.Duration{
		&o.AppLife: defaultLife, &o.UserLife: defaultLife, &o.IDLife: defaultLife,
		&o.RefreshLife: defaultRefreshLife, &o.KeyLead: defaultKeyLead, &o.RaceGrace: defaultRaceGrace,
	} {
		if *d <= 0 {
			*d = def
		}
	}
	if o.TokenMaxSize <= 0 {
		o.TokenMaxSize = token.DefaultMaxLength
	}
	if o.SuperAdmin == "" {
		o.SuperAdmin = "admin"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.ClientAddr == nil {
		o.ClientAddr = peer
	}
	names, err := namePattern(o.NamePattern)
	if err != nil {
		return nil, fmt.Errorf("make key manager: %w", err)
	}
	k := &KeyManager{
		o:       o,
		host:    u.Hostname(),
		clients: newClientCache(),
		names:   names,
	}
	if o.FreeScopes == nil {
		o.FreeScopes = []string{"openid", "device_.*"}
	}
	for _, p := range o.FreeScopes {
		re, err := regexp.Compile("^(?:" + p + ")$")
		if err != nil {
			return nil, fmt.Errorf("make key manager: free scopes: %w", err)
		}
		k.free = append(k.free, re)
	}
	k.keys = newKeyring(k)
	return k, nil
}

// Issuer is the value of iss in its tokens.
func (k *KeyManager) Issuer() string { return k.o.Issuer }

// Grants lists the grant types it can serve.
func Grants() []string {
	return []string{"client_credentials", "password", "refresh_token", "authorization_code", "implicit", grantDevice}
}

// Offered lists the grant types that it serves here.
func (k *KeyManager) Offered() []string {
	list := Grants()
	if k.o.Trusted != nil {
		list = append(list, grantBearer, grantExchange)
	}
	return slices.DeleteFunc(list, func(g string) bool { return slices.Contains(k.o.RefusedGrants, g) })
}

func peer(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// splitName separates alice@tenant; without a tenant the name is in def.
func splitName(login string, def apim.TenantID) (string, apim.TenantID) {
	if i := strings.LastIndexByte(login, '@'); i > 0 && i < len(login)-1 {
		return login[:i], apim.TenantID(strings.ToLower(login[i+1:]))
	}
	return login, def
}

// showName is the name the product shows: bare in the super tenant.
func showName(name string, t apim.TenantID) string {
	if t == apim.SuperTenant || t == "" {
		return name
	}
	return name + "@" + string(t)
}
