package app

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/cardea-apim/cardea/internal/"

// Layers, lowest first: a package may import its own layer only where
// mayImport says so, and lower layers always.
var (
	nouns      = []string{"apim", "fault", "snapshot", "throttle", "usage"}
	tools      = []string{"token", "bus", "store", "rest", "config", "seal", "pki", "http1", "definition", "client", "node", "connector"}
	components = []string{"identity", "keymanager", "gateway", "traffic", "analytics", "control", "stream", "demo"}
)

// onlyThese bounds, transitively, what a package and all below it may reach.
var onlyThese = map[string][]string{
	"apim":     {"snapshot"},
	"fault":    {},
	"usage":    {"seal"},
	"snapshot": {},
	"throttle": {},
	"gateway":  {"fault", "snapshot", "throttle", "token", "http1", "bus", "usage", "seal"}, // never apim, store, control
	"traffic":  {"fault", "throttle", "bus", "usage"},
	"config":   {},
	"client":   {},
	"demo":     {"client"},
}

// never lists what a component must not reach: other components and the store.
func never(top string) []string {
	out := []string{"app", "cli"}
	for _, c := range components {
		if c != top {
			out = append(out, c)
		}
	}
	if slices.Contains(components, top) {
		out = append(out, "store")
	}
	return out
}

// TestImportsPointTowardsTheNouns holds the direction of docs/map.md over the
// transitive imports of everything but tests.
func TestImportsPointTowardsTheNouns(t *testing.T) {
	cmd := exec.Command("go", "list", "-f", "{{.ImportPath}}|{{join .Deps \" \"}}", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		path, deps, _ := strings.Cut(strings.TrimSpace(line), "|")
		pkg := strings.TrimPrefix(path, module)
		top, _, _ := strings.Cut(pkg, "/")
		if top == "app" || top == "cli" || top == "e2e" || testOnly(pkg) {
			continue
		}
		if !slices.Contains(slices.Concat(nouns, tools, components), top) {
			t.Errorf("%s has no layer: add it to docs/map.md and to this test", pkg)
			continue
		}
		for dep := range strings.FieldsSeq(deps) {
			rel, ok := strings.CutPrefix(dep, module)
			if !ok {
				continue
			}
			to, _, _ := strings.Cut(rel, "/")
			switch allowed, bounded := onlyThese[top]; {
			case to == top && top != "control":
			case bounded && !slices.Contains(allowed, to):
				t.Errorf("%s reaches %s; it may reach only %v", pkg, rel, allowed)
			case slices.Contains(never(top), to):
				t.Errorf("%s reaches %s", pkg, rel)
			case slices.Contains(nouns, top) && !slices.Contains(nouns, to) && !bounded:
				t.Errorf("noun %s reaches %s", pkg, rel)
			case slices.Contains(tools, top) && slices.Contains(components, to):
				t.Errorf("tool %s reaches component %s", pkg, rel)
			}
		}
		controls(t, pkg, deps)
	}
}

// controls keeps the use cases apart: only the surfaces may reach several.
func controls(t *testing.T, pkg, deps string) {
	t.Helper()
	if !strings.HasPrefix(pkg, "control/") || strings.HasPrefix(pkg, "control/api/") {
		return
	}
	own := strings.Split(pkg, "/")[1]
	for dep := range strings.FieldsSeq(deps) {
		rel, ok := strings.CutPrefix(dep, module+"control/")
		if !ok {
			continue
		}
		if to := strings.Split(rel, "/")[0]; to != own {
			t.Errorf("use case %s reaches control/%s", pkg, rel)
		}
	}
}

// testOnly packages are imported by tests and by nothing else.
func testOnly(pkg string) bool {
	return strings.HasSuffix(pkg, "test") || pkg == "e2e"
}
