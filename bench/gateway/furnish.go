package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// Paths that the scenarios call.
const (
	plainPath = "/plain/1.0.0/a"
	largePath = "/large/1.0.0/a"
	jwtPath   = "/jwt/1.0.0/a"
	keyPath   = "/key/1.0.0/a"
)

// furnish makes the plans, APIs, applications and tokens.
func (s *stack) furnish(ctx context.Context) error {
	if err := s.plans(ctx); err != nil {
		return fmt.Errorf("plans: %w", err)
	}
	open := `{"target":"/a","verb":"%s","authType":"None","throttlingPolicy":"Unlimited"}`
	if _, err := s.api(ctx, "Plain", s.small, `["oauth2"]`, fmt.Sprintf(open, "GET")); err != nil {
		return err
	}
	if _, err := s.api(ctx, "Large", s.large, `["oauth2"]`, fmt.Sprintf(open, "POST")); err != nil {
		return err
	}
	jwt, err := s.api(ctx, "JWT", s.small, `["oauth2"]`, `{"target":"/a","verb":"GET","authType":"Application & Application User","throttlingPolicy":"Unlimited","scopes":["bench_read"]}`)
	if err != nil {
		return err
	}
	key, err := s.api(ctx, "Key", s.small, `["oauth2","api_key"]`, `{"target":"/a","verb":"GET","authType":"Application & Application User","throttlingPolicy":"Unlimited"}`)
	if err != nil {
		return err
	}
	apps := map[string]*e2e.App{}
	for name, plan := range map[string]string{"caller": "BenchApplication", "stranger": "BenchApplication", "tiny": "FivePerMinute"} {
		if apps[name], err = s.c.NewApp(ctx, name, plan); err != nil {
			return err
		}
		if name == "stranger" {
			continue
		}
		if _, err := s.c.Subscribe(ctx, apps[name].ID, jwt, "BenchPlan"); err != nil {
			return err
		}
	}
	s.app = apps["caller"]
	if _, err := s.c.Subscribe(ctx, s.app.ID, key, "BenchPlan"); err != nil {
		return err
	}
	for _, t := range []struct {
		to    *string
		app   string
		scope string
	}{{&s.token, "caller", "bench_read"}, {&s.noScope, "caller", ""}, {&s.stranger, "stranger", "bench_read"}, {&s.tiny, "tiny", "bench_read"}} {
		if *t.to, err = s.c.AppToken(ctx, apps[t.app], t.scope); err != nil {
			return err
		}
	}
	var made struct{ APIKey, KeyUUID string }
	if err := s.c.Must(ctx, http.StatusOK, http.MethodPost, e2e.Devportal+"/apis/"+key+"/api-keys/generate", map[string]any{"keyName": "bench", "keyType": "PRODUCTION", "validityPeriod": -1}, &made); err != nil {
		return err
	}
	s.apiKey = made.APIKey
	return s.c.Must(ctx, http.StatusOK, http.MethodPost, e2e.Devportal+"/apis/"+key+"/api-keys/associate", map[string]any{"keyUUID": made.KeyUUID, "applicationUUID": s.app.ID}, nil)
}

// plans makes one limit of each level that counts and is never reached, a tiny
// one that is, and raises the plan of calls without credentials.
func (s *stack) plans(ctx context.Context) error {
	limit := func(n int) map[string]any {
		return map[string]any{"type": "REQUESTCOUNTLIMIT", "requestCount": map[string]any{"timeUnit": "min", "unitTime": 1, "requestCount": n}}
	}
	for _, p := range []struct {
		level, name string
		n           int
	}{{"advanced", "BenchAPI", plenty}, {"subscription", "BenchPlan", plenty}, {"application", "BenchApplication", plenty}, {"application", "FivePerMinute", 5}} {
		if err := s.c.Must(ctx, http.StatusCreated, http.MethodPost, e2e.Admin+"/throttling/policies/"+p.level,
			map[string]any{"policyName": p.name, "displayName": p.name, "description": p.name, "defaultLimit": limit(p.n)}, nil); err != nil {
			return err
		}
	}
	var list struct {
		List []struct{ PolicyID, PolicyName string }
	}
	if err := s.c.Must(ctx, http.StatusOK, http.MethodGet, e2e.Admin+"/throttling/policies/subscription", nil, &list); err != nil {
		return err
	}
	for _, p := range list.List {
		if p.PolicyName == "Unauthenticated" {
			return s.c.Must(ctx, http.StatusOK, http.MethodPut, e2e.Admin+"/throttling/policies/subscription/"+p.PolicyID,
				map[string]any{"policyName": p.PolicyName, "displayName": p.PolicyName, "description": "raised", "stopOnQuotaReach": true, "defaultLimit": limit(plenty)}, nil)
		}
	}
	return errors.New("no plan named Unauthenticated")
}

// api publishes an API of one operation below /name in lower case.
func (s *stack) api(ctx context.Context, name, backend, security, operation string) (string, error) {
	id, err := s.create(ctx, name, backend, security, operation)
	if err != nil {
		return "", err
	}
	return id, s.c.Publish(ctx, id)
}

func (s *stack) create(ctx context.Context, name, backend, security, operation string) (string, error) {
	body := map[string]any{
		"name": name, "version": "1.0.0", "context": "/" + strings.ToLower(name), "policies": []string{"BenchPlan"},
		"securityScheme": json.RawMessage(security), "operations": []json.RawMessage{json.RawMessage(operation)},
		"endpointConfig": map[string]any{"endpoint_type": "http", "production_endpoints": map[string]any{"url": "http://" + backend}},
	}
	if !strings.Contains(operation, `"None"`) {
		body["apiThrottlingPolicy"] = "BenchAPI"
		if strings.Contains(operation, "bench_read") {
			body["scopes"] = json.RawMessage(`[{"scope":{"name":"bench_read","displayName":"Read","bindings":[]}}]`)
		}
	}
	var out struct{ ID string }
	err := s.c.Must(ctx, http.StatusCreated, http.MethodPost, e2e.Publisher+"/apis", body, &out)
	return out.ID, err
}

// inParallel runs f for 0 to n-1 on some goroutines and stops at the first error.
func inParallel(ctx context.Context, n int, f func(i int) error) error {
	var next atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for first.Load() == nil && ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if e := first.Load(); e != nil {
		return *e
	}
	return ctx.Err()
}

// manyTokens gets tokens that differ, all good for the JWT scenarios.
func (s *stack) manyTokens(ctx context.Context) error {
	if s.many != nil {
		return nil
	}
	out := make([]string, tokens)
	err := inParallel(ctx, tokens, func(i int) (err error) {
		out[i], err = s.c.Grant(ctx, s.app.ConsumerKey, s.app.ConsumerSecret, url.Values{"grant_type": {"client_credentials"}, "scope": {"bench_read"}})
		return err
	})
	s.many = out
	return err
}

// manyAPIsDeployed deploys 10,000 APIs; a hundred of them are subscribed to.
func (s *stack) manyAPIsDeployed(ctx context.Context) error {
	before, err := s.memoryMB()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pin(s.control.Pid(), proxyCore, loadCore); err != nil {
		return err
	}
	err = inParallel(ctx, manyAPIs, func(i int) error {
		// The tiny differences are those of real ones: name, context, path.
		id, err := s.create(ctx, fmt.Sprintf("Many%05d", i), s.small, `["oauth2"]`, `{"target":"/a","verb":"GET","authType":"Application & Application User","throttlingPolicy":"Unlimited"}`)
		if err != nil {
			return err
		}
		if i%(manyAPIs/calledOf) != 0 {
			_, _, err = s.c.Deploy(ctx, id)
			return err
		}
		if err := s.c.Publish(ctx, id); err != nil {
			return err
		}
		_, err = s.c.Subscribe(ctx, s.app.ID, id, "BenchPlan")
		return err
	})
	if err := errors.Join(err, pin(s.control.Pid(), loadCore)); err != nil {
		return err
	}
	fmt.Printf("deployed %d APIs in %v\n", manyAPIs, time.Since(began).Round(time.Second))
	s.emptyMB = before
	s.fullMB, err = s.memoryMB()
	return err
}
