package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// renewBefore is how long before its end a certificate of our own is replaced.
const renewBefore = 30 * 24 * time.Hour

// Source holds the certificate that a listener shows now. It is reloaded when
// its files change, and remade before its end when the CA of the home made it.
type Source struct {
	log       *slog.Logger
	certFile  string
	keyFile   string
	load      func() (tls.Certificate, error)
	ca        *CA // nil: the operator's own files, only reloaded
	hosts     []string
	current   atomic.Pointer[tls.Certificate]
	certStamp stamp
	keyStamp  stamp
}

type stamp struct {
	size int64
	at   time.Time
}

// ServerCertificate gives the server certificate in dir (server.pem,
// server.key) for localhost, the loopback addresses and the given hosts; it
// makes one when there is none, when it lacks a host, or when it ends soon.
func (c *CA) ServerCertificate(dir string, hosts []string, log *slog.Logger) (*Source, error) {
	all := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil {
		all = append(all, h)
	}
	for _, h := range hosts {
		if h != "" && !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	s := &Source{
		log: log, ca: c, hosts: all,
		certFile: filepath.Join(dir, "server.pem"), keyFile: filepath.Join(dir, "server.key"),
	}
	s.load = s.pair
	return s, s.Reload()
}

// FromFiles serves a certificate of the operator's own.
func FromFiles(certFile, keyFile string, log *slog.Logger) (*Source, error) {
	s := &Source{log: log, certFile: certFile, keyFile: keyFile}
	s.load = s.pair
	return s, s.Reload()
}

func (s *Source) pair() (tls.Certificate, error) { return tls.LoadX509KeyPair(s.certFile, s.keyFile) }

// Reload reads the files again, and makes a certificate where that is ours to
// do. On an error the one in use stays.
func (s *Source) Reload() error {
	cert, err := s.load()
	if s.ca != nil && (errors.Is(err, fs.ErrNotExist) || (err == nil && !s.ca.fits(cert.Leaf, s.hosts))) {
		if err = s.ca.writeServer(s.certFile, s.keyFile, s.hosts); err == nil {
			cert, err = s.load()
		}
	}
	if err != nil {
		return fmt.Errorf("load server certificate: %w", err)
	}
	s.certStamp, s.keyStamp = stampOf(s.certFile), stampOf(s.keyFile)
	s.current.Store(&cert)
	return nil
}

// Watch keeps the certificate up to date until done is closed, looking at the
// files every interval.
func (s *Source) Watch(done <-chan struct{}, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		leaf := s.current.Load().Leaf
		changed := stampOf(s.certFile) != s.certStamp || stampOf(s.keyFile) != s.keyStamp
		ending := s.ca != nil && time.Until(leaf.NotAfter) < renewBefore
		if !changed && !ending {
			continue
		}
		if err := s.Reload(); err != nil {
			s.log.Error("server certificate not reloaded", "file", s.certFile, "err", err)
			continue
		}
		s.log.Info("server certificate reloaded", "file", s.certFile, "until", s.current.Load().Leaf.NotAfter)
	}
}

// Leaf is the certificate in use.
func (s *Source) Leaf() *x509.Certificate { return s.current.Load().Leaf }

// TLS is a configuration for public listeners: TLS 1.2 and 1.3, the current
// certificate at each handshake.
func (s *Source) TLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
	}
}

func stampOf(file string) stamp {
	st, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stamp{st.Size(), st.ModTime()}
}

// fits reports whether the leaf is of this CA, good for a while and for all hosts.
func (c *CA) fits(leaf *x509.Certificate, hosts []string) bool {
	if leaf == nil || leaf.CheckSignatureFrom(c.Cert) != nil || time.Until(leaf.NotAfter) < renewBefore {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

func (c *CA) writeServer(certFile, keyFile string, hosts []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0], Organization: []string{"Cardea"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, h)
		}
	}
	certPEM, err := c.sign(key.Public(), tmpl, serverLife)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(certFile), 0o700); err != nil {
		return err
	}
	// The CA follows the leaf, so that a client that pins the CA finds it.
	return errors.Join(writeFile(keyFile, keyPEM, 0o600), writeFile(certFile, append(certPEM, c.PEM...), 0o644))
}
