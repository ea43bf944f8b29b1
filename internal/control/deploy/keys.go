package deploy

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

func kmKey(id string) snapshot.Key { return snapshot.Key{Kind: snapshot.KindKeyManager, ID: id} }

func (t *translator) keyManager(ctx context.Context, id string) (snapshot.Item, error) {
	k, err := t.src.KeyManagers.Get(ctx, platform, id)
	if missing(err) {
		return gone(kmKey(id)), nil
	}
	if err != nil {
		return snapshot.Item{}, err
	}
	return t.keyManagerItem(ctx, k)
}

func (t *translator) keyManagerItem(ctx context.Context, k *apim.KeyManager) (snapshot.Item, error) {
	out := snapshot.KeyManager{
		ID: k.ID, Tenant: string(k.Tenant), Global: k.Global, Name: k.Name, Enabled: k.Enabled, Issuer: k.Issuer,
		ConsumerKeyClaim: k.ConsumerKeyClaim, ScopesClaim: k.ScopesClaim,
		Resident: k.Name == apim.ResidentKM,
	}
	var err error
	if out.Resident {
		if out.JWKS, err = t.residentKeys(ctx, k.Tenant); err != nil {
			return snapshot.Item{}, err
		}
		return snapshot.Make(kmKey(k.ID), out)
	}
	if out.JWKS, out.JWKSURL, err = foreignKeys(k); err != nil {
		return snapshot.Item{}, fmt.Errorf("key manager %s: %w: %w", k.Name, errUntranslatable, err)
	}
	if err := foreign(k, &out); err != nil {
		return snapshot.Item{}, fmt.Errorf("key manager %s: %w: %w", k.Name, errUntranslatable, err)
	}
	return snapshot.Make(kmKey(k.ID), out)
}

// signingKey makes the resident key managers that show the keys of a tenant.
func (t *translator) signingKey(ctx context.Context, tenant apim.TenantID) ([]snapshot.Item, error) {
	var out []snapshot.Item
	for k, err := range each(ctx, t.src.KeyManagers, apim.Where("name", apim.ResidentKM)) {
		if err != nil {
			return nil, err
		}
		if tenant != apim.SuperTenant && k.Tenant != tenant {
			continue
		}
		it, err := t.keyManagerItem(ctx, k)
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	return out, nil
}

// residentKeys is the key set of a tenant: its own keys, and those of the super
// tenant that signed for it before its own first one was in use. Keys that will
// sign later are in it before their first use, keys that no longer sign as long
// as they are kept.
func (t *translator) residentKeys(ctx context.Context, tenant apim.TenantID) (json.RawMessage, error) {
	var set jose.JSONWebKeySet
	var start time.Time // of the tenant's own first key
	for _, owner := range []apim.TenantID{tenant, apim.SuperTenant} {
		page, err := t.src.SigningKeys.List(ctx, apim.In(owner), apim.Query{Sort: "id"})
		if err != nil {
			return nil, err
		}
		for _, k := range page.Items {
			if owner != tenant && !start.IsZero() && !k.NotBefore.Before(start) {
				continue
			}
			cert, err := certificate([]byte(k.Public))
			if err != nil {
				return nil, fmt.Errorf("signing key %s: %w: %w", k.ID, errUntranslatable, err)
			}
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: cert.PublicKey, KeyID: string(k.ID), Algorithm: k.Algorithm, Use: "sig"})
		}
		for _, k := range page.Items {
			if owner == tenant && (start.IsZero() || k.NotBefore.Before(start)) {
				start = k.NotBefore
			}
		}
		if tenant == apim.SuperTenant {
			break
		}
	}
	slices.SortFunc(set.Keys, func(a, b jose.JSONWebKey) int { return strings.Compare(a.KeyID, b.KeyID) })
	return json.Marshal(set)
}

// foreign adds what gateways must know of a key manager that is not our own.
func foreign(k *apim.KeyManager, out *snapshot.KeyManager) error {
	x, err := k.Foreign()
	if err != nil {
		return err
	}
	out.Exchanged = k.TokenType == "EXCHANGED"
	out.Online = !k.SelfValidates(x)
	if at := strings.TrimSpace(k.Endpoints["introspectionEndpoint"]); at != "" && at != "none" {
		out.Introspection = introspection(k, at)
	}
	for _, c := range x.Claims {
		if out.Claims == nil {
			out.Claims = map[string]string{}
		}
		out.Claims[c.Remote] = c.Local
	}
	for _, r := range x.Rules {
		switch {
		case !r.Enable:
		case r.Type == "JWT":
			want, err := r.Wanted()
			if err != nil {
				return err
			}
			out.Rules = append(out.Rules, snapshot.TokenRule{Claims: want})
		default:
			out.Rules = append(out.Rules, snapshot.TokenRule{Match: r.Text()})
		}
	}
	return nil
}

// introspection is as whom the gateways ask: the settings' client, else its
// user. The password travels as it is stored, sealed.
func introspection(k *apim.KeyManager, at string) *snapshot.Introspection {
	out := &snapshot.Introspection{URL: at}
	for _, name := range [][2]string{{"client_id", "client_secret"}, {"Username", "Password"}, {"username", "password"}} {
		if k.Properties[name[0]] != "" && k.Secrets[name[1]] != "" {
			out.User, out.Sealed, out.Client = k.Properties[name[0]], string(k.Secrets[name[1]]), name[0] == "client_id"
			break
		}
	}
	return out
}

// foreignKeys finds where the keys of a third-party issuer are: at a URL, or in
// a certificate given with it.
func foreignKeys(k *apim.KeyManager) (json.RawMessage, string, error) {
	var c struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	if len(k.Certificates) > 0 && string(k.Certificates) != "null" {
		if err := json.Unmarshal(k.Certificates, &c); err != nil {
			return nil, "", fmt.Errorf("read certificates: %w", err)
		}
	}
	switch {
	case strings.EqualFold(c.Type, "JWKS") && c.Value != "":
		return nil, c.Value, nil
	case strings.EqualFold(c.Type, "PEM") && c.Value != "":
		text := []byte(c.Value)
		if !strings.Contains(c.Value, "-----BEGIN") { // portals send it in base64
			raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(c.Value))
			if err != nil {
				return nil, "", errors.New("read certificates: neither PEM nor base64 of it")
			}
			text = raw
		}
		key, err := token.ParsePEM(text, "")
		if err != nil {
			return nil, "", fmt.Errorf("read certificates: %w", err)
		}
		key.ID = "" // whatever the issuer calls it
		set, err := token.NewKeySet(key)
		if err != nil {
			return nil, "", fmt.Errorf("read certificates: %w", err)
		}
		return set.JWKS(), "", nil
	}
	return nil, k.JWKSURL, nil
}

func certificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	return x509.ParseCertificate(block.Bytes)
}
