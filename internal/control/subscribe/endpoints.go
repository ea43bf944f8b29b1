package subscribe

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/definition"
	"github.com/cardea-apim/cardea/internal/fault"
)

// Endpoint is where an API answers in one environment. URLs are empty for
// transports the API does not offer.
type Endpoint struct {
	Environment string
	DisplayName string
	Type        string
	URLs        URLs
	Default     URLs // without the version, for the default version of an API
}

// URLs of one API in one environment.
type URLs struct{ HTTP, HTTPS, WS, WSS string }

// Endpoints lists where the API is deployed for the portal to show, in order
// of environment names.
func (s *Service) Endpoints(ctx context.Context, api *apim.API) ([]Endpoint, error) {
	in := apim.In(api.Tenant)
	deps, err := s.Deployments.List(ctx, in, apim.Query{Where: []apim.Cond{{Col: "api", Op: apim.Eq, Value: string(api.ID)}}, Sort: "environment"})
	if err != nil {
		return nil, fmt.Errorf("list deployments: %w", err)
	}
	var out []Endpoint
	for _, d := range deps.Items {
		if !d.OnDevportal {
			continue
		}
		env, err := s.Environments.First(ctx, in, apim.Where("name", d.Environment))
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("find environment: %w", err)
		}
		out = append(out, endpointOf(api, env, d.VHost))
	}
	return out, nil
}

func endpointOf(api *apim.API, env *apim.Environment, host string) Endpoint {
	e := Endpoint{Environment: env.Name, DisplayName: env.DisplayName, Type: env.Type}
	if e.DisplayName == "" {
		e.DisplayName = env.Name
	}
	var vh apim.VHost
	for i, v := range env.VHosts {
		if i == 0 || v.Host == host {
			vh = v
		}
	}
	path := api.Context + "/" + api.Version
	if api.ContextTemplate != "" {
		path = strings.ReplaceAll(api.ContextTemplate, "{version}", api.Version)
	}
	e.URLs = urls(api, vh, path)
	if api.Default {
		e.Default = urls(api, vh, strings.TrimSuffix(strings.ReplaceAll(api.Context, "/{version}", ""), "/"))
	}
	return e
}

func urls(api *apim.API, vh apim.VHost, path string) URLs {
	base := func(scheme string, port, usual int) string {
		if vh.Host == "" {
			return ""
		}
		u := scheme + "://" + vh.Host
		if port != usual {
			u += ":" + strconv.Itoa(port)
		}
		if c := strings.Trim(vh.HTTPContext, "/"); c != "" && (scheme == "http" || scheme == "https") {
			u += "/" + c
		}
		return u + path
	}
	if api.Type == "WS" || api.Type == "WEBSUB" {
		return URLs{WS: base("ws", vh.WSPort, 80), WSS: base("wss", vh.WSSPort, 443)}
	}
	var u URLs
	if slices.Contains(api.Transports, "http") {
		u.HTTP = base("http", vh.HTTPPort, 80)
	}
	if slices.Contains(api.Transports, "https") {
		u.HTTPS = base("https", vh.HTTPSPort, 443)
	}
	return u
}

// Definition is the portal's copy of an API's definition, with its servers set
// to the named environment or, without a name, to the first it is deployed in.
func (s *Service) Definition(ctx context.Context, api *apim.API, environment string) ([]byte, error) {
	if api.Definition == "" {
		return nil, fault.Missing.With("The API has no definition")
	}
	ends, err := s.Endpoints(ctx, api)
	if err != nil {
		return nil, err
	}
	var at *Endpoint
	for i := range ends {
		if environment == "" || ends[i].Environment == environment {
			at = &ends[i]
			break
		}
	}
	if at == nil {
		if at, err = s.anywhere(ctx, api, environment); err != nil {
			return nil, err
		}
	}
	doc, err := s.Blobs.Get(ctx, api.Definition)
	if err != nil {
		return nil, fmt.Errorf("read definition: %w", err)
	}
	var servers []string
	if at != nil {
		for _, u := range []string{at.URLs.HTTPS, at.URLs.HTTP, at.URLs.WSS, at.URLs.WS} {
			if u != "" {
				servers = append(servers, u)
			}
		}
	}
	return portalCopy(doc, servers)
}

// portalCopy is the definition as consumers see it, always as JSON.
func portalCopy(doc []byte, servers []string) ([]byte, error) {
	d, err := definition.Read(doc)
	if err == nil && d.Format == definition.YAML {
		d, err = definition.Read(d.AsJSON())
	}
	if err != nil {
		return nil, fmt.Errorf("read stored definition: %w", err)
	}
	out, err := d.Portal(servers)
	return out, wrap("make portal definition", err)
}

// anywhere is the end point of an API that is not deployed where it was asked
// for: the named environment must exist, and without a name any will do.
func (s *Service) anywhere(ctx context.Context, api *apim.API, environment string) (*Endpoint, error) {
	q := apim.Query{Sort: "created", Limit: 1}
	if environment != "" {
		q = apim.Where("name", environment)
	}
	env, err := s.Environments.First(ctx, apim.In(api.Tenant), q)
	if missing(err) {
		if environment != "" {
			return nil, fault.EnvNotFound.Withf("Gateway Environment with name '%s' not found", environment)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find environment: %w", err)
	}
	e := endpointOf(api, env, "")
	return &e, nil
}
