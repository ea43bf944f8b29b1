package pki

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// Types of a Keystore.
const (
	PEM    = "PEM"
	PKCS12 = "PKCS12"
	JKS    = "JKS"
)

// maxKeystore bounds the size of a key store, in bytes.
const maxKeystore = 16 << 20

// Keystore is a file that holds a key with its certificates, or the
// certificates of those who are trusted.
type Keystore struct {
	File        string
	Type        string // PEM, PKCS12, JKS
	Password    string
	Alias       string // of the key; empty: the only one
	KeyPassword string // empty: Password
}

// FromKeystore serves the certificate of a PKCS12 or JKS file.
func FromKeystore(k Keystore, log *slog.Logger) (*Source, error) {
	s := &Source{log: log, certFile: k.File, load: k.Pair}
	return s, s.Reload()
}

// Pair is the key and its chain.
func (k Keystore) Pair() (tls.Certificate, error) {
	data, err := k.read()
	if err != nil {
		return tls.Certificate{}, err
	}
	var key any
	var chain []*x509.Certificate
	switch k.Type {
	case PKCS12:
		var leaf *x509.Certificate
		if key, leaf, chain, err = pkcs12.DecodeChain(data, k.Password); err == nil {
			chain = append([]*x509.Certificate{leaf}, chain...)
		}
	case JKS:
		key, chain, err = k.javaKey(data)
	default:
		err = fmt.Errorf("a key store of type %q has no key", k.Type)
	}
	if err != nil {
		return tls.Certificate{}, k.wrap(err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || len(chain) == 0 {
		return tls.Certificate{}, k.wrap(errors.New("it holds no key that can sign"))
	}
	if public, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !public.Equal(signer.Public()) {
		return tls.Certificate{}, k.wrap(errors.New("the key does not belong to the certificate"))
	}
	out := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// Certificates are all certificates of a trust store.
func (k Keystore) Certificates() ([]*x509.Certificate, error) {
	data, err := k.read()
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	switch k.Type {
	case PEM:
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "CERTIFICATE" {
				continue
			}
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, k.wrap(err)
			}
			out = append(out, c)
		}
	case PKCS12:
		if out, err = pkcs12.DecodeTrustStore(data, k.Password); err != nil {
			// A store made for a key can be trusted as well.
			_, leaf, chain, chainErr := pkcs12.DecodeChain(data, k.Password)
			if chainErr != nil {
				return nil, k.wrap(err)
			}
			out = append([]*x509.Certificate{leaf}, chain...)
		}
	case JKS:
		if out, err = k.javaTrusted(data); err != nil {
			return nil, k.wrap(err)
		}
	default:
		return nil, k.wrap(fmt.Errorf("unknown type %q", k.Type))
	}
	if len(out) == 0 {
		return nil, k.wrap(errors.New("it holds no certificate"))
	}
	return out, nil
}

func (k Keystore) wrap(err error) error { return fmt.Errorf("read key store %s: %w", k.File, err) }

func (k Keystore) read() ([]byte, error) {
	f, err := os.Open(k.File)
	if err != nil {
		return nil, fmt.Errorf("read key store: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeystore+1))
	if err == nil && len(data) > maxKeystore {
		err = fmt.Errorf("larger than %d bytes", maxKeystore)
	}
	if err != nil {
		return nil, k.wrap(err)
	}
	return data, nil
}

func (k Keystore) openJava(data []byte) (*jks.KeyStore, error) {
	ks := jks.New(jks.WithOrderedAliases())
	if err := ks.Load(bytes.NewReader(data), []byte(k.Password)); err != nil {
		return nil, err
	}
	return &ks, nil
}

func (k Keystore) javaKey(data []byte) (any, []*x509.Certificate, error) {
	ks, err := k.openJava(data)
	if err != nil {
		return nil, nil, err
	}
	alias := k.Alias
	var keys []string
	for _, a := range ks.Aliases() {
		if ks.IsPrivateKeyEntry(a) {
			keys = append(keys, a)
		}
	}
	switch {
	case len(keys) == 0:
		return nil, nil, errors.New("it holds no key")
	case alias == "" && len(keys) > 1:
		return nil, nil, fmt.Errorf("it holds several keys (%s); name one as alias", strings.Join(keys, ", "))
	case alias == "":
		alias = keys[0]
	case !ks.IsPrivateKeyEntry(alias):
		return nil, nil, fmt.Errorf("it holds no key with the alias %q (there are %s)", alias, strings.Join(keys, ", "))
	}
	password := k.KeyPassword
	if password == "" {
		password = k.Password
	}
	e, err := ks.GetPrivateKeyEntry(alias, []byte(password))
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(e.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	var chain []*x509.Certificate
	for _, c := range e.CertificateChain {
		cert, err := x509.ParseCertificate(c.Content)
		if err != nil {
			return nil, nil, err
		}
		chain = append(chain, cert)
	}
	return key, chain, nil
}

func (k Keystore) javaTrusted(data []byte) ([]*x509.Certificate, error) {
	ks, err := k.openJava(data)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for _, a := range ks.Aliases() {
		if !ks.IsTrustedCertificateEntry(a) {
			continue
		}
		e, err := ks.GetTrustedCertificateEntry(a)
		if err != nil {
			return nil, err
		}
		// One that cannot be read must not take the others away: old trust
		// stores hold certificates of forms that nobody accepts any more.
		if c, err := x509.ParseCertificate(e.Certificate.Content); err == nil {
			out = append(out, c)
		}
	}
	return out, nil
}
