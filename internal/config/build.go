package config

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// build makes the typed configuration; mistakes of meaning go to the loader.
func build(l *loader, v Values) *Config {
	c := &Config{}
	c.Hostname = v.String("server.hostname", "localhost")
	c.Offset = v.Int("server.offset", 0)
	if c.Offset < 0 || c.Offset > 50000 {
		l.fail(l.at("server.offset"), "server.offset: want 0 to 50000")
	}
	c.Roles = l.roles(v)
	c.Listen = l.listen(v, c.Offset, c.Has(Gateway))
	c.BaseURL = strings.TrimSuffix(v.String("server.base_path", ""), "/")
	if c.BaseURL == "" {
		port := c.Listen.Management
		if c.Listen.ManagementProxy != 0 {
			port = c.Listen.ManagementProxy
		}
		c.BaseURL = "https://" + net.JoinHostPort(c.Hostname, strconv.Itoa(port))
		if port == 443 {
			c.BaseURL = "https://" + c.Hostname
		}
	}
	c.Admin = Admin{
		Username: v.String("super_admin.username", "admin"),
		Password: v.Secret("super_admin.password", "admin"),
		Role:     v.String("super_admin.admin_role", "admin"),
		Create:   v.Bool("super_admin.create_admin_account", true),
		Explicit: v.Has("super_admin.password"),
	}
	c.Database = l.database(v)
	c.Node = Node{
		Name:       v.String("cardea.node.name", v.String("apim.gateway_notification.gateway_id", "")),
		ControlURL: l.controlURL(v, c.Roles),
		JoinToken:  v.Secret("cardea.node.join", ""),
		Hosts:      v.List("cardea.node.hosts", nil),
	}
	c.Bus = Bus{URL: v.String("cardea.bus.url", ""), Listen: v.String("cardea.bus.listen", "")}
	c.Analytic = AnalyticsStore{
		Enabled:     v.Bool("cardea.analytics.enable", true),
		Path:        v.String("cardea.analytics.path", filepath.Join(l.src.Home, "analytics")),
		KeepCalls:   v.Duration("cardea.analytics.keep_calls", 0),
		KeepMinutes: v.Duration("cardea.analytics.keep_minutes", 0),
		KeepHours:   v.Duration("cardea.analytics.keep_hours", 0),
		KeepDays:    v.Duration("cardea.analytics.keep_days", 0),
		MaxBytes:    int64(v.Int("cardea.analytics.max_size", 0)),
	}
	const leastAudit = 24 * time.Hour
	c.Audit = Audit{Keep: v.Duration("cardea.audit.keep", 0)}
	if v.Has("cardea.audit.keep") && c.Audit.Keep < leastAudit {
		l.fail(l.at("cardea.audit.keep"), "cardea.audit.keep: want 1d or more")
	}
	c.Log = Log{Format: v.String("cardea.log.format", ""), Level: v.String("cardea.log.level", "info")}
	if !slices.Contains([]string{"", "text", "json"}, c.Log.Format) {
		l.fail(l.at("cardea.log.format"), "cardea.log.format: want text or json")
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		l.fail(l.at("cardea.log.level"), "cardea.log.level: want debug, info, warn or error")
	}
	c.MasterKey = v.Secret("cardea.master_key", v.Secret("encryption.key", ""))
	if n := len(c.MasterKey); n != 0 && (n != 64 || strings.Trim(strings.ToLower(string(c.MasterKey)), "0123456789abcdef") != "") {
		key := "encryption.key"
		if v.Has("cardea.master_key") {
			key = "cardea.master_key"
		}
		l.fail(l.at(key), "%s: want 32 bytes as 64 hexadecimal digits", key)
	}
	c.Certificate = l.certificate(v)
	if dir := v.String("cardea.certificate.hosts", ""); dir != "" && !filepath.IsAbs(dir) {
		c.Certificate.Hosts = filepath.Join(l.src.Home, dir)
	} else {
		c.Certificate.Hosts = dir
	}
	c.Truststore = l.truststore(v)
	c.TrustedProxies = l.prefixes(v, "cardea.trusted_proxies", []string{"127.0.0.0/8", "::1"})
	c.Environments = l.environments(v)
	c.Labels = v.List("apim.sync_runtime_artifacts.gateway.gateway_labels", v.List("cardea.node.environments", []string{"Default"}))
	c.ShutdownTimeout = v.Duration("cardea.shutdown_timeout", 10*time.Second)
	c.DefinitionLimit = l.definitionLimit(v)
	c.FetchAllow = l.prefixes(v, "cardea.fetch.allow", nil)
	l.gateway(c, v)
	l.people(c, v)
	l.portals(c, v)
	if alg := v.String("apim.hashing.hashing_algorithm", "SHA-256"); alg != "SHA-256" {
		l.fail(l.at("apim.hashing.hashing_algorithm"), "apim.hashing.hashing_algorithm: only SHA-256 is used")
	}
	for _, key := range []string{"transport.passthru_https.listener.cert_revocation_validation.enable"} {
		if v.Bool(key, false) {
			l.fail(l.at(key), "%s: revocation of client certificates is not checked yet; remove the key to go without", key)
		}
	}
	if !v.Bool("apim.mediation.enable_secure_xml_processing", true) {
		l.fail(l.at("apim.mediation.enable_secure_xml_processing"), "apim.mediation.enable_secure_xml_processing: XML is always read without external entities; remove the key")
	}
	if c.Admin.Explicit && c.Admin.Username == "admin" && c.Admin.Password == "admin" {
		l.warnings = append(l.warnings, "the administrator is admin with the password admin; change super_admin.password before others can reach this server")
	}
	return c
}

func (l *loader) gateway(c *Config, v Values) {
	c.CORS = CORS{
		Enabled:     v.Bool("apim.cors.enable", true),
		Origins:     v.List("apim.cors.allow_origins", []string{"*"}),
		Methods:     v.List("apim.cors.allow_methods", []string{"GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"}),
		Headers:     v.List("apim.cors.allow_headers", []string{"authorization", "Access-Control-Allow-Origin", "Content-Type", "SOAPAction", "apikey", "Internal-Key"}),
		Expose:      v.List("apim.cors.expose_headers", nil),
		Credentials: v.Bool("apim.cors.allow_credentials", false),
	}
	c.AuthHeader = v.String("apim.oauth_config.auth_header", "Authorization")
	c.ForwardAuth = v.Bool("apim.oauth_config.enable_outbound_auth_header", !v.Bool("apim.oauth_config.remove_outbound_auth_header", true))
	c.StrictTokenType = v.Bool("apim.token.validation.enforce_type_header_validation", false)
	c.TokenCacheTTL = v.Duration("apim.cache.token_expiry_time", 15*time.Minute)
	if !v.Bool("apim.cache.gateway_token.enable", true) {
		c.TokenCacheTTL = 0
	}
	c.SocketTimeout = v.Duration("transport.http.socket_timeout", 180*time.Second)
	c.UnlimitedTier = v.Bool("apim.throttling.enable_unlimited_tier", true)
	c.Throttle = ThrottleConditions{
		Header: v.Bool("apim.throttling.enable_header_based_throttling", false),
		Claim:  v.Bool("apim.throttling.enable_jwt_claim_based_throttling", false),
		Query:  v.Bool("apim.throttling.enable_query_param_based_throttling", false),
	}
	c.CountAlone = !v.Bool("apim.throttling.enable_data_publishing", true) || !v.Bool("apim.throttling.enable_decision_connection", true)
	c.RateHeaders = v.Bool("cardea.rate_limit_headers", true)
	c.TokenSkew = v.Duration("oauth.timestamp_skew", 0)
	if c.TokenSkew < 0 || c.TokenSkew > 5*time.Minute {
		l.fail(l.at("oauth.timestamp_skew"), "oauth.timestamp_skew: want 0 to 300 seconds")
	}
	c.Upstream = l.upstream(v)
	c.MaxConcurrent = v.Int("cardea.gateway.max_concurrent", 0)
	if c.MaxConcurrent < 0 {
		l.fail(l.at("cardea.gateway.max_concurrent"), "cardea.gateway.max_concurrent: want 1 or more")
	}
}

// at is where a key was set.
func (l *loader) at(key string) string {
	if w, ok := l.where[key]; ok {
		return w
	}
	return "configuration"
}

func (l *loader) roles(v Values) []Role {
	key, list := "cardea.roles", v.List("cardea.roles", nil) // set by the flag only
	if list == nil {
		key, list = "server.server_role", v.List("server.server_role", []string{"default"})
	}
	roles, err := parseRoles(list)
	if err != nil {
		l.fail(l.at(key), "%v", err)
		return nil
	}
	if !v.Bool("server.enable_traffic_management", true) {
		roles = slices.DeleteFunc(roles, func(r Role) bool { return r == Traffic })
	}
	if !v.Bool("apim.sync_runtime_artifacts.gateway.enable", true) {
		roles = slices.DeleteFunc(roles, func(r Role) bool { return r == Gateway })
	}
	return roles
}

func (l *loader) listen(v Values, offset int, gateway bool) Listen {
	port := func(on bool, key string, def int) int {
		if !on {
			return 0
		}
		n := v.Int(key, def)
		if n < 0 || n+offset > 65535 {
			l.fail(l.at(key), "%s: port %d with offset %d is out of range", key, n, offset)
		}
		return n + offset
	}
	hosts := v.List("cardea.listen", []string{"127.0.0.1", "::1"})
	gw := hosts
	for _, key := range []string{
		"keystore.listener_profile.bind_address", "transport.passthru_http.listener.parameters.bind-address",
		"transport.passthru_https.listener.parameters.bind-address", "transport.http.listener.bind_address",
		"transport.http.listener.secured_bind_address",
	} {
		if v.Has(key) {
			gw = v.List(key, nil)
			l.addresses(key, gw)
		}
	}
	l.addresses("cardea.listen", hosts)
	nodes := v.List("cardea.node.listen", nil)
	if len(nodes) > 0 {
		l.addresses("cardea.node.listen", nodes)
	}
	return Listen{
		Hosts: hosts, GatewayHosts: gw,
		Management:      port(true, "transport.https.properties.port", 9443),
		ManagementHTTP:  port(v.Bool("transport.http.enable", true), "transport.http.properties.port", 9763),
		GatewayHTTPS:    port(gateway && v.Bool("transport.passthru_https.listener.enable", true), "transport.http.listener.secured_port", 8243),
		GatewayHTTP:     port(gateway && v.Bool("transport.passthru_http.listener.enable", true), "transport.http.listener.port", 8280),
		Node:            9444 + offset,
		NodeHosts:       nodes,
		ClientAuth:      l.clientAuth(v),
		ManagementProxy: v.Int("transport.https.properties.proxyPort", 0),
		MaxHeader:       l.maxHeader(v),
		TLS:             l.tlsRange(v, "transport.https.properties.protocols", "transport.https.sslHostConfig.properties.protocols"),
		GatewayTLS:      l.tlsRange(v, "transport.passthru_https.listener.parameters.HttpsProtocols", "transport.http.listener.secured_protocols"),
	}
}

// resourceFile finds a file relative to home, then in the original's folder.
func (l *loader) resourceFile(name string) string {
	for _, p := range []string{name, filepath.Join(l.src.Home, name), filepath.Join(l.src.Home, "repository/resources/security", name)} {
		if filepath.IsAbs(p) {
			if _, err := os.Stat(p); err == nil {
				return p
			}
		}
	}
	return ""
}

// prefixes reads addresses and networks.
func (l *loader) prefixes(v Values, key string, absent []string) []netip.Prefix {
	list := v.List(key, absent)
	var out []netip.Prefix
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, p.Masked())
		} else if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else {
			l.fail(l.at(key), "%s: %q is neither an address nor a network", key, s)
		}
	}
	return out
}
