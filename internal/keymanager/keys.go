package keymanager

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
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

// keyring holds the signing keys of tenants, decrypted. A tenant that has none
// signs with those of carbon.super until its first one is in use.
type keyring struct {
	k  *KeyManager
	mu sync.Mutex

	rings map[apim.TenantID]*ring
	owner map[string]apim.TenantID // of a key id
}

// ring is what is known of one tenant's keys.
type ring struct {
	loaded   time.Time
	keys     []ringKey
	set      *token.KeySet
	verifier *token.Verifier
	making   bool // somebody makes the tenant's first key
}

type ringKey struct {
	row    *apim.SigningKey
	signer *token.Signer
}

func newKeyring(k *KeyManager) *keyring {
	return &keyring{k: k, rings: map[apim.TenantID]*ring{}, owner: map[string]apim.TenantID{}}
}

// EnsureKeys creates the first signing key of carbon.super, or one of the
// configured algorithm when the current one is of another; the latter is used
// after KeyLead.
func (k *KeyManager) EnsureKeys(ctx context.Context) error {
	if err := k.keys.load(ctx, apim.SuperTenant, true); err != nil {
		return err
	}
	cur := k.keys.newest(apim.SuperTenant)
	if cur != nil && cur.row.Algorithm == k.o.Algorithm {
		return nil
	}
	start := k.o.Now()
	if cur != nil {
		start = start.Add(k.o.KeyLead)
	}
	_, err := k.addKey(ctx, apim.SuperTenant, k.o.Algorithm, start)
	return err
}

// EnsureTenantKeys gives a new tenant its signing key, in use at once. A tenant
// that has one keeps it.
func (k *KeyManager) EnsureTenantKeys(ctx context.Context, t apim.TenantID) error {
	return k.firstKey(ctx, t, k.o.Now())
}

// firstKey makes the first key of a tenant unless it has one.
func (k *KeyManager) firstKey(ctx context.Context, t apim.TenantID, start time.Time) error {
	page, err := k.o.SigningKeys.List(ctx, apim.In(t), apim.Query{Limit: 1})
	if err != nil {
		return fmt.Errorf("look for signing keys: %w", err)
	}
	if len(page.Items) > 0 {
		return nil
	}
	_, err = k.addKey(ctx, t, k.o.Algorithm, start)
	return err
}

// RotateKey creates a signing key of carbon.super that is published at once
// and used from KeyLead on; the older keys retire then, and verify for 30 more
// days.
func (k *KeyManager) RotateKey(ctx context.Context) (apim.KeyID, error) {
	return k.RotateTenantKey(ctx, apim.SuperTenant, "")
}

// RotateTenantKey is RotateKey for a tenant and with another algorithm (one of
// token.Algorithms); an empty one stays as it is.
func (k *KeyManager) RotateTenantKey(ctx context.Context, t apim.TenantID, alg string) (apim.KeyID, error) {
	if err := k.keys.load(ctx, t, true); err != nil {
		return "", err
	}
	if alg == "" {
		alg = k.o.Algorithm
		if cur := k.keys.newest(t); cur != nil {
			alg = cur.row.Algorithm
		}
	}
	if !slices.Contains(token.Algorithms(), alg) {
		return "", fault.BadRequest.Withf("algorithm %q: want one of %s", alg, strings.Join(token.Algorithms(), ", "))
	}
	return k.addKey(ctx, t, alg, k.o.Now().Add(k.o.KeyLead))
}

func (k *KeyManager) addKey(ctx context.Context, t apim.TenantID, alg string, start time.Time) (apim.KeyID, error) {
	row, err := k.newKey(t, alg, start)
	if err != nil {
		return "", err
	}
	s := apim.In(t)
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
	return row.ID, k.keys.load(ctx, t, true)
}

// newKey makes a key and a certificate for it.
func (k *KeyManager) newKey(t apim.TenantID, alg string, start time.Time) (*apim.SigningKey, error) {
	var key crypto.Signer
	var err error
	switch alg {
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
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
		ID:        apim.KeyID(token.KeyID(der, alg)),
		Algorithm: alg,
		Private:   apim.Sealed(k.o.Sealer.Seal(private)),
		Public:    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		NotBefore: start,
	}
	row.Tenant = t
	return row, nil
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
	s, err := token.NewSignerOf(key, block.Bytes, row.Algorithm)
	if err != nil {
		return nil, err
	}
	if s.KeyID() != string(row.ID) {
		return nil, errors.New("id does not belong to the certificate")
	}
	return s, nil
}
