package govern

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// DefaultEnvironment exists in every tenant and is not changed through the API.
const DefaultEnvironment = "Default"

var envName = regexp.MustCompile(`^[a-zA-Z0-9_-]+$`)

// ListEnvironments lists the environments of the caller's tenant, Default first.
func (s *Service) ListEnvironments(ctx context.Context) ([]*apim.Environment, error) {
	_, in := tenantOf(ctx)
	page, err := s.Environments.List(ctx, in, apim.Query{Sort: "created"})
	if err != nil {
		return nil, wrap("list environments", err)
	}
	slices.SortStableFunc(page.Items, func(a, b *apim.Environment) int {
		switch {
		case a.ReadOnly == b.ReadOnly:
			return 0
		case a.ReadOnly:
			return -1
		}
		return 1
	})
	return page.Items, nil
}

// EnvironmentID is the id an environment has for clients: those that come with
// the installation are known by name.
func EnvironmentID(e *apim.Environment) string {
	if e.ReadOnly {
		return e.Name
	}
	return e.ID
}

// Environment is one environment of the caller's tenant by id.
func (s *Service) Environment(ctx context.Context, id string) (*apim.Environment, error) {
	_, in := tenantOf(ctx)
	e, err := s.Environments.Get(ctx, in, id)
	if missing(err) {
		if e, err = s.Environments.First(ctx, in, apim.Where("name", id)); err == nil && !e.ReadOnly {
			err = &fault.Missing
		}
	}
	if missing(err) {
		return nil, fault.EnvNotFound.Withf("Gateway Environment with UUID '%s' not found", id)
	}
	return e, wrap("get environment", err)
}

// CreateEnvironment stores e for the caller's tenant.
func (s *Service) CreateEnvironment(ctx context.Context, e *apim.Environment) error {
	t, in := tenantOf(ctx)
	if err := s.checkEnvironment(e); err != nil {
		return err
	}
	e.Meta, e.ID, e.ReadOnly = apim.Meta{Tenant: t}, uuid.NewString(), false
	if e.DisplayName == "" {
		e.DisplayName = e.Name
	}
	err := s.Environments.Create(ctx, in, e)
	if errors.Is(err, &fault.Exists) {
		return fault.EnvExists.Withf("Gateway Environment with name '%s' already exists", e.Name)
	}
	return wrap("save environment", err)
}

func (s *Service) checkEnvironment(e *apim.Environment) error {
	switch {
	case !envName.MatchString(e.Name) || len(e.Name) > 255:
		return fault.BadRequest.With("name must consist of letters, digits, '_' and '-', at most 255 of them")
	case len(e.DisplayName) > 255:
		return fault.BadRequest.With("displayName has at most 255 characters")
	case len(e.Description) > 1023:
		return fault.BadRequest.With("description has at most 1023 characters")
	case len(e.VHosts) == 0:
		return fault.BadRequest.With("An environment needs at least one virtual host")
	case len(e.VHosts) > 100:
		return fault.BadRequest.With("An environment has at most 100 virtual hosts")
	}
	seen := map[string]bool{}
	for i := range e.VHosts {
		v := &e.VHosts[i]
		h := strings.ToLower(v.Host)
		switch {
		case h == "" || len(h) > 255:
			return fault.BadRequest.With("The host of a virtual host has 1 to 255 characters")
		case seen[h]:
			return fault.EnvVhostDup.Withf("Virtual host '%s' is duplicated", v.Host)
		}
		seen[h] = true
		for _, p := range []struct {
			port *int
			def  int
		}{{&v.HTTPPort, 8280}, {&v.HTTPSPort, 8243}, {&v.WSPort, 9099}, {&v.WSSPort, 8099}, {&v.WebsubHTTPPort, 9021}, {&v.WebsubHTTPSPort, 8021}} {
			if *p.port == 0 {
				*p.port = p.def
			}
			if *p.port < 1 || *p.port > 65535 {
				return fault.BadRequest.Withf("Port %d of virtual host '%s' is out of range", *p.port, v.Host)
			}
		}
	}
	switch e.Type {
	case "":
		e.Type = "hybrid"
	case "hybrid", "production", "sandbox":
	default:
		return fault.BadRequest.Withf("Environment type '%s' is not one of hybrid, production, sandbox", e.Type)
	}
	switch e.PermissionType {
	case "":
		e.PermissionType = "PUBLIC"
	case "PUBLIC", "ALLOW", "DENY":
	default:
		return fault.BadRequest.Withf("Permission type '%s' is not one of PUBLIC, ALLOW, DENY", e.PermissionType)
	}
	if e.Provider == "" {
		e.Provider = "wso2"
	}
	if e.GatewayType == "" {
		e.GatewayType = "Regular"
	}
	return nil
}

// UpdateEnvironment replaces everything but the name.
func (s *Service) UpdateEnvironment(ctx context.Context, id string, in *apim.Environment, check func(rev int64) error) error {
	return retry(func() error {
		old, err := s.Environment(ctx, id)
		if err != nil {
			return err
		}
		if old.ReadOnly {
			return fault.EnvReadOnly.Withf("The Gateway Environment '%s' is read only", old.Name)
		}
		if check != nil {
			if err := check(old.Rev); err != nil {
				return final(err)
			}
		}
		if in.Name != "" && in.Name != old.Name {
			return fault.EnvNameReadOnly.Withf("The name of the Gateway Environment '%s' cannot be changed", old.Name)
		}
		in.Meta, in.ID, in.Name, in.ReadOnly = old.Meta, old.ID, old.Name, false
		if in.DisplayName == "" {
			in.DisplayName = old.DisplayName
		}
		if err := s.checkEnvironment(in); err != nil {
			return err
		}
		return wrap("save environment", s.Environments.Update(ctx, apim.In(old.Tenant), in))
	})
}

// DeleteEnvironment removes an environment in which nothing is deployed.
func (s *Service) DeleteEnvironment(ctx context.Context, id string) error {
	e, err := s.Environment(ctx, id)
	if err != nil {
		return err
	}
	if e.ReadOnly {
		return fault.EnvReadOnly.Withf("The Gateway Environment '%s' is read only", e.Name)
	}
	return s.InTx(ctx, func(ctx context.Context) error {
		n, err := s.Deployments.Count(ctx, apim.In(e.Tenant), apim.Where("environment", e.Name))
		if err != nil {
			return wrap("count deployments", err)
		}
		if n > 0 {
			return fault.Exists.Withf("Cannot delete the environment '%s': revisions of APIs are deployed in it", e.Name)
		}
		return wrap("delete environment", s.Environments.Delete(ctx, apim.In(e.Tenant), e.ID))
	})
}

// gatewayLease is how long after its last word a gateway counts as active.
const gatewayLease = 3 * time.Second

// Gateway is a gateway of an environment.
type Gateway struct {
	apim.GatewayNode
	Active bool
}

// EnvironmentGateways lists the gateways that serve an environment.
func (s *Service) EnvironmentGateways(ctx context.Context, id string) ([]Gateway, error) {
	e, err := s.Environment(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.Gateways == nil {
		return nil, nil
	}
	all, err := s.Gateways(ctx)
	if err != nil {
		return nil, wrap("list gateways", err)
	}
	var out []Gateway
	for _, g := range all {
		if slices.Contains(g.Labels, e.Name) {
			out = append(out, Gateway{g, s.Now().Sub(time.UnixMilli(g.LastSeen)) <= gatewayLease})
		}
	}
	return out, nil
}
