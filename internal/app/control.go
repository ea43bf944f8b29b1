package app

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/connector"
	"github.com/cardea-apim/cardea/internal/control/api/admin"
	"github.com/cardea-apim/cardea/internal/control/api/devportal"
	"github.com/cardea-apim/cardea/internal/control/api/publisher"
	"github.com/cardea-apim/cardea/internal/control/deploy"
	"github.com/cardea-apim/cardea/internal/control/govern"
	"github.com/cardea-apim/cardea/internal/control/publish"
	"github.com/cardea-apim/cardea/internal/control/subscribe"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/rest/fetch"
	"github.com/cardea-apim/cardea/internal/token"
)

// control is the control role: the use cases, their surfaces, and what takes
// changes to the gateways.
type control struct {
	publish   *publish.Service
	subscribe *subscribe.Service
	govern    *govern.Service
	receipts  *deploy.Receipts
	relay     *deploy.Relay
	sync      *deploy.Server
	address   string // of the node synchronisation, as others reach it
}

// onTenant gives a new tenant what every tenant starts with.
func (c *control) onTenant(ctx context.Context, t *apim.Tenant) error {
	if c.govern == nil {
		return nil
	}
	return c.govern.Seed(ctx, t.Domain)
}

// joinToken makes a one-time token and opens the synchronisation port.
func (c *control) joinToken(ctx context.Context, roles []string) (string, error) {
	t, err := c.sync.IssueToken(ctx, roles)
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

// localFeed is what the gateway of this process follows.
func (a *App) localFeed() *deploy.Feed { return deploy.NewFeed(a.db.Log) }

// wireControl makes the use cases, mounts their surfaces and starts the relay.
func (a *App) wireControl(ctx context.Context) error {
	if !a.cfg.Has(config.Control) {
		return nil
	}
	a.control = &control{}
	if err := a.wireDeploy(); err != nil {
		return err
	}
	if err := a.wireUseCases(); err != nil {
		return err
	}
	actor := &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true}
	if err := a.firstStart(apim.WithActor(ctx, actor)); err != nil {
		return err
	}
	return a.mountSurfaces()
}

// firstStart makes what an installation starts with; what exists stays.
func (a *App) firstStart(ctx context.Context) error {
	if err := a.bootstrapAdmin(ctx); err != nil {
		return err
	}
	return a.control.govern.Bootstrap(ctx)
}

func (a *App) wireDeploy() error {
	db, c := a.db, a.control
	c.relay = deploy.NewRelay(deploy.RelayOptions{
		Holder: a.name, Log: db.Log, Box: a.box, Logger: a.log,
		Source: deploy.Source{
			Tenants: db.Tenants, SigningKeys: db.SigningKeys, APIs: db.APIs, Revisions: db.Revisions, Deployments: db.Deployments,
			Applications: db.Applications, KeyMappings: db.KeyMappings, Subscriptions: db.Subscriptions, APIKeys: db.APIKeys,
			Policies: db.Policies, Environments: db.Environments, KeyManagers: db.KeyManagers, Revocations: db.Tokens,
		},
	})
	c.receipts = deploy.NewReceipts(deploy.ReceiptOptions{Log: db.Log, Logger: a.log})
	a.background(c.relay.Run)
	a.background(c.receipts.Run)
	return a.wireSync()
}

// roles are the roles of this process, as a certificate names them.
func (a *App) roles() []string {
	out := make([]string, len(a.cfg.Roles))
	for i, r := range a.cfg.Roles {
		out[i] = string(r)
	}
	return out
}

// wireSync prepares the port by which other nodes join and follow. It opens
// once another node is expected, and the bus with it.
func (a *App) wireSync() error {
	id, err := a.ca.IssueNode(a.name, a.roles())
	if err != nil {
		return err
	}
	host := a.cfg.Hostname
	if extra := a.cfg.Node.Hosts; len(extra) > 0 {
		host = extra[0]
	}
	bind := a.cfg.Listen.Hosts[0]
	if len(a.cfg.Listen.NodeHosts) > 0 {
		bind = a.cfg.Listen.NodeHosts[0]
	}
	busAddr := net.JoinHostPort(bind, strconv.Itoa(busPort+a.cfg.Offset))
	busURL := bus.Scheme + "://" + net.JoinHostPort(host, strconv.Itoa(busPort+a.cfg.Offset))
	if a.cfg.Bus.Listen != "" {
		busAddr = a.cfg.Bus.Listen
	}
	opened := func() error {
		conf := id.Server(false)
		conf.VerifyConnection = a.control.sync.Admit
		_, err := a.bus.Listen(busAddr, conf, busRights)
		return err
	}
	if a.cfg.Bus.URL != "" { // a cluster of the operator's own: nodes use it too
		busURL, opened = a.cfg.Bus.URL, nil
	}
	a.control.address = "https://" + net.JoinHostPort(host, strconv.Itoa(a.cfg.Listen.Node))
	a.control.sync = deploy.NewServer(deploy.ServerOptions{
		Feed: a.localFeed(), Log: a.db.Log, Box: a.box, CA: a.ca, Identity: id, Bus: busURL,
		Always: len(a.cfg.Listen.NodeHosts) > 0, Opened: opened, Cut: a.bus.Cut, Logger: a.log,
	})
	addr := net.JoinHostPort(bind, strconv.Itoa(a.cfg.Listen.Node))
	a.background(func(ctx context.Context) error { return a.control.sync.Run(ctx, addr) })
	return nil
}

func (a *App) wireUseCases() (err error) {
	db, c := a.db, a.control
	out := fetch.New(fetch.Options{Loopback: a.cfg.Loopback(), Allow: a.cfg.FetchAllow})
	elsewhere := connector.New(out)
	c.publish = publish.New(publish.Options{
		InTx: db.InTx, APIs: db.APIs, Revisions: db.Revisions, Deployments: db.Deployments, Scopes: db.SharedScopes,
		Subscriptions: db.Subscriptions, APIKeys: db.APIKeys, Applications: db.Applications, Policies: db.Policies,
		Environments: db.Environments, KeyManagers: db.KeyManagers, Roles: db.Roles, TenantConfs: db.TenantConfs,
		Blobs: db.Blobs, Seal: a.box, NoUnlimited: !a.cfg.UnlimitedTier, MaxDefinition: a.cfg.DefinitionLimit, Log: a.log,
		Fetch: out,
	})
	a.background(func(ctx context.Context) error {
		c.publish.Run(ctx)
		return nil
	})
	c.subscribe, err = subscribe.New(subscribe.Options{
		InTx: db.InTx, APIs: db.APIs, Deployments: db.Deployments, Environments: db.Environments, Policies: db.Policies,
		KeyManagers: db.KeyManagers, TenantConfs: db.TenantConfs, Tenants: db.Tenants, Users: db.Users, Applications: db.Applications,
		KeyMappings: db.KeyMappings, Subscriptions: db.Subscriptions, APIKeys: db.APIKeys, Blobs: db.Blobs,
		Clients: clientsOf{a.people.keys}, Passwords: a.people.directory, Elsewhere: elsewhere, Box: a.box, Unlimited: a.cfg.UnlimitedTier,
		NoDefaultApplication: a.cfg.Portals.NoDefaultApp, Log: a.log,
	})
	if err != nil {
		return err
	}
	l := a.cfg.Listen
	c.govern, err = govern.New(govern.Options{
		InTx: db.InTx, Tenants: db.Tenants, Users: db.Users, APIs: db.APIs, Deployments: db.Deployments, Policies: db.Policies,
		Environments: db.Environments, KeyManagers: db.KeyManagers, Applications: db.Applications, Subscriptions: db.Subscriptions,
		KeyMappings: db.KeyMappings, Confs: a.people.directory, Remover: c.subscribe, Clients: a.people.keys, Seal: a.box, Discovery: elsewhere,
		Gateways: db.Log.Gateways, Host: a.cfg.Hostname, GatewayHost: a.cfg.Hostname,
		Ports: govern.Ports{
			Management: publicPort(l), HTTP: orDefault(l.GatewayHTTP, 8280+a.cfg.Offset), HTTPS: orDefault(l.GatewayHTTPS, 8243+a.cfg.Offset),
			WS: 9099 + a.cfg.Offset, WSS: 8099 + a.cfg.Offset, WebsubHTTP: 9021 + a.cfg.Offset, WebsubHTTPS: 8021 + a.cfg.Offset,
		},
		Declared: declaredEnvironments(a.cfg), Grants: a.people.keys.Offered(), Unlimited: a.cfg.UnlimitedTier, Log: a.log,
	})
	return err
}

func publicPort(l config.Listen) int { return orDefault(l.ManagementProxy, l.Management) }

func orDefault(n, def int) int {
	if n != 0 {
		return n
	}
	return def
}

func (a *App) mountSurfaces() error {
	c, portals, auth := a.control, a.cfg.Portals, a.authenticate
	pub, err := publisher.New(publisher.Options{
		Service: c.publish, Authenticate: auth, Receipts: c.receipts, Gateways: a.liveGateways, InternalKey: a.internalKey,
		DevportalURL: portals.DevportalURL, GatewayTypes: portals.GatewayTypes, Log: a.log,
	})
	if err != nil {
		return err
	}
	dev, err := devportal.New(devportal.Options{
		Service: c.subscribe, Authenticate: auth, Receipts: c.receipts, Thumbnail: a.db.Blobs.Get, GatewayURL: a.cfg.GatewayURL(),
		Anonymous:      portals.Anonymous,
		PasswordChange: portals.PasswordChange, Log: a.log,
	})
	if err != nil {
		return err
	}
	adm, err := admin.New(admin.Options{
		Service: c.govern, Authenticate: auth, Receipts: c.receipts, Analytics: a.cfg.Has(config.Analytics), Log: a.log,
	})
	if err != nil {
		return err
	}
	a.mux.Handle(publisher.Base+"/", crossOrigin(portals.PublisherOrigin, pub))
	a.mux.Handle(devportal.Base+"/", crossOrigin(portals.DevportalOrigin, dev))
	a.mux.Handle(admin.Base+"/", crossOrigin(portals.AdminOrigin, adm))
	return nil
}

// liveGateways counts the gateways of an environment that hold a lease, and
// those of them that could not compile the API.
func (a *App) liveGateways(ctx context.Context, environment string, api apim.APIID) (live, failed int) {
	list, err := a.db.Log.Gateways(ctx)
	if err != nil {
		a.log.WarnContext(ctx, "gateways unknown", "err", err)
		return 0, 0
	}
	for _, g := range list {
		if slices.Contains(g.Labels, environment) && time.Since(time.UnixMilli(g.LastSeen)) <= leaseOf {
			live++
			if slices.ContainsFunc(g.Failed, func(s string) bool { return strings.Contains(s, string(api)) }) {
				failed++
			}
		}
	}
	return live, failed
}

// internalKeyLife is how long a key to try an API with is good.
const internalKeyLife = time.Minute

// internalKey makes the caller a key to try an API with, whatever its state.
func (a *App) internalKey(ctx context.Context, api *apim.API) (string, time.Duration, error) {
	actor := apim.ActorFrom(ctx)
	key, err := a.people.keys.InternalKey(ctx, keymanager.InternalKey{
		API:    token.APIRef{ID: string(api.ID), Name: api.Name, Context: fullContext(api), Version: api.Version},
		Tenant: actor.Tenant, User: actor.UserID, UserName: actor.User, KeyType: "PRODUCTION", Validity: internalKeyLife,
	})
	return key, internalKeyLife, err
}

// fullContext is the invocation context of an API, version included.
func fullContext(api *apim.API) string {
	if strings.Contains(api.ContextTemplate, "{version}") {
		return strings.ReplaceAll(api.ContextTemplate, "{version}", api.Version)
	}
	return api.Context + "/" + api.Version
}

// clientsOf gives subscribe the key manager in its own words.
type clientsOf struct{ *keymanager.KeyManager }

// Token issues a client credentials token.
func (k clientsOf) Token(ctx context.Context, s apim.Scope, id apim.ClientID, scopes []string, validity time.Duration) (subscribe.Token, error) {
	t, err := k.KeyManager.Token(ctx, s, id, scopes, validity)
	return subscribe.Token{Access: t.Access, Scopes: t.Scopes, Validity: t.Validity}, err
}
