package govern

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// unlimited is the name of the tier that limits nothing.
const unlimited = "Unlimited"

// Bootstrap gives every tenant what it starts with; what exists is left as it
// is, except that read-only environments and the resident key manager follow
// the configuration. It runs at every start.
func (s *Service) Bootstrap(ctx context.Context) error {
	all, err := s.Tenants.List(ctx, apim.Across(apim.Platform), apim.Query{Sort: "number"})
	if err != nil {
		return fmt.Errorf("list tenants: %w", err)
	}
	for _, t := range all.Items {
		if err := s.Seed(ctx, t.Domain); err != nil {
			return err
		}
	}
	return nil
}

// Seed is Bootstrap for one tenant, also for one just created.
func (s *Service) Seed(ctx context.Context, t apim.TenantID) error {
	actor := *apim.ActorFrom(ctx)
	actor.Tenant = t
	if actor.User == "" || actor.User == "anonymous" {
		actor.User, actor.System = "system", true
	}
	ctx = apim.WithActor(ctx, &actor)
	err := s.InTx(ctx, func(ctx context.Context) error {
		if err := s.seedPolicies(ctx, t); err != nil {
			return err
		}
		if err := s.seedEnvironments(ctx, t); err != nil {
			return err
		}
		return s.seedKeyManager(ctx, t)
	})
	if err != nil {
		return fmt.Errorf("seed tenant %s: %w", t, err)
	}
	return nil
}

func (s *Service) seedPolicies(ctx context.Context, t apim.TenantID) error {
	in := apim.In(t)
	have, err := s.Policies.List(ctx, in, apim.Query{})
	if err != nil {
		return fmt.Errorf("list policies: %w", err)
	}
	// They are made once: an administrator who deletes one does not want it back.
	if len(have.Items) > 0 {
		return nil
	}
	for _, p := range Defaults() {
		p.Tenant, p.ID = t, uuid.NewString()
		if err := s.Policies.Create(ctx, in, p); err != nil && !errors.Is(err, &fault.Exists) {
			return fmt.Errorf("create policy %s: %w", p.Name, err)
		}
	}
	return nil
}

// base is where the key manager answers, without and with the tenant's prefix.
func (s *Service) base(t apim.TenantID) (all, own string) {
	all = "https://" + s.Host
	if s.Ports.Management != 443 {
		all += ":" + strconv.Itoa(s.Ports.Management)
	}
	if t == apim.SuperTenant {
		return all, all
	}
	return all, all + "/t/" + string(t)
}

func (s *Service) seedKeyManager(ctx context.Context, t apim.TenantID) error {
	in := apim.In(t)
	base, own := s.base(t)
	ends := map[string]string{
		"tokenEndpoint":              base + "/oauth2/token",
		"displayTokenEndpoint":       base + "/oauth2/token",
		"revokeEndpoint":             base + "/oauth2/revoke",
		"displayRevokeEndpoint":      base + "/oauth2/revoke",
		"introspectionEndpoint":      own + "/oauth2/introspect",
		"authorizeEndpoint":          base + "/oauth2/authorize",
		"userInfoEndpoint":           base + "/oauth2/userinfo",
		"clientRegistrationEndpoint": base + "/client-registration/v0.17/register",
		"wellKnownEndpoint":          own + "/oauth2/token/.well-known/openid-configuration",
	}
	// One issuer for all tenants, each with keys of its own.
	issuer, jwks := base+"/oauth2/token", own+"/oauth2/jwks"
	certs, err := json.Marshal(map[string]string{"type": "JWKS", "value": jwks})
	if err != nil {
		return fmt.Errorf("encode certificates: %w", err)
	}
	km, err := s.KeyManagers.First(ctx, in, apim.Where("name", apim.ResidentKM))
	switch {
	case missing(err):
		return s.KeyManagers.Create(ctx, in, &apim.KeyManager{
			Meta: apim.Meta{Tenant: t}, ID: uuid.NewString(), Name: apim.ResidentKM, DisplayName: apim.ResidentKM,
			Description: "Key manager of this installation", Type: Resident, Enabled: true, TokenType: "DIRECT",
			Issuer: issuer, Endpoints: ends, JWKSURL: jwks, Certificates: certs,
			Grants:           s.Grants,
			ConsumerKeyClaim: "azp", ScopesClaim: "scope", CreatesClients: true, MapsClients: true, GivesTokens: true,
			PermissionType: "PUBLIC", Properties: map[string]string{"self_validate_jwt": "true"},
		})
	case err != nil:
		return fmt.Errorf("find key manager: %w", err)
	case km.Issuer == issuer && km.JWKSURL == jwks:
		return nil
	}
	km.Issuer, km.Endpoints, km.JWKSURL, km.Certificates = issuer, ends, jwks, certs
	return s.KeyManagers.Update(ctx, in, km)
}

// Defaults are the throttling policies a tenant starts with (reference:
// traffic §3).
func Defaults() []*apim.ThrottlePolicy {
	var out []*apim.ThrottlePolicy
	add := func(level apim.PolicyLevel, name, quota, text string, l apim.Limit) *apim.ThrottlePolicy {
		p := &apim.ThrottlePolicy{
			Level: level, Name: name, DisplayName: name, Description: text, Deployed: true, Limit: l, Quota: quota,
			BurstCount: -1, BurstUnit: "NA", StopOnQuota: true, BillingPlan: "FREE",
		}
		out = append(out, p)
		return p
	}
	requests := func(level apim.PolicyLevel, name string, n int64) *apim.ThrottlePolicy {
		text := fmt.Sprintf("Allows %d requests per minute", n)
		if n == apim.Unlimited {
			text = "Allows unlimited requests"
		}
		return add(level, name, "requestCount", text, apim.Limit{Type: "REQUESTCOUNTLIMIT", Count: n, TimeUnit: "min", UnitTime: 1})
	}
	events := func(name string, n int64, unit string, subscribers int) {
		per := map[string]string{"days": "day", "months": "month"}[unit]
		text := fmt.Sprintf("Allows %d events per %s", n, per)
		if n == apim.Unlimited {
			text = "Allows unlimited events"
		}
		p := add(apim.SubLevel, name, "eventCount", text, apim.Limit{Type: "EVENTCOUNTLIMIT", Count: n, TimeUnit: unit, UnitTime: 1})
		p.SubscriberCount = subscribers
	}
	for _, n := range []int64{50, 20, 10} {
		requests(apim.AppLevel, fmt.Sprintf("%dPerMin", n), n)
	}
	requests(apim.AppLevel, unlimited, apim.Unlimited)
	for _, n := range []int64{50, 20, 10} {
		requests(apim.APILevel, fmt.Sprintf("%dKPerMin", n), n*1000)
	}
	requests(apim.APILevel, unlimited, apim.Unlimited)
	requests(apim.SubLevel, "Gold", 5000)
	requests(apim.SubLevel, "Silver", 2000)
	requests(apim.SubLevel, "Bronze", 1000)
	requests(apim.SubLevel, "Unauthenticated", 500).Hidden = true
	requests(apim.SubLevel, unlimited, apim.Unlimited)
	requests(apim.SubLevel, "DefaultSubscriptionless", 10000)
	events("AsyncGold", 50000, "days", 0)
	events("AsyncSilver", 25000, "days", 0)
	events("AsyncBronze", 5000, "days", 0)
	events("AsyncUnlimited", apim.Unlimited, "days", 0)
	events("AsyncDefaultSubscriptionless", 10000, "days", 0)
	events("AsyncWHGold", 10000, "months", 1000)
	events("AsyncWHSilver", 5000, "months", 500)
	events("AsyncWHBronze", 1000, "months", 100)
	events("AsyncWHUnlimited", apim.Unlimited, "months", apim.Unlimited)
	ai := func(name string, requests, tokens int64) {
		// The document is built from two numbers and cannot fail to encode.
		raw := json.RawMessage(fmt.Sprintf(`{"requestCount":%d,"totalTokenCount":%d,"promptTokenCount":0,"completionTokenCount":0,"timeUnit":"min","unitTime":1}`, requests, tokens))
		add(apim.SubLevel, name, "aiApiQuota", fmt.Sprintf("Allows %d requests and %d tokens per minute", requests, tokens),
			apim.Limit{Type: "AIAPIQUOTALIMIT", Count: requests, TimeUnit: "min", UnitTime: 1, AI: raw})
	}
	ai("AIGold", 500, 50000)
	ai("AISilver", 200, 20000)
	ai("AIBronze", 100, 10000)
	return out
}
