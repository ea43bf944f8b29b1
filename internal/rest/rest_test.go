package rest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

const doc = `
openapi: 3.0.3
info: {title: t, version: '1'}
paths:
  /things:
    get:
      operationId: listThings
      parameters: [{name: limit, in: query, schema: {type: integer}}]
      responses: {'200': {description: ok}}
      security: [{o: [read]}]
    post:
      operationId: createThing
      requestBody:
        content:
          application/json:
            schema:
              type: object
              required: [name]
              properties:
                name: {type: string, maxLength: 3, pattern: '^[a-z]+$'}
                count: {type: integer}
                kids: {type: array, items: {type: object, properties: {on: {type: boolean}}}}
      responses: {'201': {description: ok}}
      security: [{o: [write, manage]}]
  /things/{id}:
    get:
      operationId: getThing
      parameters: [{name: id, in: path, required: true, schema: {type: string}}]
      responses: {'200': {description: ok}}
      security: []
  /things/special:
    get:
      operationId: getSpecial
      responses: {'200': {description: ok}}
      security: [{o: []}]
  /things/shown:
    get:
      operationId: getShown
      responses: {'200': {description: ok}}
      security: [{}, {o: [read]}]
components:
  securitySchemes:
    o: {type: oauth2, flows: {}}
`

type thing struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
}

type noted struct{ waits int }

func (n *noted) Wait(context.Context, []int64) (snapshot.Receipt, error) {
	n.waits++
	return snapshot.Receipt{
		Version: snapshot.Version{Epoch: 3, Seq: 7}, Elapsed: 5 * time.Millisecond,
		Gateways: []snapshot.Ack{{Gateway: "a", Acked: true}, {Gateway: "b"}},
	}, nil
}

func handlers() map[string]Handler {
	echo := func(w http.ResponseWriter, r *http.Request) error {
		return JSON(w, 200, map[string]string{"id": Path(r, "id"), "user": apim.ActorFrom(r.Context()).User, "op": OperationID(r.Context())})
	}
	return map[string]Handler{
		"listThings": func(w http.ResponseWriter, r *http.Request) error {
			o, l, err := PageOf(r)
			if err != nil {
				return err
			}
			return JSON(w, 200, NewList(r, Window([]int{1, 2, 3}, o, l), 3, o, l))
		},
		"createThing": func(w http.ResponseWriter, r *http.Request) error {
			in, err := Decode[thing](r)
			if err != nil {
				return err
			}
			switch in.Name {
			case "pan":
				panic("boom")
			case "bad":
				return errors.New("secret cause")
			}
			apim.ChangesFrom(r.Context()).Add(1)
			if _, err := Wait(r.Context()); err != nil {
				return err
			}
			return JSON(w, 201, in)
		},
		"getThing": echo, "getSpecial": echo, "getShown": echo,
	}
}

func surfaceFor(t *testing.T, n *noted) http.Handler {
	t.Helper()
	h, err := NewSurface(Options{
		Doc: []byte(doc), Base: "/b/v1", Handlers: handlers(), Receipts: n, MaxBody: 1000, Log: slog.New(slog.DiscardHandler),
		Authenticate: func(_ context.Context, r *http.Request) (*apim.Actor, error) {
			if s, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && s != "forged" {
				return &apim.Actor{User: "u", Tenant: "t", Scopes: strings.Fields(s)}, nil
			}
			return nil, &fault.NotAuthorized
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSurface(t *testing.T) {
	tests := map[string]struct {
		method, path, auth, body string
		status                   int
		text                     string
	}{
		"list":                             {"GET", "/things?limit=2", "read", "", 200, `"next":"/things?limit=2&offset=2"`},
		"trailing slash":                   {"GET", "/things/", "read", "", 200, `"count":3`},
		"limit of a wrong type":            {"GET", "/things?limit=x", "read", "", 400, "limit"},
		"no token":                         {"GET", "/things", "", "", 401, "Unauthenticated request"},
		"a forged token":                   {"GET", "/things", "forged", "", 401, `"code":401`},
		"another scope":                    {"GET", "/things", "write", "", 401, "Unauthenticated request"},
		"401 is decided before 400":        {"POST", "/things", "read", "{", 401, ""},
		"any one of the scopes":            {"POST", "/things", "manage", `{"name":"a"}`, 201, `"name":"a"`},
		"open to anybody":                  {"GET", "/things/x%2Fy", "", "", 200, `"id":"x/y","op":"getThing","user":"anonymous"`},
		"open, with a forged token":        {"GET", "/things/x", "forged", "", 401, ""},
		"open to strangers":                {"GET", "/things/shown", "", "", 200, `"user":"anonymous"`},
		"open to strangers, with a scope":  {"GET", "/things/shown", "read", "", 200, `"user":"u"`},
		"open to strangers, without it":    {"GET", "/things/shown", "write", "", 401, ""},
		"a literal wins over a parameter":  {"GET", "/things/special", "", "", 200, `"op":"getSpecial"`},
		"matrix suffix":                    {"GET", "/things/x;a=b", "read", "", 401, ""},
		"unknown path":                     {"GET", "/nothing", "read", "", 404, `"code":404`},
		"dot segments":                     {"GET", "/things/%2e%2e", "read", "", 404, ""},
		"another base":                     {"GET", "/../v2/things", "read", "", 404, ""},
		"wrong verb":                       {"DELETE", "/things", "read", "", 405, `"code":405`},
		"unknown members are ignored":      {"POST", "/things", "write", `{"name":"a","x":{"y":[]}}`, 201, ""},
		"null counts as absent":            {"POST", "/things", "write", `{"name":"a","count":null}`, 201, ""},
		"a required member is missing":     {"POST", "/things", "write", `{}`, 400, "name: is required"},
		"a member of a wrong type":         {"POST", "/things", "write", `{"name":"a","count":"1"}`, 400, "count: expected an integer"},
		"a fraction for a whole number":    {"POST", "/things", "write", `{"name":"a","count":1.5}`, 400, "count: must be a whole number"},
		"a number out of range":            {"POST", "/things", "write", `{"name":"a","count":1e999}`, 400, "count"},
		"a wrong type deep inside":         {"POST", "/things", "write", `{"name":"a","kids":[{"on":true},{"on":1}]}`, 400, "kids[1].on"},
		"too long":                         {"POST", "/things", "write", `{"name":"abcd"}`, 400, "name"},
		"against the pattern":              {"POST", "/things", "write", `{"name":"A"}`, 400, "name"},
		"syntax, with its line":            {"POST", "/things", "write", "{\n\"name\": x}", 400, "line 2"},
		"nothing":                          {"POST", "/things", "write", "", 400, "empty"},
		"an array":                         {"POST", "/things", "write", "[]", 400, "expected an object"},
		"two values":                       {"POST", "/things", "write", `{"name":"a"}{"name":"b"}`, 400, ""},
		"deep":                             {"POST", "/things", "write", strings.Repeat("[", 900), 400, "nested"},
		"oversized":                        {"POST", "/things", "write", `{"name":"` + strings.Repeat("a", 1000) + `"}`, 413, ""},
		"a panic is a plain 500":           {"POST", "/things", "write", `{"name":"pan"}`, 500, `"code":900967`},
		"a cause is never shown":           {"POST", "/things", "write", `{"name":"bad"}`, 500, "Internal server error"},
		"the document is served":           {"GET", "/openapi.yaml", "", "", 200, "operationId: listThings"},
		"a query parameter that is no one": {"GET", "/things?foo=bar", "read", "", 200, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			n := &noted{}
			h := surfaceFor(t, n)
			r := httptest.NewRequestWithContext(t.Context(), tt.method, "http://x/b/v1"+tt.path, strings.NewReader(tt.body))
			if tt.auth != "" {
				r.Header.Set("Authorization", "Bearer "+tt.auth)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			b, _ := io.ReadAll(w.Body)
			if w.Code != tt.status || !strings.Contains(string(b), tt.text) {
				t.Errorf("got %d %s, want %d %q", w.Code, b, tt.status, tt.text)
			}
			if strings.Contains(string(b), "secret cause") || strings.Contains(string(b), "boom") {
				t.Errorf("a cause leaked: %s", b)
			}
			if w.Code >= 400 && w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("content type %q", w.Header().Get("Content-Type"))
			}
			rc := w.Header().Get(ReceiptHeader)
			if want := `version=3.7; complete=false; gateways=1/2; elapsed=5ms; late="b"`; tt.status == 201 && (rc != want || n.waits != 1) {
				t.Errorf("receipt %q after %d waits", rc, n.waits)
			}
		})
	}
}

func TestSurfaceBindsBothWays(t *testing.T) {
	h := handlers()
	delete(h, "getThing")
	h["getNothing"] = nil
	_, err := NewSurface(Options{Doc: []byte(doc), Handlers: h})
	if err == nil || !strings.Contains(err.Error(), "getThing") || !strings.Contains(err.Error(), "getNothing") {
		t.Errorf("got %v", err)
	}
}

func TestIfMatch(t *testing.T) {
	for in, want := range map[string]bool{"": true, `"c-5"`: true, `W/"c-5"`: true, `"c-4"`: false, `"other"`: true, "*": true, `"c-x"`: true} {
		r := httptest.NewRequestWithContext(t.Context(), "PUT", "/", nil)
		r.Header.Set("If-Match", in)
		if got := Match(r, 5) == nil; got != want {
			t.Errorf("%q: got %v, want %v", in, got, want)
		}
	}
}

func TestFormIsBounded(t *testing.T) {
	body := func(parts int, size int) string {
		var b strings.Builder
		for range parts {
			b.WriteString("--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + strings.Repeat("y", size) + "\r\n")
		}
		return b.String() + "--x--\r\n"
	}
	for name, tt := range map[string]struct {
		body   string
		status int
	}{
		"fits": {body(2, 10), 0}, "too large": {body(2, 60), 413}, "too many parts": {body(40, 1), 400}, "cut off": {"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nyy", 400},
	} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
		_, err := ReadForm(r, 100)
		if got := fault.Of(err).Status(); (err == nil) != (tt.status == 0) || (err != nil && got != tt.status) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// endless gives the same line for ever and counts what was taken.
type endless struct{ taken int }

func (e *endless) Read(p []byte) (int, error) {
	const line = "no boundary here\r\n"
	for i := range p {
		p[i] = line[e.taken%len(line)]
		e.taken++
	}
	return len(p), nil
}

func TestFormWithoutEndIsRefused(t *testing.T) {
	body := &endless{}
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.Header.Set("Content-Type", "multipart/form-data; boundary=part")
	if _, err := ReadForm(r, 100); !errors.Is(err, &fault.BodyTooLarge) {
		t.Errorf("error = %v", err)
	}
	if body.taken > 4<<20 {
		t.Errorf("%d bytes were read", body.taken)
	}
}
