package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func newTestCA(t *testing.T) *CA {
	t.Helper()
	ca, err := EnsureCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

var quiet = slog.New(slog.DiscardHandler)

func TestCAIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	a, err := EnsureCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := EnsureCA(dir)
	if err != nil || a.Fingerprint() != b.Fingerprint() {
		t.Fatalf("second start: %v", err)
	}
	if st, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("key file %v, %v", st.Mode(), err)
	}
	if !a.Cert.IsCA || time.Until(a.Cert.NotAfter) < 10*365*24*time.Hour {
		t.Error("not a long-lived CA")
	}
	other := newTestCA(t)
	key, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseCA(other.PEM, key); err == nil {
		t.Error("a key of another CA is accepted")
	}
}

func TestAdoptedCATakesTheOtherOnesPlace(t *testing.T) {
	first, dir := newTestCA(t), t.TempDir()
	if _, err := EnsureCA(dir); err != nil {
		t.Fatal(err)
	}
	text, err := first.Export()
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("no PEM"), text[:len(text)/3], first.PEM} {
		if _, err := AdoptCA(dir, bad); err == nil {
			t.Errorf("%.20q is adopted", bad)
		}
	}
	adopted, err := AdoptCA(dir, text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := EnsureCA(dir)
	if err != nil || again.Fingerprint() != first.Fingerprint() || adopted.Fingerprint() != first.Fingerprint() {
		t.Fatalf("after the adoption and a restart: %v", err)
	}
	// What one signs the other knows.
	id, err := again.IssueNode("gw-1", []string{"gateway"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := id.Cert.Leaf.Verify(x509.VerifyOptions{Roots: first.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
}

func TestServerCertificateNamesTheHosts(t *testing.T) {
	ca, dir := newTestCA(t), t.TempDir()
	src, err := ca.ServerCertificate(dir, []string{"gw.example.com", "192.0.2.7"}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "gw.example.com", "192.0.2.7"} {
		if _, err := src.Leaf().Verify(x509.VerifyOptions{Roots: ca.Pool(), DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	first := src.Leaf().SerialNumber
	again, err := ca.ServerCertificate(dir, []string{"gw.example.com"}, quiet)
	if err != nil || again.Leaf().SerialNumber.Cmp(first) != 0 {
		t.Errorf("a fitting certificate is replaced: %v", err)
	}
	more, err := ca.ServerCertificate(dir, []string{"new.example.com"}, quiet)
	if err != nil || more.Leaf().VerifyHostname("new.example.com") != nil {
		t.Errorf("a new host is missing: %v", err)
	}
}

func TestServerCertificateIsReplacedInUse(t *testing.T) {
	ca, dir := newTestCA(t), t.TempDir()
	src, err := ca.ServerCertificate(dir, nil, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", src.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(io.Discard, c) }()
		}
	}()
	shown := func() string {
		c, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	done := make(chan struct{})
	defer close(done)
	go src.Watch(done, nil, 5*time.Millisecond)
	if err := ca.writeServer(src.certFile, src.keyFile, src.hosts); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for shown() == before {
		if time.Now().After(deadline) {
			t.Fatal("the listener still shows the old certificate")
		}
		time.Sleep(5 * time.Millisecond)
	}
	// A half-written file must not take the good one away.
	if err := os.WriteFile(src.certFile, []byte("garbage"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := src.Reload(); err == nil {
		t.Error("garbage is accepted")
	}
	shown()
}

func TestNodeCertificates(t *testing.T) {
	ca := newTestCA(t)
	key, csr, err := NewRequest("gw-1")
	if err != nil {
		t.Fatal(err)
	}
	id, cert, err := ca.SignNode(csr, []string{"gateway", "traffic"})
	if err != nil || id != "gw-1" {
		t.Fatalf("SignNode = %q, %v", id, err)
	}
	dir := t.TempDir()
	if err := SaveIdentity(dir, cert, key, ca.PEM); err != nil {
		t.Fatal(err)
	}
	n, err := LoadIdentity(dir)
	if err != nil || n.ID() != "gw-1" || !slices.Equal(n.Roles(), []string{"gateway", "traffic"}) {
		t.Fatalf("identity %+v, %v", n, err)
	}
	if err := SaveIdentity(dir, cert, key, newTestCA(t).PEM); err == nil {
		t.Error("an identity of another CA is saved")
	}
	if _, err := LoadIdentity(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a home that never joined: %v", err)
	}
	for name, f := range map[string]func() error{
		"bad name":     func() error { _, _, err := NewRequest("../x"); return err },
		"unknown role": func() error { _, _, err := ca.SignNode(csr, []string{"root"}); return err },
		"no request":   func() error { _, _, err := ca.SignNode([]byte("x"), nil); return err },
	} {
		if f() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// handshake connects the two over a pipe and gives what the server saw.
func handshake(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	cerr := make(chan error, 1)
	go func() {
		c := tls.Client(b, client)
		err := c.Handshake()
		if err == nil {
			_, err = c.Read(make([]byte, 1)) // a refusal of the client comes after its handshake in TLS 1.3
		}
		cerr <- err
	}()
	s := tls.Server(a, server)
	a.SetDeadline(time.Now().Add(5 * time.Second))
	err := s.Handshake()
	if err == nil {
		_, err = s.Write([]byte("k"))
	}
	state := s.ConnectionState()
	if e := <-cerr; err == nil {
		err = e
	}
	return state, err
}

func TestMutualTLSBetweenNodes(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	control, err := ca.IssueNode("control-1", []string{"control"})
	if err != nil {
		t.Fatal(err)
	}
	gw, err := ca.IssueNode("gw-1", []string{"gateway"})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := other.IssueNode("gw-1", []string{"gateway"})
	if err != nil {
		t.Fatal(err)
	}
	state, err := handshake(t, control.Server(false), gw.Client())
	if id, roles, ok := Peer(&state); err != nil || !ok || id != "gw-1" || !slices.Equal(roles, []string{"gateway"}) {
		t.Errorf("peer %q %v %v, %v", id, roles, ok, err)
	}
	if _, err := handshake(t, control.Server(false), stranger.Client()); err == nil {
		t.Error("a node of another CA gets in")
	}
	bare := gw.Client()
	bare.Certificates = nil
	if _, err := handshake(t, control.Server(false), bare); err == nil {
		t.Error("a caller without certificate gets in")
	}
	state, err = handshake(t, control.Server(true), bare)
	if _, _, ok := Peer(&state); err != nil || ok {
		t.Errorf("joining: peer %v, %v", ok, err)
	}
}

func TestTokenPinsTheCA(t *testing.T) {
	ca, other := newTestCA(t), newTestCA(t)
	good, err := ca.IssueNode("control-1", []string{"control"})
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := other.IssueNode("control-1", []string{"control"})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := ParseToken(ca.NewToken().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handshake(t, good.Server(true), tok.Client()); err != nil {
		t.Errorf("the right server is refused: %v", err)
	}
	if _, err := handshake(t, wrong.Server(true), tok.Client()); err == nil {
		t.Error("a server of another CA is accepted")
	}
	// The right CA's certificate shown by someone it never signed for.
	forged := wrong.Server(true)
	forged.Certificates[0].Certificate = [][]byte{wrong.Cert.Certificate[0], ca.Cert.Raw}
	if _, err := handshake(t, forged, tok.Client()); err == nil {
		t.Error("a borrowed CA certificate is enough")
	}
	for _, s := range []string{"", "x", tok.String()[:40], "cardea-join-1." + tok.CA + ".short", "cardea-join-1.zz." + tok.Secret} {
		if _, err := ParseToken(s); err == nil {
			t.Errorf("token %q is accepted", s)
		}
	}
	if first, second := ca.NewToken(), ca.NewToken(); first.Secret == second.Secret {
		t.Error("tokens repeat")
	}
}
