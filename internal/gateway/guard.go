package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/cardea-apim/cardea/internal/gateway/proxy"
)

// namelessly has the chain of a backend's certificate verified as always, but
// not that it names the host.
func namelessly(base *tls.Config) *tls.Config {
	conf := base.Clone()
	conf.InsecureSkipVerify = true // VerifyConnection does it, but for the name
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if len(s.PeerCertificates) == 0 {
			return errors.New("backend has no certificate")
		}
		o := x509.VerifyOptions{Roots: base.RootCAs, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
	return conf
}

var metadata = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::254/128"), netip.MustParsePrefix("100.100.100.200/32"),
}

// carriers are IPv6 ranges whose addresses lead to an IPv4 address they hold,
// from the given byte on.
var carriers = []struct {
	prefix netip.Prefix
	from   int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},    // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/96"), 12},  // NAT64, local
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12}, // SIIT
	{netip.MustParsePrefix("2002::/16"), 2},        // 6to4
}

// inner is the address that is reached in the end.
func inner(ip netip.Addr) netip.Addr {
	ip = ip.Unmap().WithZone("")
	for _, c := range carriers {
		if c.prefix.Contains(ip) {
			b := ip.As16()
			return netip.AddrFrom4([4]byte(b[c.from : c.from+4]))
		}
	}
	return ip
}

// guard refuses, after names were resolved, what no backend may be: metadata
// services, link-local addresses, and our own ports on loopback.
func guard(ports []int) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s", proxy.ErrRefused, address)
		}
		ip := inner(a.Addr())
		for _, p := range metadata {
			if p.Contains(ip) {
				return fmt.Errorf("%w: %s", proxy.ErrRefused, ip)
			}
		}
		for _, port := range ports {
			if int(a.Port()) == port && (ip.IsLoopback() || ip.IsUnspecified()) {
				return fmt.Errorf("%w: port %d is our own", proxy.ErrRefused, port)
			}
		}
		return nil
	}
}
