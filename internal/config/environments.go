package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// environments are the gateway environments of the file, in its order.
func (l *loader) environments(v Values) []Environment {
	var out []Environment
	for _, e := range v.Each("apim.gateway.environment") {
		name := e.String("name", "Default")
		env := Environment{
			Name: name, DisplayName: e.String("display_name", name), Description: e.String("description", ""),
			Type: e.String("type", "hybrid"), GatewayType: e.String("gateway_type", "Regular"), Provider: e.String("provider", "wso2"),
			ShowInConsole: e.Bool("display_in_api_console", true), Properties: e.Under("properties"),
		}
		if roles := e.List("visibility", nil); !slices.Contains(roles, "PUBLIC") {
			env.Roles = roles
		}
		for _, h := range slices.Concat([]Values{e}, e.Each("virtual_host")) {
			vh, any := l.vhost(h)
			if any && !slices.ContainsFunc(env.VHosts, func(o VHost) bool { return o.Host == vh.Host }) {
				env.VHosts = append(env.VHosts, vh)
			}
		}
		if !slices.Contains([]string{"hybrid", "production", "sandbox"}, env.Type) {
			l.fail(l.at(e.prefix+".type"), "apim.gateway.environment.type: want hybrid, production or sandbox")
		}
		if slices.ContainsFunc(out, func(o Environment) bool { return o.Name == name }) {
			l.fail(l.at(e.prefix+".name"), "apim.gateway.environment: the name %q is used twice", name)
		}
		if env.Provider != "wso2" || env.GatewayType != "Regular" {
			l.warnings = append(l.warnings, "apim.gateway.environment "+name+": gateways of other kinds than Regular of wso2 are not driven yet; it is only listed")
		}
		out = append(out, env)
	}
	return out
}

// vhost is one virtual host, from the URLs that name it: its host and path are
// those of the first of them.
func (l *loader) vhost(v Values) (h VHost, any bool) {
	for _, p := range []struct {
		key string
		def int
		to  *int
	}{
		{"https_endpoint", 443, &h.HTTPS},
		{"http_endpoint", 80, &h.HTTP},
		{"wss_endpoint", 443, &h.WSS},
		{"ws_endpoint", 80, &h.WS},
		{"websub_event_receiver_https_endpoint", 443, &h.WebSubHTTPS},
		{"websub_event_receiver_http_endpoint", 80, &h.WebSubHTTP},
	} {
		raw := v.String(p.key, "")
		if raw == "" {
			continue
		}
		u, err := url.Parse(raw)
		if err != nil || u.Hostname() == "" {
			l.fail(l.at(join(v.prefix, p.key)), "%s: want a URL such as https://api.example.com:8243", p.key)
			continue
		}
		*p.to = p.def
		if n, err := strconv.Atoi(u.Port()); err == nil {
			*p.to = n
		}
		if !any {
			h.Host, h.Context, any = u.Hostname(), strings.Trim(u.Path, "/"), true
		}
	}
	return h, any
}
