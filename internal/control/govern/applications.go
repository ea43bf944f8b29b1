package govern

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// ListApplications lists the applications of a tenant, whoever owns them: of
// one owner when owner is given, with a name that contains text when it is.
// Only the super tenant's administrators may name another tenant.
func (s *Service) ListApplications(ctx context.Context, tenant, owner, text, sort string, desc bool, offset, limit int) (apim.Page[apim.Application], error) {
	t, in := tenantOf(ctx)
	if tenant != "" && apim.TenantID(tenant) != t {
		if t != apim.SuperTenant {
			return apim.Page[apim.Application]{}, fault.NotPermitted.Withf("Applications of the tenant %s cannot be listed", tenant)
		}
		in = apim.In(apim.TenantID(tenant))
	}
	q := apim.Query{Sort: sort, Desc: desc, Offset: offset, Limit: limit}
	if owner != "" {
		q = q.And("owner", owner)
	}
	if text != "" {
		q.Where = append(q.Where, apim.Cond{Col: "name", Op: apim.Contains, Value: text})
	}
	page, err := s.Applications.List(ctx, in, q)
	return page, wrap("list applications", err)
}

func (s *Service) application(ctx context.Context, id apim.AppID) (*apim.Application, error) {
	_, in := tenantOf(ctx)
	app, err := s.Applications.Get(ctx, in, id)
	if missing(err) {
		return nil, fault.Missing.Withf("Application with id '%s' not found", id)
	}
	return app, wrap("get application", err)
}

// DeleteApplication removes any application of the caller's tenant.
func (s *Service) DeleteApplication(ctx context.Context, id apim.AppID) error {
	app, err := s.application(ctx, id)
	if err != nil {
		return err
	}
	return s.Remover.Remove(ctx, app)
}

// ChangeOwner gives an application, its keys and subscriptions to another
// subscriber of the same tenant.
func (s *Service) ChangeOwner(ctx context.Context, id apim.AppID, owner string) error {
	if _, err := s.application(ctx, id); err != nil {
		return err
	}
	t, in := tenantOf(ctx)
	owner = strings.TrimSpace(owner)
	local := owner
	if name, dom, ok := cutLast(owner, "@"); ok && strings.Contains(dom, ".") {
		if !strings.EqualFold(dom, string(t)) {
			return fault.OwnerChangeFailed.Withf("Unable to change the owner of the application to %s of another tenant", owner)
		}
		local = name
	}
	u, err := s.Users.First(ctx, in, apim.Query{Where: []apim.Cond{{Col: "name", Op: apim.EqFold, Value: local}}})
	if missing(err) {
		return fault.OwnerChangeFailed.Withf("Unable to find the user %s", owner)
	}
	if err != nil {
		return fmt.Errorf("find user: %w", err)
	}
	shown := u.Name
	if t != apim.SuperTenant {
		shown += "@" + string(t)
	}
	return retry(func() error {
		return s.InTx(ctx, func(ctx context.Context) error {
			app, err := s.application(ctx, id)
			if err != nil {
				return err
			}
			if !u.Subscriber {
				n, err := s.Applications.Count(ctx, in, apim.Where("owner", shown))
				if err != nil {
					return fmt.Errorf("count applications: %w", err)
				}
				if n == 0 {
					return fault.OwnerChangeFailed.Withf("The user %s is not a subscriber", owner)
				}
			}
			app.Owner, app.OwnerID = shown, u.ID
			if err := s.Applications.Update(ctx, in, app); err != nil {
				if errors.Is(err, &fault.Exists) {
					return fault.OwnerChangeFailed.Withf("The user %s already has an application with the name %s", owner, app.Name)
				}
				return fmt.Errorf("save application: %w", err)
			}
			return s.handOver(ctx, in, app, u)
		})
	})
}

// handOver makes the new owner also that of the clients and subscriptions.
func (s *Service) handOver(ctx context.Context, in apim.Scope, app *apim.Application, u *apim.User) error {
	of := apim.Where("application", string(app.ID))
	maps, err := s.KeyMappings.List(ctx, in, of)
	if err != nil {
		return fmt.Errorf("list key mappings: %w", err)
	}
	for _, m := range maps.Items {
		if m.Mode != "CREATED" || m.ConsumerKey == "" || m.ClientName != "" { // the last: made elsewhere
			continue
		}
		c, err := s.Clients.Client(ctx, in, m.ConsumerKey)
		if missing(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("find client: %w", err)
		}
		c.Owner, c.OwnerID = u.Name, u.ID
		if err := s.Clients.UpdateClient(ctx, in, c); err != nil {
			return fmt.Errorf("update client: %w", err)
		}
	}
	subs, err := s.Subscriptions.List(ctx, in, of)
	if err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	for _, sub := range subs.Items {
		sub.Subscriber = app.Owner
		if err := s.Subscriptions.Update(ctx, in, sub); err != nil {
			return fmt.Errorf("save subscription: %w", err)
		}
	}
	return nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
