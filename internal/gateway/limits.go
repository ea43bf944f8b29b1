package gateway

import (
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/throttle"
)

// Plans that stand in where no subscription says one.
const (
	planUnauthenticated  = "Unauthenticated"
	planSubscriptionless = "DefaultSubscriptionless"
)

// builtin are the quotas of those plans while the snapshot does not hold them.
var builtin = map[string]*facts.Policy{
	planUnauthenticated:  {Policy: snapshot.Policy{Name: planUnauthenticated, StopOnQuota: true, Limit: snapshot.Limit{Count: 500, Window: time.Minute}}},
	planSubscriptionless: {Policy: snapshot.Policy{Name: planSubscriptionless, StopOnQuota: true, Limit: snapshot.Limit{Count: 10000, Window: time.Minute}}},
}

// maxInt32 is how policies of the original say "unlimited".
const maxInt32 = 2147483647

// limits collects the checks of a call in the documented order: API or
// resource, subscription, burst, application, backend.
func (c *call) limits() []throttle.Check {
	out := c.room[:0]
	out = c.advanced(out)
	if !c.caller.Internal {
		out = c.plan(out)
		out = c.application(out)
	}
	b := &c.api.backend[0]
	if c.caller.KeyType == auth.Sandbox {
		b = &c.api.backend[1]
	}
	if b.Limit > 0 {
		out = append(out, *b)
	}
	return out
}

// add appends the checks of one quota.
func add(out []throttle.Check, level throttle.Level, key throttle.Key, policy string, l snapshot.Limit, soft bool) []throttle.Check {
	if l.Unlimited || l.Window <= 0 {
		return out
	}
	if l.Count > 0 && l.Count < maxInt32 {
		out = append(out, throttle.Check{Key: key, Level: level, Kind: throttle.Requests, Limit: l.Count, Window: l.Window, Policy: policy, Soft: soft})
	}
	if l.Bytes > 0 {
		out = append(out, throttle.Check{Key: key, Level: level, Kind: throttle.Bytes, Limit: l.Bytes, Window: l.Window, Policy: policy, Soft: soft})
	}
	return out
}

// advanced is the API's policy or else the operation's, with its condition groups.
func (c *call) advanced(out []throttle.Check) []throttle.Check {
	a := c.api
	level, name, key := throttle.LevelAPI, a.policy, a.policyKey
	parts := [4]string{a.context, a.version}
	n := 2
	if name == "" {
		if c.op.more == nil || c.op.more.policy == "" {
			return out
		}
		level, name, key = throttle.LevelResource, c.op.more.policy, c.op.more.key
		parts[2], parts[3], n = c.op.target, c.op.verb, 4
	}
	p, ok := c.t.facts.APIPolicies.Get(facts.Named{Tenant: a.tenant, Name: name})
	if !ok {
		return out
	}
	suffix := ""
	if p.PerUser {
		suffix = c.caller.User
		key = throttle.KeyOf(level, append(parts[:n:n], suffix)...)
	}
	if len(p.Groups) == 0 {
		return add(out, level, key, name, p.Limit, false)
	}
	matched := false
	for i := range p.Groups {
		if c.matches(&p.Groups[i]) {
			matched = true
			k := throttle.KeyOf(level, append(parts[:n:n], suffix, "_condition_"+strconv.Itoa(i))...)
			out = add(out, level, k, name, p.Groups[i].Limit, false)
		}
	}
	if !matched {
		out = add(out, level, throttle.KeyOf(level, append(parts[:n:n], suffix, "_default")...), name, p.Limit, false)
	}
	return out
}

// matches reports whether all conditions of a group hold. Conditions that are
// switched off are left out; a group of nothing else matches no call.
func (c *call) matches(g *facts.Group) bool {
	effective := false
	for i := range g.Conditions {
		k := &g.Conditions[i]
		match, ok := k.Address(c.Client)
		if !ok {
			match, ok = c.condition(k)
		}
		if !ok {
			continue
		}
		effective = true
		if !match {
			return false
		}
	}
	return effective
}

func (c *call) condition(k *facts.Condition) (match, ok bool) {
	o := &c.g.o
	switch {
	case k.Type == "HEADER" && o.HeaderConditions:
		match = c.Header.Has(k.Name) && k.Value.MatchString(c.Header.Get(k.Name))
	case k.Type == "QUERY" && o.QueryConditions:
		match = matchParam(c.RawQuery, k)
	case k.Type == "CLAIM" && o.ClaimConditions:
		if t := c.caller.Claims(); t != nil {
			v, has := t.Text(k.Name)
			match = has && k.Value.MatchString(v)
		}
	default:
		return false, false
	}
	return match != k.Invert, true
}

func matchParam(query string, k *facts.Condition) bool {
	for part := range strings.SplitSeq(query, "&") {
		if n, v, _ := strings.Cut(part, "="); n == k.Name && k.Value.MatchString(unescape(v)) {
			return true
		}
	}
	return false
}

// plan is the subscription's quota and burst.
func (c *call) plan(out []throttle.Check) []throttle.Check {
	a, name, who := c.api, "", ""
	switch {
	case c.caller.Anonymous:
		name = planUnauthenticated
	case c.caller.Scheme == auth.BasicScheme:
		name, who = planUnauthenticated, c.caller.User
	case c.caller.Subscription != nil:
		name, who = c.caller.Subscription.Policy, c.caller.Application.ID
	case a.rules.Subscriptionless:
		name, who = planSubscriptionless, c.caller.Application.ID
	}
	if unlimited(name) {
		return out
	}
	p, ok := c.t.facts.SubPolicies.Get(facts.Named{Tenant: a.tenant, Name: name})
	if !ok {
		if p = builtin[name]; p == nil {
			return out
		}
	}
	if c.caller.Anonymous {
		who = c.Scratch.End(c.Client.AppendTo(c.Scratch.Begin()))
	}
	key := throttle.KeyOf(throttle.LevelSubscription, who, a.context, a.version, name)
	out = add(out, throttle.LevelSubscription, key, name, p.Limit, !p.StopOnQuota)
	if p.BurstCount > 0 && p.BurstCount < maxInt32 {
		window := time.Second
		if p.BurstUnit == "min" {
			window = time.Minute
		}
		out = append(out, throttle.Check{
			Key: throttle.KeyOf(throttle.LevelBurst, who, a.context, a.version, name), Level: throttle.LevelBurst,
			Limit: p.BurstCount, Window: window, Policy: name, Local: true,
		})
	}
	return out
}

// application is the quota of the application and user.
func (c *call) application(out []throttle.Check) []throttle.Check {
	app := c.caller.Application
	if app == nil || app.ID == "" || unlimited(app.Policy) {
		return out
	}
	p, ok := c.t.facts.AppPolicies.Get(facts.Named{Tenant: app.Tenant, Name: app.Policy})
	if !ok {
		return out
	}
	return add(out, throttle.LevelApplication, ApplicationKey(app.ID, c.caller.User), p.Name, p.Limit, false)
}

// ApplicationKey is the key of the application-level counter of a user, for
// resetting it.
func ApplicationKey(application, user string) throttle.Key {
	return throttle.KeyOf(throttle.LevelApplication, application, user)
}

var throttled = map[throttle.Level]struct {
	fault *fault.Error
	rule  string
	retry bool // the next access time is told
}{
	throttle.LevelAPI:          {&fault.GwAPILimit, "api-limit", true},
	throttle.LevelResource:     {&fault.GwResourceLimit, "resource-limit", true},
	throttle.LevelSubscription: {&fault.GwSubLimit, "subscription-limit", true},
	throttle.LevelBurst:        {&fault.GwBurst, "burst-limit", false},
	throttle.LevelApplication:  {&fault.GwAppLimit, "application-limit", true},
	throttle.LevelCustom:       {&fault.GwCustomLimit, "custom-limit", true},
	throttle.LevelBackend:      {&fault.GwBackendLimit, "backend-limit", false},
}

// stepThrottle admits the call or refuses it.
func stepThrottle(c *call) error {
	c.checks = c.limits()
	if len(c.checks) == 0 {
		return nil
	}
	d := c.g.o.Limiter.Admit(c.now, c.checks)
	if !c.g.o.NoRateLimitHeaders {
		rateLimit(&c.Exchange, &d, c.now)
	}
	if d.Allowed {
		return nil
	}
	row := throttled[d.Level]
	if row.fault == nil {
		row = throttled[throttle.LevelAPI]
	}
	detail := "You have exceeded your quota"
	if d.Level == throttle.LevelBackend {
		detail = "API not accepting requests"
	}
	r := exchange.Refuse(exchange.Throttle, row.fault.With(detail), row.rule,
		"level", d.Level.String(), "policy", d.Policy, "limit", strconv.FormatInt(d.Limit, 10), "unit", d.Kind.String(),
		"window", d.Window.String(), "reset", d.Reset.Format(time.RFC3339), "elsewhere", strconv.FormatBool(d.Remote))
	if row.retry {
		r.Retry = d.Reset
	}
	return r
}

// rateLimit tells the limit nearest to its end, as the IETF draft writes it.
func rateLimit(x *exchange.Exchange, d *throttle.Decision, now time.Time) {
	if d.Level == throttle.LevelNone || d.Limit <= 0 || d.Kind == throttle.Tokens {
		return
	}
	name := d.Level.String()
	b := append(append(append(x.Scratch.Begin(), '"'), name...), `";q=`...)
	b = strconv.AppendInt(b, d.Limit, 10)
	if d.Kind == throttle.Bytes {
		b = append(b, `;qu="content-bytes"`...)
	}
	b = strconv.AppendInt(append(b, ";w="...), int64(d.Window/time.Second), 10)
	x.Reply.Header.Add("RateLimit-Policy", x.Scratch.End(b))
	b = append(append(append(x.Scratch.Begin(), '"'), name...), `";r=`...)
	b = strconv.AppendInt(b, max(d.Remaining, 0), 10)
	left := max(0, (d.Reset.Sub(now)+time.Second-1)/time.Second)
	b = strconv.AppendInt(append(b, ";t="...), int64(left), 10)
	x.Reply.Header.Add("RateLimit", x.Scratch.End(b))
}
