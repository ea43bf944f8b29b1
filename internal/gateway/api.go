package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/gateway/proxy"
	"github.com/cardea-apim/cardea/internal/gateway/report"
	"github.com/cardea-apim/cardea/internal/gateway/route"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/throttle"
)

// api is a deployed API, compiled. It never changes; its endpoints remember
// their health.
type api struct {
	id, tenant, name, version string
	kind                      string // HTTP, SOAP, ...
	state                     string
	env                       string
	context                   string
	alias                     string // context of the default version; empty: none
	vhosts                    []string
	http, https               bool
	rules                     *auth.Rules
	matcher                   *route.Matcher
	ops                       []operation
	cors                      *cors
	production, sandbox       *proxy.Group
	policy                    string // API-level; empty: per operation
	policyKey                 throttle.Key
	backend                   [2]throttle.Check // production, sandbox; Limit 0: none
	source                    *report.Source
	hash                      string // of the item it was made of
}

// operation is one resource and verb.
type operation struct {
	target, verb string
	flow         *flow
	more         *more // nil: no scopes and no policy
	kind         auth.Kind
}

// more is what fewer operations have.
type more struct {
	scopes []string
	policy string
	key    throttle.Key
}

func unlimited(policy string) bool { return policy == "" || policy == "Unlimited" }

// compile makes an API out of its item. It shares verbs, scopes and flows.
func (g *Gateway) compile(it *snapshot.Item) (*api, error) {
	if len(it.Body) == 0 {
		return nil, errors.New("body is missing")
	}
	var s snapshot.API
	if err := json.Unmarshal(it.Body, &s); err != nil {
		return nil, err
	}
	if s.Context == "" || s.Context[0] != '/' {
		return nil, fmt.Errorf("context %q does not begin with a slash", s.Context)
	}
	a := &api{
		id: s.ID, tenant: s.Tenant, name: s.Name, version: s.Version, kind: s.Type, state: s.State, env: it.Env,
		context: trimContext(s.Context), hash: it.Hash,
		rules:  auth.Compile(&s, g.o.AuthHeader),
		source: &report.Source{Tenant: s.Tenant, API: s.ID, Name: s.Name, Version: s.Version, Environment: it.Env},
	}
	if s.Default && s.DefaultContext != "" {
		a.alias = trimContext(s.DefaultContext)
	}
	for _, h := range s.VHosts {
		a.vhosts = append(a.vhosts, hostOnly(strings.ToLower(h)))
	}
	for _, t := range s.Transports {
		a.http = a.http || strings.EqualFold(t, "http")
		a.https = a.https || strings.EqualFold(t, "https")
	}
	if len(s.Transports) == 0 {
		a.http, a.https = true, true
	}
	if !unlimited(s.APIPolicy) {
		a.policy = s.APIPolicy
	}
	if err := a.compileOperations(&s); err != nil {
		return nil, err
	}
	var err error
	if a.cors, err = g.compileCORS(s.CORS); err != nil {
		return nil, err
	}
	var open proxy.Open
	if g.o.Box != nil {
		open = g.o.Box.Open
	}
	if a.production, err = proxy.NewGroup(s.Production, s.EndpointMode, open, g.o.ResponseTimeout); err != nil {
		return nil, fmt.Errorf("production: %w", err)
	}
	if a.sandbox, err = proxy.NewGroup(s.Sandbox, s.EndpointMode, open, g.o.ResponseTimeout); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	if m := s.MaxTPS; m != nil {
		a.backend[0] = a.backendCheck(auth.Production, m.Production, m.ProductionUnit)
		a.backend[1] = a.backendCheck(auth.Sandbox, m.Sandbox, m.SandboxUnit)
	}
	return a, nil
}

func (a *api) compileOperations(s *snapshot.API) error {
	list := make([]route.Resource, len(s.Operations))
	targets := make(map[string]string, len(s.Operations))
	for i := range s.Operations {
		o := &s.Operations[i]
		if same, ok := targets[o.Target]; ok {
			o.Target = same // one copy for all verbs
		} else {
			targets[o.Target] = o.Target
		}
		list[i] = route.Resource{Target: o.Target, Verb: o.Verb}
	}
	var err error
	if a.matcher, err = route.NewMatcher(list); err != nil {
		return err
	}
	perOperation := a.policy == ""
	a.policyKey = throttle.KeyOf(throttle.LevelAPI, a.context, a.version)
	a.ops = make([]operation, len(s.Operations))
	shared := map[string]*more{}
	for i, o := range s.Operations {
		op := &a.ops[i]
		op.target, op.verb, op.kind = o.Target, verb(o.Verb), auth.KindOf(o.Auth)
		op.flow = flowFor(a, op.kind)
		limited := perOperation && !unlimited(o.Policy)
		switch {
		case limited:
			op.more = &more{
				scopes: o.Scopes, policy: o.Policy,
				key: throttle.KeyOf(throttle.LevelResource, a.context, a.version, o.Target, op.verb),
			}
		case len(o.Scopes) > 0:
			k := strings.Join(o.Scopes, " ")
			if shared[k] == nil {
				shared[k] = &more{scopes: o.Scopes}
			}
			op.more = shared[k]
		}
	}
	return nil
}

func (a *api) backendCheck(kind string, limit int64, unit string) throttle.Check {
	window := time.Second
	switch strings.ToUpper(unit) {
	case "MINUTE":
		window = time.Minute
	case "HOUR":
		window = time.Hour
	}
	return throttle.Check{
		Key: throttle.KeyOf(throttle.LevelBackend, a.context, a.version, kind), Level: throttle.LevelBackend,
		Limit: limit, Window: window, Policy: "maxTps", Local: true,
	}
}

// verbs that need no copy each.
var verbs = []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}

func verb(s string) string {
	s = strings.ToUpper(s)
	if i := slices.Index(verbs, s); i >= 0 {
		return verbs[i]
	}
	return s
}

// trimContext is a context as the tree holds it; that of the root is empty.
func trimContext(s string) string { return strings.TrimRight(s, "/") }

// hostOnly is a Host field without its port.
func hostOnly(host string) string {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.IndexByte(host[i:], ']') >= 0 {
		return host
	}
	return host[:i]
}
