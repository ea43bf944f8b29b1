package app

import (
	"net"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health answers the probes. Liveness and readiness are open and say nothing more.
type health struct {
	ready    func() bool
	admin    func(*http.Request) bool
	registry *prometheus.Registry
}

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// mount adds the probes to the management side.
func (h *health) mount(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if h.ready() {
			text(w, http.StatusOK, "ready")
		} else {
			text(w, http.StatusServiceUnavailable, "not ready")
		}
	})
	// The original's probe answers in plain text, and 500 until the node serves.
	startup := func(w http.ResponseWriter, _ *http.Request) {
		if h.ready() {
			text(w, http.StatusOK, "OK")
		} else {
			text(w, http.StatusInternalServerError, "Internal Server Error.")
		}
	}
	mux.HandleFunc("GET /api/am/gateway/v2/server-startup-healthcheck", startup)
	mux.HandleFunc("GET /api/am/gateway/v2/server-startup-healthcheck/{$}", startup)
	metrics := promhttp.HandlerFor(h.registry, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if !fromLoopback(r) && !h.admin(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="cardea"`)
			text(w, http.StatusUnauthorized, "metrics are for administrators")
			return
		}
		metrics.ServeHTTP(w, r)
	})
}

// fromLoopback reports whether the peer is on this machine and no proxy stands between.
func fromLoopback(r *http.Request) bool {
	if r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return false
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

func text(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body + "\n"))
}
