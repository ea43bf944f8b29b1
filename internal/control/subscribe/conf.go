package subscribe

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/cardea-apim/cardea/internal/apim"
)

// tenantConf is what the portal reads of a tenant's configuration.
type tenantConf struct {
	NoDefaultApplication bool   `json:"DisableDefaultApplicationCreation"`
	ApplicationTier      string `json:"DefaultApplicationLevelTier"`
	UnlimitedPaid        bool   `json:"IsUnlimitedTierPaid"`
	Monetization         bool   `json:"EnableMonetization"`
	Recommendation       bool   `json:"EnableRecommendation"`
	Anonymous            *bool  `json:"EnableAnonymous"`
}

// conf reads a tenant's configuration; a tenant without one has the defaults.
func (s *Service) conf(ctx context.Context, t apim.TenantID) (tenantConf, error) {
	var c tenantConf
	row, err := s.TenantConfs.Get(ctx, apim.In(t), t)
	if missing(err) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read tenant configuration: %w", err)
	}
	// Members of a wrong type keep their defaults: the document is the tenant's
	// own, and a mistake in it must not close the portal.
	_ = json.Unmarshal([]byte(row.JSON), &c)
	return c, nil
}

// Settings are the switches that a portal asks for at its start.
type Settings struct {
	Monetization, Recommendation, UnlimitedPaid, Anonymous bool
}

// Settings of tenant t.
func (s *Service) Settings(ctx context.Context, t apim.TenantID) (Settings, error) {
	c, err := s.conf(ctx, t)
	return Settings{c.Monetization, c.Recommendation, c.UnlimitedPaid, c.Anonymous == nil || *c.Anonymous}, err
}
