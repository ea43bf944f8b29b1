package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Token lets one node join once. Its text carries the CA's fingerprint, by
// which the node knows whom it talks to before it trusts anybody.
type Token struct {
	CA     string // hex SHA-256 of the CA certificate
	Secret string // 32 random bytes, base64url
}

const tokenPrefix = "cardea-join-1."

// NewToken makes a token for nodes of this CA.
func (c *CA) NewToken() Token {
	b := make([]byte, 32)
	rand.Read(b)
	return Token{CA: c.Fingerprint(), Secret: base64.RawURLEncoding.EncodeToString(b)}
}

// String is what an operator copies to the new node.
func (t Token) String() string { return tokenPrefix + t.CA + "." + t.Secret }

// ParseToken reads what String writes.
func ParseToken(s string) (Token, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	ca, secret, ok2 := strings.Cut(rest, ".")
	if b, err := hex.DecodeString(ca); !ok || !ok2 || err != nil || len(b) != sha256.Size {
		return Token{}, errors.New("read join token: not a join token")
	}
	if b, err := base64.RawURLEncoding.DecodeString(secret); err != nil || len(b) != 32 {
		return Token{}, errors.New("read join token: not a join token")
	}
	return Token{CA: ca, Secret: secret}, nil
}

// Hash is what the server keeps of the token: "sha256:" and hex.
func (t Token) Hash() string {
	sum := sha256.Sum256([]byte(t.Secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// ErrWrongCA says that the server is not of the CA named by the token.
var ErrWrongCA = errors.New("the server is not of the CA that issued the token")

// Client is the configuration for the one call that joins: the server must show
// the CA that the token names, and a certificate signed by it.
func (t Token) Client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: nodeName,
		// Verification is VerifyConnection's: no root is trusted but the one of
		// the token, which is known by its fingerprint only.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			for _, c := range s.PeerCertificates {
				if Fingerprint(c) != t.CA {
					continue
				}
				pool := x509.NewCertPool()
				pool.AddCert(c)
				_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
					Roots: pool, DNSName: nodeName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
				})
				if err != nil {
					return fmt.Errorf("%w: %w", ErrWrongCA, err)
				}
				return nil
			}
			return ErrWrongCA
		},
	}
}

// JoinRequest is what a node sends to join.
type JoinRequest struct {
	Token string `json:"token"` // Token.Secret
	CSR   string `json:"csr"`   // PEM
}

// JoinReply is what it gets.
type JoinReply struct {
	Certificate string   `json:"certificate"` // PEM
	CA          string   `json:"ca"`          // PEM
	MasterKey   string   `json:"masterKey"`   // hex
	Bus         string   `json:"bus"`         // URLs, separated by commas; empty: none
	Roles       []string `json:"roles"`
}
