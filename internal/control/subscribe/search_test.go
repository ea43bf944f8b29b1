package subscribe

import (
	"fmt"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
)

func TestParseSearch(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                       "[]",
		"pizza":                  "[[{name ~ pizza}]]",
		"pizza burger":           "[[{name ~ pizza} {name ~ burger}]]",
		`name:"Pizza Shack"`:     "[[{name =~ Pizza Shack}]]",
		"*izz*":                  "[[{name ~ izz}]]",
		"tag:a tags:b version:1": "[[{tag has a} {tag has b}] [{version ~ 1}]]",
		"status:published":       "[[{state =~ published}]]",
		"name:":                  "[]",
		`"`:                      "[]",
		"api-category:x":         "[[{category has x}]]",
	} {
		q, ok := parseSearch(in)
		if got := fmt.Sprint(q.Any); !ok || got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
	if _, ok := parseSearch("colour:red"); ok {
		t.Error("a condition that nothing fulfils was accepted")
	}
}

func FuzzParseSearch(f *testing.F) {
	f.Add(`name:"a b" tag:x`)
	f.Fuzz(func(_ *testing.T, in string) { parseSearch(in) })
}

func TestAllows(t *testing.T) {
	t.Parallel()
	vip := &apim.Actor{Tenant: apim.SuperTenant, Roles: []string{"VIP"}}
	for _, c := range []struct {
		kind, role string
		actor      *apim.Actor
		want       bool
	}{
		{"", "x", vip, true},
		{"PUBLIC", "x", vip, true},
		{"ALLOW", "vip", vip, true},
		{"ALLOW", "x", vip, false},
		{"DENY", "vip", vip, false},
		{"DENY", "x", vip, true},
		{"ALLOW", "Internal/everyone", vip, true},
		{"ALLOW", "Internal/everyone", &apim.Actor{}, false},
	} {
		if got := allows(c.kind, []string{c.role}, c.actor); got != c.want {
			t.Errorf("%s %s for %v: %v", c.kind, c.role, c.actor.Roles, got)
		}
	}
}

func TestEndpointURLs(t *testing.T) {
	t.Parallel()
	env := &apim.Environment{Name: "eu", VHosts: []apim.VHost{{Host: "gw", HTTPContext: "/edge", HTTPPort: 80, HTTPSPort: 8443, WSPort: 9099, WSSPort: 443}}}
	rest := &apim.API{Type: "HTTP", Version: "2", Context: "/p", ContextTemplate: "/{version}/p", Transports: []string{"http", "https"}, Default: true}
	e := endpointOf(rest, env, "gw")
	if e.URLs != (URLs{HTTP: "http://gw/edge/2/p", HTTPS: "https://gw:8443/edge/2/p"}) || e.Default.HTTPS != "https://gw:8443/edge/p" || e.DisplayName != "eu" {
		t.Errorf("%+v", e)
	}
	ws := &apim.API{Type: "WS", Version: "1", Context: "/chat"}
	if e := endpointOf(ws, env, "other"); e.URLs != (URLs{WS: "ws://gw:9099/chat/1", WSS: "wss://gw/chat/1"}) || e.Default != (URLs{}) {
		t.Errorf("%+v", e)
	}
}
