package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Key is a public key with the one algorithm it may be used with.
type Key struct {
	ID     string
	Alg    string // RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA
	Public crypto.PublicKey
	Cert   []byte // DER of the certificate, when there is one
}

// KeySet is the immutable set of keys of an issuer.
type KeySet struct {
	keys []Key
	byID map[string]int
}

// Bounds of a key set document.
const (
	maxKeySet   = 1 << 20 // bytes
	maxKeys     = 256
	minRSABits  = 2048
	maxRSABits  = 8192
	maxRSAExp   = 1<<31 - 1
	maxKeyIDLen = 512
)

// NewKeySet makes a set. A key that is weak, unknown, or whose algorithm does
// not fit is an error, and so is an id that occurs twice.
func NewKeySet(keys ...Key) (*KeySet, error) {
	s := &KeySet{keys: slices.Clone(keys), byID: make(map[string]int, len(keys))}
	for i, k := range s.keys {
		if err := checkKey(k); err != nil {
			return nil, fmt.Errorf("key %q: %w", k.ID, err)
		}
		if _, dup := s.byID[k.ID]; dup {
			return nil, fmt.Errorf("key %q: id used twice", k.ID)
		}
		s.byID[k.ID] = i
	}
	return s, nil
}

// Len is the number of keys.
func (s *KeySet) Len() int {
	if s == nil {
		return 0
	}
	return len(s.keys)
}

// Keys lists the keys in the order of the document.
func (s *KeySet) Keys() []Key { return slices.Clone(s.keys) }

// find looks a key up by kid. A token without kid is accepted only where the
// issuer has a single key, so that kid stays a mere look-up; a single key
// without an id, as a pinned certificate is, stands for every kid.
func (s *KeySet) find(kid string) *Key {
	if s == nil {
		return nil
	}
	if i, ok := s.byID[kid]; ok {
		return &s.keys[i]
	}
	if len(s.keys) == 1 && (kid == "" || s.keys[0].ID == "") {
		return &s.keys[0]
	}
	return nil
}

func checkKey(k Key) error {
	switch p := k.Public.(type) {
	case *rsa.PublicKey:
		switch k.Alg {
		case "RS256", "RS384", "RS512", "PS256", "PS384", "PS512":
		default:
			return fmt.Errorf("algorithm %q is not for RSA keys", k.Alg)
		}
		if n := p.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("RSA key of %d bits", n)
		}
		if p.E < 3 || p.E > maxRSAExp || p.E%2 == 0 {
			return errors.New("RSA exponent out of range")
		}
	case *ecdsa.PublicKey:
		want := map[elliptic.Curve]string{elliptic.P256(): "ES256", elliptic.P384(): "ES384", elliptic.P521(): "ES512"}[p.Curve]
		if want == "" || want != k.Alg {
			return fmt.Errorf("algorithm %q does not fit the curve", k.Alg)
		}
	case ed25519.PublicKey:
		if k.Alg != "EdDSA" || len(p) != ed25519.PublicKeySize {
			return fmt.Errorf("algorithm %q is not for Ed25519 keys", k.Alg)
		}
	default:
		return fmt.Errorf("key type %T is not supported", k.Public)
	}
	return nil
}

// Thumbprint is the original's name for a certificate: base64url, without
// padding, of the hexadecimal text of the SHA-256 of its DER (86 characters).
func Thumbprint(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.RawURLEncoding.EncodeToString([]byte(hex.EncodeToString(sum[:])))
}

// KeyID is the kid the original gives a certificate used with an algorithm.
func KeyID(der []byte, alg string) string { return Thumbprint(der) + "_" + alg }

// ParsePEM reads a public key or certificate from PEM and pins it to alg; an
// empty alg means the usual one of the key type. The id is the kid that KeyID
// gives a certificate, and empty for a bare key.
func ParsePEM(text []byte, alg string) (Key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return Key{}, errors.New("no PEM block found")
	}
	var k Key
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Key{}, fmt.Errorf("parse certificate: %w", err)
		}
		k = Key{Public: cert.PublicKey, Cert: cert.Raw}
	case "PUBLIC KEY":
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return Key{}, fmt.Errorf("parse public key: %w", err)
		}
		k = Key{Public: pub}
	default:
		return Key{}, fmt.Errorf("PEM block %q is neither a certificate nor a public key", block.Type)
	}
	k.Alg = alg
	if k.Alg == "" {
		k.Alg = usualAlg(k.Public)
	}
	if k.Cert != nil {
		k.ID = KeyID(k.Cert, k.Alg)
	}
	return k, checkKey(k)
}

func usualAlg(pub crypto.PublicKey) string {
	switch p := pub.(type) {
	case *rsa.PublicKey:
		return "RS256"
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return "ES256"
		case elliptic.P384():
			return "ES384"
		case elliptic.P521():
			return "ES512"
		}
	case ed25519.PublicKey:
		return "EdDSA"
	}
	return ""
}

type jwk struct {
	Kty    string   `json:"kty"`
	Use    string   `json:"use,omitempty"`
	KeyOps []string `json:"key_ops,omitempty"`
	Alg    string   `json:"alg,omitempty"`
	Kid    string   `json:"kid,omitempty"`
	N      string   `json:"n,omitempty"`
	E      string   `json:"e,omitempty"`
	Crv    string   `json:"crv,omitempty"`
	X      string   `json:"x,omitempty"`
	Y      string   `json:"y,omitempty"`
	X5c    []string `json:"x5c,omitempty"`
	X5tS   string   `json:"x5t#S256,omitempty"`
}

// JWKS renders the set as a JSON Web Key Set (RFC 7517).
func (s *KeySet) JWKS() []byte {
	out := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range s.keys {
		j := jwk{Use: "sig", Alg: k.Alg, Kid: k.ID}
		switch p := k.Public.(type) {
		case *rsa.PublicKey:
			j.Kty, j.N, j.E = "RSA", b64(p.N.Bytes()), b64(big.NewInt(int64(p.E)).Bytes())
		case *ecdsa.PublicKey:
			size := (p.Curve.Params().BitSize + 7) / 8
			point, err := p.Bytes()
			if err != nil {
				continue
			}
			j.Kty, j.Crv = "EC", p.Curve.Params().Name
			j.X, j.Y = b64(point[1:1+size]), b64(point[1+size:])
		case ed25519.PublicKey:
			j.Kty, j.Crv, j.X = "OKP", "Ed25519", b64(p)
		}
		if k.Cert != nil {
			sum := sha256.Sum256(k.Cert)
			j.X5c = []string{base64.StdEncoding.EncodeToString(k.Cert)}
			j.X5tS = b64(sum[:])
		}
		out.Keys = append(out.Keys, j)
	}
	b, err := json.Marshal(out)
	if err != nil {
		panic("token: encode key set: " + err.Error())
	}
	return b
}

// ParseJWKS reads a key set document. Entries that are not for signatures or
// of a kind we do not know are skipped, as RFC 7517 asks; of entries with the
// same id the first counts. A document without one usable key is an error.
func ParseJWKS(doc []byte) (*KeySet, error) {
	if len(doc) > maxKeySet {
		return nil, errors.New("parse key set: document too large")
	}
	var in struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(doc, &in); err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	if len(in.Keys) > maxKeys {
		return nil, fmt.Errorf("parse key set: more than %d keys", maxKeys)
	}
	s := &KeySet{byID: map[string]int{}}
	for _, raw := range in.Keys {
		k, ok := parseJWK(raw)
		if !ok {
			continue
		}
		if _, dup := s.byID[k.ID]; dup {
			continue
		}
		s.byID[k.ID] = len(s.keys)
		s.keys = append(s.keys, k)
	}
	if len(s.keys) == 0 {
		return nil, errors.New("parse key set: no usable key")
	}
	return s, nil
}

func parseJWK(raw []byte) (Key, bool) {
	var j jwk
	if json.Unmarshal(raw, &j) != nil || len(j.Kid) > maxKeyIDLen {
		return Key{}, false
	}
	if j.Use != "" && j.Use != "sig" {
		return Key{}, false
	}
	if len(j.KeyOps) > 0 && !slices.Contains(j.KeyOps, "verify") {
		return Key{}, false
	}
	k := Key{ID: j.Kid, Alg: j.Alg}
	switch j.Kty {
	case "RSA":
		n, err1 := unb64(j.N)
		e, err2 := unb64(j.E)
		if err1 != nil || err2 != nil || len(n) > maxRSABits/8+1 || len(e) > 4 {
			return Key{}, false
		}
		k.Public = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		x, err1 := unb64(j.X)
		y, err2 := unb64(j.Y)
		if curve == nil || err1 != nil || err2 != nil {
			return Key{}, false
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(x) != size || len(y) != size {
			return Key{}, false
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
		if err != nil {
			return Key{}, false
		}
		k.Public = pub
	case "OKP":
		x, err := unb64(j.X)
		if j.Crv != "Ed25519" || err != nil {
			return Key{}, false
		}
		k.Public = ed25519.PublicKey(x)
	default:
		return Key{}, false
	}
	if len(j.X5c) > 0 {
		if der, err := base64.StdEncoding.DecodeString(j.X5c[0]); err == nil {
			k.Cert = der
		}
	}
	if k.Alg == "" {
		k.Alg = usualAlg(k.Public)
	}
	return k, checkKey(k) == nil
}

func b64(b []byte) string            { return base64.RawURLEncoding.EncodeToString(b) }
func unb64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }
