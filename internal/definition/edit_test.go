package definition

import (
	"strings"
	"testing"
)

const sample = `{
  "openapi": "3.0.3",
  "info": {"title": "Pizza", "version": 1.10},
  "paths": {
    "/menu": {
      "get": {
        "summary": "Old",
        "responses": {"200": {"description": "ok"}}
      },
      "post": {"responses": {}}
    },
    "/b": {"get": {"responses": {}}},
    "/c": {"get": {"responses": {}}}
  }
}
`

const sampleYAML = `# head
openapi: 3.0.3
info:
  title: Pizza # the title
  version: 1.10
paths:
  /menu:
    get:
      summary: Old
      description: |
        many
        # lines
      responses: {"200": {description: ok}}
    # about post
    post:
      responses: {}

  /b:
    get:
      responses: {}
tags: []
`

func TestEditOfOneSummaryChangesOnlyThoseBytes(t *testing.T) {
	for name, in := range map[string]string{"json": sample, "yaml": sampleYAML} {
		t.Run(name, func(t *testing.T) {
			d, err := Read([]byte(in))
			if err != nil {
				t.Fatal(err)
			}
			e := d.Edit()
			if err := e.Set("New", "paths", "/menu", "get", "summary"); err != nil {
				t.Fatal(err)
			}
			got, err := e.Apply()
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(in, "Old", "New", 1); string(got) != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestNoEditKeepsBytes(t *testing.T) {
	for _, in := range []string{sample, sampleYAML, "\xef\xbb\xbf" + sample, strings.ReplaceAll(sampleYAML, "\n", "\r\n")} {
		d, err := Read([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.Edit().Apply()
		if err != nil || string(got) != in {
			t.Errorf("bytes changed: %v\n%s", err, got)
		}
	}
}

func TestSync(t *testing.T) {
	for name, in := range map[string]string{"json": sample, "yaml": sampleYAML} {
		t.Run(name, func(t *testing.T) {
			d, err := Read([]byte(in))
			if err != nil {
				t.Fatal(err)
			}
			before := d.Operations()
			after := []Operation{
				{Path: "/menu", Verb: "GET", Tier: "Gold", Scopes: []string{"eat"}},
				{Path: "/new/{id}", Verb: "PUT", Auth: "None", Tier: "Unlimited"},
			}
			got, err := d.Sync(before, after, nil, []Scope{{Name: "eat", Description: "Eat", Roles: []string{"admin"}}})
			if err != nil {
				t.Fatal(err)
			}
			again, err := Read(got)
			if err != nil {
				t.Fatalf("%v in\n%s", err, got)
			}
			var ops []string
			for _, o := range again.Operations() {
				ops = append(ops, o.Verb+" "+o.Path+" "+o.Tier+" "+o.Auth+" "+strings.Join(o.Scopes, ","))
			}
			if want := "GET /menu Gold  eat|PUT /new/{id} Unlimited None "; strings.Join(ops, "|") != want {
				t.Errorf("got %q, want %q in\n%s", strings.Join(ops, "|"), want, got)
			}
			if sc := again.Scopes(); len(sc) != 1 || sc[0].Name != "eat" || sc[0].Roles[0] != "admin" {
				t.Errorf("scopes %+v in\n%s", sc, got)
			}
			for _, keep := range []string{"Pizza", "1.10", "Old"} {
				if !strings.Contains(string(got), keep) {
					t.Errorf("%q is gone from\n%s", keep, got)
				}
			}
			if name == "yaml" && !strings.HasPrefix(string(got), "# head\n") {
				t.Errorf("comments are gone: not spliced\n%s", got)
			}
		})
	}
}

func TestSyncRemovals(t *testing.T) {
	// Every subset of three neighbours can go, and the commas stay right.
	paths := []string{"/a", "/b", "/c"}
	for mask := range 7 {
		in := `{"openapi":"3.0.0","info":{"title":"t","version":"1"},"paths":{"/a":{"get":{}},"/b":{"get":{}} , "/c":{"get":{}}}}`
		d, err := Read([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		var after []Operation
		for i, p := range paths {
			if mask&(1<<i) == 0 {
				after = append(after, Operation{Path: p, Verb: "GET"})
			}
		}
		after = append(after, Operation{Path: "/d", Verb: "GET"}, Operation{Path: "/e", Verb: "GET"})
		got, err := d.Sync(d.Operations(), after, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Read(got)
		if err != nil {
			t.Fatalf("mask %d: %v in %s", mask, err, got)
		}
		if len(again.Operations()) != len(after) {
			t.Errorf("mask %d: %s", mask, got)
		}
	}
}

func TestNewAndPortal(t *testing.T) {
	b, err := New("P", "1.0", "d", []Operation{{Path: "/x/{id}", Verb: "GET", Tier: "Unlimited", Scopes: []string{"s"}}}, []Scope{{Name: "s", Roles: []string{"r"}}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Read(b)
	if err != nil {
		t.Fatalf("%v in\n%s", err, b)
	}
	if f := d.Check(t.Context()); len(f) > 0 {
		t.Errorf("findings %+v in\n%s", f, b)
	}
	p, err := d.Portal([]string{"https://gw:8243/p/1.0"})
	if err != nil {
		t.Fatal(err)
	}
	if s := string(p); strings.Contains(s, "x-") || !strings.Contains(s, "https://gw:8243/p/1.0") {
		t.Errorf("portal copy\n%s", s)
	}
	if _, err := Read(p); err != nil {
		t.Error(err)
	}
}
