package config

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// maxDefinition is the largest definition that any setting admits, in bytes.
const maxDefinition = 32 << 20

// definitionLimit is the largest API definition that is taken, in bytes.
func (l *loader) definitionLimit(v Values) int64 {
	key, n := "cardea.definition.max_size", int64(v.Int("cardea.definition.max_size", maxDefinition))
	if older := "apim.publisher.import_definition_file_size_limit.oas"; !v.Has(key) && v.Has(older) {
		// In MB; a larger one than ours has no effect and no harm.
		key, n = older, min(int64(v.Int(older, 10)), maxDefinition>>20)<<20
	}
	if n < 1 || n > maxDefinition {
		l.fail(l.at(key), "%s: want 1 to %d bytes", key, maxDefinition)
	}
	return n
}

// people are the rules of users and tokens.
func (l *loader) people(c *Config, v Values) {
	c.Users = UserRules{
		Name:     l.pattern(v, "user_store.username_java_regex"),
		Role:     l.pattern(v, "user_store.rolename_java_regex"),
		Password: l.pattern(v, "user_store.password_java_regex"),
		Email:    v.Bool("tenant_mgt.enable_email_domain", false),
	}
	c.OAuth = OAuth{
		Issuer:      v.String("oauth.oidc.id_token.issuer", ""),
		Algorithm:   "RS256",
		NamePattern: v.String("service_provider.sp_name_regex", ""),
		AppLife:     l.life(v, "oauth.token_validation.app_access_token_validity", time.Hour),
		UserLife:    l.life(v, "oauth.token_validation.user_access_token_validity", time.Hour),
		RefreshLife: l.life(v, "oauth.token_validation.refresh_token_validity", 24*time.Hour),
		IDLife:      l.life(v, "oauth.oidc.token_validation.id_token_validity", time.Hour),
	}
	if alg := v.String("oauth.oidc.id_token.signature_algorithm", ""); strings.Contains(alg, "ECDSA") || alg == "ES256" {
		c.OAuth.Algorithm = "ES256"
	}
	for _, g := range []struct{ name, key string }{
		{"client_credentials", "oauth.grant_type.client_credentials.enable"},
		{"password", "oauth.grant_type.password.enable"},
		{"refresh_token", "oauth.grant_type.refresh_token.enable"},
		{"urn:ietf:params:oauth:grant-type:jwt-bearer", "oauth.grant_type.jwt_bearer.enable"},
		{"urn:ietf:params:oauth:grant-type:device_code", "oauth.grant_type.device_code.enable"},
		{"urn:ietf:params:oauth:grant-type:token-exchange", "oauth.grant_type.token_exchange.enable"},
	} {
		if !v.Bool(g.key, true) {
			c.OAuth.RefusedGrant = append(c.OAuth.RefusedGrant, g.name)
		}
	}
	free := slices.Concat(v.List("apim.oauth_config.allowed_scopes", []string{"^device_.*", "openid"}), v.List("oauth.allowed_scopes", nil))
	for _, p := range free {
		if _, err := regexp.Compile(p); err != nil {
			l.fail(l.at("oauth.allowed_scopes"), "allowed_scopes: %q is not a regular expression we can run", p)
		} else if !slices.Contains(c.OAuth.FreeScopes, p) {
			c.OAuth.FreeScopes = append(c.OAuth.FreeScopes, p)
		}
	}
}

// pattern is a regular expression of the original's that we can run too.
func (l *loader) pattern(v Values, key string) *regexp.Regexp {
	s := v.String(key, "")
	if s == "" {
		return nil
	}
	re, err := regexp.Compile(s)
	if err != nil {
		l.fail(l.at(key), "%s: not a regular expression we can run: %v", key, err)
	}
	return re
}

// life is how long something is valid.
func (l *loader) life(v Values, key string, absent time.Duration) time.Duration {
	d := v.Duration(key, absent)
	if d < time.Second {
		l.fail(l.at(key), "%s: want a second or more", key)
	}
	return d
}

// portals are the settings of the management side.
func (l *loader) portals(c *Config, v Values) {
	all := v.List("cors.allowed_origins", nil)
	origins := func(key string) []string { return v.List(key, all) }
	c.Portals = Portals{
		DevportalURL:    strings.TrimSuffix(v.String("apim.devportal.url", c.BaseURL+"/devportal"), "/"),
		Anonymous:       v.Bool("apim.devportal.enable_anonymous_mode", true),
		PasswordChange:  v.Bool("apim.enable_change_password", true),
		NoDefaultApp:    !v.Bool("apim.devportal.create_default_application", true),
		GatewayTypes:    v.List("apim.gateway_type", []string{"Regular"}),
		PublisherOrigin: origins("system.parameter.rest.api.publisher.allowed.origins"),
		DevportalOrigin: origins("system.parameter.rest.api.devportal.allowed.origins"),
		AdminOrigin:     origins("system.parameter.rest.api.admin.allowed.origins"),
	}
	c.AccessLog = v.Bool("http_access_log.enabled", false)
	c.TraceHeader = v.String("catalina_valves.request_correlation_id_valve.response_correlation_id_header", "X-WSO2-TraceId")
	if !headerName.MatchString(c.TraceHeader) {
		key := "catalina_valves.request_correlation_id_valve.response_correlation_id_header"
		l.fail(l.at(key), "%s: not the name of a header", key)
	}
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")
