package definition

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/cardea-apim/cardea/internal/fault"
)

// FuzzImport: whatever comes in, reading never fails with anything but a 4xx,
// no edit leaves the bytes alone, and an edited document reads again.
func FuzzImport(f *testing.F) {
	for _, s := range []string{
		sample, sampleYAML, "", "{}", "a: &a [*a]", "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"t\"},\"paths\":{\"/a\":{\"get\":{}}}}",
		"swagger: '2.0'\ninfo: {title: t}\npaths: {/a: {get: {security: [{default: [x]}]}}}\nsecurityDefinitions: {default: {type: oauth2}}\n",
		"openapi: 3.0.0\ninfo: &i\n  title: t\npaths:\n  /a: &p\n    get: {}\n  /b: *p\n  <<: *i\n",
		"? a\n: b\n", "---\n...\n", "openapi: 3.0.0\r\ninfo:\r\n  title: t\r\npaths:\r\n  /a:\r\n    get: {}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := Read(in)
		if err != nil {
			if s := fault.Of(err).Status(); s < 400 || s > 499 {
				t.Fatalf("status %d: %v", s, err)
			}
			return
		}
		if !json.Valid(d.AsJSON()) {
			t.Fatalf("not JSON: %q", d.AsJSON())
		}
		d.Info()
		d.Scopes()
		ops := d.Operations()
		out, err := d.Edit().Apply()
		if err != nil || !bytes.Equal(out, in) {
			t.Fatalf("no edit changed bytes: %v", err)
		}
		after := append(ops[:len(ops)/2:len(ops)/2], Operation{Path: "/fuzz/{id}", Verb: "GET", Tier: "Gold", Auth: "None"})
		out, err = d.Sync(ops, after, nil, []Scope{{Name: "s"}})
		if err != nil {
			if s := fault.Of(err).Status(); s >= 500 {
				t.Fatalf("sync: %v", err)
			}
			return
		}
		if _, err := Read(out); err != nil {
			t.Fatalf("after an edit: %v in %q", err, out)
		}
		if p, err := d.Portal([]string{"https://gw/x"}); err == nil {
			if _, err := parse(p); err != nil {
				t.Fatalf("portal: %v in %q", err, p)
			}
		}
	})
}
