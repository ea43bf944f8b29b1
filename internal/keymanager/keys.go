package keymanager

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/token"
)

const (
	rsaBits  = 2048
	certLife = 10 * 365 * 24 * time.Hour
	// keyReload bounds how long another process's new key goes unnoticed; it
	// must stay well under Options.KeyLead.
	keyReload = 30 * time.Second
	// keepRetired is how long a retired key stays in the key set, for tokens
	// it has signed.
	keepRetired = 30 * 24 * time.Hour
)

// keyring holds the signing keys, decrypted. Every tenant's tokens are signed
// with the keys of carbon.super.
type keyring struct {
	k  *KeyManager
	mu sync.Mutex

	loaded time.Time
	keys   []ringKey
	set    *token.KeySet
}

type ringKey struct {
	row    *apim.SigningKey
	signer *token.Signer
}

func newKeyring(k *KeyManager) *keyring { return &keyring{k: k} }

// EnsureKeys creates the first signing key, or one of the configured algorithm
// when the current one is of another; the latter is used after KeyLead.
func (k *KeyManager) EnsureKeys(ctx context.Context) error {
	if err := k.keys.load(ctx, true); err != nil {
		return err
	}
	cur := k.keys.newest()
	if cur != nil && cur.row.Algorithm == k.o.Algorithm {
		return nil
	}
	start := k.o.Now()
	if cur != nil {
		start = start.Add(k.o.KeyLead)
	}
	_, err := k.addKey(ctx, start)
	return err
}

// RotateKey creates a signing key that is published at once and used from
// KeyLead on; the older keys retire then, and verify for 30 more days.
func (k *KeyManager) RotateKey(ctx context.Context) (apim.KeyID, error) {
	return k.addKey(ctx, k.o.Now().Add(k.o.KeyLead))
}

func (k *KeyManager) addKey(ctx context.Context, start time.Time) (apim.KeyID, error) {
	row, err := k.newKey(start)
	if err != nil {
		return "", err
	}
	s := apim.In(apim.SuperTenant)
	err = k.o.InTx(ctx, func(ctx context.Context) error {
		old, err := k.o.SigningKeys.List(ctx, s, apim.Query{})
		if err != nil {
			return err
		}
		for _, o := range old.Items {
			if o.Retired.IsZero() || o.Retired.After(start) {
				o.Retired = start
				if err := k.o.SigningKeys.Update(ctx, s, o); err != nil {
					return err
				}
			}
		}
		return k.o.SigningKeys.Create(ctx, s, row)
	})
	if err != nil {
		return "", fmt.Errorf("store signing key: %w", err)
	}
	return row.ID, k.keys.load(ctx, true)
}

// newKey makes a key and a certificate for it.
func (k *KeyManager) newKey(start time.Time) (*apim.SigningKey, error) {
	var key crypto.Signer
	var err error
	if k.o.Algorithm == "ES256" {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	}
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	now := k.o.Now()
	cert := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: k.host, Organization: []string{"Cardea token signing"}},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(certLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make signing certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	row := &apim.SigningKey{
		ID:        apim.KeyID(token.KeyID(der, k.o.Algorithm)),
		Algorithm: k.o.Algorithm,
		Private:   apim.Sealed(k.o.Sealer.Seal(private)),
		Public:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		NotBefore: start,
	}
	row.Tenant = apim.SuperTenant
	return row, nil
}

// load reads the keys again when force is set or they are older than keyReload.
func (r *keyring) load(ctx context.Context, force bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.k.o.Now()
	if !force && now.Sub(r.loaded) < keyReload {
		return nil
	}
	page, err := r.k.o.SigningKeys.List(ctx, apim.In(apim.SuperTenant), apim.Query{Sort: "created"})
	if err != nil {
		if r.set.Len() > 0 && !force {
			return nil // go on with the keys we have; the next call tries again
		}
		return fmt.Errorf("load signing keys: %w", err)
	}
	had := map[apim.KeyID]*token.Signer{}
	for _, k := range r.keys {
		had[k.row.ID] = k.signer
	}
	var keys []ringKey
	var public []token.Key
	same := true
	for _, row := range page.Items {
		if !row.Retired.IsZero() && now.Sub(row.Retired) > keepRetired {
			continue
		}
		signer := had[row.ID]
		if signer == nil {
			same = false
			if signer, err = r.open(row); err != nil {
				return fmt.Errorf("load signing key %s: %w", row.ID, err)
			}
		}
		keys = append(keys, ringKey{row, signer})
		public = append(public, signer.Public())
	}
	r.loaded = now
	same = same && len(keys) == len(r.keys)
	r.keys = keys
	if same && r.set != nil {
		return nil
	}
	if r.set, err = token.NewKeySet(public...); err != nil {
		return fmt.Errorf("load signing keys: %w", err)
	}
	r.k.verifier.SetIssuers([]*token.Issuer{{Name: r.k.o.Issuer, Keys: r.set}})
	return nil
}

func (r *keyring) open(row *apim.SigningKey) (*token.Signer, error) {
	der, err := r.k.o.Sealer.Open(string(row.Private))
	if err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key type %T cannot sign", parsed)
	}
	block, _ := pem.Decode([]byte(row.Public))
	if block == nil {
		return nil, errors.New("no certificate")
	}
	s, err := token.NewSigner(key, block.Bytes)
	if err != nil {
		return nil, err
	}
	if s.KeyID() != string(row.ID) {
		return nil, errors.New("id does not belong to the certificate")
	}
	return s, nil
}

// newest is the key that was made last, whether in use yet or not.
func (r *keyring) newest() *ringKey {
	r.mu.Lock()
	defer r.mu.Unlock()
	var best *ringKey
	for i := range r.keys {
		if best == nil || r.keys[i].row.NotBefore.After(best.row.NotBefore) {
			best = &r.keys[i]
		}
	}
	return best
}

// signer is the key to sign with now: the newest that is in use already.
func (r *keyring) signer(ctx context.Context) (*token.Signer, error) {
	if err := r.load(ctx, false); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.k.o.Now()
	var best *ringKey
	for i := range r.keys {
		k := &r.keys[i]
		if k.row.NotBefore.After(now) {
			continue
		}
		if best == nil || k.row.NotBefore.After(best.row.NotBefore) {
			best = k
		}
	}
	if best == nil {
		return nil, errors.New("sign token: no signing key is in use")
	}
	return best.signer, nil
}

// public is the key set to publish: all keys that sign, will sign, or have
// signed tokens that may still be valid.
func (r *keyring) public(ctx context.Context) (*token.KeySet, error) {
	if err := r.load(ctx, false); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.set, nil
}

// reloadSoon reads the keys again for a token whose key is unknown, at most
// once a second however many such tokens come.
func (r *keyring) reloadSoon(ctx context.Context) error {
	r.mu.Lock()
	recent := r.k.o.Now().Sub(r.loaded) < time.Second
	r.mu.Unlock()
	if recent {
		return nil
	}
	return r.load(ctx, true)
}
