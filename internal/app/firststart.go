package app

import (
	"context"
	"fmt"
	"strings"

	"github.com/cardea-apim/cardea/internal/config"
)

// greet says, at a first start and with --demo, where things are and what to
// try next. Nothing else is ever printed.
func (a *App) greet(ctx, work context.Context) error {
	if !a.left.IsZero() {
		return nil // started again in place: it has been said
	}
	var demo []string
	if a.cfg.Demo && a.control != nil && a.people != nil && a.gateway != nil {
		lines, err := a.runDemo(ctx, work)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("demo: %w", err)
		}
		demo = lines
	}
	if (!a.admin.fresh && demo == nil) || a.control == nil {
		return nil
	}
	var b strings.Builder
	row := func(name, value string) { fmt.Fprintf(&b, "  %-10s %s\n", name, value) }
	b.WriteString("\n")
	row("Management", a.cfg.PortalURL())
	if a.cfg.Loopback() && a.cfg.Listen.ManagementHTTP != 0 {
		row("", gatewayURL(a.cfg, "http", a.cfg.Listen.ManagementHTTP)+"  (this machine only, no certificate warning)")
	}
	if a.cfg.Has(config.Gateway) {
		row("Gateway", a.cfg.GatewayURL())
	}
	switch {
	case a.admin.file != "":
		row("Sign in", a.cfg.Admin.Username+", password in "+a.admin.file)
	case a.admin.fresh && !a.cfg.Admin.Explicit:
		row("Sign in", "admin / admin")
	}
	if demo == nil {
		demo = []string{command() + " publish openapi.yaml" + a.serverFlag()}
	}
	b.WriteString("\nTry next:\n")
	for _, line := range demo {
		b.WriteString("  " + line + "\n")
	}
	b.WriteString("\n")
	_, err := fmt.Fprint(a.o.Stdout, b.String())
	return err
}

// greets reports whether a person reads the greeting of a first start, which
// says all that the log line of a start would.
func (a *App) greets() bool { return a.admin.fresh && a.control != nil && isTerminal(a.o.Stderr) }

// serverFlag is what a client command needs to reach this server, when it is
// not the default one.
func (a *App) serverFlag() string {
	flags := ""
	if a.cfg.BaseURL != "https://localhost:9443" {
		flags += " --server " + a.cfg.BaseURL
	}
	if !strings.HasSuffix(a.cfg.Home, "/.cardea") {
		flags += " --home " + a.cfg.Home
	}
	return flags
}
