package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// Public documents nobody here wrote; scripts/real-input.sh brings them.
var realDocuments = []struct {
	file, name   string
	operations   int // at least
	usableWithin time.Duration
}{
	{"github.json", "GitHub", 900, 10 * time.Second},
	{"kubernetes.json", "Kubernetes", 600, 10 * time.Second},
	{"galaxy.yaml", "Galaxy", 5, 5 * time.Second},
	{"train-travel.json", "TrainTravel", 5, 5 * time.Second},
	{"star-trek.yaml", "StarTrek", 50, 5 * time.Second},
}

func realInput(t *testing.T, file string) []byte {
	t.Helper()
	dir := os.Getenv("CARDEA_REAL_INPUT")
	if dir == "" {
		dir = filepath.Join(Root(), ".cache", "real")
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatalf("%v (scripts/real-input.sh brings the documents; make test runs it)", err)
	}
	return b
}

type operation struct{ verb, path string }

// operationsOf reads paths and verbs independently of the product's own reader.
func operationsOf(t *testing.T, doc []byte) []operation {
	t.Helper()
	var d struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	var err error
	if bytes.HasPrefix(bytes.TrimSpace(doc), []byte("{")) {
		err = json.Unmarshal(doc, &d)
	} else {
		err = yaml.Unmarshal(doc, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	var ops []operation
	for path, item := range d.Paths {
		for verb := range item {
			switch verb {
			case "get", "put", "post", "delete", "patch", "head", "options":
				ops = append(ops, operation{strings.ToUpper(verb), path})
			}
		}
	}
	sort.Slice(ops, func(i, j int) bool {
		return ops[i].path+ops[i].verb < ops[j].path+ops[j].verb
	})
	return ops
}

var template = regexp.MustCompile(`\{[^}]*\}`)

func TestRealDocuments(t *testing.T) {
	p := node(t, Node{})
	c := admin(t, p)
	backend := NewBackend()
	defer backend.Close()
	for _, doc := range realDocuments {
		t.Run(doc.name, func(t *testing.T) {
			ctx := t.Context()
			source := realInput(t, doc.file)
			ops := operationsOf(t, source)
			if len(ops) < doc.operations {
				t.Fatalf("the document has %d operations, want at least %d", len(ops), doc.operations)
			}
			contextPath := "/real/" + strings.ToLower(doc.name)
			began := time.Now()
			api := must[string](t)(c.Import(ctx, NewAPI{
				Definition: source, File: doc.file, Name: doc.name, Version: "1.0.0", Context: contextPath, Backend: backend.URL,
			}))
			ok(t, c.Publish(ctx, api))
			if took := time.Since(began); took > doc.usableWithin {
				t.Errorf("import and publish took %v", took)
			}

			t.Run("definition comes back byte for byte", func(t *testing.T) {
				a := must[*Answer](t)(c.Do(ctx, http.MethodGet, Publisher+"/apis/"+api+"/swagger", nil))
				if a.Status != http.StatusOK || !bytes.Equal(a.Body, source) {
					t.Fatalf("status %d, %d bytes, want the %d received ones (first difference at %d)", a.Status, len(a.Body), len(source), firstDifference(a.Body, source))
				}
			})

			var shown struct {
				Operations []struct{ Target, Verb string }
				Scopes     []struct{ Scope struct{ Name string } }
			}
			ok(t, c.Must(ctx, http.StatusOK, http.MethodGet, Publisher+"/apis/"+api, nil, &shown))
			if len(shown.Operations) != len(ops) {
				t.Errorf("API has %d operations, document %d", len(shown.Operations), len(ops))
			}
			var scopes []string
			for _, s := range shown.Scopes {
				scopes = append(scopes, s.Scope.Name)
			}

			app := must[*App](t)(c.NewApp(ctx, "real-"+doc.name, "Unlimited"))
			must[string](t)(c.Subscribe(ctx, app.ID, api, "Unlimited"))
			token := must[string](t)(c.AppToken(ctx, app, strings.Join(scopes, " ")))
			gw := p.Gateway() + contextPath + "/1.0.0"

			passed := 0
			t.Run("calls arrive as they were sent", func(t *testing.T) {
				step := max(1, len(ops)/60)
				for i := 0; i < len(ops); i += step {
					op := ops[i]
					path := template.ReplaceAllString(op.path, "va%20lue-"+fmt.Sprint(i)) + "?q=a%2Fb&n=" + fmt.Sprint(i)
					if strings.Contains(op.path, "?") || strings.Contains(op.path, "#") {
						continue // not a path of HTTP
					}
					var body []byte
					if op.verb == "POST" || op.verb == "PUT" || op.verb == "PATCH" {
						body = []byte(`{"n": ` + fmt.Sprint(i) + `, "text": "äöü"}`)
					}
					a := must[*Answer](t)(Call(ctx, op.verb, gw+path, token, body))
					if a.Status != http.StatusOK {
						t.Errorf("%s %s: status %d: %.300s", op.verb, path, a.Status, a.Body)
						continue
					}
					passed++
					if op.verb == "HEAD" {
						continue
					}
					var e Echo
					ok(t, a.JSON(&e))
					if e.Method != op.verb || e.Path != path || e.Body != string(body) {
						t.Errorf("sent %s %s with %d bytes, arrived %s %s with %d bytes", op.verb, path, len(body), e.Method, e.Path, len(e.Body))
					}
					if len(e.Header["Authorization"]) != 0 {
						t.Errorf("%s %s: the access token reached the backend", op.verb, path)
					}
				}
			})

			refused := 0
			t.Run("wrong verb and wrong path are refused", func(t *testing.T) {
				a := must[*Answer](t)(Call(ctx, http.MethodGet, gw+"/no/such/resource/here/at/all/x/y/z/1/2/3", token, nil))
				expectCode(t, a, http.StatusNotFound, "404")
				refused++
				if op, verb, found := missingVerb(ops); found {
					a := must[*Answer](t)(Call(ctx, verb, gw+template.ReplaceAllString(op.path, "v1"), token, nil))
					expectCode(t, a, http.StatusMethodNotAllowed, "405")
					refused++
				}
				a = must[*Answer](t)(Call(ctx, ops[0].verb, gw+template.ReplaceAllString(ops[0].path, "v1"), "", nil))
				expectCode(t, a, http.StatusUnauthorized, "900902")
				refused++
			})

			t.Run("limit refuses call N+1 and not call N", func(t *testing.T) {
				op := simplest(ops)
				limited := must[*App](t)(c.NewApp(ctx, "limited-"+doc.name, "10PerMin"))
				must[string](t)(c.Subscribe(ctx, limited.ID, api, "Unlimited"))
				tok := must[string](t)(c.AppToken(ctx, limited, strings.Join(scopes, " ")))
				early(time.Minute, 15*time.Second)
				target := gw + template.ReplaceAllString(op.path, "v1")
				for i := range 10 {
					a := must[*Answer](t)(Call(ctx, op.verb, target, tok, nil))
					if a.Status != http.StatusOK {
						t.Fatalf("call %d of 10: status %d: %s", i+1, a.Status, a.Body)
					}
					passed++
				}
				a := must[*Answer](t)(Call(ctx, op.verb, target, tok, nil))
				expectCode(t, a, http.StatusTooManyRequests, "900803")
				refused++
				if a.Header.Get("Retry-After") == "" || !bytes.Contains(a.Body, []byte("nextAccessTime")) {
					t.Errorf("refusal does not say when to come back: %v %s", a.Header, a.Body)
				}
			})

			t.Run("counts are exact", func(t *testing.T) {
				expectCounts(t, c, api, passed, refused)
			})

			t.Run("an edit of one summary changes only those bytes", func(t *testing.T) {
				edited, found := editSummary(source)
				if !found {
					t.Skip("no summary in this document")
				}
				a := must[*Answer](t)(c.Upload(ctx, http.MethodPut, Publisher+"/apis/"+api+"/swagger", Part{Name: "apiDefinition", Data: edited}))
				if a.Status != http.StatusOK || !bytes.Equal(a.Body, edited) {
					t.Fatalf("PUT answered %d with %d bytes, want the %d sent ones", a.Status, len(a.Body), len(edited))
				}
				a = must[*Answer](t)(c.Do(ctx, http.MethodGet, Publisher+"/apis/"+api+"/swagger", nil))
				if !bytes.Equal(a.Body, edited) {
					t.Fatalf("stored definition differs from the sent one at %d", firstDifference(a.Body, edited))
				}
			})
		})
	}
}

// editSummary changes one letter of the first summary.
func editSummary(doc []byte) ([]byte, bool) {
	i := bytes.Index(doc, []byte("summary"))
	if i < 0 {
		return nil, false
	}
	j := i + len("summary")
	for j < len(doc) && !('a' <= doc[j] && doc[j] <= 'z' || 'A' <= doc[j] && doc[j] <= 'Z') {
		j++
	}
	out := bytes.Clone(doc)
	out[j] = 'X'
	return out, true
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// missingVerb finds a literal path and a verb that nothing in the document answers there.
func missingVerb(ops []operation) (operation, string, bool) {
	verbs := map[string]map[string]bool{}
	for _, op := range ops {
		if verbs[op.path] == nil {
			verbs[op.path] = map[string]bool{}
		}
		verbs[op.path][op.verb] = true
	}
	for _, op := range ops {
		if strings.Contains(op.path, "{") || strings.Contains(op.path, "*") || strings.Count(op.path, "/") != 1 {
			continue
		}
		for _, v := range []string{"PATCH", "PUT", "DELETE", "POST"} {
			templated := false
			for other := range verbs {
				if other != op.path && strings.Contains(other, "{") && strings.Count(other, "/") == 1 && verbs[other][v] {
					templated = true
				}
			}
			if !verbs[op.path][v] && !templated {
				return op, v, true
			}
		}
	}
	return operation{}, "", false
}

// simplest is the operation with the shortest path that needs no body.
func simplest(ops []operation) operation {
	best := operation{}
	for _, op := range ops {
		if op.verb == "GET" && (best.path == "" || len(op.path) < len(best.path)) {
			best = op
		}
	}
	return best
}

// expectCode checks status and code of a gateway refusal.
func expectCode(t *testing.T, a *Answer, status int, code string) {
	t.Helper()
	var body struct{ Code string }
	if err := json.Unmarshal(a.Body, &body); err != nil || a.Status != status || body.Code != code {
		t.Errorf("status %d, want %d; body %.300s, want code %q", a.Status, status, a.Body, code)
	}
	if a.Header.Get("Cardea-Decision") == "" {
		t.Errorf("refusal %d carries no decision id", a.Status)
	}
}

// expectCounts checks the analytics totals of one API.
func expectCounts(t *testing.T, c *Client, api string, passed, refused int) {
	t.Helper()
	var got struct{ Requests, Errors int }
	deadline := time.Now().Add(10 * time.Second)
	for {
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/analytics/totals?from=-1h&api="+url.QueryEscape(api), nil, &got))
		if got.Requests >= passed+refused || time.Now().After(deadline) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got.Requests != passed+refused || got.Errors != refused {
		t.Errorf("counted %d requests and %d errors, want %d and %d", got.Requests, got.Errors, passed+refused, refused)
	}
}
