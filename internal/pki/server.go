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
	byName    byName // further certificates, for names of their own
}

// stamp tells versions of a file apart.
type stamp struct{ os.FileInfo }

func (s stamp) same(as stamp) bool {
	if s.FileInfo == nil || as.FileInfo == nil {
		return s.FileInfo == nil && as.FileInfo == nil
	}
	return s.Size() == as.Size() && s.ModTime().Equal(as.ModTime()) && os.SameFile(s.FileInfo, as.FileInfo)
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
	// Before the files are read: what changes meanwhile is read again.
	s.certStamp, s.keyStamp = stampOf(s.certFile), stampOf(s.keyFile)
	cert, err := s.load()
	if s.ca != nil && (errors.Is(err, fs.ErrNotExist) || (err == nil && !s.ca.fits(cert.Leaf, s.hosts))) {
		if err = s.ca.writeServer(s.certFile, s.keyFile, s.hosts); err == nil {
			s.certStamp, s.keyStamp = stampOf(s.certFile), stampOf(s.keyFile)
			cert, err = s.load()
		}
	}
	if err != nil {
		return fmt.Errorf("load server certificate: %w", err)
	}
	s.current.Store(&cert)
	return nil
}

// Watch keeps the certificates up to date until done is closed, looking at the
// files every interval and whenever now says so. What cannot be read is said
// once, and what was there before stays in use.
func (s *Source) Watch(done <-chan struct{}, now <-chan os.Signal, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	var remade time.Time
	for {
		asked := false
		select {
		case <-done:
			return
		case <-now:
			asked = true
		case <-t.C:
		}
		s.byName.scan(s.log)
		changed := !stampOf(s.certFile).same(s.certStamp) || !stampOf(s.keyFile).same(s.keyStamp)
		ending := s.ca != nil && time.Until(s.Leaf().NotAfter) < renewBefore && time.Since(remade) > time.Minute
		if !changed && !ending && !asked {
			continue
		}
		remade = time.Now()
		if err := s.Reload(); err != nil {
			s.log.Warn("server certificate not reloaded; the one in use stays", "file", s.certFile, "err", err)
			continue
		}
		s.log.Info("server certificate reloaded", "file", s.certFile, "until", s.Leaf().NotAfter)
	}
}

// Leaf is the certificate in use.
func (s *Source) Leaf() *x509.Certificate { return s.current.Load().Leaf }

// TLS is a configuration for public listeners: TLS 1.2 and 1.3, with ephemeral
// keys and authenticated encryption only, and at each handshake the certificate
// there is now for the name that the client asks for.
func (s *Source) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are all good
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: s.certificate,
	}
}

func stampOf(file string) stamp {
	st, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stamp{st}
}

// fits reports whether the leaf is of this CA, good for a while and for all hosts.
func (c *CA) fits(leaf *x509.Certificate, hosts []string) bool {
	if leaf == nil || leaf.CheckSignatureFrom(c.Cert) != nil || time.Until(leaf.NotAfter) < renewBefore {
		return false
	}
	return !slices.ContainsFunc(hosts, func(h string) bool { return leaf.VerifyHostname(h) != nil })
}

// writeServer makes a certificate for hosts and puts it into files.
func (c *CA) writeServer(certFile, keyFile string, hosts []string) error {
	certPEM, keyPEM, err := c.issueServer(hosts)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(certFile), 0o700); err != nil {
		return err
	}
	return errors.Join(writeFile(keyFile, keyPEM, 0o600), writeFile(certFile, certPEM, 0o644))
}

// issueServer makes a certificate for hosts. The CA follows the leaf, so that a
// client that pins the CA finds it.
func (c *CA) issueServer(hosts []string) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
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
	if certPEM, err = c.sign(key.Public(), tmpl, serverLife); err != nil {
		return nil, nil, err
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	return append(certPEM, c.PEM...), keyPEM, nil
}
