package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// logged is a log that may be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// shown are the names of the certificate that a handshake for name shows.
func shown(t *testing.T, s *Source, name string) string {
	t.Helper()
	c, err := s.TLS().GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(c.Leaf.DNSNames, " ")
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func TestCertificatesByName(t *testing.T) {
	t.Parallel()
	home, dir := t.TempDir(), filepath.Join(t.TempDir(), "hosts")
	ca, err := EnsureCA(home)
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	s, err := ca.ServerCertificate(home, []string{"gw.example"}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	usual := shown(t, s, "gw.example")
	put := func(file string, together bool, names ...string) {
		t.Helper()
		cert, key, err := ca.issueServer(names)
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err == nil && together {
			cert = append(cert, key...)
		} else if err == nil {
			err = writeFile(filepath.Join(dir, file+".key"), key, 0o600)
		}
		if err == nil {
			err = writeFile(filepath.Join(dir, file+".pem"), cert, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Directory(dir) // it need not be there
	done := make(chan struct{})
	defer close(done)
	go s.Watch(done, nil, 5*time.Millisecond)

	put("shop", false, "shop.example", "*.shop.example")
	put("one", true, "one.example")
	until(t, "new files are not shown", func() bool {
		return shown(t, s, "shop.example") == "shop.example *.shop.example" && shown(t, s, "one.example") == "one.example"
	})
	for name, want := range map[string]string{
		"SHOP.example": "shop.example *.shop.example", "a.shop.example": "shop.example *.shop.example", "a.b.shop.example": usual,
		"": usual, "gw.example": usual, "other.example": usual, "example": usual,
	} {
		if got := shown(t, s, name); got != want {
			t.Errorf("%q is shown %q, want %q", name, got, want)
		}
	}

	// Broken files change nothing, and are reported once each.
	for _, file := range []string{"one.pem", "new.pem"} {
		if err := writeFile(filepath.Join(dir, file), []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "a broken file is not reported", func() bool { return log.count("certificate not read") >= 2 })
	time.Sleep(50 * time.Millisecond)
	if n := log.count("certificate not read"); n != 2 {
		t.Errorf("two broken files were reported %d times", n)
	}
	if got := shown(t, s, "one.example"); got != "one.example" {
		t.Errorf("a broken file took the certificate away: %q", got)
	}
	put("one", true, "one.example", "two.example")
	until(t, "the mended file is not shown", func() bool { return shown(t, s, "two.example") == "one.example two.example" })
	if err := os.Remove(filepath.Join(dir, "one.pem")); err != nil {
		t.Fatal(err)
	}
	until(t, "the removed certificate is still shown", func() bool { return shown(t, s, "two.example") == usual })
}

// The home's authority vouches for the hosts it is told to, and for no other.
func TestVouchedHosts(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	ca, err := EnsureCA(home)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	s, err := ca.ServerCertificate(home, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	usual := shown(t, s, "localhost")
	s.Vouch(func(name string) bool { return strings.HasSuffix(name, ".ours") })
	if got := shown(t, s, "a.theirs"); got != usual {
		t.Errorf("somebody else's host is shown %q", got)
	}
	hello := &tls.ClientHelloInfo{ServerName: "A.ours"}
	one, _ := s.TLS().GetCertificate(hello)
	two, _ := s.TLS().GetCertificate(hello)
	if _, err := one.Leaf.Verify(x509.VerifyOptions{DNSName: "a.ours", Roots: ca.Pool()}); err != nil {
		t.Errorf("our host: %v", err)
	}
	if one != two {
		t.Error("made anew for every handshake")
	}
	for i := range 3 * maxIssued {
		shown(t, s, strings.Repeat("x", i%60+1)+strings.Repeat("y", i/60)+".ours")
	}
	if n := len(s.byName.issued); n > maxIssued {
		t.Errorf("%d certificates are remembered", n)
	}
	// The operator's own certificate is not to be replaced by one of ours.
	own, err := FromFiles(filepath.Join(home, "server.pem"), filepath.Join(home, "server.key"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	own.Vouch(func(string) bool { return true })
	if got := shown(t, own, "a.ours"); got != usual {
		t.Errorf("without the authority: %q", got)
	}
}

func TestBrokenServerCertificateIsReportedOnceAndSignalsReload(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	ca, err := EnsureCA(home)
	if err != nil {
		t.Fatal(err)
	}
	log := &logged{}
	if _, err := ca.ServerCertificate(home, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	s, err := FromFiles(filepath.Join(home, "server.pem"), filepath.Join(home, "server.key"), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	before := s.Leaf()
	done, hup := make(chan struct{}), make(chan os.Signal)
	defer close(done)
	go s.Watch(done, hup, 5*time.Millisecond)
	if err := writeFile(filepath.Join(home, "server.key"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "not reported", func() bool { return log.count("not reloaded") > 0 })
	time.Sleep(50 * time.Millisecond)
	if n := log.count("not reloaded"); n != 1 || !s.Leaf().Equal(before) {
		t.Errorf("reported %d times; kept: %v", n, s.Leaf().Equal(before))
	}
	hup <- os.Interrupt
	until(t, "a signal does not reload", func() bool { return log.count("not reloaded") == 2 })
}

// Old ciphers and old versions are not spoken.
func TestOnlyStrongHandshakes(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	ca, err := EnsureCA(home)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ca.ServerCertificate(home, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = c.(*tls.Conn).Handshake(); c.Close() }()
		}
	}()
	for name, c := range map[string]struct {
		conf *tls.Config
		good bool
	}{
		"TLS 1.3":         {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"TLS 1.2, GCM":    {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, true},
		"TLS 1.2, CBC":    {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		"TLS 1.2, no PFS": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		"TLS 1.1":         {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
	} {
		c.conf.RootCAs, c.conf.ServerName = ca.Pool(), "localhost"
		conn, err := tls.Dial("tcp", l.Addr().String(), c.conf)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
