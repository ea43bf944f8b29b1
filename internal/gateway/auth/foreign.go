package auth

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/gateway/facts"
	"github.com/cardea-apim/cardea/internal/token"
)

// Elsewhere asks the key managers of others.
type Elsewhere interface {
	// Introspect looks a token up at its key manager, or remembers what was said
	// of it lately. It answers token.ErrInactive, or that the other side is away.
	Introspect(ctx context.Context, km *facts.KeyManager, raw string, now time.Time) (*token.Claims, error)
	// Refresh fetches the key sets of key managers again, each only now and then,
	// and reports whether the verifier knows other keys since.
	Refresh(ctx context.Context, managers []*facts.KeyManager) bool
}

// mostAsked bounds the key managers that are asked about one token.
const mostAsked = 8

// accepts reports whether an API accepts access tokens of a key manager.
func accepts(r *Rules, k *facts.KeyManager) bool {
	return k.Enabled && !k.Exchanged && (k.Global || k.Tenant == r.Tenant) && (r.AllManagers || slices.Contains(r.Managers, k.Name))
}

// verify finds out what a token says and who issued it: by its signature, or
// where that cannot tell by asking its key manager. asked tells that one was.
func (a *Authenticator) verify(ctx context.Context, f *facts.Facts, r *Rules, raw string, now time.Time) (t *token.Verified, asked bool, refusal *exchange.Refusal) {
	if !token.LooksLikeJWT(raw) {
		if t, refusal = a.opaque(f, raw, now); refusal == nil {
			return t, true, nil
		}
		return a.lookUp(ctx, f, r, raw, nil, now, refusal)
	}
	t, err := a.Verifier.Verify(raw, now)
	if err == nil {
		return t, false, nil
	}
	unknown := errors.Is(err, token.ErrUnknownKey)
	if !unknown && (len(f.Foreign) == 0 || errors.Is(err, token.ErrMalformed) || errors.Is(err, token.ErrTooLong)) {
		return nil, false, bad(ruleOf(err), "cause", err.Error())
	}
	said, e := token.Peek(raw)
	if e != nil {
		return nil, false, bad(ruleOf(e), "cause", e.Error())
	}
	if unknown && a.Elsewhere != nil && a.Elsewhere.Refresh(ctx, named(f, said.Issuer)) {
		if t, err = a.Verifier.Verify(raw, now); err == nil {
			return t, false, nil
		}
	}
	refusal = notOurs(f, r, said.Issuer, bad(ruleOf(err), "cause", err.Error()))
	if !errors.Is(err, token.ErrUnknownKey) && !errors.Is(err, token.ErrIssuer) {
		return nil, false, refusal // a signature that is wrong is not asked about
	}
	return a.lookUp(ctx, f, r, raw, said, now, refusal)
}

// named are the key managers of an issuer whose key sets can be fetched.
func named(f *facts.Facts, issuer string) []*facts.KeyManager {
	var out []*facts.KeyManager
	for _, k := range f.KeyManagers {
		if k.Enabled && k.JWKSURL != "" && len(k.JWKS) == 0 && k.KeyManager.Issuer == issuer && issuer != "" {
			out = append(out, k)
		}
	}
	return out
}

// lookUp asks the key managers that a token may be of. said is what a JWT says
// of itself, unproven, nil for an opaque token; without anybody to ask the
// refusal stands.
func (a *Authenticator) lookUp(ctx context.Context, f *facts.Facts, r *Rules, raw string, said *token.Claims, now time.Time, refusal *exchange.Refusal) (*token.Verified, bool, *exchange.Refusal) {
	if a.Elsewhere == nil || len(raw) > token.DefaultMaxLength {
		return nil, false, refusal
	}
	n := 0
	for _, k := range f.Foreign {
		switch {
		case k.Introspection == nil, !accepts(r, k), !k.Takes(raw, said), said != nil && (!k.Online || k.KeyManager.Issuer != said.Issuer):
			continue
		case n == mostAsked:
			return nil, true, refusal
		}
		n++
		c, err := a.Elsewhere.Introspect(ctx, k, raw, now)
		switch {
		case err == nil:
			return &token.Verified{Claims: *c, Issuers: []*token.Issuer{k.Issuer}}, true, nil
		case errors.Is(err, token.ErrInactive):
			refusal = bad("token-inactive", "key_manager", k.Name)
		default:
			refusal = away(k, err)
		}
	}
	return nil, n > 0, refusal
}

// confirm asks the key manager about a token whose signature was good.
func (a *Authenticator) confirm(ctx context.Context, k *facts.KeyManager, raw string, now time.Time) *exchange.Refusal {
	if a.Elsewhere == nil || k.Introspection == nil {
		return away(k, errors.New("it has no introspection endpoint"))
	}
	switch _, err := a.Elsewhere.Introspect(ctx, k, raw, now); {
	case err == nil:
		return nil
	case errors.Is(err, token.ErrInactive):
		return bad("token-inactive", "key_manager", k.Name)
	default:
		return away(k, err)
	}
}

func away(k *facts.KeyManager, err error) *exchange.Refusal {
	return exchange.Refuse(exchange.Auth, fault.GwKMUnavailable.With("The key manager of the token cannot be asked"), "key-manager-away",
		"key_manager", k.Name, "cause", err.Error())
}

// notOurs is the refusal of a token whose issuer is known for token exchange
// only, and otherwise the one given (reference: keymanager §13).
func notOurs(f *facts.Facts, r *Rules, issuer string, otherwise *exchange.Refusal) *exchange.Refusal {
	exchanged := false
	for _, k := range f.Foreign {
		if k.KeyManager.Issuer != issuer || !k.Global && k.Tenant != r.Tenant {
			continue
		}
		exchanged = exchanged || k.Exchanged
	}
	if !exchanged {
		return otherwise
	}
	for _, k := range f.KeyManagers {
		if k.Enabled && !k.Exchanged && k.KeyManager.Issuer == issuer && (k.Global || k.Tenant == r.Tenant) {
			return otherwise
		}
	}
	return exchange.Refuse(exchange.Auth, fault.GwExchangeOnly.With("Unclassified Authentication Failure"), "exchange-only", "issuer", issuer)
}

// localClaims are the claims under the names that a key manager's mapping gives
// them; a renamed claim is no longer there under its own name.
func localClaims(k *facts.KeyManager, c *token.Claims) *token.Claims {
	if len(k.Claims) == 0 {
		return c
	}
	out := *c
	out.Extra = maps.Clone(c.Extra)
	if out.Extra == nil {
		out.Extra = map[string]json.RawMessage{}
	}
	for remote := range k.Claims {
		delete(out.Extra, remote)
	}
	for remote, local := range k.Claims {
		if raw, ok := c.Extra[remote]; ok {
			out.Extra[local] = raw
		} else if s, ok := c.Text(remote); ok {
			if raw, err := json.Marshal(s); err == nil {
				out.Extra[local] = raw
			}
		}
	}
	return &out
}
