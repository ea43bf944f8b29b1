package keymanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// consent is what a user has allowed a client for good.
type consent struct {
	Scopes []string `json:"scopes"`
}

func consentKey(u *apim.User, c *apim.Client) apim.Digest {
	return apim.Digest(string(u.ID) + " " + string(c.ID))
}

// consented reports whether the user has allowed the client all the scopes.
func (k *KeyManager) consented(ctx context.Context, u *apim.User, c *apim.Client, scopes []string) (bool, error) {
	e, err := k.o.Ephemera.Get(ctx, apim.EphemeralConsent, consentKey(u, c))
	if errors.Is(err, &fault.Missing) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("find consent: %w", err)
	}
	var d consent
	if err := json.Unmarshal(e.Doc, &d); err != nil {
		return false, fmt.Errorf("read consent: %w", err)
	}
	return !slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(d.Scopes, s) }), nil
}

// remember adds to what the user has allowed the client.
func (k *KeyManager) remember(ctx context.Context, u *apim.User, c *apim.Client, scopes []string) error {
	err := k.o.InTx(ctx, func(ctx context.Context) error {
		d := consent{Scopes: slices.Clone(scopes)}
		e, err := k.o.Ephemera.Get(ctx, apim.EphemeralConsent, consentKey(u, c))
		switch {
		case errors.Is(err, &fault.Missing):
		case err != nil:
			return err
		default:
			var old consent
			if err := json.Unmarshal(e.Doc, &old); err != nil {
				return err
			}
			d.Scopes = append(d.Scopes, old.Scopes...)
		}
		slices.Sort(d.Scopes)
		d.Scopes = slices.Compact(d.Scopes)
		doc, err := json.Marshal(d)
		if err != nil {
			return err
		}
		return k.o.Ephemera.Put(ctx, &apim.Ephemeral{
			Kind: apim.EphemeralConsent, Hash: consentKey(u, c), Tenant: u.Tenant, Subject: string(u.ID), Client: string(c.ID),
			Created: k.o.Now(), Doc: doc,
		})
	})
	if err != nil {
		return fmt.Errorf("remember consent: %w", err)
	}
	return nil
}

// decided takes the consent form. Only the user who was asked can answer, in
// the browser that was asked.
func (k *KeyManager) decided(q *request, p params) error {
	ctx := q.r.Context()
	key := p["sessionDataKeyConsent"]
	a, err := k.kept(q, key)
	if err != nil {
		return err
	}
	lost := &shownError{"invalid_request", textLost}
	if q.r.Method != "POST" || a.User == "" {
		return lost
	}
	c, err := k.authorizeClient(ctx, string(a.Client))
	if err != nil {
		return err
	}
	s, u, err := k.sessionFor(q, c)
	if err != nil {
		return err
	}
	if s == nil || u.ID != a.User {
		return lost
	}
	answer := p["consent"]
	if answer != "approve" && answer != "approveAlways" {
		return &sentError{a, "access_denied", "User denied the consent"}
	}
	granted, err := k.grantScopes(ctx, c.Tenant, u.Tenant, k.o.Directory.RolesOf(u), a.Scopes)
	if err != nil {
		return err
	}
	if answer == "approveAlways" {
		if err := k.remember(ctx, u, c, granted); err != nil {
			return err
		}
	}
	return k.finish(q, key, a, s, u, c, granted)
}
