package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// appPolicy creates an application throttling policy of n requests per unit.
func appPolicy(t *testing.T, c *Client, name string, n int, unit string) {
	t.Helper()
	ok(t, c.Must(t.Context(), http.StatusCreated, http.MethodPost, Admin+"/throttling/policies/application", map[string]any{
		"policyName": name, "displayName": name, "description": name,
		"defaultLimit": map[string]any{"type": "REQUESTCOUNTLIMIT", "requestCount": map[string]any{"timeUnit": unit, "unitTime": 1, "requestCount": n}},
	}, nil))
}

// securedAPI publishes the tiny API and subscribes an application under the policy.
func securedAPI(t *testing.T, c *Client, name, backend, policy string) (api, token string) {
	t.Helper()
	api = must[string](t)(c.Import(t.Context(), NewAPI{Definition: []byte(tinyDefinition), Name: name, Version: "1.0.0", Context: "/" + name, Backend: backend}))
	ok(t, c.Publish(t.Context(), api))
	app := must[*App](t)(c.NewApp(t.Context(), "app-"+name, policy))
	must[string](t)(c.Subscribe(t.Context(), app.ID, api, "Unlimited"))
	return api, must[string](t)(c.AppToken(t.Context(), app, ""))
}

func TestDayLimitSurvivesKill(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	p := node(t, Node{})
	c := admin(t, p)
	const limit = 300
	appPolicy(t, c, "ThreeHundredPerDay", limit, "days")
	_, token := securedAPI(t, c, "day", backend.URL, "ThreeHundredPerDay")
	early(24*time.Hour, time.Minute)

	passed := 0
	for _, until := range []int{1, 90, 211} {
		for passed < until {
			a := must[*Answer](t)(Call(t.Context(), http.MethodGet, p.Gateway()+"/day/1.0.0/a", token, nil))
			if a.Status != http.StatusOK {
				t.Fatalf("call %d: status %d: %s", passed+1, a.Status, a.Body)
			}
			passed++
		}
		p.Kill() // at once after the last answer
		p = must[*Process](t)(Start(t.Context(), p.Node))
		t.Cleanup(p.Kill)
	}
	remaining := 0
	for range limit {
		a := must[*Answer](t)(Call(t.Context(), http.MethodGet, p.Gateway()+"/day/1.0.0/a", token, nil))
		if a.Status != http.StatusOK {
			expectCode(t, a, http.StatusTooManyRequests, "900803")
			break
		}
		remaining++
	}
	if passed+remaining != limit {
		t.Errorf("%d calls passed before and %d after three kills, want %d together", passed, remaining, limit)
	}
}

// burst calls with n callers at once until every one was refused once.
func burst(ctx context.Context, callers int, targets []string, token string) (passed, refused int64, err error) {
	var ok, no atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for {
				a, err := Call(ctx, http.MethodGet, targets[i%len(targets)], token, nil)
				switch {
				case err != nil:
					failed.Store(&err)
					return
				case a.Status == http.StatusOK:
					ok.Add(1)
				case a.Status == http.StatusTooManyRequests:
					no.Add(1)
					return
				default:
					err = fmt.Errorf("status %d: %s", a.Status, a.Body)
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e := failed.Load(); e != nil {
		err = *e
	}
	return ok.Load(), no.Load(), err
}

func TestExactlyTheLimitPassesWith64Callers(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	p := node(t, Node{})
	c := admin(t, p)
	for _, limit := range []int{1, 100, 1000} {
		name := fmt.Sprintf("Hourly%d", limit)
		appPolicy(t, c, name, limit, "hour")
		_, token := securedAPI(t, c, fmt.Sprintf("exact%d", limit), backend.URL, name)
		early(time.Hour, time.Minute)
		passed, refused, err := burst(t.Context(), 64, []string{p.Gateway() + fmt.Sprintf("/exact%d/1.0.0/a", limit)}, token)
		ok(t, err)
		if passed != int64(limit) || refused != 64 {
			t.Errorf("limit %d: %d calls passed and %d callers were refused, want %d and 64", limit, passed, refused, limit)
		}
	}
}

func TestTwoGatewaysStayWithinTheBound(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	p := node(t, Node{})
	c := admin(t, p)
	second := joinGateway(t, c, "gw-two")
	const limit = 2000
	appPolicy(t, c, "TwoGateways", limit, "hour")
	_, token := securedAPI(t, c, "shared", backend.URL, "TwoGateways")
	early(time.Hour, time.Minute)

	// The bound is what arrives within one exchange period plus its travel: at
	// most the calls of 250 ms at the observed rate, and never a second quota.
	began := time.Now()
	passed, refused, err := burst(t.Context(), 16, []string{p.Gateway() + "/shared/1.0.0/a", second.Gateway() + "/shared/1.0.0/a"}, token)
	took := time.Since(began)
	ok(t, err)
	rate := float64(passed) / took.Seconds()
	bound := int64(rate * 0.25)
	t.Logf("limit %d, two gateways: %d passed, %d refused, %.0f calls/s, bound %d", limit, passed, refused, rate, bound)
	if passed < limit || passed > limit+bound {
		t.Errorf("%d calls passed, want between %d and %d", passed, limit, limit+bound)
	}
}
