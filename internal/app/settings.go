package app

import (
	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/store"
)

// Settings in the words of the parts that follow them.

// declaredEnvironments are the gateway environments of the file.
func declaredEnvironments(c *config.Config) []apim.Environment {
	out := make([]apim.Environment, 0, len(c.Environments))
	for _, e := range c.Environments {
		env := apim.Environment{
			Name: e.Name, DisplayName: e.DisplayName, Description: e.Description, Provider: e.Provider, Type: e.Type,
			GatewayType: e.GatewayType, NoConsole: !e.ShowInConsole, Properties: e.Properties,
		}
		if len(e.Roles) > 0 {
			env.PermissionType, env.PermissionRoles = "ALLOW", e.Roles
		}
		for _, v := range e.VHosts {
			env.VHosts = append(env.VHosts, apim.VHost{
				Host: v.Host, HTTPContext: v.Context, HTTPPort: v.HTTP, HTTPSPort: v.HTTPS, WSPort: v.WS, WSSPort: v.WSS,
				WebsubHTTPPort: v.WebSubHTTP, WebsubHTTPSPort: v.WebSubHTTPS,
			})
		}
		out = append(out, env)
	}
	return out
}

func keystoreOf(k config.Keystore) pki.Keystore {
	return pki.Keystore{File: k.File, Type: k.Type, Alias: k.Alias, Password: k.Password.Reveal(), KeyPassword: k.KeyPassword.Reveal()}
}

// tokenCache is how many verified tokens are remembered: none without a time to
// remember them for.
func tokenCache(c *config.Config) int {
	if c.TokenCacheTTL <= 0 {
		return -1
	}
	return 0
}

// upstreamNames says where certificates of backends must name the host.
func upstreamNames(c *config.Config) string {
	if c.Upstream.Names == "strict" {
		return ""
	}
	return c.Upstream.Names
}

// storeOptions are the bounds of the database; what is not configured is the
// engine's own.
func storeOptions(a *App) store.Options {
	d := a.cfg.Database
	return store.Options{Log: a.log, Version: a.o.Version, Readers: d.MaxConnections, Wait: d.AcquireTimeout, KeepAudits: a.cfg.Audit.Keep}
}
