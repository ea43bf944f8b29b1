package gateway

import (
	"slices"
	"strings"
)

// HasHost reports whether a name is a virtual host of an environment that this
// gateway serves, or has APIs of its own.
func (g *Gateway) HasHost(name string) bool {
	name = strings.ToLower(name)
	t := g.tables.Load()
	if _, ok := t.hosts[name]; ok {
		return true
	}
	for env, hosts := range t.facts.VHosts {
		if g.serves(env) && slices.Contains(hosts, name) {
			return true
		}
	}
	return false
}
