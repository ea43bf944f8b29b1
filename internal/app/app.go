// Package app puts the parts together: it decides which roles a process runs,
// which of them are embedded and which elsewhere, opens the listeners, and
// stops everything in order. It is the only package that knows them all; one
// file per role holds the wiring.
package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/node"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/store"
)

// Options of New.
type Options struct {
	Version string
	Stdout  io.Writer    // what a first start says to a person
	Stderr  io.Writer    // the log, unless Log is set
	Log     *slog.Logger // nil: as the configuration says, to Stderr
}

// App is one process of the product.
type App struct {
	cfg     *config.Config
	o       Options
	log     *slog.Logger
	home    *home
	name    string // of this node
	box     *seal.Box
	ca      *pki.CA
	cert    *pki.Source
	joined  *node.Joined // this node follows others; nil: it does not
	bus     *bus.Bus
	db      *store.DB // nil without control or identity
	metrics *prometheus.Registry
	mux     *http.ServeMux // the management side

	people    *people    // identity role; nil elsewhere
	control   *control   // control role; nil elsewhere
	gateway   *gatewayOf // gateway role; nil elsewhere
	counting  *counting  // traffic role and the gateway's share of it
	analytics *analyticsOf

	listeners *listeners
	parts     []part // what is watched
	loops     []func(ctx context.Context) error
	closers   []func() error
	started   time.Time
	serving   atomic.Bool
	admin     adminNews

	again   chan struct{} // ends Run with errAgain
	left    time.Time     // when the process last ceased to be ready to start again in place
	refused string        // restore that did not succeed
}

// New takes the home, opens the state and wires the roles. Nothing is served
// before Run. On an error everything taken is given back.
func New(ctx context.Context, cfg *config.Config, o Options) (*App, error) {
	h, err := openHome(cfg.Home)
	if err != nil {
		return nil, err
	}
	a, err := newOn(ctx, cfg, o, h)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	a.closers = slices.Insert(a.closers, 0, h.Close)
	return a, nil
}

// newOn is New on a home that the caller holds and goes on holding.
func newOn(ctx context.Context, cfg *config.Config, o Options, h *home) (_ *App, err error) {
	if o.Stdout == nil {
		o.Stdout = io.Discard
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	if o.Log == nil {
		o.Log = newLog(cfg.Log, o.Stderr)
	}
	a := &App{
		cfg: cfg, o: o, log: o.Log, home: h, mux: http.NewServeMux(), metrics: newRegistry(), started: time.Now(),
		again: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	for _, w := range cfg.Warnings {
		a.log.Warn("configuration", "warning", w)
	}
	a.listeners = newListeners(a.log)
	for _, step := range []func(context.Context) error{
		a.enrol, a.applyRestore, a.openStore, a.openKeys, a.openBus, a.wireTraffic, a.wireAnalytics, a.wireIdentity, a.wireGateway, a.wireControl, a.wireOwn, a.wireRestore, a.openListeners,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// onClose registers what must be given back, in reverse order.
func (a *App) onClose(fn func() error) { a.closers = append(a.closers, fn) }

// background registers work that lives as long as the process serves. An
// error of it stops the process.
func (a *App) background(fn func(ctx context.Context) error) { a.loops = append(a.loops, fn) }

func (a *App) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		if err := a.closers[i](); err != nil {
			errs = append(errs, err)
		}
	}
	a.closers = nil
	return errors.Join(errs...)
}

// flush sends the last counts while those who store them still run; what is
// not stored stays on disk for the next start.
func (a *App) flush() {
	if a.gateway == nil || a.gateway.reporter == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.gateway.reporter.Flush(ctx); err != nil {
		a.log.Info("counts kept for the next start", "err", err)
	}
}

// enrol joins other nodes when a token says so, or remembers having done so.
func (a *App) enrol(ctx context.Context) error {
	joined, err := node.LoadJoined(a.home.dir)
	switch {
	case err == nil:
		a.joined, a.name = joined, joined.ID
		return joined.Refollow(a.home.dir, a.cfg.Node.ControlURL)
	case a.cfg.Node.JoinToken != "":
		if a.cfg.Node.ControlURL == "" {
			return errors.New("join: the address of a control node is needed as well (--control https://host:9444)")
		}
		if a.cfg.Has(config.Control) {
			return errors.New("join: a node with the control role joins by sharing the database and the master key, not by a token; choose --roles gateway")
		}
		a.joined, err = node.Join(ctx, a.cfg.Node.ControlURL, a.cfg.Node.JoinToken.Reveal(), a.home.dir, a.cfg.Node.Name)
		if err != nil {
			return err
		}
		a.name = a.joined.ID
		a.log.Info("joined", "node", a.name, "roles", a.joined.Roles)
		return nil
	}
	a.name, err = a.home.node(a.cfg.Node.Name)
	return err
}

// openKeys gives the master key, the authority and the server certificate.
func (a *App) openKeys(ctx context.Context) (err error) {
	if a.box, err = seal.Load(a.home.dir, a.cfg.MasterKey.Reveal()); err != nil {
		return err
	}
	dir := pki.Dir(a.home.dir)
	if a.ca, err = pki.EnsureCA(dir); err != nil {
		return err
	}
	if a.db != nil && a.cfg.Has(config.Control) {
		if a.ca, err = a.shareCA(ctx, dir); err != nil {
			return err
		}
	}
	if c := a.cfg.Certificate; c.File != "" {
		a.cert, err = pki.FromFiles(c.File, c.KeyFile, a.log)
	} else if c.Keystore.File != "" {
		a.cert, err = pki.FromKeystore(keystoreOf(c.Keystore), a.log)
	} else {
		a.cert, err = a.ca.ServerCertificate(dir, a.names(), a.log)
	}
	if err != nil {
		return err
	}
	a.cert.Directory(a.hostCertificates())
	a.cert.Vouch(a.hasHost)
	a.background(a.watchCertificates)
	return nil
}

// shareCA gives the one CA of all control processes of the database, so that a
// gateway which joined by one of them trusts the others. A process with another
// master key could not read what they seal, and is refused here.
func (a *App) shareCA(ctx context.Context, dir string) (*pki.CA, error) {
	own, err := a.ca.Export()
	if err != nil {
		return nil, err
	}
	agreed, err := a.db.Share(ctx, "ca", a.box.Seal(own))
	if err != nil {
		return nil, err
	}
	plain, err := a.box.Open(agreed)
	if errors.Is(err, seal.ErrOtherKey) {
		return nil, fmt.Errorf("this database belongs to an installation with another master key; give every process that shares it the same cardea.master_key: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read shared CA: %w", err)
	}
	if bytes.Equal(plain, own) {
		return a.ca, nil
	}
	if !a.home.fresh {
		a.log.WarnContext(ctx, "certificate authority replaced by the one of the database: whoever trusted the former must trust this one",
			"former", a.ca.Fingerprint(), "now", pki.Dir(a.home.dir))
	}
	return pki.AdoptCA(dir, plain)
}

// names are what the server certificate is for, besides localhost.
func (a *App) names() []string {
	out := append([]string{a.cfg.Hostname}, a.cfg.Node.Hosts...)
	if host, err := os.Hostname(); err == nil {
		out = append(out, host)
	}
	for _, e := range a.cfg.Environments {
		for _, v := range e.VHosts {
			out = append(out, v.Host)
		}
	}
	return out
}

// openBus joins the bus of the configuration or of the nodes joined, or starts one.
func (a *App) openBus(context.Context) (err error) {
	o := bus.Options{Name: a.name, Log: a.log}
	url := a.cfg.Bus.URL
	if url == "" && a.joined != nil {
		url = a.joined.Bus
	}
	if url == "" {
		a.bus, err = bus.Embedded(o)
	} else {
		a.bus, err = a.connectBus(url, o)
	}
	if err == nil {
		a.onClose(a.bus.Close)
	}
	return err
}

func (a *App) connectBus(url string, o bus.Options) (*bus.Bus, error) {
	switch {
	case a.joined != nil:
		id, err := pki.LoadIdentity(pki.Dir(a.home.dir))
		if err != nil {
			return nil, err
		}
		return bus.Connect(url, id.Client(), o)
	case strings.HasPrefix(url, bus.Scheme+"://"): // inside another control process of the same database
		id, err := a.ca.IssueNode(a.name, a.roles())
		if err != nil {
			return nil, err
		}
		return bus.Connect(url, id.Client(), o)
	}
	return bus.Connect(url, nil, o)
}

// openStore opens the database where a role needs it.
func (a *App) openStore(ctx context.Context) (err error) {
	control, identity := a.cfg.Has(config.Control), a.cfg.Has(config.Identity)
	if !control && !identity {
		return nil
	}
	if control != identity && !a.cfg.Database.Postgres {
		return errors.New("control and identity in separate processes need PostgreSQL: set cardea.database.url, or run both roles here")
	}
	a.db, err = store.Open(ctx, a.cfg.Database.URL.Reveal(), storeOptions(a))
	if err == nil {
		a.onClose(a.db.Close)
	}
	return err
}

// Ready reports whether every role of the process serves: the database is
// open, and the gateway has compiled its snapshot.
func (a *App) Ready() bool {
	return a.serving.Load() && !a.listeners.draining.Load() && (a.gateway == nil || a.gateway.ready())
}

// Run serves until ctx ends or a part fails, then drains and gives everything back.
func (a *App) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, a.close()) }()
	// Background work outlives ctx: requests being drained still need it.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var loops sync.WaitGroup
	for _, fn := range a.loops {
		loops.Go(func() {
			if err := fn(work); err != nil && work.Err() == nil {
				stop(err)
			}
		})
	}
	a.listeners.start()
	a.serving.Store(true)
	if !a.greets() {
		a.log.Info("serving", "node", a.name, "roles", a.cfg.Roles, "after", time.Since(a.started).Round(time.Millisecond))
	}
	if err := a.greet(ctx, work); err != nil {
		stop(err)
	}
	select {
	case <-ctx.Done():
		a.log.Info("stopping")
	case <-a.again:
		a.left, err = time.Now(), errAgain
	case err = <-a.listeners.failed:
	case <-work.Done():
		err = context.Cause(work)
	}
	if drained := a.listeners.drain(a.cfg.ShutdownTimeout - time.Second); drained != nil {
		a.log.Warn("stopped with requests running", "err", drained)
	}
	a.flush()
	stop(nil)
	loops.Wait()
	a.log.Info("stopped")
	return err
}
