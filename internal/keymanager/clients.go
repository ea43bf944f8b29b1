package keymanager

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/token"
)

// maxSecrets bounds the live secrets of one client.
const maxSecrets = 50

// CreateClient stores c with one live secret and returns that secret. An empty
// c.ID is given a new consumer key, an empty c.OwnerID is looked up by
// c.Owner. A taken name is fault.Exists.
func (k *KeyManager) CreateClient(ctx context.Context, s apim.Scope, c *apim.Client) (secret string, err error) {
	return k.createClient(ctx, s, c, token.NewSecret())
}

// AdoptClient is CreateClient with a consumer key and secret that exist
// already, as an imported application brings them.
func (k *KeyManager) AdoptClient(ctx context.Context, s apim.Scope, c *apim.Client, secret string) error {
	if c.ID == "" || secret == "" {
		return fault.BadRequest.With("consumer key and secret must not be empty")
	}
	_, err := k.createClient(ctx, s, c, secret)
	return err
}

func (k *KeyManager) createClient(ctx context.Context, s apim.Scope, c *apim.Client, secret string) (string, error) {
	if c.ID == "" {
		c.ID = apim.ClientID(token.NewSecret())
	}
	if c.Tenant == "" {
		c.Tenant = s.Tenant()
	}
	if c.OwnerID == "" {
		u, err := k.o.Directory.User(ctx, c.Tenant, c.Owner)
		if err != nil {
			return "", fmt.Errorf("create client: find owner: %w", err)
		}
		c.OwnerID = u.ID
	}
	c.Secrets = []apim.Secret{k.newSecret(secret, "", time.Time{})}
	if err := k.o.Clients.Create(ctx, s, c); err != nil {
		return "", fmt.Errorf("create client: %w", err)
	}
	k.clients.changed(c.ID, k.o.Now())
	return secret, nil
}

func (k *KeyManager) newSecret(clear, description string, expires time.Time) apim.Secret {
	return apim.Secret{
		ID:          uuid.NewString(),
		Description: description,
		Hash:        apim.Digest(token.Digest(clear)),
		Sealed:      apim.Sealed(k.o.Sealer.Seal([]byte(clear))),
		CreatedAt:   k.o.Now(),
		Expires:     expires,
	}
}

// Client finds a client; fault.Missing when there is none.
func (k *KeyManager) Client(ctx context.Context, s apim.Scope, id apim.ClientID) (*apim.Client, error) {
	return k.o.Clients.Get(ctx, s, id)
}

// UpdateClient stores a changed client; fault.PreconditionBad when it changed
// meanwhile. Deactivating a client ends its tokens.
func (k *KeyManager) UpdateClient(ctx context.Context, s apim.Scope, c *apim.Client) error {
	k.clients.changed(c.ID, k.o.Now())
	return k.o.InTx(ctx, func(ctx context.Context) error {
		old, err := k.o.Clients.Get(ctx, s, c.ID)
		if err != nil {
			return fmt.Errorf("update client: %w", err)
		}
		if err := k.o.Clients.Update(ctx, s, c); err != nil {
			return fmt.Errorf("update client: %w", err)
		}
		if c.Inactive && !old.Inactive {
			return k.endTokens(ctx, old)
		}
		return nil
	})
}

// DeleteClient removes the client and makes its tokens worthless.
func (k *KeyManager) DeleteClient(ctx context.Context, s apim.Scope, id apim.ClientID) error {
	k.clients.changed(id, k.o.Now())
	return k.o.InTx(ctx, func(ctx context.Context) error {
		c, err := k.o.Clients.Get(ctx, s, id)
		if err != nil {
			return fmt.Errorf("delete client: %w", err)
		}
		if err := k.o.Clients.Delete(ctx, s, id); err != nil {
			return fmt.Errorf("delete client: %w", err)
		}
		for _, kind := range []string{apim.EphemeralCode, apim.EphemeralConsent} {
			if _, err := k.o.Ephemera.DeleteOf(ctx, kind, c.Tenant, "", string(c.ID)); err != nil {
				return fmt.Errorf("delete client: %w", err)
			}
		}
		return k.endTokens(ctx, c)
	})
}

// endTokens revokes everything issued to the client so far.
func (k *KeyManager) endTokens(ctx context.Context, c *apim.Client) error {
	now := k.o.Now()
	keep := max(k.o.AppLife, k.o.UserLife, c.AppExpiry, c.UserExpiry, keepRetired)
	err := k.o.Tokens.Revoke(ctx, &apim.Revocation{
		ID: "sub/" + string(c.ID), Tenant: c.Tenant, Entity: string(c.ID), NotBefore: now, Expires: now.Add(keep),
	})
	if err != nil {
		return fmt.Errorf("revoke tokens of client: %w", err)
	}
	if err := k.o.Tokens.DropRefreshOf(ctx, apim.In(c.Tenant), "", c.ID); err != nil {
		return fmt.Errorf("drop refresh tokens of client: %w", err)
	}
	if _, err := k.o.Ephemera.DeleteOf(ctx, apim.EphemeralAccess, c.Tenant, "", string(c.ID)); err != nil {
		return fmt.Errorf("drop access tokens of client: %w", err)
	}
	return nil
}

// change applies fn to the client and retries lost races.
func (k *KeyManager) change(ctx context.Context, s apim.Scope, id apim.ClientID, fn func(*apim.Client) error) error {
	k.clients.changed(id, k.o.Now())
	var err error
	for range 8 {
		var c *apim.Client
		if c, err = k.o.Clients.Get(ctx, s, id); err != nil {
			return fmt.Errorf("change client: %w", err)
		}
		if err = fn(c); err != nil {
			return err
		}
		if err = k.o.Clients.Update(ctx, s, c); !errors.Is(err, &fault.PreconditionBad) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("change client: %w", err)
	}
	return nil
}

// Secret is the newest live secret in clear; fault.Missing when there is none.
func (k *KeyManager) Secret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error) {
	c, err := k.o.Clients.Get(ctx, s, id)
	if err != nil {
		return "", fmt.Errorf("get client secret: %w", err)
	}
	return k.openSecret(c)
}

func (k *KeyManager) openSecret(c *apim.Client) (string, error) {
	for _, sec := range slices.Backward(c.Secrets) {
		if live(&sec, k.o.Now()) && sec.Sealed != "" {
			b, err := k.o.Sealer.Open(string(sec.Sealed))
			if err != nil {
				return "", fmt.Errorf("unseal client secret: %w", err)
			}
			return string(b), nil
		}
	}
	return "", fault.Missing.With("the client has no live secret")
}

// CheckSecret reports whether secret is one of the client's live ones.
func (k *KeyManager) CheckSecret(ctx context.Context, s apim.Scope, id apim.ClientID, secret string) (bool, error) {
	c, err := k.o.Clients.Get(ctx, s, id)
	if errors.Is(err, &fault.Missing) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("check client secret: %w", err)
	}
	return matches(c, secret, k.o.Now()), nil
}

// RegenerateSecret replaces every secret by a new one, which it returns.
func (k *KeyManager) RegenerateSecret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error) {
	clear := token.NewSecret()
	return clear, k.change(ctx, s, id, func(c *apim.Client) error {
		c.Secrets = []apim.Secret{k.newSecret(clear, "", time.Time{})}
		return nil
	})
}

// AddSecret adds a secret that lives for ttl (0: for ever) and returns it with
// its clear text. Expired ones are dropped on the way.
func (k *KeyManager) AddSecret(ctx context.Context, s apim.Scope, id apim.ClientID, description string, ttl time.Duration) (apim.Secret, string, error) {
	clear := token.NewSecret()
	now := k.o.Now()
	var expires time.Time
	if ttl > 0 {
		expires = now.Add(ttl)
	}
	sec := k.newSecret(clear, description, expires)
	return sec, clear, k.change(ctx, s, id, func(c *apim.Client) error {
		c.Secrets = slices.DeleteFunc(c.Secrets, func(o apim.Secret) bool { return !live(&o, now) })
		if len(c.Secrets) >= maxSecrets {
			return fault.BadRequest.Withf("the client has %d secrets already", maxSecrets)
		}
		c.Secrets = append(c.Secrets, sec)
		return nil
	})
}

// RevokeSecret removes one secret by its id; fault.Missing when there is none.
func (k *KeyManager) RevokeSecret(ctx context.Context, s apim.Scope, id apim.ClientID, secretID string) error {
	return k.change(ctx, s, id, func(c *apim.Client) error {
		i := slices.IndexFunc(c.Secrets, func(o apim.Secret) bool { return o.ID == secretID })
		if i < 0 {
			return fault.Missing.With("the client has no such secret")
		}
		c.Secrets = slices.Delete(c.Secrets, i, i+1)
		return nil
	})
}

func live(s *apim.Secret, now time.Time) bool { return s.Expires.IsZero() || now.Before(s.Expires) }

// matches compares the secret with every live one in constant time.
func matches(c *apim.Client, secret string, now time.Time) bool {
	sum := sha256.Sum256([]byte(secret))
	got := hex.EncodeToString(sum[:])
	ok := 0
	for i := range c.Secrets {
		want := strings.TrimPrefix(string(c.Secrets[i].Hash), "sha256:")
		eq := subtle.ConstantTimeCompare([]byte(got), []byte(want))
		if live(&c.Secrets[i], now) {
			ok |= eq
		}
	}
	return ok == 1
}

// clientCache spares the token endpoint a read per request. A client that this
// process changed is not cached for a while, so that a change is in force at
// once; a change by another process is within clientLife.
type clientCache struct {
	mu    sync.Mutex
	known map[apim.ClientID]cachedClient
}

type cachedClient struct {
	c     *apim.Client // nil: do not cache
	until time.Time
}

const (
	clientLife = time.Second
	maxClients = 10_000
)

func newClientCache() *clientCache { return &clientCache{known: map[apim.ClientID]cachedClient{}} }

func (cc *clientCache) get(id apim.ClientID, now time.Time) *apim.Client {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if e := cc.known[id]; now.Before(e.until) {
		return e.c
	}
	return nil
}

func (cc *clientCache) put(c *apim.Client, now time.Time) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	if e, ok := cc.known[c.ID]; ok && e.c == nil && now.Before(e.until) {
		return
	}
	if len(cc.known) >= maxClients {
		for id, e := range cc.known {
			if !now.Before(e.until) {
				delete(cc.known, id)
			}
		}
		if len(cc.known) >= maxClients {
			return
		}
	}
	cc.known[c.ID] = cachedClient{c, now.Add(clientLife)}
}

// changed marks a client whose transaction may not have been committed yet.
func (cc *clientCache) changed(id apim.ClientID, now time.Time) {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	cc.known[id] = cachedClient{nil, now.Add(5 * time.Second)}
}

// client finds a client of any tenant for the token endpoint. What it returns
// is shared and must not be changed.
func (k *KeyManager) client(ctx context.Context, id apim.ClientID) (*apim.Client, error) {
	now := k.o.Now()
	if c := k.clients.get(id, now); c != nil {
		return c, nil
	}
	c, err := k.o.Clients.Get(ctx, apim.Across(apim.Platform), id)
	if err != nil {
		return nil, err
	}
	k.clients.put(c, now)
	return c, nil
}
