// Package govern is what administrators decide: throttling policies,
// environments, key managers, who owns an application, which role opens which
// scope, and what every tenant starts with (reference: admin, traffic §3).
package govern

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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

// Confs reads and replaces a tenant's configuration document.
type Confs interface {
	Conf(ctx context.Context, t apim.TenantID) (string, error)
	// SetConf checks the document (fault 902001) and puts it in force.
	SetConf(ctx context.Context, t apim.TenantID, doc string) error
}

// Remover deletes an application with all that hangs on it.
type Remover interface {
	Remove(ctx context.Context, app *apim.Application) error
}

// Clients changes who owns the OAuth clients of an application.
type Clients interface {
	Client(ctx context.Context, s apim.Scope, id apim.ClientID) (*apim.Client, error)
	UpdateClient(ctx context.Context, s apim.Scope, c *apim.Client) error
}

// Sealer keeps secrets of key managers.
type Sealer interface{ Seal(plain []byte) string }

// Ports of the gateway and the management side, offset included.
type Ports struct{ Management, HTTP, HTTPS, WS, WSS, WebsubHTTP, WebsubHTTPS int }

// Options are what the service needs. Gateways and Log may be nil.
type Options struct {
	InTx          func(ctx context.Context, fn func(ctx context.Context) error) error
	Tenants       Reader[apim.Tenant, apim.TenantID]
	Users         Reader[apim.User, apim.UserID]
	APIs          Reader[apim.API, apim.APIID]
	Deployments   Reader[apim.Deployment, apim.DeploymentID]
	Policies      Table[apim.ThrottlePolicy, string]
	Environments  Table[apim.Environment, string]
	KeyManagers   Table[apim.KeyManager, string]
	Applications  Table[apim.Application, apim.AppID]
	Subscriptions Table[apim.Subscription, apim.SubscriptionID]
	KeyMappings   Reader[apim.KeyMapping, apim.KeyMappingID]
	Confs         Confs
	Remover       Remover
	Clients       Clients
	Seal          Sealer
	Discovery     Discoverer // nil: discovery documents are not read
	// Gateways lists the gateways that have joined, with when they were last seen.
	Gateways func(ctx context.Context) ([]apim.GatewayNode, error)
	// Grants are the grant types a new resident key manager offers; nil: client
	// credentials, password and refresh token.
	Grants []string
	// Host is the public name of this installation, for issuer and end points.
	Host string
	// GatewayHost is the virtual host of the environment Default.
	GatewayHost string
	Ports       Ports
	// Declared are the environments of the configuration: every tenant has them,
	// read-only. None: Default alone. Ports that are 0 are those of Ports.
	Declared []apim.Environment
	// Unlimited says whether the Unlimited tier is offered.
	Unlimited bool
	Now       func() time.Time
	Log       *slog.Logger
}

// Service is the administrator's use cases.
type Service struct {
	Options
	confMu sync.Mutex // one edit of a tenant configuration at a time
}

// New checks the options and makes the service.
func New(o Options) (*Service, error) {
	switch {
	case o.InTx == nil, o.Tenants == nil, o.Users == nil, o.APIs == nil, o.Deployments == nil, o.Policies == nil,
		o.Environments == nil, o.KeyManagers == nil, o.Applications == nil, o.Subscriptions == nil,
		o.KeyMappings == nil, o.Confs == nil, o.Remover == nil, o.Clients == nil, o.Seal == nil:
		return nil, errors.New("make govern service: a table or a collaborator is missing")
	case o.Host == "" || o.GatewayHost == "":
		return nil, errors.New("make govern service: host names are missing")
	}
	if o.Grants == nil {
		o.Grants = []string{"client_credentials", "password", "refresh_token"}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{Options: o}, nil
}

func missing(err error) bool { return errors.Is(err, &fault.Missing) }

func wrap(verb string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", verb, err)
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

// tenantOf is the scope of the caller's own tenant.
func tenantOf(ctx context.Context) (apim.TenantID, apim.Scope) {
	t := apim.ActorFrom(ctx).Tenant
	return t, apim.In(t)
}
