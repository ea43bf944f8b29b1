package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestCompat pins what clients of the original depend on, as tables: a fact,
// the request that shows it, and the answer. All tables run against one node;
// every answer of a management surface is checked against our own OpenAPI
// documents too.
func TestCompat(t *testing.T) {
	w := newWorld(t)
	t.Run("oauth", func(t *testing.T) { compatOAuth(t, w) })
	t.Run("third-party clients", func(t *testing.T) { compatThirdParty(t, w) })
	t.Run("browser sign-in", func(t *testing.T) { compatBrowser(t, w) })
	t.Run("publisher", func(t *testing.T) { compatPublisher(t, w) })
	t.Run("definitions", func(t *testing.T) { compatDefinitions(t, w) })
	t.Run("revisions", func(t *testing.T) { compatRevisions(t, w) })
	t.Run("devportal", func(t *testing.T) { compatDevportal(t, w) })
	t.Run("states", func(t *testing.T) { compatStates(t, w) })
	t.Run("keys", func(t *testing.T) { compatKeys(t, w) })
	t.Run("admin", func(t *testing.T) { compatAdmin(t, w) })
	t.Run("roles", func(t *testing.T) { compatRoles(t, w) })
	t.Run("tenants", func(t *testing.T) { compatTenants(t, w) })
	t.Run("governance", func(t *testing.T) { compatGovern(t, w) })
	t.Run("users", func(t *testing.T) { compatUsers(t, w) })
	t.Run("command line tool", func(t *testing.T) { compatTool(t, w) })
	t.Run("password", func(t *testing.T) { compatPassword(t, w) })
}

// world is one node with a user for each role, all with the password password.
type world struct {
	node    *Process
	backend *Backend
	clients map[string]*Client
	vars    map[string]string // what facts saved, by $name
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{node: node(t, Node{}), backend: NewBackend(), clients: map[string]*Client{}, vars: map[string]string{}}
	t.Cleanup(w.backend.Close)
	a := admin(t, w.node)
	w.clients["admin"] = a
	for _, role := range []string{"creator", "publisher", "subscriber", "devops"} {
		ok(t, a.NewUser(t.Context(), role, "password", "Internal/"+role))
		w.clients[role] = must[*Client](t)(Login(t.Context(), w.node.Management(), role, "password"))
	}
	w.clients["anonymous"] = &Client{Base: w.node.Management()}
	w.vars["backend"] = w.backend.URL
	w.vars["pub"], w.vars["dev"], w.vars["adm"], w.vars["own"] = Publisher, Devportal, Admin, "/api/cardea/v1"
	return w
}

// want maps where a value is in a JSON answer (list.0.name; list.# is a length)
// to the value. The strings below stand for more than themselves.
type want map[string]any

const (
	present = "\x00present" // any value but null
	absent  = "\x00absent"  // no such member, or null
)

// contains stands for a string, or a list of strings, with this in it; header
// looks a response header up.
func contains(s string) string  { return "\x00contains" + s }
func header(name string) string { return "\x00header" + name }

// save keeps values of the answer for later facts, by $name.
type save map[string]string

// fact is one row: who asks for what, and the answer.
type fact struct {
	name   string
	as     string // admin by default
	do     string // METHOD path; $name is replaced
	body   any    // string or []byte: as it is; otherwise JSON; []Part: a form
	header []string
	status int
	want   want
	save   save
}

func (w *world) run(t *testing.T, facts []fact) {
	t.Helper()
	for _, f := range facts {
		t.Run(f.name, func(t *testing.T) {
			a := w.ask(t, f)
			if a.Status != f.status {
				t.Fatalf("%s\nstatus %d, want %d: %.700s", w.fill(f.do), a.Status, f.status, a.Body)
			}
			w.check(t, f, a)
			method, path, _ := strings.Cut(w.fill(f.do), " ")
			if err := Conforms(t.Context(), method, path, a); err != nil {
				t.Errorf("%s\nagainst our document: %v", w.fill(f.do), err)
			}
			for name, where := range f.save {
				v, err := w.at(a, where)
				if err != nil || v == nil {
					t.Fatalf("no %s to save in %.700s (%v)", where, a.Body, err)
				}
				w.vars[name] = plain(v)
			}
		})
	}
}

func (w *world) ask(t *testing.T, f fact) *Answer {
	t.Helper()
	method, path, _ := strings.Cut(w.fill(f.do), " ")
	who := f.as
	if who == "" {
		who = "admin"
	}
	c := w.clients[who]
	if c == nil {
		t.Fatalf("nobody is called %s", who)
	}
	if parts, isForm := f.body.([]Part); isForm {
		for i := range parts {
			parts[i].Data = []byte(w.fill(string(parts[i].Data)))
		}
		return must[*Answer](t)(c.Upload(t.Context(), method, path, parts...))
	}
	var body string
	switch v := f.body.(type) {
	case nil:
	case string:
		body = w.fill(v)
	default:
		b, err := json.Marshal(v)
		ok(t, err)
		body = w.fill(string(b))
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.Base+path, strings.NewReader(body))
	ok(t, err)
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range f.header {
		name, value, _ := strings.Cut(w.fill(h), ": ")
		if value == "" {
			req.Header.Del(name)
			continue
		}
		req.Header.Set(name, value)
	}
	return must[*Answer](t)(send(req))
}

// fill replaces $name by what an earlier fact saved; longer names win.
func (w *world) fill(s string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	names := make([]string, 0, len(w.vars))
	for n := range w.vars {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	for _, n := range names {
		s = strings.ReplaceAll(s, "$"+n, w.vars[n])
	}
	return s
}

func (w *world) check(t *testing.T, f fact, a *Answer) {
	t.Helper()
	for where, expected := range f.want {
		got, err := w.at(a, where)
		if err != nil {
			t.Fatal(err)
		}
		if e, isText := expected.(string); isText {
			expected = w.fill(e)
		}
		if why := differs(got, expected); why != "" {
			t.Errorf("%s: %s %s; answer %d %.900s", w.fill(f.do), strings.TrimPrefix(where, "\x00"), why, a.Status, a.Body)
		}
	}
}

func differs(got, expected any) string {
	if e, isText := expected.(string); isText && strings.HasPrefix(e, "\x00") {
		part, isPart := strings.CutPrefix(e, "\x00contains")
		switch {
		case e == present && got == nil:
			return "is missing"
		case e == absent && got != nil:
			return fmt.Sprintf("is %v, want it absent", got)
		case isPart:
			if list, isList := got.([]any); isList && slices.Contains(list, any(part)) {
				return ""
			}
			if s, isText := got.(string); !isText || !strings.Contains(s, part) {
				return fmt.Sprintf("is %v, want %q in it", got, part)
			}
		}
		return ""
	}
	x, err := json.Marshal(expected)
	if err != nil {
		return err.Error()
	}
	y, err := json.Marshal(got)
	if err != nil {
		return err.Error()
	}
	if string(x) != string(y) {
		return fmt.Sprintf("is %s, want %s", y, x)
	}
	return ""
}

// at finds a value of an answer: a header, the body as text (""), or a path
// into the JSON body.
func (w *world) at(a *Answer, where string) (any, error) {
	if name, isHeader := strings.CutPrefix(where, "\x00header"); isHeader {
		if v := a.Header.Values(name); len(v) > 0 {
			return strings.Join(v, ", "), nil
		}
		return nil, nil
	}
	if where == "" {
		return string(a.Body), nil
	}
	var v any
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return nil, fmt.Errorf("answer %d is not JSON: %.300q", a.Status, a.Body)
	}
	for step := range strings.SplitSeq(where, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			if step == "#" {
				v = float64(len(x))
				continue
			}
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(x) {
				return nil, nil
			}
			v = x[i]
		default:
			return nil, nil
		}
	}
	return v, nil
}

func plain(v any) string {
	if s, isText := v.(string); isText {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}

// token gets a token of the client saved as $id and $secret.
func (w *world) token(ctx context.Context, form url.Values) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.node.Management()+"/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(w.vars["id"], w.vars["secret"])
	return send(req)
}
