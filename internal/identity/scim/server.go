// Package scim serves the users and roles of a tenant by SCIM 2 (RFC 7643,
// RFC 7644), as provisioning systems and the original's clients drive it:
// Users, Groups, Roles, Me, Bulk, and what describes them. A caller sees only
// the own tenant, and needs the permission that the original's role carries.
package scim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/identity"
	"github.com/cardea-apim/cardea/internal/rest"
)

// Bounds of a request.
const (
	maxBody  = 1 << 20 // bytes
	maxDepth = 16
	maxBulk  = 200 // operations
)

// Options of a Server. Directory, Authenticate and URL are required.
type Options struct {
	Directory *identity.Directory
	// Authenticate tells who calls, from a bearer token or Basic credentials.
	Authenticate func(ctx context.Context, r *http.Request) (*apim.Actor, error)
	URL          string // base of all addresses given out
	Log          *slog.Logger
}

// Server serves /scim2/** and /t/{tenant}/scim2/**.
type Server struct{ o Options }

// New makes a Server.
func New(o Options) (*Server, error) {
	if o.Directory == nil || o.Authenticate == nil || o.URL == "" {
		return nil, errors.New("make SCIM server: Directory, Authenticate or URL is missing")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.URL = strings.TrimSuffix(o.URL, "/")
	return &Server{o}, nil
}

// result is a successful answer.
type result struct {
	status   int
	location string
	body     any
	list     bool // of resources: the projection is applied to each
}

// call is one request, or one operation of a bulk request.
type call struct {
	s        *Server
	ctx      context.Context
	desk     *identity.Desk
	base     string // of addresses given out, with the tenant
	only     []string
	excluded []string
	roles    map[string]string
	inBulk   bool
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	res, err := s.serve(r)
	if err != nil {
		status, body, hidden := errorBody(err)
		if hidden {
			s.o.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "err", err)
			body["detail"] = "Internal server error"
		}
		if status == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", `Basic realm="SCIM", charset="UTF-8"`)
			w.Header().Add("WWW-Authenticate", `Bearer realm="SCIM"`)
		}
		write(w, status, body)
		return
	}
	if res.location != "" {
		w.Header().Set("Location", res.location)
	}
	write(w, res.status, res.body)
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Cache-Control", "no-store")
	if body == nil {
		w.WriteHeader(status)
		return
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		panic("scim: encode answer: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/scim+json")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that left cannot be told
}

// split separates /t/{tenant} and /scim2 from the path.
func split(path string) (tenant apim.TenantID, rest string) {
	if p, ok := strings.CutPrefix(path, "/t/"); ok {
		t, p, _ := strings.Cut(p, "/")
		tenant, path = apim.TenantID(strings.ToLower(t)), "/"+p
	}
	return tenant, strings.TrimPrefix(path, "/scim2")
}

func prefixOf(t apim.TenantID) string {
	if t == apim.SuperTenant || t == "" {
		return ""
	}
	return "/t/" + string(t)
}

func (s *Server) serve(r *http.Request) (*result, error) {
	tenant, path := split(r.URL.Path)
	if res, ok, err := s.describe(r.Method, path, s.o.URL+prefixOf(tenant)+"/scim2"); ok || err != nil {
		return res, err
	}
	actor, err := s.o.Authenticate(r.Context(), r)
	if err != nil {
		return nil, err
	}
	if tenant != "" && actor.Tenant != tenant {
		return nil, fault.NotAuthorized.Because(errors.New("user of another tenant"))
	}
	ctx := apim.WithActor(r.Context(), actor)
	c := &call{s: s, ctx: ctx, desk: s.o.Directory.Desk(actor), base: s.o.URL + prefixOf(actor.Tenant) + "/scim2"}
	doc, err := readBody(r)
	if err != nil {
		return nil, err
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, bad("invalidSyntax", "the query is malformed")
	}
	if rest, ok := strings.CutSuffix(path, "/.search"); ok && r.Method == http.MethodPost {
		if q, err = searchQuery(doc); err != nil {
			return nil, err
		}
		if rest == "" {
			return c.search(q)
		}
		return c.do(http.MethodGet, rest, q, nil)
	}
	return c.do(r.Method, path, q, doc)
}

// describe serves what everybody may read: the schemas, the types of resources
// and what is supported.
func (s *Server) describe(method, path, base string) (*result, bool, error) {
	name, id, one := strings.Cut(strings.Trim(path, "/"), "/")
	var all []map[string]any
	switch name {
	case "ServiceProviderConfig":
		if method == http.MethodGet && !one {
			return &result{status: http.StatusOK, body: serviceConfig(base)}, true, nil
		}
	case "Schemas":
		all = schemas(base)
	case "ResourceTypes":
		all = resourceTypes(base)
	default:
		return nil, false, nil
	}
	if method != http.MethodGet {
		return nil, true, &refusal{status: http.StatusMethodNotAllowed, detail: "only GET is served here"}
	}
	if one {
		i := slices.IndexFunc(all, func(m map[string]any) bool { return m["id"] == id })
		if i < 0 {
			return nil, true, missing("the resource")
		}
		return &result{status: http.StatusOK, body: all[i]}, true, nil
	}
	return &result{status: http.StatusOK, body: map[string]any{
		"schemas": []string{listSchema}, "totalResults": len(all), "startIndex": 1, "itemsPerPage": len(all), "Resources": all,
	}}, true, nil
}

// readBody reads the JSON object of a request that has one.
func readBody(r *http.Request) (map[string]any, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete {
		return nil, nil
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "application/scim+json", "application/json":
	default:
		return nil, &refusal{status: http.StatusUnsupportedMediaType, detail: "the body must be application/scim+json"}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, bad("invalidSyntax", "the body cannot be read")
	}
	if len(b) > maxBody {
		return nil, &refusal{status: http.StatusRequestEntityTooLarge, detail: "the body is longer than 1 MiB"}
	}
	return decode(b)
}

func decode(b []byte) (map[string]any, error) {
	if err := rest.CheckDepth(b, maxDepth); err != nil {
		return nil, bad("invalidSyntax", "the JSON is nested too deeply")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var doc map[string]any
	if err := d.Decode(&doc); err != nil || doc == nil {
		return nil, bad("invalidSyntax", "the body is not a JSON object")
	}
	if d.More() {
		return nil, bad("invalidSyntax", "there is data behind the JSON object")
	}
	return doc, nil
}

// searchQuery reads a SearchRequest (RFC 7644 §3.4.3) as the query it stands for.
func searchQuery(doc map[string]any) (url.Values, error) {
	q := url.Values{}
	for _, name := range []string{"filter", "startIndex", "count", "attributes", "excludedAttributes"} {
		switch v, _ := lookup(doc, name); v := v.(type) {
		case nil:
		case string:
			q.Set(name, v)
		case json.Number:
			q.Set(name, v.String())
		case []any:
			var list []string
			for _, e := range v {
				s, ok := e.(string)
				if !ok {
					return nil, bad("invalidValue", "%s is a list of texts", name)
				}
				list = append(list, s)
			}
			q.Set(name, strings.Join(list, ","))
		default:
			return nil, bad("invalidValue", "%s is not what is expected", name)
		}
	}
	return q, nil
}

// search looks through users, then groups, as one list.
func (c *call) search(q url.Values) (*result, error) {
	w, err := windowOf(q)
	if err != nil {
		return nil, err
	}
	l := &listing{window: w, items: []any{}}
	for _, path := range []string{"/Users", "/Groups"} {
		q.Set("startIndex", strconv.Itoa(max(1, w.start-l.total)))
		q.Set("count", strconv.Itoa(w.count-len(l.items)))
		res, err := c.do(http.MethodGet, path, q, nil)
		if err != nil {
			return nil, err
		}
		page := res.body.(map[string]any)
		l.total += page["totalResults"].(int)
		l.items = append(l.items, page["Resources"].([]any)...)
	}
	return l.result(), nil
}

// rights are the scopes and the permission path of a kind of resource.
var rights = map[*kind]struct{ scope, permission string }{
	userKind:  {"internal_user_mgt_", identity.PermUsers},
	groupKind: {"internal_group_mgt_", identity.PermRoles},
	roleKind:  {"internal_role_mgt_", identity.PermRoles},
}

func (c *call) may(k *kind, what string) error {
	r := rights[k]
	ok, err := c.desk.Permitted(c.ctx, r.permission+what, r.scope+what)
	if err != nil {
		return err
	}
	if !ok {
		return fault.NotPermitted.With("you may not " + what + " this")
	}
	return nil
}

// do performs one operation.
func (c *call) do(method, path string, q url.Values, doc map[string]any) (*result, error) {
	if q.Get("attributes") != "" && q.Get("excludedAttributes") != "" {
		return nil, bad("invalidSyntax", "attributes and excludedAttributes exclude each other")
	}
	c.only, c.excluded = names(q.Get("attributes")), names(q.Get("excludedAttributes"))
	segs := strings.Split(strings.Trim(path, "/"), "/")
	if segs[0] == "v2" && len(segs) > 1 && segs[1] == "Roles" {
		segs = segs[1:]
	}
	var res *result
	var err error
	switch {
	case len(segs) == 1 && segs[0] == "Bulk" && method == http.MethodPost && !c.inBulk:
		return c.bulk(doc)
	case len(segs) == 1 && segs[0] == "Me":
		res, err = c.me(method, doc)
	case len(segs) == 1:
		res, err = c.collection(method, segs[0], q, doc)
	case len(segs) == 2 && segs[1] != "" && len(segs[1]) <= 64:
		res, err = c.resource(method, segs[0], segs[1], doc)
	default:
		err = missing("the resource")
	}
	if err != nil {
		return nil, err
	}
	c.project(res)
	return res, nil
}

func kindOf(name string) *kind {
	i := slices.IndexFunc(kinds, func(k *kind) bool { return k.path == "/"+name })
	if i < 0 {
		return nil
	}
	return kinds[i]
}

var errMethod = &refusal{status: http.StatusMethodNotAllowed, detail: "the method is not served here"}

func (c *call) collection(method, name string, q url.Values, doc map[string]any) (*result, error) {
	k := kindOf(name)
	if k == nil {
		return nil, missing("the resource")
	}
	switch method {
	case http.MethodGet:
		if err := c.may(k, "list"); err != nil {
			return nil, err
		}
		if k == userKind {
			return c.listUsers(q)
		}
		return c.listRoles(k, q)
	case http.MethodPost:
		if err := c.may(k, "create"); err != nil {
			return nil, err
		}
		if k == userKind {
			return c.createUser(doc)
		}
		return c.createRole(k, doc)
	}
	return nil, errMethod
}

func (c *call) resource(method, name, id string, doc map[string]any) (*result, error) {
	k := kindOf(name)
	if k == nil {
		return nil, missing("the resource")
	}
	what := map[string]string{http.MethodGet: "view", http.MethodPut: "update", http.MethodPatch: "update", http.MethodDelete: "delete"}[method]
	if what == "" {
		return nil, errMethod
	}
	if err := c.may(k, what); err != nil {
		return nil, err
	}
	user, role := apim.UserID(id), apim.RoleID(id)
	switch {
	case k == userKind && method == http.MethodGet:
		return c.showUser(http.StatusOK, user)
	case k == userKind && method == http.MethodPut:
		return c.replaceUser(user, user == c.desk.Actor().UserID, doc)
	case k == userKind && method == http.MethodPatch:
		return c.patchUser(user, user == c.desk.Actor().UserID, doc)
	case k == userKind:
		return c.deleteUser(user)
	case method == http.MethodGet:
		return c.showRole(k, http.StatusOK, role)
	case method == http.MethodPut:
		return c.replaceRole(k, role, doc)
	case method == http.MethodPatch:
		return c.patchRole(k, role, doc)
	}
	return c.deleteRole(k, role)
}

// me serves the caller's own user.
func (c *call) me(method string, doc map[string]any) (*result, error) {
	a := c.desk.Actor()
	if a.Client != "" && !slices.ContainsFunc([]string{"internal_login", "openid", "apim:admin"}, a.HasScope) {
		return nil, fault.NotPermitted.With("the token lacks the scope internal_login")
	}
	switch method {
	case http.MethodGet:
		return c.showUser(http.StatusOK, a.UserID)
	case http.MethodPut:
		return c.replaceUser(a.UserID, true, doc)
	case http.MethodPatch:
		return c.patchUser(a.UserID, true, doc)
	}
	return nil, errMethod
}

// noResource says which resource is missing.
func (c *call) noResource(err error, what string) error {
	if errors.Is(err, &fault.Missing) {
		return missing(what)
	}
	return err
}
