package deploy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// signingKey makes a key whose certificate is a real one.
func signingKey(t *testing.T, id string, owner apim.TenantID, from time.Time) *apim.SigningKey {
	t.Helper()
	dir := t.TempDir()
	_, err := pki.EnsureCA(dir)
	must(t, err)
	cert, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	must(t, err)
	return &apim.SigningKey{Meta: apim.Meta{Tenant: owner}, ID: apim.KeyID(id), Algorithm: "ES256", Public: string(cert), NotBefore: from}
}

// kids are the key ids a gateway accepts from a key manager.
func (g *gateway) kids(t *testing.T, km string) (out []string) {
	t.Helper()
	body, ok := g.get("km/" + km)
	if !ok {
		return nil
	}
	var k snapshot.KeyManager
	must(t, json.Unmarshal([]byte(body), &k))
	var set jose.JSONWebKeySet
	must(t, json.Unmarshal(k.JWKS, &set))
	for _, key := range set.Keys {
		if !key.Valid() || !key.IsPublic() || key.Algorithm != "ES256" || key.Use != "sig" {
			t.Errorf("key %s of %s: %+v", key.KeyID, km, key)
		}
		out = append(out, key.KeyID)
	}
	return out
}

func TestSigningKeysReachTheGatewayBeforeTheirFirstUse(t *testing.T) {
	w := newWorld(t)
	w.background(w.relay("c1", 0).Run)
	g := &gateway{}
	w.start("gw", t.TempDir(), g)
	other := apim.TenantID("a.com")
	for id, owner := range map[string]apim.TenantID{"km-super": apim.SuperTenant, "km-other": other} {
		must(t, w.db.KeyManagers.Create(t.Context(), apim.In(owner), &apim.KeyManager{Meta: apim.Meta{Tenant: owner}, ID: id, Name: apim.ResidentKM, Enabled: true, Issuer: "https://i"}))
	}
	now := time.Now()
	must(t, w.db.SigningKeys.Create(t.Context(), tenant, signingKey(t, "k1", apim.SuperTenant, now)))
	eventually(t, "both tenants show the first key", func() bool {
		return slices.Equal(g.kids(t, "km-super"), []string{"k1"}) && slices.Equal(g.kids(t, "km-other"), []string{"k1"})
	})
	must(t, w.db.SigningKeys.Create(t.Context(), tenant, signingKey(t, "k2", apim.SuperTenant, now.Add(time.Hour))))
	eventually(t, "the upcoming key is there too", func() bool { return slices.Equal(g.kids(t, "km-super"), []string{"k1", "k2"}) })
	must(t, w.db.SigningKeys.Create(t.Context(), apim.In(other), signingKey(t, "k3", other, now)))
	eventually(t, "a tenant's own key replaces the shared ones", func() bool { return slices.Equal(g.kids(t, "km-other"), []string{"k3"}) })
	third := apim.TenantID("b.com")
	must(t, w.db.KeyManagers.Create(t.Context(), apim.In(third), &apim.KeyManager{Meta: apim.Meta{Tenant: third}, ID: "km-third", Name: apim.ResidentKM, Enabled: true, Issuer: "https://i"}))
	must(t, w.db.SigningKeys.Create(t.Context(), apim.In(third), signingKey(t, "k4", third, now.Add(time.Minute))))
	eventually(t, "the key that signed before the tenant's own stays", func() bool { return slices.Equal(g.kids(t, "km-third"), []string{"k1", "k4"}) })
	if got := g.kids(t, "km-super"); !slices.Equal(got, []string{"k1", "k2"}) {
		t.Errorf("the super tenant shows %v", got)
	}
}
