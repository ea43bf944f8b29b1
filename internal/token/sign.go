package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Signer signs tokens with one private key. It is safe for concurrent use.
type Signer struct {
	key     crypto.Signer
	public  Key
	headers map[string]string // typ to encoded header with its dot
}

// Algorithms lists what a Signer can sign with.
func Algorithms() []string { return []string{"RS256", "PS256", "ES256", "EdDSA"} }

// NewSigner makes a signer of the usual algorithm of the key: RS256 (RSA keys
// of at least 2048 bits), ES256 (P-256 keys) or EdDSA (Ed25519 keys).
func NewSigner(key crypto.Signer, certDER []byte) (*Signer, error) {
	return NewSignerOf(key, certDER, usualAlg(key.Public()))
}

// NewSignerOf makes a signer of one of Algorithms, which must fit the key. The
// key id and x5t come from the certificate as the original makes them (KeyID).
func NewSignerOf(key crypto.Signer, certDER []byte, alg string) (*Signer, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		k.Precompute()
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		return nil, fmt.Errorf("make signer: key type %T is not supported", key)
	}
	if !slices.Contains(Algorithms(), alg) {
		return nil, fmt.Errorf("make signer: algorithm %q is not supported", alg)
	}
	s := &Signer{
		key:     key,
		public:  Key{ID: KeyID(certDER, alg), Alg: alg, Public: key.Public(), Cert: certDER},
		headers: map[string]string{},
	}
	if err := checkKey(s.public); err != nil {
		return nil, fmt.Errorf("make signer: %w", err)
	}
	for _, typ := range []string{TypeAccess, TypeRefresh, TypeID, TypeIntrospection} {
		s.headers[typ] = s.header(typ)
	}
	return s, nil
}

// KeyID is the kid of the tokens it signs.
func (s *Signer) KeyID() string { return s.public.ID }

// Algorithm is one of Algorithms.
func (s *Signer) Algorithm() string { return s.public.Alg }

// Public is the key that verifies, with its certificate.
func (s *Signer) Public() Key { return s.public }

func (s *Signer) header(typ string) string {
	h := `{"kid":` + strconv.Quote(s.public.ID) + `,"x5t":` + strconv.Quote(Thumbprint(s.public.Cert)) +
		`,"typ":` + strconv.Quote(typ) + `,"alg":` + strconv.Quote(s.public.Alg) + `}`
	return b64([]byte(h)) + "."
}

// Sign makes the compact form of the claims. Claims.Type is the header's typ,
// at+jwt when empty; Claims.KeyID is ignored.
func (s *Signer) Sign(c *Claims) (string, error) {
	typ := c.Type
	if typ == "" {
		typ = TypeAccess
	}
	header, ok := s.headers[typ]
	if !ok {
		return "", fmt.Errorf("sign token: unknown type %q", typ)
	}
	payload := c.append(make([]byte, 0, 768))
	enc := base64.RawURLEncoding
	out := make([]byte, 0, len(header)+enc.EncodedLen(len(payload))+360)
	out = append(out, header...)
	out = enc.AppendEncode(out, payload)
	sum := sha256.Sum256(out)
	var sig []byte
	switch k := s.key.(type) {
	case *rsa.PrivateKey:
		var b []byte
		var err error
		if s.public.Alg == "PS256" {
			b, err = rsa.SignPSS(rand.Reader, k, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			b, err = rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
		}
		if err != nil {
			return "", fmt.Errorf("sign token: %w", err)
		}
		sig = b
	case *ecdsa.PrivateKey:
		r, t, err := ecdsa.Sign(rand.Reader, k, sum[:])
		if err != nil {
			return "", fmt.Errorf("sign token: %w", err)
		}
		sig = make([]byte, 64)
		r.FillBytes(sig[:32])
		t.FillBytes(sig[32:])
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, out)
	}
	out = append(out, '.')
	out = enc.AppendEncode(out, sig)
	return string(out), nil
}

// Seconds cuts a time to whole seconds, as claims hold it.
func Seconds(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }

// HalfHash is the left half of the hash of s that goes with the algorithm, as
// at_hash and c_hash hold it (OpenID Connect Core §3.1.3.6). Ed25519 goes with
// SHA-512.
func HalfHash(alg, s string) string {
	if alg == "EdDSA" {
		sum := sha512.Sum512([]byte(s))
		return b64(sum[:32])
	}
	sum := sha256.Sum256([]byte(s))
	return b64(sum[:16])
}
