package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/rest"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// ownBase is the root of what the original does not have.
const ownBase = "/api/cardea/v1"

// leaseOf is how long a gateway counts as alive after its last sign of life.
const leaseOf = 3 * time.Second

// NodeView is a gateway as /nodes lists it.
type NodeView struct {
	Name         string    `json:"name"`
	State        string    `json:"state"` // serving, starting, away; joined: no gateway, or never seen
	Version      string    `json:"version"`
	Current      bool      `json:"current"` // runs the newest version
	Environments []string  `json:"environments"`
	Failed       []string  `json:"failed,omitempty"`   // items that did not compile: kind/id: cause
	Warnings     []string  `json:"warnings,omitempty"` // parts that are not well: part: cause
	LastSeen     time.Time `json:"lastSeen,omitzero"`
	// Of a node that joined with a token: what it may do, and since when.
	Roles  []string  `json:"roles,omitempty"`
	Joined time.Time `json:"joined,omitzero"`
}

// wireOwn mounts our own interface: nodes, join tokens, receipts, users, the
// audit, and what analytics answers.
func (a *App) wireOwn(context.Context) error {
	if a.db == nil {
		return nil
	}
	a.own("GET "+ownBase+"/nodes", a.listNodes)
	a.own("DELETE "+ownBase+"/nodes/{name}", a.removeNode)
	a.own("POST "+ownBase+"/nodes/tokens", a.makeJoinToken)
	a.own("GET "+ownBase+"/receipts/{version}", a.receipt)
	a.own("GET "+ownBase+"/info", a.info)
	a.own("POST "+ownBase+"/signing-keys", a.rotateKey)
	a.own("GET "+ownBase+"/audits", a.listAudits)
	a.mountUsers()
	a.mountTenants()
	a.mountAnalytics()
	return nil
}

// own mounts a handler for administrators.
func (a *App) own(pattern string, h rest.Handler) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		actor, err := a.administrator(r)
		if err != nil {
			rest.Fault(w, r, &fault.NotAuthorized)
			return
		}
		ctx, changes := apim.TrackChanges(apim.WithActor(r.Context(), actor))
		held := &heldAnswer{ResponseWriter: w, before: func() { a.await(ctx, changes.IDs()) }}
		if err := h(held, r.WithContext(ctx)); err != nil {
			if f := fault.Of(err); f.Kind == fault.Internal {
				a.log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "err", err)
			}
			rest.Fault(w, r, err)
		}
	})
}

// heldAnswer lets an answer begin only after the gateways know what it tells.
type heldAnswer struct {
	http.ResponseWriter
	before func()
	once   sync.Once
}

func (h *heldAnswer) WriteHeader(status int) {
	h.once.Do(h.before)
	h.ResponseWriter.WriteHeader(status)
}

func (h *heldAnswer) Write(b []byte) (int, error) {
	h.once.Do(h.before)
	return h.ResponseWriter.Write(b)
}

func (a *App) listNodes(w http.ResponseWriter, r *http.Request) error {
	head, err := a.db.Log.Head(r.Context())
	if err != nil {
		return err
	}
	nodes, err := a.nodes(r.Context(), head)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusOK, map[string]any{"version": head.String(), "nodes": nodes, "count": len(nodes), "warnings": a.warnings()})
}

func (a *App) nodes(ctx context.Context, head snapshot.Version) ([]NodeView, error) {
	list, err := a.db.Log.Gateways(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]NodeView, 0, len(list))
	for _, g := range list {
		seen := time.UnixMilli(g.LastSeen)
		v := NodeView{Name: g.ID, State: "serving", Version: g.Version, Current: g.Version == head.String(), Environments: g.Labels, Failed: g.Failed, Warnings: g.Warnings, LastSeen: seen.UTC()}
		switch {
		case time.Since(seen) > leaseOf:
			v.State = "away"
		case !g.Ready:
			v.State = "starting"
		}
		out = append(out, v)
	}
	members, err := a.db.Log.Members(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		i := slices.IndexFunc(out, func(v NodeView) bool { return v.Name == m.Node })
		if i < 0 {
			i = len(out)
			out = append(out, NodeView{Name: m.Node, State: "joined"})
		}
		out[i].Roles, out[i].Joined = m.Roles, m.Joined.UTC()
	}
	return out, nil
}

// removeNode withdraws the certificates of a node that joined.
func (a *App) removeNode(w http.ResponseWriter, r *http.Request) error {
	if !a.cfg.Has(config.Control) {
		return fault.BadRequest.With("this node has no control role")
	}
	name := r.PathValue("name")
	if err := a.control.sync.Withdraw(r.Context(), name); err != nil {
		return err
	}
	a.log.InfoContext(r.Context(), "node removed", "node", name)
	return rest.Empty(w, http.StatusNoContent)
}

// receipt tells which gateways run a version, for a caller that did not wait.
func (a *App) receipt(w http.ResponseWriter, r *http.Request) error {
	v, err := snapshot.ParseVersion(r.PathValue("version"))
	if err != nil {
		return fault.BadRequest.With("the version is epoch.seq")
	}
	list, err := a.db.Log.Gateways(r.Context())
	if err != nil {
		return err
	}
	out := snapshot.Receipt{Version: v, Complete: true}
	for _, g := range list {
		at, err := snapshot.ParseVersion(g.Version)
		ack := snapshot.Ack{Gateway: g.ID, Acked: err == nil && at.Compare(v) >= 0, Failed: g.Failed}
		out.Gateways = append(out.Gateways, ack)
		if !ack.Acked && time.Since(time.UnixMilli(g.LastSeen)) <= leaseOf {
			out.Complete = false
		}
	}
	return rest.JSON(w, http.StatusOK, out)
}

func (a *App) info(w http.ResponseWriter, _ *http.Request) error {
	return rest.JSON(w, http.StatusOK, map[string]any{
		"version": a.o.Version, "node": a.name, "roles": a.cfg.Roles, "database": a.db.Engine(),
		"gateway": a.cfg.GatewayURL(), "startedAt": a.started.UTC(),
	})
}

// rotateKey makes a new signing key. Gateways know it at once; tokens carry it
// once every verifier elsewhere has had the time to fetch it. The query may
// name a tenant and another algorithm.
func (a *App) rotateKey(w http.ResponseWriter, r *http.Request) error {
	tenant := apim.SuperTenant
	if name := r.URL.Query().Get("tenant"); name != "" {
		tenant = apim.TenantID(name)
	}
	if _, err := a.db.Tenants.Get(r.Context(), apim.In(tenant), tenant); err != nil {
		return err
	}
	id, err := a.people.keys.RotateTenantKey(r.Context(), tenant, r.URL.Query().Get("algorithm"))
	if err != nil {
		return err
	}
	a.log.InfoContext(r.Context(), "signing key made", "kid", id, "tenant", tenant)
	return rest.JSON(w, http.StatusCreated, map[string]any{"kid": id})
}

type joinTokenRequest struct {
	Roles []string `json:"roles"`
}

func (a *App) makeJoinToken(w http.ResponseWriter, r *http.Request) error {
	if !a.cfg.Has(config.Control) {
		return fault.BadRequest.With("this node has no control role")
	}
	in := joinTokenRequest{Roles: []string{string(config.Gateway)}}
	if err := decodeStrict(r, &in); err != nil {
		return err
	}
	if len(in.Roles) == 0 || slices.ContainsFunc(in.Roles, func(s string) bool { return !slices.Contains(pki.Roles, s) }) {
		return fault.BadRequest.Withf("roles: want some of %v", pki.Roles)
	}
	token, err := a.control.joinToken(r.Context(), in.Roles)
	if err != nil {
		return err
	}
	return rest.JSON(w, http.StatusCreated, map[string]any{"token": token, "control": a.control.address, "roles": in.Roles})
}

// list answers with the page that a request asks for, each item as view shows it.
func list[T, V any](w http.ResponseWriter, r *http.Request, sort string, view func(*T) V, find func(context.Context, apim.Query) (apim.Page[T], error)) error {
	offset, limit, err := rest.PageOf(r)
	if err != nil {
		return err
	}
	page, err := find(r.Context(), apim.Query{Sort: sort, Offset: offset, Limit: limit})
	if err != nil {
		return err
	}
	items := make([]V, len(page.Items))
	for i, v := range page.Items {
		items[i] = view(v)
	}
	return rest.JSON(w, http.StatusOK, rest.NewList(r, items, page.Total, offset, limit))
}

// decodeStrict reads a small JSON body; our own interface takes no unknown members.
func decodeStrict(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, 1<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil && !errors.Is(err, io.EOF) {
		return fault.BadRequest.With(fmt.Sprintf("body: %v", err))
	}
	return nil
}
