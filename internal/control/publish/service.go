// Package publish is the use case of designing and publishing APIs: working
// copies and their definitions, revisions and deployments, the lifecycle,
// shared scopes and what a publisher does to subscriptions. It decides; it
// knows neither JSON names nor SQL.
package publish

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/definition"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Reader is what publishing reads of nouns that others keep.
type Reader[T any, ID ~string] interface {
	Get(ctx context.Context, s apim.Scope, id ID) (*T, error)
	First(ctx context.Context, s apim.Scope, q apim.Query) (*T, error)
	List(ctx context.Context, s apim.Scope, q apim.Query) (apim.Page[T], error)
}

// Table is what publishing needs of the nouns it keeps itself.
type Table[T any, ID ~string] interface {
	Reader[T, ID]
	Create(ctx context.Context, s apim.Scope, v *T) error
	Update(ctx context.Context, s apim.Scope, v *T) error
	Delete(ctx context.Context, s apim.Scope, id ID) error
	Count(ctx context.Context, s apim.Scope, q apim.Query) (int, error)
}

// Blobs keeps documents by content.
type Blobs interface {
	Put(ctx context.Context, b []byte) (apim.BlobRef, error)
	Get(ctx context.Context, ref apim.BlobRef) ([]byte, error)
}

// Sealer encrypts secrets with the master key.
type Sealer interface {
	Seal(plain []byte) string
}

// Fetcher reads a document from an address a user gave.
type Fetcher interface {
	Get(ctx context.Context, address string, limit int64) ([]byte, error)
}

// Options make a Service. All tables are required.
type Options struct {
	InTx          func(ctx context.Context, fn func(ctx context.Context) error) error
	APIs          Table[apim.API, apim.APIID]
	Revisions     Table[apim.Revision, apim.RevisionID]
	Deployments   Table[apim.Deployment, apim.DeploymentID]
	Scopes        Table[apim.SharedScope, string]
	Subscriptions Table[apim.Subscription, apim.SubscriptionID]
	APIKeys       Table[apim.APIKey, string]
	Applications  Reader[apim.Application, apim.AppID]
	Policies      Reader[apim.ThrottlePolicy, string]
	Environments  Reader[apim.Environment, string]
	KeyManagers   Reader[apim.KeyManager, string]
	Roles         Reader[apim.Role, apim.RoleID]
	TenantConfs   Reader[apim.TenantConf, apim.TenantID]
	Blobs         Blobs
	Seal          Sealer
	Fetch         Fetcher
	NoUnlimited   bool  // apim.throttling.enable_unlimited_tier = false
	MaxRevisions  int   // 0: 5
	MaxDefinition int64 // bytes of an API definition; 0: definition.MaxSize
	Now           func() time.Time
	Log           *slog.Logger
}

// Service is the use case.
type Service struct {
	Options
	checks chan check
}

// New makes a Service. Run must be running for deep checks to happen.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MaxDefinition <= 0 || o.MaxDefinition > definition.MaxSize {
		o.MaxDefinition = definition.MaxSize
	}
	if o.MaxRevisions == 0 {
		o.MaxRevisions = 5
	}
	return &Service{Options: o, checks: make(chan check, 64)}
}

func newID() string { return uuid.NewString() }

func missing(err error) bool { return errors.Is(err, &fault.Missing) }

// notFound is the reference's answer to an unknown API.
func notFound(id apim.APIID) error {
	return fault.APINotFound.Withf("Requested API with id '%s' not found", printable(string(id)))
}

func printable(s string) string {
	if len(s) > 100 {
		s = s[:100]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '<' || r == '>' {
			return -1
		}
		return r
	}, s)
}

// load finds a working copy that the caller may see.
func (s *Service) load(ctx context.Context, id apim.APIID) (*apim.API, error) {
	a := apim.ActorFrom(ctx)
	api, err := s.APIs.Get(ctx, a.Scope(), id)
	if missing(err) {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, fmt.Errorf("load api: %w", err)
	}
	if !canSee(a, api) {
		return nil, fault.NoReadRight.With("User is not authorized to access the API")
	}
	return api, nil
}

// canSee applies the publisher's access control, which is apart from who sees
// the API in the portal.
func canSee(a *apim.Actor, api *apim.API) bool {
	if api.AccessControl != "RESTRICTED" || a.System || hasRole(a, "admin") || api.Provider == a.User {
		return true
	}
	for _, r := range api.AccessControlRoles {
		if hasRole(a, r) {
			return true
		}
	}
	return false
}

func hasRole(a *apim.Actor, role string) bool {
	for _, r := range a.Roles {
		if strings.EqualFold(r, role) {
			return true
		}
	}
	return false
}

// Get reads an API. The id of a revision gives the API as it was then; rev is
// that revision, or nil for the working copy.
func (s *Service) Get(ctx context.Context, id apim.APIID) (api *apim.API, rev *apim.Revision, err error) {
	api, err = s.load(ctx, id)
	if err == nil || !errors.Is(err, &fault.APINotFound) {
		return api, nil, err
	}
	a := apim.ActorFrom(ctx)
	rev, rerr := s.Revisions.Get(ctx, a.Scope(), apim.RevisionID(id))
	if missing(rerr) {
		return nil, nil, err
	}
	if rerr != nil {
		return nil, nil, fmt.Errorf("load revision: %w", rerr)
	}
	parent, err := s.load(ctx, rev.API)
	if err != nil {
		return nil, nil, err
	}
	c := rev.Copy
	c.Meta, c.ID, c.State = rev.Meta, apim.APIID(rev.ID), parent.State
	return &c, rev, nil
}

// mutate changes the working copy of an API under optimistic concurrency. Fn
// may run again after a lost race.
func (s *Service) mutate(ctx context.Context, id apim.APIID, fn func(ctx context.Context, api *apim.API) error) (*apim.API, error) {
	var out *apim.API
	err := s.retry(ctx, func(ctx context.Context) error {
		api, err := s.load(ctx, id)
		if err != nil {
			return err
		}
		if err := fn(ctx, api); err != nil {
			return err
		}
		out = api
		return s.save(ctx, api)
	})
	return out, err
}

// retry runs fn in a transaction, again when it lost a race.
func (s *Service) retry(ctx context.Context, fn func(ctx context.Context) error) error {
	for range 8 {
		if err := s.InTx(ctx, fn); !errors.Is(err, errLostRace) {
			return err
		}
	}
	return fault.Busy.With("It is being changed by many at once; try again")
}

var errLostRace = errors.New("lost a race")

func (s *Service) save(ctx context.Context, api *apim.API) error {
	err := s.APIs.Update(ctx, apim.In(api.Tenant), api)
	switch {
	case errors.Is(err, &fault.PreconditionBad):
		return errLostRace
	case missing(err):
		return notFound(api.ID)
	case errors.Is(err, &fault.Exists):
		return taken(err, api)
	case err != nil:
		return fmt.Errorf("save api: %w", err)
	}
	return nil
}

// taken names the unique key that another API holds.
func taken(err error, api *apim.API) error {
	if strings.Contains(fault.Of(err).Detail, "context") {
		return fault.APIContextExists.Withf("API with context %s already exists", api.Context)
	}
	return fault.APINameExists.Withf("API with name %s already exists", api.Name)
}
