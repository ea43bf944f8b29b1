package config

import (
	"crypto/tls"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// addresses checks what a listener binds to.
func (l *loader) addresses(key string, hosts []string) {
	if len(hosts) == 0 {
		l.fail(l.at(key), "%s: want at least one address", key)
	}
	for _, h := range hosts {
		if _, err := netip.ParseAddr(h); err != nil && h != "localhost" {
			l.fail(l.at(key), "%s: %q is not an address", key, h)
		}
	}
}

// controlURL is the control node that a split process follows. The original
// names its management port; other nodes are served nodeShift ports beside it.
func (l *loader) controlURL(v Values, roles []Role) string {
	if u := v.String("cardea.node.control", ""); u != "" {
		return strings.TrimSuffix(u, "/")
	}
	const key, nodeShift = "apim.event_hub.service_url", 9444 - 9443
	raw := v.String(key, "")
	if raw == "" || slices.Contains(roles, Control) {
		return ""
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		l.fail(l.at(key), "%s: want https://host:port/services/", key)
		return ""
	}
	port := 9443
	if n, err := strconv.Atoi(u.Port()); err == nil {
		port = n
	}
	return "https://" + net.JoinHostPort(u.Hostname(), strconv.Itoa(port+nodeShift))
}

// clientAuth is whether callers of 8243 show a certificate: none, optional, require.
func (l *loader) clientAuth(v Values) string {
	for _, key := range []string{
		"transport.http.listener.verify_client", "transport.passthru_https.listener.parameters.SSLVerifyClient",
		"keystore.listener_profile.ssl_verify_client",
	} {
		if !v.Has(key) {
			continue
		}
		switch s := strings.ToLower(v.String(key, "")); s {
		case "none", "optional", "require":
			return s
		case "required":
			return "require"
		}
		l.fail(l.at(key), "%s: want none, optional or require", key)
	}
	return "optional"
}

// maxHeader is the bound of a request head on the management side, in bytes.
func (l *loader) maxHeader(v Values) int {
	const key = "transport.https.properties.maxHttpHeaderSize"
	n := v.Int(key, 0)
	if v.Has(key) && (n < 4<<10 || n > 1<<20) {
		l.fail(l.at(key), "%s: want 4096 to 1048576 bytes", key)
	}
	return n
}

var tlsVersions = map[string]uint16{"TLSV1.2": tls.VersionTLS12, "TLSV1.3": tls.VersionTLS13}

// tlsRange reads a list of protocol versions, "+TLSv1.2,+TLSv1.3" as well. What
// is older than TLS 1.2 is never spoken.
func (l *loader) tlsRange(v Values, keys ...string) TLSRange {
	r := TLSRange{Min: tls.VersionTLS12}
	for _, key := range keys {
		if !v.Has(key) {
			continue
		}
		var known []uint16
		var old []string
		for _, name := range strings.FieldsFunc(v.String(key, ""), func(c rune) bool { return strings.ContainsRune(",+ ", c) }) {
			switch n, ok := tlsVersions[strings.ToUpper(name)]; {
			case ok:
				known = append(known, n)
			case strings.HasPrefix(name, "-"):
			default:
				old = append(old, name)
			}
		}
		if len(old) > 0 {
			l.warnings = append(l.warnings, key+": "+strings.Join(old, ", ")+" is not spoken, TLS 1.2 is the oldest")
		}
		if len(known) > 0 {
			r = TLSRange{Min: slices.Min(known), Max: slices.Max(known)}
		}
	}
	return r
}

// upstream is how backends are reached.
func (l *loader) upstream(v Values) Upstream {
	u := Upstream{MaxPerHost: v.Int("transport.http.max_http_connection_per_host_port", 0), Names: "localhost"}
	if u.MaxPerHost < 0 {
		u.MaxPerHost = 0
	}
	const key = "transport.passthru_https.sender.parameters.HostnameVerifier"
	switch s := v.String(key, "DefaultAndLocalhost"); strings.ToLower(s) {
	case "default", "strict":
		u.Names = "strict"
	case "allowall":
		u.Names = "any"
		l.warnings = append(l.warnings, key+": AllowAll accepts a backend's certificate whatever host it names")
	case "defaultandlocalhost":
	default:
		l.fail(l.at(key), "%s: want Default, Strict, AllowAll or DefaultAndLocalhost", key)
	}
	return u
}
