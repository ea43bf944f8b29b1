package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"
)

// Signer signs tokens with one private key. It is safe for concurrent use.
type Signer struct {
	key     crypto.Signer
	public  Key
	headers map[string]string // typ to encoded header with its dot
}

// NewSigner makes a signer of RS256 (RSA keys of at least 2048 bits) or ES256
// (P-256 keys). The key id and x5t come from the certificate as the original
// makes them (KeyID).
func NewSigner(key crypto.Signer, certDER []byte) (*Signer, error) {
	var alg string
	switch k := key.(type) {
	case *rsa.PrivateKey:
		alg = "RS256"
		k.Precompute()
	case *ecdsa.PrivateKey:
		alg = "ES256"
	default:
		return nil, fmt.Errorf("make signer: key type %T is not supported", key)
	}
	s := &Signer{
		key:     key,
		public:  Key{ID: KeyID(certDER, alg), Alg: alg, Public: key.Public(), Cert: certDER},
		headers: map[string]string{},
	}
	if err := checkKey(s.public); err != nil {
		return nil, fmt.Errorf("make signer: %w", err)
	}
	for _, typ := range []string{TypeAccess, TypeRefresh, TypeID} {
		s.headers[typ] = s.header(typ)
	}
	return s, nil
}

// KeyID is the kid of the tokens it signs.
func (s *Signer) KeyID() string { return s.public.ID }

// Algorithm is RS256 or ES256.
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
		b, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, sum[:])
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
	}
	out = append(out, '.')
	out = enc.AppendEncode(out, sig)
	return string(out), nil
}

// Seconds cuts a time to whole seconds, as claims hold it.
func Seconds(t time.Time) time.Time { return time.Unix(t.Unix(), 0).UTC() }
