package keymanager

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

const (
	textBadClient = "Client credentials are invalid."
	textInactive  = "Oauth application is not in active state"
)

// clientAuth is how a request names its client.
type clientAuth struct {
	id     string
	secret string
	given  bool // a secret was sent, possibly empty
	// assertion is a JWT the client signed, in the place of a secret.
	assertion string
}

// clientOf reads the client of the request: a signed assertion, Basic, or client_id with
// client_secret in the parameters, or client_id alone for public clients.
func clientOf(q *request, p params) (clientAuth, error) {
	if a, ok, err := assertionOf(q, p); ok {
		return a, err
	}
	id, hasID := p["client_id"]
	secret, hasSecret := p["client_secret"]
	user, password, present, ok := basic(q.r)
	if !present {
		if !hasID || id == "" {
			return clientAuth{}, invalidClient(textBadClient)
		}
		return clientAuth{id: id, secret: secret, given: hasSecret}, nil
	}
	if hasSecret {
		return clientAuth{}, invalidRequest("The client MUST NOT use more than one authentication method per request.")
	}
	if !ok || (hasID && id != user) {
		return clientAuth{}, invalidClient(textBadClient)
	}
	return clientAuth{id: user, secret: password, given: true}, nil
}

// authenticateClient answers invalid_client alike for unknown clients and wrong
// secrets, and slows guessing. Public clients may come without a secret, which
// public reports.
func (k *KeyManager) authenticateClient(ctx context.Context, a clientAuth, addr string) (c *apim.Client, public bool, err error) {
	account := "client:" + a.id
	if len(a.id) > 255 {
		return nil, false, invalidClient(textBadClient)
	}
	if w := k.o.Directory.Wait(account, addr); w > 0 {
		e := invalidClient(textBadClient)
		e.retry = w
		return nil, false, e
	}
	c, err = k.client(ctx, apim.ClientID(a.id))
	switch {
	case errors.Is(err, &fault.Missing):
		// Unknown clients are not told apart by time either: the work of a
		// comparison is that of a single hash.
		matches(&apim.Client{Secrets: []apim.Secret{{Hash: "sha256:"}}}, a.secret, k.o.Now())
		k.o.Directory.Failed(account, addr)
		return nil, false, invalidClient(textBadClient)
	case err != nil:
		return nil, false, fmt.Errorf("authenticate client: %w", err)
	}
	if a.assertion != "" {
		ok, err := k.proves(ctx, c, a.assertion)
		if err != nil {
			return nil, false, fmt.Errorf("authenticate client: %w", err)
		}
		if !ok {
			k.o.Directory.Failed(account, addr)
			return nil, false, invalidClient(textBadClient)
		}
	}
	switch {
	case a.assertion != "":
		k.o.Directory.Succeeded(account, addr)
	case c.Attributes[attrAuthMethod] == methodPrivateKey:
		// A secret, leaked or old, must not stand in for the key.
		k.o.Directory.Failed(account, addr)
		return nil, false, invalidClient(textBadClient)
	case a.given && (matches(c, a.secret, k.o.Now()) || matchesEncoded(c, a.secret, k.o.Now())):
		k.o.Directory.Succeeded(account, addr)
	case !a.given && c.Public:
		public = true
	default:
		k.o.Directory.Failed(account, addr)
		return nil, false, invalidClient(textBadClient)
	}
	active, err := k.o.Directory.Active(ctx, c.Tenant)
	if err != nil {
		return nil, false, fmt.Errorf("authenticate client: %w", err)
	}
	if c.Inactive || !active {
		return nil, false, invalidClient(textInactive)
	}
	return c, public, nil
}

// matchesEncoded accepts a secret in the form encoding that RFC 6749 §2.3.1
// prescribes for Basic and that few clients apply.
func matchesEncoded(c *apim.Client, secret string, now time.Time) bool {
	if !strings.ContainsAny(secret, "%+") {
		return false
	}
	plain, err := url.QueryUnescape(secret)
	return err == nil && matches(c, plain, now)
}
