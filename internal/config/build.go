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
	c := &Config{Values: v}
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
	}
	c.Bus = Bus{URL: v.String("cardea.bus.url", ""), Listen: v.String("cardea.bus.listen", "")}
	c.Analytic = AnalyticsStore{
		Path:        v.String("cardea.analytics.path", filepath.Join(l.src.Home, "analytics.db")),
		KeepCalls:   v.Duration("cardea.analytics.keep_calls", 0),
		KeepMinutes: v.Duration("cardea.analytics.keep_minutes", 0),
		KeepHours:   v.Duration("cardea.analytics.keep_hours", 0),
		KeepDays:    v.Duration("cardea.analytics.keep_days", 0),
		MaxBytes:    int64(v.Int("cardea.analytics.max_size", 0)),
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
	c.TrustedProxies = l.prefixes(v, "cardea.trusted_proxies", []string{"127.0.0.0/8", "::1"})
	c.Environments = l.environments(v)
	c.Labels = v.List("apim.sync_runtime_artifacts.gateway.gateway_labels", v.List("cardea.node.environments", []string{"Default"}))
	c.ShutdownTimeout = v.Duration("cardea.shutdown_timeout", 10*time.Second)
	c.DefinitionLimit = int64(v.Int("cardea.definition.max_size", 32<<20))
	if v.Has("apim.publisher.import_definition_file_size_limit.oas") {
		c.DefinitionLimit = int64(v.Int("apim.publisher.import_definition_file_size_limit.oas", 10)) << 20
	}
	c.FetchAllow = l.prefixes(v, "cardea.fetch.allow", nil)
	buildGateway(c, v)
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

func buildGateway(c *Config, v Values) {
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
		Deny:   v.Bool("apim.throttling.enable_blacklist_condition", true),
	}
	c.RateHeaders = v.Bool("cardea.rate_limit_headers", true)
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
	if len(hosts) == 0 {
		l.fail(l.at("cardea.listen"), "cardea.listen: want at least one address")
	}
	gw := hosts
	for _, key := range []string{"keystore.listener_profile.bind_address", "transport.http.listener.secured_bind_address", "transport.http.listener.bind_address"} {
		if v.Has(key) {
			gw = v.List(key, nil)
		}
	}
	for _, h := range slices.Concat(hosts, gw) {
		if _, err := netip.ParseAddr(h); err != nil && h != "localhost" {
			l.fail(l.at("cardea.listen"), "cardea.listen: %q is not an address", h)
		}
	}
	return Listen{
		Hosts: hosts, GatewayHosts: gw,
		Management:      port(true, "transport.https.properties.port", 9443),
		ManagementHTTP:  port(v.Bool("transport.http.enable", true), "transport.http.properties.port", 9763),
		GatewayHTTPS:    port(gateway && v.Bool("transport.passthru_https.listener.enable", true), "transport.http.listener.secured_port", 8243),
		GatewayHTTP:     port(gateway && v.Bool("transport.passthru_http.listener.enable", true), "transport.http.listener.port", 8280),
		Node:            9444 + offset,
		NodeHosts:       v.List("cardea.node.listen", nil),
		ClientAuth:      v.String("keystore.listener_profile.ssl_verify_client", "optional"),
		ManagementProxy: v.Int("transport.https.properties.proxyPort", 0),
	}
}

// controlURL is the control node that a split process follows.
func (l *loader) controlURL(v Values, roles []Role) string {
	if u := v.String("cardea.node.control", ""); u != "" {
		return strings.TrimSuffix(u, "/")
	}
	if slices.Contains(roles, Control) {
		return ""
	}
	return strings.TrimSuffix(v.String("apim.event_hub.service_url", ""), "/services/")
}

// certificate is the server certificate of the file: ours, or a PEM keystore.
// The shipped keystore names mean the certificate that home's CA made.
func (l *loader) certificate(v Values) Certificate {
	c := Certificate{File: v.String("cardea.certificate.file", ""), KeyFile: v.String("cardea.certificate.key_file", "")}
	key := "cardea.certificate.file"
	if c.File == "" {
		for _, store := range []string{"keystore.primary", "keystore.tls"} {
			if name := v.String(store+".file_name", ""); name != "" {
				key, c.File, c.KeyFile = store+".file_name", name, v.String(store+".key_file", "")
			}
		}
	}
	if c.File == "" {
		return c
	}
	path := l.resourceFile(c.File)
	if path == "" {
		if b := filepath.Base(c.File); b == "wso2carbon.jks" || b == "wso2am.p12" {
			return Certificate{}
		}
		l.fail(l.at(key), "%s: no such file %s", key, c.File)
		return Certificate{}
	}
	switch filepath.Ext(path) {
	case ".pem", ".crt":
	default:
		l.fail(l.at(key), "%s: only PEM files (.pem, .crt with key_file) can be read; convert with: openssl pkcs12 -in %s -out server.pem", key, c.File)
		return Certificate{}
	}
	c.File = path
	if c.KeyFile == "" {
		c.KeyFile = path
	} else if c.KeyFile = l.resourceFile(c.KeyFile); c.KeyFile == "" {
		l.fail(l.at(key), "%s: the key file does not exist", key)
	}
	return c
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

func (l *loader) environments(v Values) []Environment {
	var out []Environment
	for _, e := range v.Each("apim.gateway.environment") {
		name := e.String("name", "Default")
		env := Environment{
			Name: name, DisplayName: e.String("display_name", name), Description: e.String("description", ""),
			Type: e.String("type", "hybrid"), GatewayType: e.String("gateway_type", "Regular"), Provider: e.String("provider", "wso2"),
			ShowInConsole: e.Bool("display_in_api_console", true),
			VHosts:        []VHost{vhost(e)},
		}
		for _, h := range e.Each("virtual_host") {
			env.VHosts = append(env.VHosts, vhost(h))
		}
		if !slices.Contains([]string{"hybrid", "production", "sandbox"}, env.Type) {
			l.fail(l.at(e.prefix+".type"), "apim.gateway.environment.type: want hybrid, production or sandbox")
		}
		if slices.ContainsFunc(out, func(o Environment) bool { return o.Name == name }) {
			l.fail(l.at(e.prefix+".name"), "apim.gateway.environment: the name %q is used twice", name)
		}
		out = append(out, env)
	}
	return out
}

func vhost(v Values) VHost {
	return VHost{
		HTTP: v.String("http_endpoint", ""), HTTPS: v.String("https_endpoint", ""),
		WS: v.String("ws_endpoint", ""), WSS: v.String("wss_endpoint", ""),
		WebSubHTTP: v.String("websub_event_receiver_http_endpoint", ""), WebSubHTTPS: v.String("websub_event_receiver_https_endpoint", ""),
	}
}
