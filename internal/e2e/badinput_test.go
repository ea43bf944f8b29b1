package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// None of these mistakes is in the table of those that may answer 500
// (fault.PinnedRows), so each must be a 4xx.
func TestBadInputIsRefusedClearly(t *testing.T) {
	p := node(t, Node{})
	c := admin(t, p)
	backend := NewBackend()
	defer backend.Close()
	api := must[string](t)(c.Import(t.Context(), openAPI("Solid", backend.URL)))
	ok(t, c.Publish(t.Context(), api))

	deepJSON := strings.Repeat(`{"a":`, 100000) + "1" + strings.Repeat("}", 100000)
	deepArray := strings.Repeat("[", 500000) + strings.Repeat("]", 500000)
	var laughs strings.Builder
	laughs.WriteString("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for i := 'b'; i <= 'm'; i++ {
		fmt.Fprintf(&laughs, "%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", i, i, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1, i-1)
	}
	definitions := map[string][]byte{
		"empty":            {},
		"not a document":   []byte("hello"),
		"binary":           {0, 1, 2, 0xff, 0xfe, 0x89, 'P', 'N', 'G'},
		"truncated":        []byte(tinyDefinition[:len(tinyDefinition)/2]),
		"wrong types":      []byte(`{"openapi": 3, "info": [], "paths": "none"}`),
		"paths of numbers": []byte(`{"openapi": "3.0.1", "info": {"title": "x", "version": "1"}, "paths": {"/a": 5, "/b": {"get": "x"}}}`),
		"no paths":         []byte(`{"openapi": "3.0.1", "info": {"title": "x", "version": "1"}, "paths": {}}`),
		"version 9":        []byte(`{"openapi": "9.0.0", "info": {"title": "x", "version": "1"}, "paths": {"/a": {"get": {}}}}`),
		"deep object":      []byte(`{"openapi": "3.0.1", "info": {"title": "x", "version": "1"}, "paths": {}, "x": ` + deepJSON + `}`),
		"deep array":       []byte(deepArray),
		"billion laughs":   []byte("openapi: 3.0.1\ninfo: {title: x, version: '1'}\npaths: {}\n" + laughs.String()),
		"huge number":      []byte(`{"openapi": "3.0.1", "info": {"title": "x", "version": 1e999999}, "paths": {}}`),
		"invalid UTF-8":    []byte("{\"openapi\": \"3.0.1\", \"info\": {\"title\": \"\xff\xfe\", \"version\": \"1\"}, \"paths\": {}}"),
		"self reference":   []byte(`{"openapi": "3.0.1", "info": {"title": "x", "version": "1"}, "paths": {"$ref": "#/paths"}}`),
	}
	for name, doc := range definitions {
		t.Run("definition/"+name, func(t *testing.T) {
			began := time.Now()
			props, err := json.Marshal(map[string]any{"name": "Bad" + strconv.Itoa(len(name)), "version": "1", "context": "/bad" + strconv.Itoa(len(name)), "policies": []string{"Unlimited"}})
			ok(t, err)
			a := must[*Answer](t)(c.Upload(t.Context(), http.MethodPost, Publisher+"/apis/import-openapi",
				Part{Name: "file", File: "api.json", Data: doc}, Part{Name: "additionalProperties", Data: props}))
			expectProblem(t, a)
			v := must[*Answer](t)(c.Upload(t.Context(), http.MethodPost, Publisher+"/apis/validate-openapi", Part{Name: "file", File: "api.json", Data: doc}))
			var res struct{ IsValid bool }
			if v.Status == http.StatusOK {
				ok(t, v.JSON(&res))
			}
			if v.Status != http.StatusOK && (v.Status < 400 || v.Status >= 500) || res.IsValid {
				t.Errorf("validation answered %d %.300s", v.Status, v.Body)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}

	t.Run("bodies", func(t *testing.T) {
		for name, body := range map[string]string{
			"empty": "", "not JSON": "{", "array": "[]", "string": `"x"`, "null": "null", "wrong types": `{"name": 5, "version": [], "context": {}}`,
			"deep": deepJSON, "huge": `{"name": "` + strings.Repeat("x", 2<<20) + `"}`, "control characters": `{"name": "a\u0000b", "version": "1", "context": "/c"}`,
			"two documents": `{"name":"a","version":"1","context":"/q"} {}`,
		} {
			for _, path := range []string{Publisher + "/apis", Devportal + "/applications", Devportal + "/subscriptions", Admin + "/environments", Admin + "/throttling/policies/application", Admin + "/throttling/policies/subscription"} {
				a := must[*Answer](t)(rawJSON(t, c, http.MethodPost, path, body))
				t.Run(name+path, func(t *testing.T) { expectProblem(t, a) })
			}
		}
	})

	t.Run("tokens", func(t *testing.T) {
		for name, token := range map[string]string{
			"empty parts": "..", "not base64": "a!.b!.c!", "huge": strings.Repeat("a", 60000), "no signature": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
			"tampered": c.Token[:len(c.Token)-4] + "AAAA", "binary": "\x80\xff",
		} {
			bad := &Client{Base: c.Base, Token: token}
			a, err := bad.Do(t.Context(), http.MethodGet, Publisher+"/apis", nil)
			if err != nil {
				continue // the client itself refuses to send it
			}
			if a.Status != http.StatusUnauthorized && a.Status != http.StatusBadRequest && a.Status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("%s: status %d: %.200s", name, a.Status, a.Body)
			}
			g, err := Call(t.Context(), http.MethodPost, p.Gateway()+"/solid/1.0.0/b/1", token, nil)
			if err != nil {
				continue
			}
			if g.Status != http.StatusUnauthorized && g.Status != http.StatusBadRequest && g.Status != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("gateway, %s: status %d: %.200s", name, g.Status, g.Body)
			}
		}
	})

	t.Run("queries", func(t *testing.T) {
		for _, q := range []string{"limit=-1", "limit=abc", "offset=-5", "offset=99999999999999999999", "query=name:%25", "query=%00", "query=" + strings.Repeat("a:b%20", 5000), "sortBy=nothing", "limit=1000000000"} {
			a := must[*Answer](t)(c.Do(t.Context(), http.MethodGet, Publisher+"/apis?"+q, nil))
			if a.Status >= 500 {
				t.Errorf("%.40s: status %d: %.200s", q, a.Status, a.Body)
			}
		}
		for _, id := range []string{"nope", "00000000-0000-0000-0000-000000000000", "%2e%2e", "a;b", strings.Repeat("x", 4000)} {
			a := must[*Answer](t)(c.Do(t.Context(), http.MethodGet, Publisher+"/apis/"+id, nil))
			if a.Status < 400 || a.Status >= 500 {
				t.Errorf("%.40s: status %d: %.200s", id, a.Status, a.Body)
			}
		}
	})

	if !reachable(t.Context(), p.Gateway()+"/solid/1.0.0/a") {
		t.Error("the API published before does not answer any more")
	}
	if rss := residentMB(t, p.Pid()); rss > 700 {
		t.Errorf("the process holds %d MB after all this", rss)
	}
}

func rawJSON(t *testing.T, c *Client, method, path, body string) (*Answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.Base+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.Token)
	return send(req)
}

// expectProblem wants a 4xx with the error body of the contract.
func expectProblem(t *testing.T, a *Answer) {
	t.Helper()
	if a.Status < 400 || a.Status >= 500 {
		t.Errorf("status %d, want a 4xx: %.300s", a.Status, a.Body)
		return
	}
	var body struct {
		Code        json.Number
		Message     *string
		Description string
	}
	d := json.NewDecoder(io.LimitReader(bytes.NewReader(a.Body), 1<<20))
	if err := d.Decode(&body); err != nil || body.Code == "" || body.Message == nil {
		t.Errorf("status %d without the error body of the contract: %.300s", a.Status, a.Body)
	}
}

// residentMB is the resident memory of a process in MB.
func residentMB(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	ok(t, err)
	fields := strings.Fields(string(b))
	pages, err := strconv.Atoi(fields[1])
	ok(t, err)
	return pages * os.Getpagesize() >> 20
}
