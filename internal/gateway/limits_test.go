package gateway

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		p, err := facts.ParsePrefix(s)
		if err != nil {
			panic(err)
		}
		out = append(out, p)
	}
	return out
}

var noon = time.Date(2026, 11, 22, 22, 39, 20, 0, time.UTC)

func at(now *atomic.Int64) func(*Options) {
	now.Store(noon.UnixNano())
	return func(o *Options) { o.Now = func() time.Time { return time.Unix(0, now.Load()).UTC() } }
}

// longLived is a token that is valid at noon.
func longLived(change ...func(*token.Claims)) func(*token.Claims) {
	return func(c *token.Claims) {
		c.IssuedAt, c.NotBefore, c.Expires = noon.Add(-time.Hour), noon.Add(-time.Hour), noon.Add(24*time.Hour)
		for _, fn := range change {
			fn(c)
		}
	}
}

func per(count int64, window time.Duration) snapshot.Limit {
	return snapshot.Limit{Count: count, Window: window}
}

func policy(w *world, kind snapshot.Kind, p snapshot.Policy) snapshot.Item {
	p.Tenant = tenant
	return item(w.t, kind, tenant+"/"+p.Name, "", p)
}

func TestEachLimitRefusesWithItsCode(t *testing.T) {
	const detail = "You have exceeded your quota"
	timed := func(code string) string {
		return `{"code":"` + code + `","message":"Message throttled out","description":"You have exceeded your quota .You can access API after 2026-Nov-22 22:40:00+0000 UTC","nextAccessTime":"2026-Nov-22 22:40:00+0000 UTC"}`
	}
	subPolicy := func(p snapshot.Policy) func(*world) []snapshot.Item {
		return func(w *world) []snapshot.Item {
			p.Name, p.StopOnQuota = "Plan", true
			return []snapshot.Item{policy(w, snapshot.KindSubPolicy, p), item(w.t, snapshot.KindSubscription, "app-1/api-1", "", subscription("UNBLOCKED", "Plan"))}
		}
	}
	appPolicy := func(l snapshot.Limit) func(*world) []snapshot.Item {
		return func(w *world) []snapshot.Item {
			return []snapshot.Item{
				policy(w, snapshot.KindAppPolicy, snapshot.Policy{Name: "App", Limit: l, StopOnQuota: true}),
				item(w.t, snapshot.KindApplication, "app-1", "", snapshot.Application{ID: "app-1", Tenant: tenant, Name: "Phone", Owner: "alice", Policy: "App"}),
			}
		}
	}
	for _, c := range []struct {
		name   string
		api    func(*snapshot.API)
		extra  func(*world) []snapshot.Item
		verb   string
		path   string
		body   string
		pass   int
		status int
		want   string
		retry  string
		rule   string
	}{
		{name: "resource", path: "/pizza/1.0/limited", pass: 2, status: 429, want: timed("900802"), retry: "Sun, 22 Nov 2026 22:40:00 GMT", rule: "resource-limit"},
		{name: "API", api: func(a *snapshot.API) { a.APIPolicy = "2PerMin" }, path: "/pizza/1.0/menu", pass: 2, status: 429, want: timed("900800"), retry: "Sun, 22 Nov 2026 22:40:00 GMT", rule: "api-limit"},
		{
			name: "API level makes the resource's ineffective", api: func(a *snapshot.API) { a.APIPolicy = "5PerMin" },
			extra: func(w *world) []snapshot.Item {
				return []snapshot.Item{policy(w, snapshot.KindAPIPolicy, snapshot.Policy{Name: "5PerMin", Limit: per(5, time.Minute)})}
			}, path: "/pizza/1.0/limited", pass: 5, status: 429, want: timed("900800"), rule: "api-limit",
		},
		{name: "subscription", extra: subPolicy(snapshot.Policy{Limit: per(3, time.Minute)}), path: "/pizza/1.0/menu", pass: 3, status: 429, want: timed("900804"), retry: "Sun, 22 Nov 2026 22:40:00 GMT", rule: "subscription-limit"},
		{
			name: "burst", extra: subPolicy(snapshot.Policy{Limit: per(100, time.Minute), BurstCount: 2, BurstUnit: "sec"}), path: "/pizza/1.0/menu", pass: 2, status: 429,
			want: `{"code":"900807","message":"Message throttled out","description":"` + detail + `"}`, rule: "burst-limit",
		},
		{name: "application", extra: appPolicy(per(4, time.Minute)), path: "/pizza/1.0/menu", pass: 4, status: 429, want: timed("900803"), retry: "Sun, 22 Nov 2026 22:40:00 GMT", rule: "application-limit"},
		{name: "application bytes: the call that crosses is served", verb: "POST", body: "0123456789", extra: appPolicy(snapshot.Limit{Bytes: 25, Window: time.Minute}), path: "/pizza/1.0/menu", pass: 3, status: 429, want: timed("900803"), rule: "application-limit"},
		{
			name: "backend", api: func(a *snapshot.API) { a.MaxTPS = &snapshot.MaxTPS{Production: 3, ProductionUnit: "SECOND"} }, path: "/pizza/1.0/open", pass: 3, status: 503,
			want: `{"code":"900801","message":"API Limit Reached","description":"API not accepting requests"}`, rule: "backend-limit",
		},
		{name: "nobody in particular, by address", extra: func(w *world) []snapshot.Item {
			return []snapshot.Item{policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "Unauthenticated", StopOnQuota: true, Limit: per(6, time.Minute)})}
		}, path: "/pizza/1.0/open", pass: 6, status: 429, want: timed("900804"), rule: "subscription-limit"},
		{name: "built-in plan of nobody in particular", path: "/pizza/1.0/open", pass: 500, status: 429, want: timed("900804"), rule: "subscription-limit"},
		{name: "subscriptionless", api: func(a *snapshot.API) { a.Security.Subscriptionless = true }, extra: func(w *world) []snapshot.Item {
			return []snapshot.Item{policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "DefaultSubscriptionless", StopOnQuota: true, Limit: per(2, time.Minute)})}
		}, path: "/pizza/1.0/menu", pass: 2, status: 429, want: timed("900804"), rule: "subscription-limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var now atomic.Int64
			w := pizzeria(t, c.api, at(&now))
			if c.extra != nil {
				w.apply(false, c.extra(w)...)
			}
			verb := c.verb
			if verb == "" {
				verb = "GET"
			}
			auth := bearerOf(w.token(longLived()))
			for i := range c.pass {
				if rec := w.do(verb, c.path, c.body, auth); rec.Code != 200 {
					t.Fatalf("call %d of %d: %d %s", i+1, c.pass, rec.Code, rec.Body)
				}
			}
			rec := w.do(verb, c.path, c.body, auth)
			if rec.Code != c.status || rec.Body.String() != c.want {
				t.Errorf("call %d: %d %s\nwant %d %s", c.pass+1, rec.Code, rec.Body, c.status, c.want)
			}
			if got := rec.Header().Get("Retry-After"); c.retry != "" && got != c.retry || strings.Contains(c.want, "nextAccess") != (got != "") {
				t.Errorf("Retry-After %q", got)
			}
			if d := w.records.last().Decision; d == nil || d.Rule != c.rule || d.Details["limit"] == "" || d.Details["policy"] == "" {
				t.Errorf("decision %+v", d)
			}
			now.Add(int64(time.Minute))
			if rec := w.do(verb, c.path, c.body, auth); rec.Code != 200 {
				t.Errorf("in the next window: %d %s", rec.Code, rec.Body)
			}
		})
	}
}

func TestLimitsAreCheckedInTheirOrder(t *testing.T) {
	var now atomic.Int64
	w := pizzeria(t, func(a *snapshot.API) { a.MaxTPS = &snapshot.MaxTPS{Production: 1, ProductionUnit: "HOUR"} }, at(&now))
	one := per(1, time.Minute)
	w.apply(false,
		policy(w, snapshot.KindAPIPolicy, snapshot.Policy{Name: "2PerMin", Limit: one}),
		policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "Plan", Limit: one, StopOnQuota: true, BurstCount: 1, BurstUnit: "min"}),
		policy(w, snapshot.KindAppPolicy, snapshot.Policy{Name: "App", Limit: one}),
		item(t, snapshot.KindSubscription, "app-1/api-1", "", subscription("UNBLOCKED", "Plan")),
		item(t, snapshot.KindApplication, "app-1", "", snapshot.Application{ID: "app-1", Tenant: tenant, Policy: "App"}),
	)
	auth := bearerOf(w.token(longLived()))
	w.get("/pizza/1.0/limited", auth)
	// Each level is lifted in turn, and the next one refuses.
	big := per(1000, time.Minute)
	for _, step := range []struct {
		rule string
		lift snapshot.Item
	}{
		{"resource-limit", policy(w, snapshot.KindAPIPolicy, snapshot.Policy{Name: "2PerMin", Limit: big})},
		{"subscription-limit", policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "Plan", Limit: big, StopOnQuota: true, BurstCount: 1, BurstUnit: "min"})},
		{"burst-limit", policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "Plan", Limit: big, StopOnQuota: true})},
		{"application-limit", policy(w, snapshot.KindAppPolicy, snapshot.Policy{Name: "App", Limit: big})},
		{"backend-limit", snapshot.Item{Key: snapshot.Key{Kind: "unknown", ID: "x"}}},
	} {
		w.get("/pizza/1.0/limited", auth)
		if d := w.records.last().Decision; d == nil || d.Rule != step.rule {
			t.Fatalf("refused by %+v, want %s", d, step.rule)
		}
		w.apply(false, step.lift)
	}
}

func TestSoftQuotaPassesAndUsersAreCountedApart(t *testing.T) {
	var now atomic.Int64
	w := pizzeria(t, nil, at(&now))
	w.apply(false,
		policy(w, snapshot.KindSubPolicy, snapshot.Policy{Name: "Plan", Limit: per(1, time.Minute), StopOnQuota: false}),
		policy(w, snapshot.KindAppPolicy, snapshot.Policy{Name: "App", Limit: per(2, time.Minute)}),
		item(t, snapshot.KindSubscription, "app-1/api-1", "", subscription("UNBLOCKED", "Plan")),
		item(t, snapshot.KindApplication, "app-1", "", snapshot.Application{ID: "app-1", Tenant: tenant, Policy: "App", Owner: "alice"}),
	)
	user := func(name string) string {
		return bearerOf(w.token(longLived(func(c *token.Claims) { c.Aut, c.Subject = token.AutUser, name })))
	}
	for _, c := range []struct {
		who    string
		status int
	}{{"carol", 200}, {"carol", 200}, {"carol", 429}, {"dave", 200}, {"dave", 200}, {"dave", 429}} {
		if rec := w.get("/pizza/1.0/menu", user(c.who)); rec.Code != c.status {
			t.Errorf("%s: %d, want %d", c.who, rec.Code, c.status)
		}
	}
}

func TestConditionGroupsByAddress(t *testing.T) {
	var now atomic.Int64
	w := pizzeria(t, nil, at(&now), func(o *Options) { o.TrustedProxies = prefixes("192.0.2.0/24") })
	w.apply(false, policy(w, snapshot.KindAPIPolicy, snapshot.Policy{Name: "2PerMin", Limit: per(4, time.Minute), Groups: []snapshot.ConditionGroup{
		{Conditions: []snapshot.Condition{{Type: "IP", Value: "1.2.3.4"}}, Limit: per(1, time.Minute)},
		{Conditions: []snapshot.Condition{{Type: "IPRANGE", Value: "5.0.0.1", To: "5.0.0.9"}, {Type: "HEADER", Name: "x-a", Value: "1"}}, Limit: per(2, time.Minute)},
		{Conditions: []snapshot.Condition{{Type: "HEADER", Name: "x-a", Value: "1"}}, Limit: per(0, time.Minute)},
	}}))
	auth := bearerOf(w.token(longLived()))
	for _, c := range []struct {
		from string
		pass int
	}{{"1.2.3.4", 1}, {"5.0.0.9", 2}, {"5.0.0.10", 4}} {
		n := 0
		for range 10 {
			if w.get("/pizza/1.0/limited", auth, "x-a: 1", "X-Forwarded-For: "+c.from).Code == 200 {
				n++
			}
		}
		if n != c.pass {
			t.Errorf("%s: %d passed, want %d", c.from, n, c.pass)
		}
	}
}

func TestExactlyTheLimitPassesWithManyCallers(t *testing.T) {
	var now atomic.Int64
	w := pizzeria(t, func(a *snapshot.API) { a.APIPolicy = "Hundred" }, at(&now))
	w.apply(false, policy(w, snapshot.KindAPIPolicy, snapshot.Policy{Name: "Hundred", Limit: per(100, time.Minute)}))
	auth := bearerOf(w.token(longLived()))
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 10 {
				if w.get("/pizza/1.0/menu", auth).Code == 200 {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 100 {
		t.Errorf("%d passed, want 100", passed.Load())
	}
}

func TestRateLimitHeaders(t *testing.T) {
	var now atomic.Int64
	w := pizzeria(t, nil, at(&now))
	auth := bearerOf(w.token(longLived()))
	for _, want := range []string{`"resource";r=1;t=40`, `"resource";r=0;t=40`, `"resource";r=0;t=40`} {
		h := w.get("/pizza/1.0/limited", auth).Header()
		if h.Get("RateLimit") != want || h.Get("RateLimit-Policy") != `"resource";q=2;w=60` {
			t.Errorf("RateLimit %q, RateLimit-Policy %q, want %q", h.Get("RateLimit"), h.Get("RateLimit-Policy"), want)
		}
	}
	off := pizzeria(t, nil, at(&now), func(o *Options) { o.NoRateLimitHeaders = true })
	if h := off.get("/pizza/1.0/limited", auth).Header(); h.Get("RateLimit") != "" || h.Get("RateLimit-Policy") != "" {
		t.Errorf("headers although switched off: %v", h)
	}
}
