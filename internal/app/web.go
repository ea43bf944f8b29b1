package app

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/demo"
)

// openListeners binds every port of the process, so that a port in use stops
// the start before anything is promised.
func (a *App) openListeners(context.Context) error {
	l := a.cfg.Listen
	a.wireDemo()
	(&health{ready: a.Ready, admin: a.isAdmin, registry: a.metrics}).mount(a.mux)
	a.welcome()
	var access *slog.Logger
	if a.cfg.AccessLog {
		access = a.log.With("log", "access")
	}
	site := traced(a.cfg.TraceHeader, access, a.clientAddr, secured(unknownPaths(a.mux)))
	if err := a.listeners.add(listener{name: "management", hosts: l.Hosts, port: l.Management, tls: a.tls(l.TLS), head: l.MaxHeader, serve: site}); err != nil {
		return err
	}
	plain := site
	if !a.cfg.Loopback() {
		plain = toHTTPS(a.cfg.BaseURL, site)
	}
	if err := a.listeners.add(listener{name: "management", hosts: l.Hosts, port: l.ManagementHTTP, head: l.MaxHeader, serve: plain}); err != nil {
		return err
	}
	if a.gateway == nil {
		return nil
	}
	api, engine := a.gateway.gw.Handler(), a.gateway.gw.Serve
	conf := a.tls(l.GatewayTLS)
	switch l.ClientAuth {
	case "require":
		conf.ClientAuth = tls.RequireAnyClientCert
	case "optional":
		conf.ClientAuth = tls.RequestClientCert
	}
	if err := a.listeners.add(listener{name: "gateway", hosts: l.GatewayHosts, port: l.GatewayHTTPS, tls: conf, serve: api, engine: engine}); err != nil {
		return err
	}
	return a.listeners.add(listener{name: "gateway", hosts: l.GatewayHosts, port: l.GatewayHTTP, serve: api, engine: engine})
}

// tls is the server certificate with the versions a listener speaks.
func (a *App) tls(r config.TLSRange) *tls.Config {
	conf := a.cert.TLS()
	conf.MinVersion, conf.MaxVersion = max(r.Min, tls.VersionTLS12), r.Max
	return conf
}

// secured adds what every management answer carries.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// toHTTPS sends browsers to the https port; the target comes from the
// configuration, never from the request's Host. The probe and the sample
// backend are served as they are.
func toHTTPS(base string, site http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || strings.HasPrefix(r.URL.Path, demo.Base+"/") {
			site.ServeHTTP(w, r)
			return
		}
		target := r.URL.RequestURI()
		if !strings.HasPrefix(target, "/") {
			// An opaque target, such as http:@other.example, would become part of the host.
			text(w, http.StatusBadRequest, "bad request target")
			return
		}
		w.Header().Set("Location", base+target)
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

// clientAddr is the address a request came from: X-Forwarded-For is walked
// from the right past trusted peers.
func (a *App) clientAddr(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	peer, err := netip.ParseAddr(host)
	if err != nil || !a.trusted(peer) {
		return host
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		host = addr.Unmap().String()
		if !a.trusted(addr) {
			break
		}
	}
	return host
}

func (a *App) trusted(addr netip.Addr) bool {
	addr = addr.Unmap()
	return slices.ContainsFunc(a.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// gatewayURL is one of the gateway's public roots.
func gatewayURL(cfg *config.Config, scheme string, port int) string {
	if port == 0 {
		return ""
	}
	return scheme + "://" + net.JoinHostPort(cfg.Hostname, strconv.Itoa(port))
}
