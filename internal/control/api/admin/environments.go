package admin

import (
	"net/http"
	"strconv"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

type vhost struct {
	Host            string `json:"host"`
	HTTPContext     string `json:"httpContext"`
	HTTPPort        int    `json:"httpPort"`
	HTTPSPort       int    `json:"httpsPort"`
	WSPort          int    `json:"wsPort"`
	WSSPort         int    `json:"wssPort"`
	WebsubHTTPPort  int    `json:"websubHttpPort"`
	WebsubHTTPSPort int    `json:"websubHttpsPort"`
}

type pair struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type endpointURI struct {
	Protocol string `json:"protocol"`
	URI      string `json:"endpointURI"`
}

type environment struct {
	ID          string        `json:"id"`
	Name        string        `json:"name"`
	DisplayName *string       `json:"displayName"`
	Description string        `json:"description"`
	Provider    string        `json:"provider"`
	GatewayType string        `json:"gatewayType"`
	Type        string        `json:"type"`
	IsReadOnly  bool          `json:"isReadOnly"`
	Window      *int          `json:"apiDiscoveryScheduledWindow"`
	VHosts      []vhost       `json:"vhosts"`
	URIs        []endpointURI `json:"endpointURIs"`
	Properties  []pair        `json:"additionalProperties"`
	Permissions *permission   `json:"permissions"`
}

// window is the property that keeps the discovery window, in minutes.
const window = "apiDiscoveryScheduledWindow"

func fromEnvironment(e *apim.Environment) environment {
	out := environment{
		ID: govern.EnvironmentID(e), Name: e.Name, DisplayName: &e.DisplayName, Description: e.Description, Provider: e.Provider,
		GatewayType: e.GatewayType, Type: e.Type, IsReadOnly: e.ReadOnly, VHosts: []vhost{}, URIs: []endpointURI{}, Properties: []pair{},
		Permissions: &permission{e.PermissionType, some(e.PermissionRoles)}, Window: new(60),
	}
	for _, v := range e.VHosts {
		out.VHosts = append(out.VHosts, vhost{v.Host, v.HTTPContext, v.HTTPPort, v.HTTPSPort, v.WSPort, v.WSSPort, v.WebsubHTTPPort, v.WebsubHTTPSPort})
	}
	for _, k := range sorted(e.Properties) {
		if k == window {
			if n, err := strconv.Atoi(e.Properties[k]); err == nil {
				out.Window = &n
			}
			continue
		}
		out.Properties = append(out.Properties, pair{k, e.Properties[k]})
	}
	return out
}

func (in *environment) environment() (*apim.Environment, error) {
	e := &apim.Environment{Name: in.Name, Description: in.Description, Provider: in.Provider, GatewayType: in.GatewayType, Type: in.Type}
	if in.DisplayName != nil {
		if *in.DisplayName == "" {
			return nil, fault.BadRequest.With("displayName must not be empty")
		}
		e.DisplayName = *in.DisplayName
	}
	for _, v := range in.VHosts {
		e.VHosts = append(e.VHosts, apim.VHost{
			Host: v.Host, HTTPContext: v.HTTPContext, HTTPPort: v.HTTPPort, HTTPSPort: v.HTTPSPort,
			WSPort: v.WSPort, WSSPort: v.WSSPort, WebsubHTTPPort: v.WebsubHTTPPort, WebsubHTTPSPort: v.WebsubHTTPSPort,
		})
	}
	if in.Permissions != nil {
		e.PermissionType, e.PermissionRoles = in.Permissions.Type, in.Permissions.Roles
	}
	if len(in.Properties) > 100 {
		return nil, fault.BadRequest.With("An environment has at most 100 additional properties")
	}
	e.Properties = map[string]string{}
	for _, p := range in.Properties {
		e.Properties[p.Key] = p.Value
	}
	if in.Window != nil {
		e.Properties[window] = strconv.Itoa(*in.Window)
	}
	return e, nil
}

func (s *server) listEnvironments(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.ListEnvironments(r.Context())
	if err != nil {
		return err
	}
	out := []environment{}
	for _, e := range all {
		out = append(out, fromEnvironment(e))
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}

func (s *server) createEnvironment(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[environment](r)
	if err != nil {
		return err
	}
	e, err := in.environment()
	if err != nil {
		return err
	}
	if err := s.svc.CreateEnvironment(r.Context(), e); err != nil {
		return err
	}
	w.Header().Set("Location", Base+"/environments/"+e.ID)
	rest.SetETag(w, e.Rev)
	return rest.JSON(w, http.StatusCreated, fromEnvironment(e))
}

func (s *server) getEnvironment(w http.ResponseWriter, r *http.Request) error {
	e, err := s.svc.Environment(r.Context(), rest.Path(r, "environmentId"))
	if err != nil {
		return err
	}
	rest.SetETag(w, e.Rev)
	return rest.JSON(w, http.StatusOK, fromEnvironment(e))
}

func (s *server) updateEnvironment(w http.ResponseWriter, r *http.Request) error {
	in, err := rest.Decode[environment](r)
	if err != nil {
		return err
	}
	e, err := in.environment()
	if err != nil {
		return err
	}
	if err := s.svc.UpdateEnvironment(r.Context(), rest.Path(r, "environmentId"), e, ifMatch(r)); err != nil {
		return err
	}
	rest.SetETag(w, e.Rev)
	return rest.JSON(w, http.StatusOK, fromEnvironment(e))
}

func (s *server) deleteEnvironment(w http.ResponseWriter, r *http.Request) error {
	if err := s.svc.DeleteEnvironment(r.Context(), rest.Path(r, "environmentId")); err != nil {
		return err
	}
	return rest.Empty(w, http.StatusOK)
}

func (s *server) listGateways(w http.ResponseWriter, r *http.Request) error {
	all, err := s.svc.EnvironmentGateways(r.Context(), rest.Path(r, "environmentId"))
	if err != nil {
		return err
	}
	type gateway struct {
		ID          string   `json:"gatewayId"`
		Status      string   `json:"status"`
		LastActive  string   `json:"lastActive"`
		LastUpdated string   `json:"lastUpdated"`
		Version     string   `json:"snapshotVersion"` // ours
		Ready       bool     `json:"ready"`           // ours
		Failed      []string `json:"failed"`          // ours: items it could not compile
	}
	out := []gateway{}
	for _, g := range all {
		status := "EXPIRED"
		if g.Active {
			status = "ACTIVE"
		}
		seen := time.UnixMilli(g.LastSeen).UTC().Format(time.RFC3339)
		out = append(out, gateway{g.ID, status, seen, seen, g.Version, g.Ready, some(g.Failed)})
	}
	return rest.JSON(w, http.StatusOK, listOf(out))
}
