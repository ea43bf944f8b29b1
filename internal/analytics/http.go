package analytics

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/rest"
)

// Base is the root of the paths that Handler serves.
const Base = "/api/cardea/v1"

// HandlerOptions of Handler.
type HandlerOptions struct {
	DB *DB
	// Authenticate finds who asks; an error is answered with 401.
	Authenticate func(ctx context.Context, r *http.Request) (*apim.Actor, error)
	// Applications lists the ids of the actor's own applications, for those who
	// may not see the whole tenant.
	Applications func(ctx context.Context, a *apim.Actor) ([]string, error)
	Names        Names // nil: answers hold ids only
	Log          *slog.Logger
}

// Scopes that see a whole tenant, and those that see their own applications.
var (
	wide = []string{"apim:admin", "apim:api_view", "apim:api_publish"}
	own  = []string{"apim:subscribe", "apim:app_manage"}
)

type handler struct {
	o   HandlerOptions
	mux *http.ServeMux
}

// Handler serves analytics/totals, series, by and calls, and decisions/{id}, all
// under Base. Unknown parameters are refused.
func Handler(o HandlerOptions) http.Handler {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	h := &handler{o: o, mux: http.NewServeMux()}
	h.get("/analytics/totals", h.totals, filters...)
	h.get("/analytics/series", h.series, append(slices.Clone(filters), "step")...)
	h.get("/analytics/by", h.by, append(slices.Clone(filters), "dimension", "limit")...)
	h.get("/analytics/calls", h.calls, "from", "to", "api", "application", "operation", "verb", "status", "code", "keyType", "user", "id", "limit", "cursor")
	h.get("/decisions/{id}", h.decision)
	h.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		rest.Fault(w, r, &fault.Missing)
	})
	return h.mux
}

var filters = []string{"from", "to", "api", "application", "operation", "verb", "status", "code", "keyType", "environment"}

// request is one question with who asks it.
type request struct {
	*http.Request
	actor *apim.Actor
	vals  url.Values
	own   []string // nil: the whole tenant
}

func (h *handler) get(path string, fn func(*request) (any, error), params ...string) {
	h.mux.HandleFunc(Base+path, func(w http.ResponseWriter, r *http.Request) {
		out, err := h.answer(r, fn, params)
		if err == nil {
			err = rest.JSON(w, http.StatusOK, out)
		}
		if err != nil {
			if f := fault.Of(err); f.Kind == fault.Internal {
				h.o.Log.ErrorContext(r.Context(), "analytics question failed", "path", r.URL.Path, "err", err)
			}
			rest.Fault(w, r, err)
		}
	})
}

func (h *handler) answer(r *http.Request, fn func(*request) (any, error), params []string) (any, error) {
	actor, err := h.o.Authenticate(r.Context(), r)
	if err != nil {
		return nil, fault.NotAuthorized.Because(err)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, &fault.Error{Kind: fault.Invalid, HTTP: http.StatusMethodNotAllowed, Code: 405, Msg: "Method Not Allowed"}
	}
	q := &request{Request: r, actor: actor}
	switch {
	case slices.ContainsFunc(wide, actor.HasScope):
	case slices.ContainsFunc(own, actor.HasScope) && h.o.Applications != nil:
		if q.own, err = h.o.Applications(r.Context(), actor); err != nil {
			return nil, err
		}
		if q.own == nil {
			q.own = []string{} // none, which is not all
		}
		if len(q.own) > 10_000 {
			q.own = q.own[:10_000]
		}
	default:
		return nil, fault.NotPermitted.With("one of the scopes " + strings.Join(append(slices.Clone(wide), own...), ", ") + " is required")
	}
	if q.vals, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, fault.BadRequest.With("the query is malformed")
	}
	for k, v := range q.vals {
		if !slices.Contains(params, k) {
			return nil, fault.BadRequest.Withf("unknown parameter %.64q", k)
		}
		if len(v) > 1 {
			return nil, fault.BadRequest.Withf("parameter %s is given more than once", k)
		}
		if len(v[0]) > 1024 {
			return nil, fault.BadRequest.Withf("parameter %s is too long", k)
		}
	}
	out, err := fn(q)
	if err != nil {
		return nil, err
	}
	if err := addNames(r.Context(), h.o.Names, actor.Tenant, out); err != nil {
		h.o.Log.WarnContext(r.Context(), "names not found", "err", err)
	}
	return out, nil
}

func (h *handler) totals(r *request) (any, error) {
	q, err := h.query(r)
	if err != nil {
		return nil, err
	}
	return h.o.DB.Totals(r.Context(), q)
}

func (h *handler) series(r *request) (any, error) {
	q, err := h.query(r)
	if err != nil {
		return nil, err
	}
	step := r.vals.Get("step")
	if step == "" {
		step = stepFor(q.To.Sub(q.From))
	}
	return h.o.DB.Series(r.Context(), q, step)
}

// stepFor is a step that makes a readable number of points.
func stepFor(d time.Duration) string {
	switch {
	case d <= 6*time.Hour:
		return "minute"
	case d <= 14*24*time.Hour:
		return "hour"
	}
	return "day"
}

func (h *handler) by(r *request) (any, error) {
	q, err := h.query(r)
	if err != nil {
		return nil, err
	}
	limit, err := r.number("limit", 100, 1, 1000)
	if err != nil {
		return nil, err
	}
	return h.o.DB.By(r.Context(), q, r.vals.Get("dimension"), limit)
}

func (h *handler) calls(r *request) (any, error) {
	q, err := h.query(r)
	if err != nil {
		return nil, err
	}
	limit, err := r.number("limit", 50, 1, 500)
	if err != nil {
		return nil, err
	}
	out, err := h.o.DB.Calls(r.Context(), CallQuery{Query: q, User: r.vals.Get("user"), ID: r.vals.Get("id"), Limit: limit, Cursor: r.vals.Get("cursor")})
	if err == nil && r.own != nil {
		if r.vals.Get("user") != "" {
			return nil, fault.BadRequest.With("parameter user is for those who may see the whole tenant")
		}
		for i := range out.Calls {
			out.Calls[i].redact()
		}
	}
	return out, err
}

func (h *handler) decision(r *request) (any, error) {
	x, err := h.o.DB.Explain(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	tenant := apim.TenantID(x.Tenant)
	if tenant == "" {
		tenant = apim.SuperTenant // no API was found, so the installation's owner may know
	}
	unseen := fault.Missing.With("there is no such decision, or it is not yours to see")
	if r.own == nil {
		if tenant != r.actor.Tenant {
			return nil, unseen
		}
		return x, nil
	}
	// Whose application it was is known from the stored details only.
	if x.Application == "" || !slices.Contains(r.own, x.Application) {
		return nil, unseen
	}
	x.redact()
	return x, nil
}

// query reads the parameters that all questions share.
func (h *handler) query(r *request) (Query, error) {
	now := h.o.DB.o.Now()
	q := Query{
		Tenant: string(r.actor.Tenant), API: r.vals.Get("api"), Application: r.vals.Get("application"), Operation: r.vals.Get("operation"),
		Verb: strings.ToUpper(r.vals.Get("verb")), KeyType: r.vals.Get("keyType"), Environment: r.vals.Get("environment"), Applications: r.own,
	}
	var err error
	if q.From, err = r.time("from", now, now.Add(-24*time.Hour)); err != nil {
		return q, err
	}
	if q.To, err = r.time("to", now, now); err != nil {
		return q, err
	}
	if !r.vals.Has("to") {
		// Up to now includes the minute under way, and a gateway's clock that is a little ahead.
		q.To = q.To.Add(time.Minute)
	}
	if !q.From.Before(q.To) {
		return q, fault.BadRequest.With("from is not before to")
	}
	if q.Status, err = r.number("status", 0, 100, 599); err != nil {
		return q, err
	}
	q.Code, err = r.number("code", 0, 1, 999_999)
	return q, err
}

func (r *request) number(name string, unset, low, high int) (int, error) {
	s := r.vals.Get(name)
	if s == "" {
		return unset, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, fault.BadRequest.Withf("parameter %s is a number from %d to %d", name, low, high)
	}
	return n, nil
}

// time reads RFC 3339, "now", or a time before now such as -90m, -1h, -7d.
func (r *request) time(name string, now, unset time.Time) (time.Time, error) {
	s := r.vals.Get(name)
	bad := fault.BadRequest.Withf("parameter %s is a time such as 2026-01-31T12:00:00Z, now, -1h or -7d", name)
	switch {
	case s == "":
		return unset, nil
	case s == "now":
		return now, nil
	case strings.HasPrefix(s, "-"):
		if days, ok := strings.CutSuffix(s[1:], "d"); ok {
			n, err := strconv.Atoi(days)
			if err != nil || n < 0 || n > 3660 {
				return now, bad
			}
			return now.AddDate(0, 0, -n), nil
		}
		d, err := time.ParseDuration(s[1:])
		if err != nil || d < 0 || d > 10*366*24*time.Hour {
			return now, bad
		}
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.Year() < 1971 || t.Year() > 9999 {
		return now, bad
	}
	return t, nil
}
