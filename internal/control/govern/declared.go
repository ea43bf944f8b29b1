package govern

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
)

// declared are the read-only environments a tenant has: those of the
// configuration, or Default.
func (s *Service) declared() []apim.Environment {
	list := slices.Clone(s.Declared)
	if len(list) == 0 {
		list = []apim.Environment{{Name: DefaultEnvironment, Description: "Gateways of this installation"}}
	}
	for i := range list {
		e := &list[i]
		e.ReadOnly = true
		for p, def := range map[*string]string{
			&e.DisplayName: e.Name, &e.Provider: "wso2", &e.Type: "hybrid", &e.GatewayType: "Regular", &e.PermissionType: "PUBLIC",
		} {
			if *p == "" {
				*p = def
			}
		}
		if len(e.VHosts) == 0 {
			e.VHosts = []apim.VHost{{Host: s.GatewayHost}}
		} else {
			e.VHosts = slices.Clone(e.VHosts)
		}
		for j := range e.VHosts {
			v := &e.VHosts[j]
			for p, def := range map[*int]int{
				&v.HTTPPort: s.Ports.HTTP, &v.HTTPSPort: s.Ports.HTTPS, &v.WSPort: s.Ports.WS, &v.WSSPort: s.Ports.WSS,
				&v.WebsubHTTPPort: s.Ports.WebsubHTTP, &v.WebsubHTTPSPort: s.Ports.WebsubHTTPS,
			} {
				if *p == 0 {
					*p = def
				}
			}
		}
	}
	return list
}

// seedEnvironments makes the read-only environments of a tenant what the
// configuration says. One that is no longer declared goes, unless something is
// deployed in it.
func (s *Service) seedEnvironments(ctx context.Context, t apim.TenantID) error {
	in := apim.In(t)
	page, err := s.Environments.List(ctx, in, apim.Query{})
	if err != nil {
		return fmt.Errorf("list environments: %w", err)
	}
	want := s.declared()
	for _, e := range page.Items {
		i := slices.IndexFunc(want, func(w apim.Environment) bool { return w.Name == e.Name })
		switch {
		case i >= 0:
			next := want[i]
			want = slices.Delete(want, i, i+1)
			next.Meta, next.ID = e.Meta, e.ID
			if sameEnvironment(&next, e) {
				continue
			}
			if err := s.Environments.Update(ctx, in, &next); err != nil {
				return fmt.Errorf("update environment %s: %w", e.Name, err)
			}
		case e.ReadOnly:
			if err := s.retire(ctx, in, e); err != nil {
				return err
			}
		}
	}
	for i := range want {
		e := want[i]
		e.Meta, e.ID = apim.Meta{Tenant: t}, uuid.NewString()
		if err := s.Environments.Create(ctx, in, &e); err != nil {
			return fmt.Errorf("create environment %s: %w", e.Name, err)
		}
	}
	return nil
}

// sameEnvironment compares what the configuration says; absent and empty are alike.
func sameEnvironment(a, b *apim.Environment) bool {
	x, y := *a, *b
	for _, e := range []*apim.Environment{&x, &y} {
		e.Meta = apim.Meta{}
		if len(e.Properties) == 0 {
			e.Properties = nil
		}
		if len(e.PermissionRoles) == 0 {
			e.PermissionRoles = nil
		}
	}
	return reflect.DeepEqual(x, y)
}

// retire removes an environment that the configuration no longer declares.
func (s *Service) retire(ctx context.Context, in apim.Scope, e *apim.Environment) error {
	n, err := s.Deployments.Count(ctx, in, apim.Where("environment", e.Name))
	if err != nil {
		return fmt.Errorf("count deployments: %w", err)
	}
	if n > 0 {
		s.Log.WarnContext(ctx, "environment is no longer configured, but APIs are deployed in it; it stays", "environment", e.Name, "tenant", e.Tenant)
		return nil
	}
	if err := s.Environments.Delete(ctx, in, e.ID); err != nil {
		return fmt.Errorf("delete environment %s: %w", e.Name, err)
	}
	return nil
}
