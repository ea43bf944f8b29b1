package subscribe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// DefaultApplication is made for a user at the first call of the portal.
const DefaultApplication = "DefaultApplication"

// Greet makes the caller a subscriber: the first time a user comes to the
// portal, DefaultApplication is created under the tenant's default policy. A
// user who deletes it does not get it again.
func (s *Service) Greet(ctx context.Context) error {
	a, err := signedIn(ctx)
	if err != nil || a.UserID == "" {
		return err
	}
	s.mu.Lock()
	known := s.greeted[a.UserID]
	s.mu.Unlock()
	if known {
		return nil
	}
	err = retry(func() error {
		err := s.InTx(ctx, func(ctx context.Context) error { return s.welcome(ctx, a) })
		if errors.Is(err, &fault.Exists) {
			return &fault.PreconditionBad // somebody just made one of that name: look again
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("welcome subscriber: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.greeted) > 100_000 { // a bound, not a policy: those forgotten cost one read
		clear(s.greeted)
	}
	s.greeted[a.UserID] = true
	return nil
}

func (s *Service) welcome(ctx context.Context, a *apim.Actor) error {
	u, err := s.Users.Get(ctx, a.Scope(), a.UserID)
	if missing(err) || (err == nil && u.Subscriber) {
		return nil
	}
	if err != nil {
		return err
	}
	u.Subscriber = true
	if err := s.Users.Update(ctx, a.Scope(), u); err != nil {
		return err
	}
	conf, err := s.conf(ctx, a.Tenant)
	if err != nil {
		return err
	}
	if s.NoDefaultApplication || conf.NoDefaultApplication {
		return nil
	}
	policy, err := s.defaultPolicy(ctx, a.Tenant, conf.ApplicationTier)
	if err != nil {
		return err
	}
	_, err = s.Applications.First(ctx, a.Scope(), apim.Where("owner", a.User).And("name", DefaultApplication))
	if !missing(err) {
		return err
	}
	return s.Applications.Create(ctx, a.Scope(), &apim.Application{
		Meta: apim.Meta{Tenant: a.Tenant}, ID: apim.AppID(uuid.NewString()), Name: DefaultApplication,
		Owner: a.User, OwnerID: a.UserID, Policy: policy, TokenType: "JWT", Status: "APPROVED", Visibility: "PRIVATE",
	})
}

// defaultPolicy is the named application policy if it exists, else Unlimited
// if it is offered, else the first by name.
func (s *Service) defaultPolicy(ctx context.Context, t apim.TenantID, named string) (string, error) {
	all, err := s.ThrottlePolicies(ctx, t, apim.AppLevel)
	if err != nil {
		return "", err
	}
	has := func(n string) bool {
		return slices.ContainsFunc(all, func(p *apim.ThrottlePolicy) bool { return p.Name == n })
	}
	switch {
	case named != "" && has(named):
		return named, nil
	case s.Unlimited && has(unlimited):
		return unlimited, nil
	case len(all) > 0:
		return all[0].Name, nil
	}
	return unlimited, nil
}

// ListApplications lists the caller's own applications. Sort is a searchable
// column; text is part of a name.
func (s *Service) ListApplications(ctx context.Context, text, sort string, desc bool, offset, limit int) (apim.Page[apim.Application], error) {
	a, err := signedIn(ctx)
	if err != nil {
		return apim.Page[apim.Application]{}, err
	}
	q := apim.Query{Where: []apim.Cond{{Col: "owner", Op: apim.Eq, Value: a.User}}, Sort: sort, Desc: desc, Offset: offset, Limit: limit}
	if text != "" {
		q.Where = append(q.Where, apim.Cond{Col: "name", Op: apim.Contains, Value: text})
	}
	page, err := s.Applications.List(ctx, a.Scope(), q)
	return page, wrap("list applications", err)
}

// Application is one of the caller's own applications; another's is 403.
func (s *Service) Application(ctx context.Context, id apim.AppID) (*apim.Application, error) {
	a, err := signedIn(ctx)
	if err != nil {
		return nil, err
	}
	app, err := s.Applications.Get(ctx, a.Scope(), id)
	if missing(err) {
		return nil, fault.Missing.Withf("Application with id '%s' not found", id)
	}
	if err != nil {
		return nil, fmt.Errorf("get application: %w", err)
	}
	if !owns(a, app) {
		return nil, fault.NotPermitted.Withf("User is not authorized to access the application %s", id)
	}
	return app, nil
}

// owns compares by user id where both are known: a name may be given to
// another person later.
func owns(a *apim.Actor, app *apim.Application) bool {
	if app.OwnerID != "" && a.UserID != "" {
		return app.OwnerID == a.UserID
	}
	return app.Owner == a.User
}

// CreateApplication stores an application of the caller, who sets its name,
// policy, description, token type, attributes and visibility.
func (s *Service) CreateApplication(ctx context.Context, app *apim.Application) error {
	a, err := signedIn(ctx)
	if err != nil {
		return err
	}
	if err := checkApplication(app); err != nil {
		return err
	}
	if err := s.checkAppPolicy(ctx, a.Tenant, app.Policy); err != nil {
		return err
	}
	app.Meta = apim.Meta{Tenant: a.Tenant}
	app.ID, app.Owner, app.OwnerID = apim.AppID(uuid.NewString()), a.User, a.UserID
	app.Status, app.Groups = "APPROVED", nil
	return applicationExists(s.Applications.Create(ctx, a.Scope(), app), app.Name)
}

func applicationExists(err error, name string) error {
	if errors.Is(err, &fault.Exists) {
		return fault.Exists.Withf("An application already exists with name %s", name)
	}
	return wrap("save application", err)
}

func checkApplication(app *apim.Application) error {
	switch n := len([]rune(app.Name)); {
	case n == 0 || strings.TrimSpace(app.Name) == "":
		return fault.BadRequest.With("The name of an application must not be empty")
	case n > 100:
		return fault.BadRequest.With("The name of an application has at most 100 characters")
	}
	if len([]rune(app.Description)) > 512 {
		return fault.BadRequest.With("The description of an application has at most 512 characters")
	}
	if app.Policy == "" {
		return fault.BadRequest.With("An application needs a throttlingPolicy")
	}
	switch app.TokenType {
	case "":
		app.TokenType = "JWT"
	case "JWT", "OAUTH":
	default:
		return fault.BadRequest.Withf("Token type '%s' is not one of JWT, OAUTH", app.TokenType)
	}
	switch app.Visibility {
	case "":
		app.Visibility = "PRIVATE"
	case "PRIVATE", "SHARED_WITH_ORG":
	default:
		return fault.BadRequest.Withf("Visibility '%s' is not one of PRIVATE, SHARED_WITH_ORG", app.Visibility)
	}
	if len(app.Attributes) > 100 {
		return fault.BadRequest.With("An application has at most 100 attributes")
	}
	return nil
}

// UpdateApplication changes what CreateApplication lets a caller set. Check,
// when not nil, may refuse on the stored revision.
func (s *Service) UpdateApplication(ctx context.Context, id apim.AppID, in *apim.Application, check func(rev int64) error) (*apim.Application, error) {
	if err := checkApplication(in); err != nil {
		return nil, err
	}
	var out *apim.Application
	err := retry(func() error {
		return s.InTx(ctx, func(ctx context.Context) (err error) {
			out, err = s.change(ctx, id, in, check)
			return err
		})
	})
	return out, err
}

func (s *Service) change(ctx context.Context, id apim.AppID, in *apim.Application, check func(rev int64) error) (*apim.Application, error) {
	app, err := s.Application(ctx, id)
	if err != nil {
		return nil, err
	}
	if check != nil {
		if err := check(app.Rev); err != nil {
			return nil, final(err)
		}
	}
	if app.Policy != in.Policy {
		if err := s.checkAppPolicy(ctx, app.Tenant, in.Policy); err != nil {
			return nil, err
		}
	}
	retyped := app.TokenType != in.TokenType
	app.Name, app.Policy, app.Description = in.Name, in.Policy, in.Description
	app.TokenType, app.Attributes, app.Visibility = in.TokenType, in.Attributes, in.Visibility
	if err := applicationExists(s.Applications.Update(ctx, apim.In(app.Tenant), app), app.Name); err != nil {
		return nil, err
	}
	if retyped {
		err = s.retype(ctx, app)
	}
	return app, err
}

// retype makes the clients of an application issue its kind of token.
func (s *Service) retype(ctx context.Context, app *apim.Application) error {
	in := apim.In(app.Tenant)
	page, err := s.KeyMappings.List(ctx, in, apim.Where("application", string(app.ID)))
	if err != nil {
		return fmt.Errorf("list key mappings: %w", err)
	}
	for _, m := range page.Items {
		if m.Mode != "CREATED" || m.ConsumerKey == "" {
			continue
		}
		c, err := s.Clients.Client(ctx, in, m.ConsumerKey)
		if missing(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find client: %w", err)
		}
		c.TokenType = app.TokenType
		if err := s.Clients.UpdateClient(ctx, in, c); err != nil {
			return fmt.Errorf("update client: %w", err)
		}
	}
	return nil
}

// DeleteApplication removes one of the caller's applications with its
// subscriptions, API keys, key mappings and the clients made for it.
func (s *Service) DeleteApplication(ctx context.Context, id apim.AppID, check func(rev int64) error) error {
	app, err := s.Application(ctx, id)
	if err != nil {
		return err
	}
	if check != nil {
		if err := check(app.Rev); err != nil {
			return err
		}
	}
	return s.Remove(ctx, app)
}

// Remove deletes an application and all that hangs on it, whoever asks.
func (s *Service) Remove(ctx context.Context, app *apim.Application) error {
	in := apim.In(app.Tenant)
	var gone []left
	err := s.InTx(ctx, func(ctx context.Context) error {
		gone = nil
		of := apim.Where("application", string(app.ID))
		subs, err := s.Subscriptions.List(ctx, in, of)
		if err != nil {
			return err
		}
		for _, sub := range subs.Items {
			if err := s.Subscriptions.Delete(ctx, in, sub.ID); err != nil {
				return err
			}
		}
		keys, err := s.APIKeys.List(ctx, in, of)
		if err != nil {
			return err
		}
		for _, k := range keys.Items {
			if err := s.APIKeys.Delete(ctx, in, k.ID); err != nil {
				return err
			}
		}
		maps, err := s.KeyMappings.List(ctx, in, of)
		if err != nil {
			return err
		}
		for _, m := range maps.Items {
			l, err := s.dropMapping(ctx, in, m)
			if err != nil {
				return err
			}
			gone = append(gone, l...)
		}
		return s.Applications.Delete(ctx, in, app.ID)
	})
	if err != nil {
		return fmt.Errorf("delete application: %w", err)
	}
	s.removeElsewhere(ctx, gone)
	return nil
}

// SubscriptionCount counts the subscriptions of an application.
func (s *Service) SubscriptionCount(ctx context.Context, app *apim.Application) (int, error) {
	n, err := s.Subscriptions.Count(ctx, apim.In(app.Tenant), apim.Where("application", string(app.ID)))
	return n, wrap("count subscriptions", err)
}

// ResetQuota forgets what a user has used of the application's quota so far.
// The user is named with or without the tenant; tokens name them otherwise, so
// every name a gateway may count them by is reset.
func (s *Service) ResetQuota(ctx context.Context, id apim.AppID, user string) error {
	user = strings.TrimSpace(user)
	if user == "" {
		return fault.BadRequest.With("userName is required")
	}
	return retry(func() error {
		app, err := s.Application(ctx, id)
		if err != nil {
			return err
		}
		names, err := s.countedAs(ctx, app.Tenant, user)
		if err != nil {
			return err
		}
		now := s.Now()
		if app.ResetAt == nil {
			app.ResetAt = map[string]time.Time{}
		}
		// No window of a quota is that long: older resets mean nothing any more.
		maps.DeleteFunc(app.ResetAt, func(_ string, at time.Time) bool { return now.Sub(at) > resetsKept })
		for _, name := range names {
			if _, again := app.ResetAt[name]; !again && len(app.ResetAt) >= maxResets {
				return fault.BadRequest.With("too many users of this application were reset")
			}
			app.ResetAt[name] = now
		}
		return wrap("save application", s.Applications.Update(ctx, apim.In(app.Tenant), app))
	})
}

const (
	resetsKept = 400 * 24 * time.Hour
	maxResets  = 5000 // names an application may carry
)

// countedAs lists the names gateways count a user's calls under: the owner's
// name for tokens of an application, the subject for tokens of a user, which is
// their id, with or without the tenant.
func (s *Service) countedAs(ctx context.Context, tenant apim.TenantID, name string) ([]string, error) {
	out := []string{name}
	local, of := name, tenant
	if i := strings.LastIndexByte(name, '@'); i > 0 {
		_, err := s.Tenants.Get(ctx, apim.Across(apim.Platform), apim.TenantID(name[i+1:]))
		if err == nil {
			local, of = name[:i], apim.TenantID(name[i+1:])
		} else if !missing(err) {
			return nil, fmt.Errorf("find tenant: %w", err)
		}
	}
	out = append(out, local, local+"@"+string(of))
	u, err := s.Users.First(ctx, apim.In(of), apim.Query{Where: []apim.Cond{{Col: "name", Op: apim.EqFold, Value: local}}})
	if missing(err) {
		u, err = s.Users.Get(ctx, apim.In(of), apim.UserID(local)) // named as a token names them
	}
	switch {
	case missing(err): // a user of another key manager: the token's name is all there is
	case err != nil:
		return nil, fmt.Errorf("find user: %w", err)
	default:
		at := "@" + string(of)
		out = append(out, u.Name, u.Name+at, string(u.ID), string(u.ID)+at)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
