package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

// Roles a node certificate may carry.
var Roles = []string{"control", "identity", "gateway", "traffic", "analytics", "stream"}

// nodeName is the private DNS name that marks the server side of node
// certificates: nodes check the CA and this name, not the address.
const nodeName = "node.cardea.internal"

var nodeID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// ValidNodeID reports whether id may name a node: letters, digits, dots,
// dashes and underscores, 63 at most.
func ValidNodeID(id string) bool { return nodeID.MatchString(id) }

// Identity is a node's certificate, key and CA.
type Identity struct {
	Cert *tls.Certificate
	CA   *x509.Certificate
}

// NewRequest makes a key and a certificate request for a node that wants to join.
func NewRequest(id string) (keyPEM, csrPEM []byte, err error) {
	if !ValidNodeID(id) {
		return nil, nil, fmt.Errorf("make certificate request: %q does not name a node", id)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	if keyPEM, err = encodeKey(key); err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	return keyPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// SignNode signs a node's request. Of the request only the key and the name
// count; the roles are the signer's to give.
func (c *CA) SignNode(csrPEM []byte, roles []string) (id string, certPEM []byte, err error) {
	return c.SignMember(csrPEM, roles, "")
}

// SignMember is SignNode with an id by which this and later certificates of the
// node can be told from those of another one of the same name.
func (c *CA) SignMember(csrPEM []byte, roles []string, member string) (id string, certPEM []byte, err error) {
	block, _ := pem.Decode(bytes.TrimSpace(csrPEM))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return "", nil, errors.New("sign node certificate: no PEM certificate request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return "", nil, fmt.Errorf("sign node certificate: %w", err)
	}
	id = csr.Subject.CommonName
	if !ValidNodeID(id) {
		return "", nil, fmt.Errorf("sign node certificate: %q does not name a node", id)
	}
	for _, r := range roles {
		if !slices.Contains(Roles, r) {
			return "", nil, fmt.Errorf("sign node certificate: unknown role %q", r)
		}
	}
	certPEM, err = c.sign(csr.PublicKey, &x509.Certificate{
		Subject:     pkix.Name{CommonName: id, Organization: []string{"Cardea"}, OrganizationalUnit: roles, SerialNumber: member},
		DNSNames:    []string{nodeName},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, nodeLife)
	return id, certPEM, err
}

// IssueNode gives the CA's own process a node identity.
func (c *CA) IssueNode(id string, roles []string) (*Identity, error) {
	keyPEM, csr, err := NewRequest(id)
	if err != nil {
		return nil, err
	}
	_, certPEM, err := c.SignNode(csr, roles)
	if err != nil {
		return nil, err
	}
	return ParseIdentity(certPEM, keyPEM, c.PEM)
}

// ParseIdentity checks that the three belong together.
func ParseIdentity(certPEM, keyPEM, caPEM []byte) (*Identity, error) {
	ca, err := parseCert(caPEM)
	if err != nil {
		return nil, fmt.Errorf("read node identity: CA: %w", err)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("read node identity: %w", err)
	}
	if err := cert.Leaf.CheckSignatureFrom(ca); err != nil {
		return nil, fmt.Errorf("read node identity: certificate is not of this CA: %w", err)
	}
	return &Identity{Cert: &cert, CA: ca}, nil
}

// SaveIdentity writes a node's certificate, key and CA below dir.
func SaveIdentity(dir string, certPEM, keyPEM, caPEM []byte) error {
	if _, err := ParseIdentity(certPEM, keyPEM, caPEM); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save node identity: %w", err)
	}
	// The certificate last: it is what LoadIdentity looks for.
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{"node.key", keyPEM, 0o600}, {"node-ca.pem", caPEM, 0o644}, {"node.pem", certPEM, 0o644}} {
		if err := writeFile(filepath.Join(dir, f.name), f.data, f.mode); err != nil {
			return fmt.Errorf("save node identity: %w", err)
		}
	}
	return nil
}

// LoadIdentity reads what SaveIdentity wrote; fs.ErrNotExist when the node has
// not joined.
func LoadIdentity(dir string) (*Identity, error) {
	var parts [3][]byte
	for i, name := range []string{"node.pem", "node.key", "node-ca.pem"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("read node identity: %w", err)
		}
		parts[i] = b
	}
	return ParseIdentity(parts[0], parts[1], parts[2])
}

// ID is the node's name.
func (i *Identity) ID() string { return i.Cert.Leaf.Subject.CommonName }

// Roles are what the node may do.
func (i *Identity) Roles() []string { return i.Cert.Leaf.Subject.OrganizationalUnit }

// Until is when the certificate ends.
func (i *Identity) Until() time.Time { return i.Cert.Leaf.NotAfter }

func (i *Identity) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.CA)
	return p
}

// Client is the configuration by which the node calls other nodes.
func (i *Identity) Client() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{*i.Cert},
		RootCAs:      i.pool(),
		ServerName:   nodeName,
	}
}

// Server is the configuration by which the node is called by other nodes. A
// client certificate of the CA is required, unless joining is allowed, when
// one that has none is let through for the handler to judge.
func (i *Identity) Server(joining bool) *tls.Config {
	c := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: append(append([][]byte(nil), i.Cert.Certificate...), i.CA.Raw), PrivateKey: i.Cert.PrivateKey, Leaf: i.Cert.Leaf}},
		ClientCAs:    i.pool(),
		ClientAuth:   tls.RequireAndVerifyClientCert,
	}
	if joining {
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return c
}

// Peer is who called over a connection made with Server: node id and roles, or
// false without a verified certificate.
func Peer(state *tls.ConnectionState) (id string, roles []string, ok bool) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return "", nil, false
	}
	s := state.VerifiedChains[0][0].Subject
	return s.CommonName, s.OrganizationalUnit, true
}

// Member is the id that SignMember put into the certificate of the caller;
// empty for a node that did not join, or without a verified certificate.
func Member(state *tls.ConnectionState) string {
	if state == nil || len(state.VerifiedChains) == 0 {
		return ""
	}
	return state.VerifiedChains[0][0].Subject.SerialNumber
}
