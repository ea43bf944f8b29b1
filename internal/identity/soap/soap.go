// Package soap serves the SOAP admin services by which automation made for the
// original creates its tenants, users, roles and clients: SOAP 1.1 with the
// original's envelopes, dispatch and statuses (reference: keymanager §11). They
// do what the other interfaces do, with the same rights.
package soap

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
)

// clients are the OAuth clients; *keymanager.KeyManager has them.
type clients interface {
	Client(ctx context.Context, s apim.Scope, id apim.ClientID) (*apim.Client, error)
	CreateClient(ctx context.Context, s apim.Scope, c *apim.Client) (secret string, err error)
	UpdateClient(ctx context.Context, s apim.Scope, c *apim.Client) error
	DeleteClient(ctx context.Context, s apim.Scope, id apim.ClientID) error
	Secret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error)
	RegenerateSecret(ctx context.Context, s apim.Scope, id apim.ClientID) (string, error)
	Offered() []string
}

// clientTable finds clients by name; *store.Table does.
type clientTable interface {
	First(ctx context.Context, s apim.Scope, q apim.Query) (*apim.Client, error)
	List(ctx context.Context, s apim.Scope, q apim.Query) (apim.Page[apim.Client], error)
}

// Options of a Server. All but Log and Version are required.
type Options struct {
	Directory *identity.Directory
	Clients   clients
	Table     clientTable
	// Authenticate tells who calls, from Basic credentials or a bearer token.
	Authenticate func(ctx context.Context, r *http.Request) (*apim.Actor, error)
	Version      string
	Log          *slog.Logger
}

// Server serves /services/** and /t/{tenant}/services/**.
type Server struct {
	o        Options
	services map[string]*service
}

// service is one admin service: a namespace and operations.
type service struct {
	space string
	ops   map[string]operation
}

// operation is one of a service. Its permission is the original's; scopes are
// those of a token that may stand for it.
type operation struct {
	run        func(*call) ([]any, error)
	permission string
	scope      string
	super      bool // only the platform's own tenant
	silent     bool // in-only: answered with 202, whatever became of it
	person     bool // anybody who has signed in
}

// call is one request.
type call struct {
	s    *Server
	ctx  context.Context
	desk *identity.Desk
	in   *node // the operation's element
}

func (c *call) dir() *identity.Directory { return c.s.o.Directory }

// New makes a Server.
func New(o Options) (*Server, error) {
	if o.Directory == nil || o.Clients == nil || o.Table == nil || o.Authenticate == nil {
		return nil, errors.New("make SOAP server: Directory, Clients, Table or Authenticate is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{o: o, services: map[string]*service{
		"TenantMgtAdminService":         tenantService,
		"RemoteUserStoreManagerService": storeService,
		"UserAdmin":                     userService,
		"OAuthAdminService":             oauthService,
	}}, nil
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, tenant := target(r.URL.Path)
	if name == "Version" && (r.Method == http.MethodGet || r.Method == http.MethodPost) {
		answer(w, http.StatusOK, response("getVersion", "http://version.services.core.carbon.wso2.org", []any{"Cardea " + s.o.Version}))
		return
	}
	svc := s.services[name]
	if svc == nil {
		answer(w, http.StatusNotFound, faultXML("Client", "The service cannot be found for the endpoint reference (EPR) "+r.URL.Path))
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, http.StatusMethodNotAllowed, faultXML("Client", "The services are called with POST"))
		return
	}
	actor, err := s.o.Authenticate(r.Context(), r)
	if err == nil && tenant != "" && actor.Tenant != tenant {
		err = fault.NotAuthorized.Because(errors.New("user of another tenant"))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	op, err := s.operation(svc, r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	op.call.s, op.call.desk = s, s.o.Directory.Desk(actor)
	op.call.ctx = apim.WithActor(r.Context(), actor)
	if err := op.allowed(); err != nil {
		s.refuse(w, r, err)
		return
	}
	ret, err := op.op.run(op.call)
	if err != nil && op.op.silent && harmless(err) {
		s.o.Log.WarnContext(r.Context(), "admin service refused a call", "service", name, "operation", op.name, "err", err)
		err = nil
	}
	switch {
	case err != nil:
		s.refuse(w, r, err)
	case op.op.silent:
		w.WriteHeader(http.StatusAccepted)
	default:
		answer(w, http.StatusOK, response(op.name, svc.space, ret))
	}
}

// harmless are refusals that an in-only operation answers like a success, as
// the original does: what is there already, or is not.
func harmless(err error) bool {
	switch fault.Of(err).Kind {
	case fault.Invalid, fault.Conflict, fault.NotFound:
		return true
	}
	return false
}

// target is the service that a path names, and the tenant.
func target(path string) (service string, tenant apim.TenantID) {
	if p, ok := strings.CutPrefix(path, "/t/"); ok {
		t, p, _ := strings.Cut(p, "/")
		tenant, path = apim.TenantID(strings.ToLower(t)), "/"+p
	}
	path, _, _ = strings.Cut(strings.TrimPrefix(path, "/services/"), "/")
	service, _, _ = strings.Cut(path, ".")
	return service, tenant
}

// request is an operation that was asked for.
type request struct {
	name string
	op   operation
	call *call
}

// operation finds what is asked for: by the SOAPAction first, then by the
// element in the body.
func (s *Server) operation(svc *service, r *http.Request) (*request, error) {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "text/xml", "application/xml", "application/soap+xml":
	default:
		return nil, fault.MediaType.With("The body must be text/xml")
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(b) > maxBody {
		return nil, fault.BodyTooLarge.Because(err)
	}
	root, err := parse(b)
	if err != nil {
		return nil, fault.BadRequest.With(err.Error())
	}
	in, err := operationOf(root)
	if err != nil {
		return nil, fault.BadRequest.With(err.Error())
	}
	action := strings.Trim(strings.TrimSpace(r.Header.Get("SOAPAction")), `"`)
	name := strings.TrimPrefix(action, "urn:")
	op, ok := svc.ops[name]
	if !ok {
		if name = in.name; name != "" {
			op, ok = svc.ops[name]
		}
	}
	if !ok {
		return nil, fault.BadRequest.Withf("The endpoint reference (EPR) for the Operation not found is %.256s and the WSA Action = %.128s.", r.URL.Path, action)
	}
	if in.space != svc.space {
		return nil, fault.BadRequest.Withf("namespace mismatch require %s found %.256s", svc.space, in.space)
	}
	return &request{name, op, &call{in: in}}, nil
}

func (q *request) allowed() error {
	k := q.call.desk
	if q.op.super && k.Tenant() != apim.SuperTenant {
		return fault.NotPermitted.With("Invalid data.")
	}
	if q.op.person {
		return nil
	}
	ok, err := k.Permitted(q.call.ctx, q.op.permission, q.op.scope)
	if err == nil && !ok {
		err = fault.NotPermitted.With("Access Denied. Please login with sufficient privileges")
	}
	return err
}

// refuse answers with a fault. SOAP 1.1 sends all of them with 500 (§6.2).
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := fault.Of(err)
	text := f.Detail
	if text == "" {
		text = f.Msg
	}
	status, code := http.StatusInternalServerError, "Server"
	switch f.Kind {
	case fault.Unauthenticated:
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="Admin services", charset="UTF-8"`)
	case fault.Unsupported, fault.TooLarge:
		status, code = f.Status(), "Client"
	case fault.Internal:
		s.o.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "err", err)
		text = "Internal server error"
	}
	answer(w, status, faultXML(code, text))
}

func answer(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that left cannot be told
}

// each makes a list of return values.
func each[T any](list []T) []any {
	out := make([]any, len(list))
	for i, v := range list {
		out[i] = v
	}
	return out
}

// matching reports whether a name fits a filter in which * is anything,
// ignoring case.
func matching(filter, name string) bool {
	filter, name = strings.ToLower(filter), strings.ToLower(name)
	if filter == "" || filter == "*" {
		return true
	}
	parts := strings.Split(filter, "*")
	if len(parts) == 1 {
		return name == filter
	}
	if !strings.HasPrefix(name, parts[0]) {
		return false
	}
	name = name[len(parts[0]):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(name, p)
		if i < 0 {
			return false
		}
		name = name[i+len(p):]
	}
	return strings.HasSuffix(name, parts[len(parts)-1])
}
