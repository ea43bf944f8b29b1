// Package pki is the certificate authority of a home: it signs the server
// certificate of a first start and the certificates by which nodes know one
// another, renews them before they end, and hands out TLS configurations that
// follow the files without a restart.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

const (
	caLife     = 20 * 365 * 24 * time.Hour
	serverLife = 397 * 24 * time.Hour // what browsers accept at most
	nodeLife   = 397 * 24 * time.Hour
	backdate   = time.Hour // for clocks that are behind
)

// CA is the certificate authority of a home.
type CA struct {
	Cert *x509.Certificate
	PEM  []byte // the certificate
	key  crypto.Signer
}

// Dir is where a home keeps its certificates.
func Dir(home string) string { return filepath.Join(home, "certs") }

// EnsureCA reads the CA in dir (ca.pem, ca.key), or makes one.
func EnsureCA(dir string) (*CA, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	certPEM, err := os.ReadFile(certFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return newCA(dir, certFile, keyFile)
	case err != nil:
		return nil, fmt.Errorf("read CA: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	return ParseCA(certPEM, keyPEM)
}

// ParseCA reads a CA from its certificate and PKCS#8 key.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	cert, err := parseCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	key, err := parseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read CA key: %w", err)
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(cert.PublicKey) {
		return nil, errors.New("read CA: key and certificate do not belong together")
	}
	if !cert.IsCA {
		return nil, errors.New("read CA: the certificate is not one of a CA")
	}
	return &CA{Cert: cert, PEM: certPEM, key: key}, nil
}

func newCA(dir, certFile, keyFile string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Cardea CA " + host, Organization: []string{"Cardea"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	certPEM := encodeCert(der)
	// The key first: a certificate without a key would stop every later start.
	if err := errors.Join(writeFile(keyFile, keyPEM, 0o600), writeFile(certFile, certPEM, 0o644)); err != nil {
		return nil, fmt.Errorf("make CA: %w", err)
	}
	return ParseCA(certPEM, keyPEM)
}

// Export gives the CA's key and certificate as one PEM text, for the processes
// that share it; it must be kept sealed.
func (c *CA) Export() ([]byte, error) {
	keyPEM, err := encodeKey(c.key)
	if err != nil {
		return nil, fmt.Errorf("export CA: %w", err)
	}
	return append(keyPEM, c.PEM...), nil
}

// AdoptCA makes what Export gave the CA of dir.
func AdoptCA(dir string, exported []byte) (*CA, error) {
	key, rest := pem.Decode(exported)
	if key == nil {
		return nil, errors.New("adopt CA: no PEM key")
	}
	keyPEM := pem.EncodeToMemory(key)
	c, err := ParseCA(rest, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("adopt CA: %w", err)
	}
	// Both or an error at the next start, which adopts again.
	if err := errors.Join(writeFile(filepath.Join(dir, "ca.key"), keyPEM, 0o600), writeFile(filepath.Join(dir, "ca.pem"), rest, 0o644)); err != nil {
		return nil, fmt.Errorf("adopt CA: %w", err)
	}
	return c, nil
}

// Fingerprint is the hex SHA-256 of the CA certificate.
func (c *CA) Fingerprint() string { return Fingerprint(c.Cert) }

// Fingerprint is the hex SHA-256 of a certificate.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// Pool holds this CA only.
func (c *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.Cert)
	return p
}

// sign makes a leaf for the public key.
func (c *CA) sign(pub crypto.PublicKey, tmpl *x509.Certificate, life time.Duration) ([]byte, error) {
	now := time.Now()
	tmpl.SerialNumber = serial()
	tmpl.NotBefore = now.Add(-backdate)
	tmpl.NotAfter = now.Add(life)
	if tmpl.NotAfter.After(c.Cert.NotAfter) {
		tmpl.NotAfter = c.Cert.NotAfter
	}
	tmpl.BasicConstraintsValid = true
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.Cert, pub, c.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return encodeCert(der), nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] &= 0x7f // positive
	return new(big.Int).SetBytes(b)
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseCert(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(bytes.TrimSpace(b))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(b []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(bytes.TrimSpace(b))
	if block == nil {
		return nil, errors.New("no PEM key")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, errors.New("not a signing key")
	}
	return s, nil
}

// writeFile replaces the file in one step.
func writeFile(name string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
