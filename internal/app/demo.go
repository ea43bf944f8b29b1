package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/client"
	"github.com/cardea-apim/cardea/internal/demo"
	"github.com/cardea-apim/cardea/internal/identity"
)

// wireDemo mounts the sample backend.
func (a *App) wireDemo() {
	if a.cfg.Demo {
		a.mux.Handle(demo.Base+"/", demo.NewBackend().Handler())
	}
}

// runDemo makes the sample through the management interfaces of this process,
// as the administrator and as the developer, and gives the lines to try.
func (a *App) runDemo(ctx, work context.Context) ([]string, error) {
	password := demo.User
	if !a.cfg.Loopback() {
		password = strings.ToLower(rand.Text())
	}
	host := a.cfg.Listen.Hosts[0]
	if addr, err := netip.ParseAddr(host); err == nil && addr.IsUnspecified() {
		host = "127.0.0.1"
	}
	backend := "http://" + net.JoinHostPort(host, strconv.Itoa(a.cfg.Listen.ManagementHTTP)) + demo.Base
	if a.cfg.Listen.ManagementHTTP == 0 {
		backend = a.cfg.BaseURL + demo.Base
	}
	gw := gatewayURL(a.cfg, "http", a.cfg.Listen.GatewayHTTP)
	if gw == "" {
		gw = a.cfg.GatewayURL()
	}
	lines, err := demo.Run(ctx, demo.Options{
		File:      a.home.path("demo.json"),
		Publisher: a.insider(work, a.cfg.Admin.Username), Developer: a.insider(work, demo.User),
		EnsureUser: a.ensureUser, Backend: backend, Gateway: gw, Password: password,
	})
	if err != nil {
		return nil, err
	}
	return append(lines, command()+" call "+demo.API+" /menu"+a.serverFlag(), command()+" stats"+a.serverFlag()), nil
}

// ensureUser makes a user who may design, publish and subscribe.
func (a *App) ensureUser(ctx context.Context, name, password string) error {
	ctx = apim.WithActor(ctx, &apim.Actor{User: "system", Tenant: apim.SuperTenant, System: true})
	_, err := a.people.directory.CreateUser(ctx, apim.SuperTenant, identity.NewUser{
		Name: name, Password: password, Roles: []string{"Internal/subscriber", "Internal/creator", "Internal/publisher"},
	})
	if isTaken(err) {
		return nil
	}
	return err
}

// insider is a client of this process's own management interfaces that needs
// no network, no certificate and no password: it carries a token of the user
// made here.
func (a *App) insider(work context.Context, user string) *client.Client {
	return &client.Client{
		Base: "https://" + a.cfg.Hostname,
		HTTP: &http.Client{Transport: inside{a.mux, work}, Timeout: time.Minute},
		Authorize: func(r *http.Request) {
			*r = *r.WithContext(context.WithValue(r.Context(), insiderKey{}, user))
		},
	}
}

// insiderKey marks a request that this process makes to itself. Only code of
// this process can put it into a context.
type insiderKey struct{}

// authenticate knows insiders by their context and everybody else by their
// credentials.
func (a *App) authenticate(ctx context.Context, r *http.Request) (*apim.Actor, error) {
	name, ok := r.Context().Value(insiderKey{}).(string)
	if !ok || r.Header.Get("Authorization") != "" {
		return a.people.keys.Authenticate(ctx, r)
	}
	u, err := a.people.directory.User(ctx, apim.SuperTenant, name)
	if err != nil {
		return nil, err
	}
	roles := a.people.directory.RolesOf(u)
	scopes, err := a.people.directory.AllScopes(ctx, apim.SuperTenant, roles)
	if err != nil {
		return nil, err
	}
	return &apim.Actor{User: u.Name, UserID: u.ID, Tenant: apim.SuperTenant, Roles: roles, Scopes: scopes, Addr: "127.0.0.1"}, nil
}

// inside is a transport that calls a handler of this process.
type inside struct {
	h    http.Handler
	work context.Context
}

// RoundTrip serves the request from the handler.
func (t inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.work.Err(); err != nil {
		return nil, context.Cause(t.work)
	}
	in := r.Clone(r.Context())
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:0"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := &recorder{header: http.Header{}}
	t.h.ServeHTTP(w, in)
	if w.status == 0 {
		return nil, errors.New("no answer")
	}
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), Request: r,
	}, nil
}

// recorder keeps an answer in memory.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
