// Package rest is the edge that all management APIs share. A surface is one
// OpenAPI document bound to its handlers by operationId: the document decides
// which paths exist, which scopes open them and what parameters and bodies
// must look like; a handler parses, calls one service, renders. Handlers
// return errors; only this package writes them.
package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sort"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// Handler serves one operation. What it returns is rendered as the contract's
// error body; having written a response it returns nil.
type Handler = func(w http.ResponseWriter, r *http.Request) error

// Receipts waits until gateways run the given changes.
type Receipts interface {
	Wait(ctx context.Context, changes []int64) (snapshot.Receipt, error)
}

// Options make a surface.
type Options struct {
	Doc      []byte             // OpenAPI 3 document, YAML or JSON
	Base     string             // path prefix, for example /api/am/publisher/v4
	Handlers map[string]Handler // by operationId

	// Authenticate says who calls. It fails with a fault when there are no
	// credentials or wrong ones; operations without scopes let callers without
	// an Authorization header pass as nobody.
	Authenticate func(ctx context.Context, r *http.Request) (*apim.Actor, error)
	Receipts     Receipts // nil: writes are not waited for
	MaxBody      int64    // bytes of a JSON body; 0: 1 MiB
	Log          *slog.Logger
}

type surface struct {
	Options
	root *node
}

// NewSurface binds the document to its handlers. It fails if an operation has
// no handler or a handler no operation.
func NewSurface(o Options) (http.Handler, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	o.Base = strings.TrimSuffix(o.Base, "/")
	ops, err := operations(o.Doc)
	if err != nil {
		return nil, err
	}
	s := &surface{Options: o, root: newNode()}
	var errs []error
	seen := map[string]bool{}
	for _, op := range ops {
		h, ok := o.Handlers[op.ID]
		if !ok {
			errs = append(errs, fmt.Errorf("operation %s (%s %s) has no handler", op.ID, op.Method, op.Path))
			continue
		}
		if seen[op.ID] {
			errs = append(errs, fmt.Errorf("operationId %s occurs twice", op.ID))
		}
		seen[op.ID] = true
		op.handler = h
		s.root.add(op)
	}
	for id := range o.Handlers {
		if !seen[id] {
			errs = append(errs, fmt.Errorf("handler %s has no operation", id))
		}
	}
	sort.Slice(errs, func(i, j int) bool { return errs[i].Error() < errs[j].Error() })
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("bind %s: %w", o.Base, err)
	}
	return s, nil
}

// call is what a surface knows about the request in hand.
type call struct {
	op       *operation
	params   map[string]string
	surface  *surface
	changes  *apim.Changes
	receipt  *snapshot.Receipt
	receiptN int // how many changes the receipt covers
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// ServeHTTP finds the operation, decides 401 before anything else about the
// request, checks parameters and runs the handler.
func (s *surface) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, no-store")
	c := &call{surface: s}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	rw := &responder{ResponseWriter: w, ctx: r.Context(), call: c}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { //nolint:errorlint // the sentinel is compared by identity
			panic(p)
		}
		s.Log.ErrorContext(r.Context(), "handler panicked", "method", r.Method, "operation", c.opID(),
			"panic", p, "stack", string(debug.Stack()))
		if !rw.wrote {
			rw.noWait = true
			writeFault(rw, &fault.General)
		}
	}()
	if err := s.serve(rw, r, c); err != nil {
		rw.fail(err)
	}
}

func (c *call) opID() string {
	if c == nil || c.op == nil {
		return ""
	}
	return c.op.ID
}

func (s *surface) serve(w *responder, r *http.Request, c *call) error {
	raw := strings.TrimPrefix(r.URL.EscapedPath(), s.Base)
	if raw == "/openapi.yaml" && r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "application/yaml")
		_, err := w.Write(s.Doc)
		return err
	}
	// A matrix parameter in a segment answers 401 and is not echoed: clients of
	// the original probe for it.
	if strings.Contains(raw, ";") {
		return &fault.NotAuthorized
	}
	n, params, ok := s.root.find(raw)
	if !ok || len(n.ops) == 0 {
		return fault.Missing.With("The requested resource does not exist")
	}
	op := n.ops[r.Method]
	if op == nil && r.Method == http.MethodHead {
		op = n.ops[http.MethodGet]
	}
	if op == nil {
		w.Header().Set("Allow", n.allow())
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		e := fault.BadRequest
		e.HTTP, e.Code, e.Msg = http.StatusMethodNotAllowed, http.StatusMethodNotAllowed, "Method Not Allowed"
		return e.With("The method is not allowed for the requested resource")
	}
	c.op, c.params = op, params

	ctx := r.Context()
	if !op.open() && !op.public || r.Header.Get("Authorization") != "" {
		actor, err := s.Authenticate(ctx, r)
		if err != nil {
			return err
		}
		if actor == nil || !op.allows(actor) {
			return &fault.NotAuthorized
		}
		ctx = apim.WithActor(ctx, actor)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		ctx, c.changes = apim.TrackChanges(ctx)
	}
	w.ctx = ctx
	r = r.WithContext(ctx)
	if err := op.checkParams(r, params); err != nil {
		return err
	}
	if err := op.handler(w, r); err != nil {
		return err
	}
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

// Path is a decoded path parameter.
func Path(r *http.Request, name string) string {
	if c := callOf(r.Context()); c != nil {
		return c.params[name]
	}
	return r.PathValue(name)
}

// OperationID names the operation that the request met, for logs.
func OperationID(ctx context.Context) string { return callOf(ctx).opID() }
