package analytics

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/usage"
)

// asks is a handler whose callers say who they are in a header.
func asks(d *DB) http.Handler {
	people := map[string]*apim.Actor{
		"admin":   {User: "admin", Tenant: "t", Scopes: []string{"apim:admin"}},
		"viewer":  {User: "viewer", Tenant: "t", Scopes: []string{"openid", "apim:api_view"}},
		"foreign": {User: "foreign", Tenant: "another", Scopes: []string{"apim:admin"}},
		"super":   {User: "super", Tenant: apim.SuperTenant, Scopes: []string{"apim:admin"}},
		"owner":   {User: "owner", Tenant: "t", Scopes: []string{"apim:subscribe"}},
		"poor":    {User: "poor", Tenant: "t", Scopes: []string{"apim:app_manage"}},
		"nobody":  {User: "nobody", Tenant: "t", Scopes: []string{"openid"}},
	}
	return Handler(HandlerOptions{
		DB: d, Log: quiet,
		Authenticate: func(_ context.Context, r *http.Request) (*apim.Actor, error) {
			if a := people[r.Header.Get("As")]; a != nil {
				return a, nil
			}
			return nil, errors.New("no such person")
		},
		Applications: func(_ context.Context, a *apim.Actor) ([]string, error) {
			if a.User == "owner" {
				return []string{"app"}, nil
			}
			return nil, nil
		},
		Names: known{},
	})
}

// known are the names of a and app in tenant t; all else is gone.
type known struct{}

func (known) APIs(_ context.Context, t apim.TenantID, _ []string) (map[string]Name, error) {
	if t != "t" {
		return nil, nil
	}
	return map[string]Name{"a": {Name: "Pizza", Version: "1.0"}}, nil
}

func (known) Applications(_ context.Context, t apim.TenantID, ids []string) (map[string]Name, error) {
	if slices.Contains(ids, "fails") {
		return nil, errors.New("the database is away")
	}
	if t != "t" {
		return nil, nil
	}
	return map[string]Name{"app": {Name: "Shop", Owner: "alice"}}, nil
}

func ask(t *testing.T, h http.Handler, as, target string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, Base+target, nil)
	r.Header.Set("As", as)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: body %q: %v", target, w.Body, err)
	}
	return w.Code, body
}

func filled(t *testing.T) (*DB, string) {
	d := open(t, t.TempDir(), atNoon())
	id := usage.SealDecision(key, usage.DecisionFacts{Time: noon, Gateway: "gw", Status: 429, Code: 900803, API: "a", Tenant: "t", Rule: "application-limit"})
	b := batch(1, counter(noon, "a", 200, 7), func() usage.Counter {
		c := counter(noon.Add(-2*time.Hour), "b", 429, 3)
		c.Application, c.Code = "other", 900803
		return c
	}())
	b.Calls = []usage.Call{
		{Time: noon, ID: "mine", Tenant: "t", API: "a", Application: "app", User: "alice", Client: "10.0.0.1", UserAgent: "curl", Status: 200},
		{Time: noon, ID: "theirs", Tenant: "t", API: "a", Application: "other", User: "bob", Client: "10.0.0.2", Status: 200},
	}
	b.Decisions = []usage.Decision{{
		ID: id, Time: noon, Gateway: "gw", Status: 429, Code: 900803, Rule: "application-limit", Tenant: "t", API: "a", Application: "app",
		Details: map[string]string{"limit": "50", "unit": "requests", "window": "1m0s", "policy": "50PerMin", "sub": "alice-internal-id"},
	}}
	store(t, d, b)
	return d, id
}

func TestQuestionsOverHTTP(t *testing.T) {
	t.Parallel()
	d, id := filled(t)
	h := asks(d)
	for _, c := range []struct {
		as, target string
		status     int
		want       string // path=value in the answer
	}{
		{"admin", "/analytics/totals", 200, "requests=10"},
		{"viewer", "/analytics/totals?from=-1h", 200, "requests=7"},
		{"admin", "/analytics/totals?from=-1d&to=-1h", 200, "requests=3"},
		{"admin", "/analytics/totals?from=2026-11-22T11:00:00Z&to=2026-11-22T14:00:00%2B01:00", 200, "requests=7"},
		{"admin", "/analytics/totals?api=b&status=429&code=900803", 200, "errors=3"},
		{"foreign", "/analytics/totals", 200, "requests=0"},
		{"owner", "/analytics/totals", 200, "requests=7"},
		{"owner", "/analytics/totals?application=other", 200, "requests=0"},
		{"poor", "/analytics/totals", 200, "requests=0"},
		{"admin", "/analytics/series?step=hour", 200, "points.0.requests=3"},
		{"admin", "/analytics/series?from=-3h", 200, "step=minute"},
		{"admin", "/analytics/by?dimension=api", 200, "groups.0.apiName=Namea"},
		{"admin", "/analytics/by?dimension=api&limit=1", 200, "more=true"},
		{"admin", "/analytics/calls", 200, "calls.0.id=theirs"},
		{"admin", "/analytics/calls?user=alice", 200, "calls.0.client=10.0.0.1"},
		{"owner", "/analytics/calls", 200, "calls.0.id=mine"},
		{"owner", "/analytics/calls", 200, "calls.0.client=<nil>"},
		{"owner", "/analytics/calls?user=bob", 400, "code=400"},
		{"admin", "/decisions/" + id, 200, "details.sub=alice-internal-id"},
		{"admin", "/decisions/" + id, 200, "stored=true"},
		{"owner", "/decisions/" + id, 200, "details.limit=50"},
		{"owner", "/decisions/" + id, 200, "details.sub=<nil>"},
		{"admin", "/decisions/" + id, 200, "apiName=Pizza"},
		{"admin", "/decisions/" + id, 200, "apiVersion=1.0"},
		{"admin", "/decisions/" + id, 200, "applicationName=Shop"},
		{"owner", "/decisions/" + id, 200, "applicationOwner=alice"},
		{"owner", "/decisions/" + id, 200, "application=app"},
		{"admin", "/analytics/by?dimension=application", 200, "groups.0.applicationName=Shop"},
		{"admin", "/analytics/by?dimension=application", 200, "groups.0.applicationOwner=alice"},
		{"admin", "/analytics/by?dimension=application", 200, "groups.0.key=app"},
		{"admin", "/analytics/by?dimension=application", 200, "groups.1.applicationName=<nil>"},
		{"admin", "/analytics/by?dimension=application", 200, "groups.1.key=other"},
		{"owner", "/analytics/calls", 200, "calls.0.applicationName=Shop"},
		{"poor", "/decisions/" + id, 404, "code=404"},
		{"foreign", "/decisions/" + id, 404, "code=404"},
		{"admin", "/decisions/nonsense", 400, "code=400"},

		{"", "/analytics/totals?what=ever", 401, "code=401"},
		{"nobody", "/analytics/totals", 403, "code=403"},
		{"admin", "/analytics/totals?what=ever", 400, "description=unknown parameter \"what\""},
		{"admin", "/analytics/totals?step=hour", 400, "code=400"},
		{"admin", "/analytics/totals?api=a&api=b", 400, "code=400"},
		{"admin", "/analytics/totals?from=yesterday", 400, "code=400"},
		{"admin", "/analytics/totals?from=-1h&to=-2h", 400, "code=400"},
		{"admin", "/analytics/totals?status=2000", 400, "code=400"},
		{"admin", "/analytics/totals?api=%zz", 400, "code=400"},
		{"admin", "/analytics/totals?api=" + strings.Repeat("a", 2000), 400, "code=400"},
		{"admin", "/analytics/series?step=week", 400, "code=400"},
		{"admin", "/analytics/series?step=minute&from=-30d", 400, "code=400"},
		{"admin", "/analytics/by", 400, "code=400"},
		{"admin", "/analytics/by?dimension=" + url.QueryEscape("d.api; DROP"), 400, "code=400"},
		{"admin", "/analytics/calls?limit=501", 400, "code=400"},
		{"admin", "/analytics/calls?cursor=x", 400, "code=400"},
		{"admin", "/analytics/nothing", 404, "code=404"},
		{"admin", "/decisions/" + id + "?x=1", 400, "code=400"},
	} {
		t.Run(c.as+" "+c.target[:min(len(c.target), 60)], func(t *testing.T) {
			status, body := ask(t, h, c.as, c.target)
			if status != c.status {
				t.Fatalf("status %d, want %d: %v", status, c.status, body)
			}
			path, want, _ := strings.Cut(c.want, "=")
			if got := dig(body, path); got != want {
				t.Errorf("%s is %s, want %s: %v", path, got, want, body)
			}
			if status >= 400 {
				for _, k := range []string{"code", "message", "description", "moreInfo", "error"} {
					if _, ok := body[k]; !ok {
						t.Errorf("error body without %s: %v", k, body)
					}
				}
			}
		})
	}
}

// dig follows a path of member names and indexes.
func dig(v any, path string) string {
	for p := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[p]
		case []any:
			if len(x) <= int(p[0]-'0') {
				return "missing"
			}
			v = x[p[0]-'0']
		}
	}
	if b, err := json.Marshal(v); err == nil && v != nil {
		return strings.TrimSuffix(strings.TrimPrefix(strings.ReplaceAll(string(b), `\"`, `"`), `"`), `"` /* of a string */)
	}
	return "<nil>"
}

func TestExplainWithoutStoredDetailsStillTellsTheRule(t *testing.T) {
	t.Parallel()
	d, _ := filled(t)
	h := asks(d)
	lost := usage.SealDecision(key, usage.DecisionFacts{Time: noon, Gateway: "gw", Status: 403, Code: 900910, API: "a", Tenant: "t", Rule: "scope"})
	if status, body := ask(t, h, "admin", "/decisions/"+lost); status != 200 || body["rule"] != "scope" || body["stored"] != false || body["note"] == nil {
		t.Errorf("%d %v", status, body)
	}
	if status, _ := ask(t, h, "owner", "/decisions/"+lost); status != 404 {
		t.Errorf("an owner is shown a decision that may be another's: %d", status)
	}
	unknown := usage.SealDecision(key, usage.DecisionFacts{Time: noon, Gateway: "gw", Status: 404, Code: 404, Rule: "no-api"})
	if status, _ := ask(t, h, "admin", "/decisions/"+unknown); status != 404 {
		t.Errorf("a tenant is shown a decision of nobody's API: %d", status)
	}
	if status, _ := ask(t, h, "super", "/decisions/"+unknown); status != 200 {
		t.Errorf("the installation's owner is not shown it: %d", status)
	}
	alien := usage.SealDecision([]byte("another key of 32 bytes........."), usage.DecisionFacts{Time: noon, Tenant: "t", Rule: "scope"})
	if status, _ := ask(t, h, "admin", "/decisions/"+alien); status != 404 {
		t.Errorf("a decision of another installation: %d", status)
	}
}

func TestOnlyGetIsAnswered(t *testing.T) {
	t.Parallel()
	d, _ := filled(t)
	r := httptest.NewRequest(http.MethodPost, Base+"/analytics/totals", nil)
	r.Header.Set("As", "admin")
	w := httptest.NewRecorder()
	asks(d).ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("status %d", w.Code)
	}
}

// Without names an answer is still an answer.
func TestNamesAreNoCondition(t *testing.T) {
	t.Parallel()
	d, _ := filled(t)
	c := counter(noon, "a", 200, 1)
	c.Application = "fails"
	store(t, d, batch(2, c))
	if status, body := ask(t, asks(d), "admin", "/analytics/by?dimension=application"); status != 200 || !strings.Contains(fmt.Sprint(body), "fails") {
		t.Errorf("%d %v", status, body)
	}
}

func TestNamesAreAddedToTheAnswersOfAnotherProcess(t *testing.T) {
	t.Parallel()
	d, id := filled(t)
	without := Handler(HandlerOptions{DB: d, Log: quiet, Authenticate: func(context.Context, *http.Request) (*apim.Actor, error) {
		return &apim.Actor{User: "admin", Tenant: "t", Scopes: []string{"apim:admin"}}, nil
	}})
	with := asks(d)
	for _, target := range []string{
		"/analytics/totals", "/analytics/series?step=hour", "/analytics/by?dimension=api", "/analytics/by?dimension=application",
		"/analytics/by?dimension=code", "/analytics/calls", "/analytics/calls?limit=1", "/decisions/" + id,
	} {
		answer := func(h http.Handler) []byte {
			r := httptest.NewRequest(http.MethodGet, Base+target, nil)
			r.Header.Set("As", "admin")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Body.Bytes()
		}
		path, _, _ := strings.Cut(Base+target, "?")
		got, err := AddNames(t.Context(), known{}, "t", path, answer(without))
		if err != nil {
			t.Errorf("%s: %v", target, err)
		}
		if want := bytes.TrimSpace(answer(with)); !bytes.Equal(bytes.TrimSpace(got), want) {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}
