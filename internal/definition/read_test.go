package definition

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
)

func TestReadRefuses(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'l'; c++ {
		prev := string(c - 1)
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+prev+",", 10), ",") + "]\n"
	}
	tests := map[string]struct {
		in   string
		want fault.Error
		text string
	}{
		"nothing":                {"", fault.OpenAPIMissing, ""},
		"text":                   {"hello", fault.OpenAPIMalformed, ""},
		"broken JSON":            {"{\n\"openapi\": \"3.0.0\",\n nope }", fault.OpenAPIParse, "Line 3"},
		"broken YAML":            {"openapi: 3.0.0\n\tinfo: x", fault.OpenAPIParse, "line 2"},
		"no version":             {`{"info":{"title":"t"}}`, fault.OpenAPIUnknown, ""},
		"version 4":              {`{"openapi":"4.0.0","info":{"title":"t"}}`, fault.OpenAPIUnknown, "4.0.0"},
		"swagger 1.2":            {`{"swagger":"1.2","info":{"title":"t"}}`, fault.OpenAPIUnknown, "1.2"},
		"no paths":               {`{"openapi":"3.0.0","info":{"title":"t"},"paths":{}}`, fault.OpenAPINoPaths, ""},
		"path without a slash":   {"{\"openapi\":\"3.0.0\",\"info\":{\"title\":\"t\"},\n\"paths\":{\n\"x\":{\"get\":{}}}}", fault.OpenAPIInvalid3, "Line 3"},
		"path that is a list":    {`{"swagger":"2.0","info":{"title":"t"},"paths":{"/x":[]}}`, fault.OpenAPIInvalid2, ""},
		"deep JSON":              {strings.Repeat("[", 1e6), fault.OpenAPIMalformed, ""},
		"deep JSON object":       {`{"a":` + strings.Repeat("[", 1e6), fault.OpenAPIMalformed, "deeper"},
		"deep flow YAML":         {"a: " + strings.Repeat("[", 1e6), fault.OpenAPIMalformed, "deeper"},
		"deep block YAML":        {"a:\n " + strings.Repeat("- ", 1e5), fault.OpenAPIMalformed, "deeper"},
		"laughs":                 {bomb, fault.OpenAPIMalformed, "alias"},
		"an alias inside itself": {"a: &a\n  b: *a\n", fault.OpenAPIMalformed, ""},
		"NUL":                    {"\x00\x01", fault.OpenAPIParse, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Read([]byte(tt.in))
			if err == nil || fault.Of(err).Status() != 400 {
				t.Fatalf("got %v, want a 400", err)
			}
			if !errors.Is(err, &tt.want) {
				t.Errorf("got %v, want code %d", err, tt.want.Code)
			}
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v, want it to say %q", err, tt.text)
			}
			if d := time.Since(start); d > 20*time.Second { // far above what any takes: a hang, not a measure
				t.Errorf("took %v", d)
			}
		})
	}
	if _, err := Read(make([]byte, MaxSize+1)); !errors.Is(err, &fault.BodyTooLarge) {
		t.Errorf("oversized: %v", err)
	}
}

func TestExtract(t *testing.T) {
	tests := map[string]struct{ in, version, context, endpoints, ops, scopes string }{
		"2.0": {
			`{"swagger":"2.0","info":{"title":"t","version":"1"},"host":"h","basePath":"/b","schemes":["http","https"],"securityDefinitions":{"default":{"type":"oauth2","flow":"implicit","authorizationUrl":"https://x","scopes":{"s":"S"},"x-scopes-bindings":{"s":"r1, r2"}}},"paths":{"/a":{"get":{"security":[{"default":["s"]}],"responses":{}},"x-y":{},"parameters":[]}}}`,
			"2.0", "/b", "http://h/b https://h/b", "GET /a [s]", "s:r1+r2",
		},
		"3.0 with variables": {
			`{"openapi":"3.0.1","info":{"title":"t","version":"1"},"x-wso2-basePath":"/c","servers":[{"url":"https://{env}.example/v1","variables":{"env":{"default":"dev"}}},{"url":"/rel"},{"url":"ftp://x"}],"paths":{"/a":{"$ref":"#/components/pathItems/A"}},"components":{"pathItems":{"A":{"post":{"x-scope":"q"}}}}}`,
			"3.0.1", "/c", "https://dev.example/v1", "POST /a [q]", "",
		},
		"3.1 YAML": {
			"openapi: 3.1.0\ninfo: {title: t, version: 1.0}\npaths:\n  /a/{id}:\n    get: {x-auth-type: None}\n    delete: {}\n    trace: {}\n",
			"3.1.0", "", "", "GET /a/{id} [] DELETE /a/{id} []", "",
		},
		"a path item that refers to itself": {
			`{"openapi":"3.0.1","info":{"title":"t"},"paths":{"/a":{"$ref":"#/paths/~1a"},"/b":{"get":{}}}}`,
			"3.0.1", "", "", "GET /b []", "",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			d, err := Read([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			in := d.Info()
			var ops, scopes []string
			for _, o := range d.Operations() {
				ops = append(ops, o.Verb+" "+o.Path+" ["+strings.Join(o.Scopes, ",")+"]")
			}
			for _, s := range d.Scopes() {
				scopes = append(scopes, s.Name+":"+strings.Join(s.Roles, "+"))
			}
			for what, p := range map[string][2]string{
				"version": {in.OpenAPI, tt.version}, "context": {in.Context, tt.context}, "endpoints": {strings.Join(in.Endpoints, " "), tt.endpoints},
				"operations": {strings.Join(ops, " "), tt.ops}, "scopes": {strings.Join(scopes, " "), tt.scopes},
			} {
				if p[0] != p[1] {
					t.Errorf("%s: got %q, want %q", what, p[0], p[1])
				}
			}
		})
	}
}

func TestCheckFindsAndNeverFails(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		line int
	}{
		"a bad default":        {"openapi: 3.0.0\ninfo: {title: t, version: '1'}\npaths:\n  /a:\n    get:\n      parameters:\n        - {name: q, in: query, schema: {type: integer, default: x}}\n      responses: {'200': {description: ok}}\n", 5},
		"an unknown reference": {`{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{"/a":{"get":{"responses":{"200":{"$ref":"#/nope"}}}}}}`, 1},
		"an outer reference":   {`{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{"/a":{"get":{"responses":{"200":{"$ref":"http://127.0.0.1:1/x"}}}}}}`, 1},
		"a cyclic schema":      {`{"swagger":"2.0","info":{"title":"t","version":"1"},"paths":{"/a":{"get":{"responses":{"200":{"description":"x","schema":{"$ref":"#/definitions/A"}}}}}},"definitions":{"A":{"$ref":"#/definitions/A"}}}`, 1},
	} {
		d, err := Read([]byte(tt.in))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f := d.Check(t.Context())
		if name != "a cyclic schema" && (len(f) == 0 || f[0].Line != tt.line) {
			t.Errorf("%s: findings %+v, want one on line %d", name, f, tt.line)
		}
	}
}
