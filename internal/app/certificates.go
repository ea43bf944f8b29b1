package app

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cardea-apim/cardea/internal/pki"
)

// certificateInterval is how often the files of certificates are looked at: a
// new one is shown without a restart.
const certificateInterval = time.Second

// hostCertificates is the directory of certificates for virtual hosts.
func (a *App) hostCertificates() string {
	if dir := a.cfg.Certificate.Hosts; dir != "" {
		return dir
	}
	return filepath.Join(pki.Dir(a.home.dir), "hosts")
}

// hasHost reports whether the gateway of this process serves a virtual host, so
// that the authority of the home may vouch for it.
func (a *App) hasHost(name string) bool {
	return a.serving.Load() && a.gateway != nil && a.gateway.gw.HasHost(name)
}

// watchCertificates reads certificates again when they change, and at once on
// SIGHUP. A process that belongs to a terminal ends with it instead.
func (a *App) watchCertificates(ctx context.Context) error {
	var hup chan os.Signal
	if !isTerminal(a.o.Stderr) {
		hup = make(chan os.Signal, 1)
		signal.Notify(hup, syscall.SIGHUP)
		defer signal.Stop(hup)
	}
	a.cert.Watch(ctx.Done(), hup, certificateInterval)
	return nil
}
