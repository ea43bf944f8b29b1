package keymanager

import (
	"context"
	"fmt"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

// Client authentication by a JWT that the client signs with its own key
// (private_key_jwt: RFC 7523 §2.2 and §3, OpenID Connect Core §9).

const (
	assertionJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	// maxAssertionLife bounds how far ahead exp may be, and so how long a jti
	// has to be remembered.
	maxAssertionLife = 10 * time.Minute
	kindAssertion    = "assertion"
)

// Attributes of a client that its registration sets.
const (
	attrKeys       = "jwks"                       // its public keys, a JWK set
	attrAuthMethod = "token_endpoint_auth_method" // the only one accepted; empty: by secret, or none for public clients
)

const methodPrivateKey = "private_key_jwt"

// assertionOf reads a client assertion from the parameters; ok is false when
// there is none.
func assertionOf(q *request, p params) (a clientAuth, ok bool, err error) {
	raw, has := p["client_assertion"]
	kind, named := p["client_assertion_type"]
	if !has && !named {
		return clientAuth{}, false, nil
	}
	_, hasSecret := p["client_secret"]
	if _, _, present, _ := basic(q.r); present || hasSecret {
		return clientAuth{}, true, invalidRequest("The client MUST NOT use more than one authentication method per request.")
	}
	if kind != assertionJWT || raw == "" {
		return clientAuth{}, true, invalidClient(textBadClient)
	}
	c, err := token.Peek(raw)
	if err != nil {
		e := invalidClient(textBadClient)
		e.err = err
		return clientAuth{}, true, e
	}
	if id, ok := p["client_id"]; c.Subject == "" || ok && id != c.Subject {
		return clientAuth{}, true, invalidClient(textBadClient)
	}
	return clientAuth{id: c.Subject, assertion: raw}, true, nil
}

// proves reports whether the assertion was signed by the client, for us, lately
// and for the first time.
func (k *KeyManager) proves(ctx context.Context, c *apim.Client, raw string) (bool, error) {
	if c.Attributes[attrAuthMethod] != methodPrivateKey || c.Attributes[attrKeys] == "" {
		return false, nil
	}
	keys, err := token.ParseJWKS([]byte(c.Attributes[attrKeys]))
	if err != nil {
		return false, nil // nothing that the keys could prove
	}
	prefix := k.o.URL + "/t/" + string(c.Tenant)
	v := token.NewVerifier(token.Options{CacheSize: -1})
	v.SetIssuers([]*token.Issuer{{
		Name: string(c.ID), Keys: keys,
		Audience: []string{k.o.Issuer, k.o.URL + "/oauth2/token", prefix + "/oauth2/token"},
	}})
	now := k.o.Now()
	t, err := v.Verify(raw, now)
	if err != nil || t.Subject != string(c.ID) || t.ID == "" || t.Expires.After(now.Add(maxAssertionLife)) {
		return false, nil
	}
	return k.firstUse(ctx, kindAssertion, string(c.ID)+" "+t.ID, t.Expires)
}

// firstUse remembers a handle until its end and reports whether it is new. Of
// racing callers one is told so.
func (k *KeyManager) firstUse(ctx context.Context, kind, handle string, expires time.Time) (bool, error) {
	added, err := k.o.Ephemera.Add(ctx, &apim.Ephemeral{
		Kind: kind, Hash: apim.Digest(token.Digest(handle)), Created: k.o.Now(), Expires: expires, Doc: []byte("{}"),
	})
	if err != nil {
		return false, fmt.Errorf("remember %s: %w", kind, err)
	}
	return added, nil
}
