package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

// madePair is a server certificate of a new authority in PEM files.
func madePair(t *testing.T, dir string) (ca *CA, certFile, keyFile string) {
	t.Helper()
	ca, err := EnsureCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.ServerCertificate(dir, []string{"api.example"}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	return ca, filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
}

// stores are the same key and certificate as PKCS12 and as JKS, password
// "changeit", in the JKS under two aliases, the second with its own password.
func stores(t *testing.T) (dir string, leaf *x509.Certificate) {
	t.Helper()
	dir = t.TempDir()
	ca, certFile, keyFile := madePair(t, dir)
	s, err := FromFiles(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	p12, err := pkcs12.Modern.Encode(pair.PrivateKey, pair.Leaf, []*x509.Certificate{ca.Cert}, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	trust, err := pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{ca.Cert}, "changeit")
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	ks := jks.New()
	for alias, password := range map[string]string{"first": "changeit", "second": "another1"} {
		e := jks.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: bytes.Clone(der), CertificateChain: []jks.Certificate{
			{Type: "X509", Content: pair.Leaf.Raw}, {Type: "X509", Content: ca.Cert.Raw},
		}}
		if err := ks.SetPrivateKeyEntry(alias, e, []byte(password)); err != nil {
			t.Fatal(err)
		}
	}
	if err := ks.SetTrustedCertificateEntry("ca", jks.TrustedCertificateEntry{CreationTime: time.Now(), Certificate: jks.Certificate{Type: "X509", Content: ca.Cert.Raw}}); err != nil {
		t.Fatal(err)
	}
	var java bytes.Buffer
	err = errors.Join(ks.Store(&java, []byte("changeit")),
		os.WriteFile(filepath.Join(dir, "own.jks"), java.Bytes(), 0o600),
		os.WriteFile(filepath.Join(dir, "own.p12"), p12, 0o600),
		os.WriteFile(filepath.Join(dir, "trust.p12"), trust, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return dir, pair.Leaf
}

func TestKeyStores(t *testing.T) {
	dir, leaf := stores(t)
	tests := map[string]struct {
		k    Keystore
		fail string
	}{
		"PKCS12":                     {k: Keystore{File: "own.p12", Type: PKCS12, Password: "changeit"}},
		"PKCS12, wrong password":     {k: Keystore{File: "own.p12", Type: PKCS12, Password: "x"}, fail: "password"},
		"JKS by alias":               {k: Keystore{File: "own.jks", Type: JKS, Password: "changeit", Alias: "first"}},
		"JKS, key of other password": {k: Keystore{File: "own.jks", Type: JKS, Password: "changeit", Alias: "SECOND", KeyPassword: "another1"}},
		"JKS without alias":          {k: Keystore{File: "own.jks", Type: JKS, Password: "changeit"}, fail: "first, second"},
		"JKS, no such alias":         {k: Keystore{File: "own.jks", Type: JKS, Password: "changeit", Alias: "third"}, fail: `"third"`},
		"JKS, wrong password":        {k: Keystore{File: "own.jks", Type: JKS, Password: "changeme", Alias: "first"}, fail: "own.jks"},
		"JKS that is PKCS12":         {k: Keystore{File: "own.p12", Type: JKS, Password: "changeit"}, fail: "own.p12"},
		"no file":                    {k: Keystore{File: "none.jks", Type: JKS}, fail: "no such file"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.k.File = filepath.Join(dir, tt.k.File)
			pair, err := tt.k.Pair()
			if tt.fail != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fail) {
					t.Fatalf("error = %v, want %q", err, tt.fail)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !pair.Leaf.Equal(leaf) || len(pair.Certificate) != 2 {
				t.Errorf("leaf %v, chain of %d", pair.Leaf.Subject, len(pair.Certificate))
			}
			if k, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok || !k.PublicKey.Equal(leaf.PublicKey) {
				t.Error("another key")
			}
		})
	}
}

func TestTrustStores(t *testing.T) {
	dir, leaf := stores(t)
	for name, k := range map[string]Keystore{
		"PKCS12":              {File: "trust.p12", Type: PKCS12, Password: "changeit"},
		"PKCS12 with a key":   {File: "own.p12", Type: PKCS12, Password: "changeit"},
		"JKS":                 {File: "own.jks", Type: JKS, Password: "changeit"},
		"PEM, CA in the file": {File: "ca.pem", Type: PEM},
	} {
		t.Run(name, func(t *testing.T) {
			k.File = filepath.Join(dir, k.File)
			list, err := k.Certificates()
			if err != nil {
				t.Fatal(err)
			}
			pool := x509.NewCertPool()
			for _, c := range list {
				pool.AddCert(c)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "api.example"}); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := (Keystore{File: filepath.Join(dir, "server.key"), Type: PEM}).Certificates(); err == nil {
		t.Error("a file without certificates is taken for a trust store")
	}
}

// A certificate that was replaced on disk is shown without a restart, also of a
// key store; one that cannot be read leaves the old one in use.
func TestReplacedCertificateIsShown(t *testing.T) {
	t.Parallel()
	oldDir, oldLeaf := stores(t)
	newDir, newLeaf := stores(t)
	for _, files := range [][]string{{"server.pem", "server.key"}, {"own.p12"}} {
		t.Run(files[0], func(t *testing.T) {
			at := t.TempDir()
			put := func(from string) {
				for _, f := range files {
					data, err := os.ReadFile(filepath.Join(from, f))
					if err == nil {
						err = writeFile(filepath.Join(at, f), data, 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			put(oldDir)
			var s *Source
			var err error
			log := slog.New(slog.DiscardHandler)
			if len(files) == 2 {
				s, err = FromFiles(filepath.Join(at, files[0]), filepath.Join(at, files[1]), log)
			} else {
				s, err = FromKeystore(Keystore{File: filepath.Join(at, files[0]), Type: PKCS12, Password: "changeit"}, log)
			}
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			defer close(done)
			go s.Watch(done, nil, 5*time.Millisecond)
			if err := writeFile(filepath.Join(at, files[0]), []byte("nonsense"), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Millisecond)
			if c, _ := s.TLS().GetCertificate(nil); !c.Leaf.Equal(oldLeaf) {
				t.Fatal("an unreadable file took the certificate away")
			}
			put(newDir)
			for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				if c, _ := s.TLS().GetCertificate(nil); c.Leaf.Equal(newLeaf) {
					return
				}
				if time.Now().After(end) {
					t.Fatal("the new certificate is not shown")
				}
			}
		})
	}
}
