// Package subscribe is what happens in the developer portal: the catalogue as
// a caller may see it, applications, their keys, subscriptions and API keys.
// Rules are those of the original (reference: devportal, keymanager §6).
package subscribe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Reader finds nouns of one kind.
type Reader[T any, ID ~string] interface {
	Get(ctx context.Context, s apim.Scope, id ID) (*T, error)
	First(ctx context.Context, s apim.Scope, q apim.Query) (*T, error)
	List(ctx context.Context, s apim.Scope, q apim.Query) (apim.Page[T], error)
	Count(ctx context.Context, s apim.Scope, q apim.Query) (int, error)
}

// Table finds and changes nouns of one kind.
type Table[T any, ID ~string] interface {
	Reader[T, ID]
	Create(ctx context.Context, s apim.Scope, v *T) error
	Update(ctx context.Context, s apim.Scope, v *T) error
	Delete(ctx context.Context, s apim.Scope, id ID) error
}

// Blobs reads stored documents.
type Blobs interface {
	Get(ctx context.Context, ref apim.BlobRef) ([]byte, error)
}

// KeyManager makes and changes the OAuth clients of the resident key manager.
// Calls take part in the transaction of ctx, except Token.
type KeyManager interface {
	// CreateClient stores c with one live secret and returns that secret. An
	// empty c.ID is given a new consumer key.
	CreateClient(ctx context.Context, s apim.Scope, c *apim.Client) (secret string, err error)
	Client(ctx context.Context, s apim.Scope, id apim.ClientID) (*apim.Client, error)
	UpdateClient(ctx context.Context, s apim.Scope, c *apim.Client) error
	// DeleteClient removes the client and makes its tokens worthless.
	DeleteClient(ctx context.Context, s apim.Scope, id apim.ClientID) error
	// Secret is the newest live secret in clear.
	Secret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error)
	// CheckSecret reports whether secret is one of the client's live ones.
	CheckSecret(ctx context.Context, s apim.Scope, id apim.ClientID, secret string) (bool, error)
	// RegenerateSecret replaces every secret by a new one, which it returns.
	RegenerateSecret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error)
	// AddSecret adds a secret that lives for ttl (0: for ever) and returns it with its clear text.
	AddSecret(ctx context.Context, s apim.Scope, id apim.ClientID, description string, ttl time.Duration) (apim.Secret, string, error)
	RevokeSecret(ctx context.Context, s apim.Scope, id apim.ClientID, secretID string) error
	// Token issues a client credentials token. Validity 0 means the client's own.
	Token(ctx context.Context, s apim.Scope, id apim.ClientID, scopes []string, validity time.Duration) (Token, error)
	// Revoke makes one access token of the client worthless.
	Revoke(ctx context.Context, s apim.Scope, id apim.ClientID, token string) error
}

// Token is an issued access token.
type Token struct {
	Access   string
	Scopes   []string
	Validity time.Duration
}

// Passwords changes a user's own password. It answers with faults 901450 to 901452.
type Passwords interface {
	ChangePassword(ctx context.Context, a *apim.Actor, current, next string) error
}

// Options are what the service needs. All but Passwords, Now and Log are required.
type Options struct {
	InTx          func(ctx context.Context, fn func(ctx context.Context) error) error
	APIs          Reader[apim.API, apim.APIID]
	Deployments   Reader[apim.Deployment, apim.DeploymentID]
	Environments  Reader[apim.Environment, string]
	Policies      Reader[apim.ThrottlePolicy, string]
	KeyManagers   Reader[apim.KeyManager, string]
	TenantConfs   Reader[apim.TenantConf, apim.TenantID]
	Tenants       Reader[apim.Tenant, apim.TenantID]
	Users         Table[apim.User, apim.UserID]
	Applications  Table[apim.Application, apim.AppID]
	KeyMappings   Table[apim.KeyMapping, apim.KeyMappingID]
	Subscriptions Table[apim.Subscription, apim.SubscriptionID]
	APIKeys       Table[apim.APIKey, string]
	Blobs         Blobs
	Clients       KeyManager
	Passwords     Passwords
	Elsewhere     Elsewhere // nil: no clients are made at other key managers
	Box           Box       // nil as well then
	// Unlimited says whether the Unlimited tier is offered.
	Unlimited bool
	// NoDefaultApplication leaves new subscribers without DefaultApplication.
	NoDefaultApplication bool

	Now func() time.Time
	Log *slog.Logger
}

// Service is the developer portal's use cases.
type Service struct {
	Options

	mu      sync.Mutex
	greeted map[apim.UserID]bool
}

// New checks the options and makes the service.
func New(o Options) (*Service, error) {
	switch {
	case o.InTx == nil, o.APIs == nil, o.Deployments == nil, o.Environments == nil, o.Policies == nil,
		o.KeyManagers == nil, o.TenantConfs == nil, o.Tenants == nil, o.Users == nil, o.Applications == nil,
		o.KeyMappings == nil, o.Subscriptions == nil, o.APIKeys == nil, o.Blobs == nil, o.Clients == nil:
		return nil, errors.New("make subscribe service: a table or the key manager is missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{Options: o, greeted: map[apim.UserID]bool{}}, nil
}

// signedIn is the actor of ctx, who must be a user or a machine of a tenant.
func signedIn(ctx context.Context) (*apim.Actor, error) {
	a := apim.ActorFrom(ctx)
	if a.Tenant == "" {
		return nil, &fault.NotAuthorized
	}
	return a, nil
}

// allows applies a permission of roles: ALLOW admits holders of a role, DENY
// refuses them, anything else admits all.
func allows(kind string, roles []string, a *apim.Actor) bool {
	held := slices.ContainsFunc(roles, func(role string) bool { return holds(a, role) })
	switch strings.ToUpper(kind) {
	case "ALLOW":
		return held
	case "DENY":
		return !held
	}
	return true
}

// holds reports whether the actor has the role; every signed-in user has
// Internal/everyone, and role names ignore case.
func holds(a *apim.Actor, role string) bool {
	role = strings.TrimSpace(role)
	if a.Tenant != "" && strings.EqualFold(role, "Internal/everyone") {
		return true
	}
	return slices.ContainsFunc(a.Roles, func(r string) bool { return strings.EqualFold(r, role) })
}

// retry repeats fn when another writer came first: a lost internal race is not
// the caller's mistake. What final marks is returned as it is.
func retry(fn func() error) error {
	var err error
	for attempt := range 16 {
		if err = fn(); !errors.Is(err, &fault.PreconditionBad) {
			return err
		}
		if f, ok := errors.AsType[finalError](err); ok {
			return f.error
		}
		time.Sleep(rand.N(time.Millisecond << min(attempt, 5)))
	}
	return err
}

// finalError is a refusal that trying again cannot change.
type finalError struct{ error }

func (f finalError) Unwrap() error { return f.error }

func final(err error) error { return finalError{err} }

func missing(err error) bool { return errors.Is(err, &fault.Missing) }

func wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", verb, err)
}
