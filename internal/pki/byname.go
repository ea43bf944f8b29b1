package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the certificates by name.
const (
	maxNamed  = 1000 // files of a directory
	maxIssued = 256  // made by the home's CA and remembered
)

// byName are certificates for the names that clients ask for (SNI, RFC 6066
// §3): the operator's, from a directory, and those that the home's CA makes for
// names it may vouch for.
type byName struct {
	dir   string
	found map[string]*named // by file; the scanner's own
	names atomic.Pointer[map[string]*tls.Certificate]
	full  bool // more files than are read was said

	mu     sync.Mutex
	known  func(name string) bool // nil: none
	issued map[string]*tls.Certificate
}

// named is one pair of the directory.
type named struct {
	cert *tls.Certificate // nil: never readable
	pem  stamp
	key  stamp
}

// Directory adds certificates from dir: NAME.pem (or .crt) with NAME.key beside
// it, or with the key in the same file. Which names they are shown for is said
// by the certificates, wildcards included; of two for one name the one that
// lasts longer is shown. Files may come, change and go while Watch runs; one
// that is broken is reported and changes nothing.
func (s *Source) Directory(dir string) {
	s.byName.dir = dir
	s.byName.scan(s.log)
}

// Vouch has the home's CA make certificates, when they are first asked for, for
// names that known admits and the server certificate lacks. Without a CA of the
// home it does nothing. known must be cheap: strangers choose the name.
func (s *Source) Vouch(known func(name string) bool) {
	s.byName.mu.Lock()
	defer s.byName.mu.Unlock()
	s.byName.known = known
}

// certificate picks what a client is shown.
func (s *Source) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	usual := s.current.Load()
	if hello == nil || hello.ServerName == "" {
		return usual, nil
	}
	name := strings.ToLower(hello.ServerName)
	if c := s.byName.lookup(name); c != nil {
		return c, nil
	}
	if s.ca == nil || usual.Leaf.VerifyHostname(name) == nil {
		return usual, nil
	}
	if c := s.byName.made(s.ca, name, s.log); c != nil {
		return c, nil
	}
	return usual, nil
}

func (b *byName) lookup(name string) *tls.Certificate {
	names := b.names.Load()
	if names == nil {
		return nil
	}
	if c := (*names)[name]; c != nil {
		return c
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return (*names)["*."+parent]
	}
	return nil
}

// made is a certificate of the CA for a name it may vouch for; nil: none.
func (b *byName) made(ca *CA, name string, log *slog.Logger) *tls.Certificate {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil || !b.known(name) {
		return nil
	}
	if c := b.issued[name]; c != nil && time.Until(c.Leaf.NotAfter) > renewBefore {
		return c
	}
	certPEM, keyPEM, err := ca.issueServer([]string{name})
	if err != nil {
		log.Warn("no certificate for a virtual host", "host", name, "err", err)
		return nil
	}
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		log.Warn("no certificate for a virtual host", "host", name, "err", err)
		return nil
	}
	if b.issued == nil || len(b.issued) >= maxIssued {
		b.issued = map[string]*tls.Certificate{}
	}
	b.issued[name] = &c
	return &c
}

// scan reads what changed in the directory.
func (b *byName) scan(log *slog.Logger) {
	if b.dir == "" {
		return
	}
	files, err := os.ReadDir(b.dir)
	if err != nil && !os.IsNotExist(err) {
		return // it may be readable again; what was read stays
	}
	seen := map[string]*named{}
	changed := false
	for _, f := range files {
		ext := filepath.Ext(f.Name())
		if ext != ".pem" && ext != ".crt" {
			continue
		}
		if len(seen) == maxNamed {
			if !b.full {
				log.Warn("too many certificates in one directory; the rest is not read", "dir", b.dir, "limit", maxNamed)
			}
			b.full = true
			break
		}
		file := filepath.Join(b.dir, f.Name())
		n, again := b.read(file, strings.TrimSuffix(file, ext)+".key", log)
		seen[f.Name()], changed = n, changed || again
	}
	changed = changed || len(seen) != len(b.found)
	for name := range b.found {
		changed = changed || seen[name] == nil
	}
	b.found = seen
	if !changed {
		return
	}
	names := map[string]*tls.Certificate{}
	for _, n := range seen {
		if n.cert == nil {
			continue
		}
		for _, name := range n.cert.Leaf.DNSNames {
			name = strings.ToLower(name)
			if old := names[name]; old == nil || later(n.cert.Leaf, old.Leaf) {
				names[name] = n.cert
			}
		}
	}
	b.names.Store(&names)
	log.Info("certificates by name read", "dir", b.dir, "names", len(names))
}

// later orders certificates for one name, always in the same way.
func later(a, b *x509.Certificate) bool {
	if !a.NotAfter.Equal(b.NotAfter) {
		return a.NotAfter.After(b.NotAfter)
	}
	return Fingerprint(a) > Fingerprint(b)
}

// read is a pair of the directory; changed tells that it is another than before.
func (b *byName) read(file, keyFile string, log *slog.Logger) (n *named, changed bool) {
	now := named{pem: stampOf(file), key: stampOf(keyFile)}
	old := b.found[filepath.Base(file)]
	if old != nil && old.pem.same(now.pem) && old.key.same(now.key) {
		return old, false
	}
	if now.key.FileInfo == nil {
		keyFile = file
	}
	c, err := tls.LoadX509KeyPair(file, keyFile)
	if err == nil && len(c.Leaf.DNSNames) == 0 {
		err = fmt.Errorf("it names no host")
	}
	if err != nil {
		log.Warn("certificate not read; what was shown before stays", "file", file, "err", err)
		if old != nil {
			now.cert = old.cert
		}
		return &now, false
	}
	now.cert = &c
	return &now, true
}
