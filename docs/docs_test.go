package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func markdown(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "*.md"))
	ok(t, err)
	ok(t, filepath.WalkDir(filepath.Join(root, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	}))
	return files
}

func text(t *testing.T, parts ...string) string {
	t.Helper()
	return string(must[[]byte](t)(os.ReadFile(filepath.Join(append([]string{root}, parts...)...))))
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// slug is the anchor that GitHub gives a heading.
func slug(h string) string {
	return strings.ReplaceAll(strings.ToLower(noSlug.ReplaceAllString(strings.TrimSpace(h), "")), " ", "-")
}

// Links between documents lead somewhere, with their anchors.
func TestLinksExist(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, file := range markdown(t) {
		for _, m := range link.FindAllStringSubmatch(string(must[[]byte](t)(os.ReadFile(file))), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			seen++
			path, anchor, _ := strings.Cut(m[1], "#")
			target := file
			if path != "" {
				target = filepath.Join(filepath.Dir(file), path)
			}
			b, err := os.ReadFile(target)
			if st, serr := os.Stat(target); serr != nil || (err != nil && !st.IsDir()) {
				t.Errorf("%s: %s does not exist", file, m[1])
				continue
			}
			if anchor == "" {
				continue
			}
			found := false
			for _, h := range heading.FindAllStringSubmatch(string(b), -1) {
				found = found || slug(h[1]) == anchor
			}
			if !found {
				t.Errorf("%s: %s: there is no such heading", file, m[1])
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d links were found", seen)
	}
}

// Every guide is reachable from the index.
func TestIndexListsEveryGuide(t *testing.T) {
	t.Parallel()
	index := text(t, "docs", "guides", "README.md")
	for _, file := range must[[]string](t)(filepath.Glob(filepath.Join(root, "docs", "guides", "*.md"))) {
		if name := filepath.Base(file); name != "README.md" && !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/guides/README.md does not list %s", name)
		}
	}
}

var braces = regexp.MustCompile(`\{([^}]*)\}`)

// Every key of ours is in the configuration guide.
func TestConfigurationGuideNamesOurKeys(t *testing.T) {
	t.Parallel()
	guide := text(t, "docs", "guides", "configuration.md")
	seen := 0
	for line := range strings.Lines(text(t, "internal", "config", "catalogue.txt")) {
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != "OURS" || f[0] == "#" {
			continue
		}
		keys := []string{f[0]}
		if m := braces.FindStringSubmatch(f[0]); m != nil {
			keys = nil
			for k := range strings.SplitSeq(m[1], ",") {
				keys = append(keys, strings.Replace(f[0], m[0], k, 1))
			}
		}
		for _, k := range keys {
			seen++
			if !strings.Contains(guide, "`"+k+"`") {
				t.Errorf("docs/guides/configuration.md does not explain %s", k)
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d keys were found", seen)
	}
}

var gatewayRow = regexp.MustCompile(`(?m)^\tGw\w+\s*=.*Code: ([0-9]+)`)

// Every code that the gateway makes is in the guide of its errors.
func TestErrorGuideNamesEveryCode(t *testing.T) {
	t.Parallel()
	guide := text(t, "docs", "guides", "gateway-errors.md")
	rows := gatewayRow.FindAllStringSubmatch(text(t, "internal", "fault", "gateway.go"), -1)
	if len(rows) < 20 {
		t.Errorf("only %d codes were found", len(rows))
	}
	for _, m := range rows {
		if !strings.Contains(guide, "| "+m[1]+" |") {
			t.Errorf("docs/guides/gateway-errors.md does not explain %s", m[1])
		}
	}
}

var (
	ruleRow  = regexp.MustCompile(`(?m)^\t"([a-z-]+)":\s+"`)
	ruleUsed = regexp.MustCompile(`exchange\.Refuse\(.*?\), "([a-z-]+)"|(?:bad|forbidden)\("([a-z-]+)"`)
)

// Every rule that explains a refusal is in the guide, and every refusal of the
// gateway has a rule that is explained.
func TestErrorGuideNamesEveryRule(t *testing.T) {
	t.Parallel()
	guide := text(t, "docs", "guides", "gateway-errors.md")
	known := map[string]bool{}
	for _, m := range ruleRow.FindAllStringSubmatch(text(t, "internal", "analytics", "meaning.go"), -1) {
		known[m[1]] = true
		if !strings.Contains(guide, "| `"+m[1]+"` |") {
			t.Errorf("docs/guides/gateway-errors.md does not explain the rule %s", m[1])
		}
	}
	used := 0
	ok(t, filepath.WalkDir(filepath.Join(root, "internal", "gateway"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range ruleUsed.FindAllStringSubmatch(string(must[[]byte](t)(os.ReadFile(path))), -1) {
			used++
			if !known[m[1]+m[2]] {
				t.Errorf("%s refuses by the rule %s, which internal/analytics/meaning.go does not explain", path, m[1]+m[2])
			}
		}
		return nil
	}))
	if len(known) < 40 || used < 15 {
		t.Errorf("only %d rules and %d refusals were found", len(known), used)
	}
}

var quoted = regexp.MustCompile("`((?:internal|cmd|openapi|deploy|bench|docs)[a-z0-9/_.-]*)`")

// The map names every package folder, and nothing that is not there.
func TestMapIsTrue(t *testing.T) {
	t.Parallel()
	places := text(t, "docs", "map.md")
	for _, m := range quoted.FindAllStringSubmatch(places, -1) {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
			t.Errorf("docs/map.md names %s, which is not there", m[1])
		}
	}
	for _, pattern := range []string{"internal/*", "internal/control/*"} {
		for _, dir := range must[[]string](t)(filepath.Glob(filepath.Join(root, pattern))) {
			rel := must[string](t)(filepath.Rel(root, dir))
			if rel != "internal/control" && !strings.Contains(places, "`"+rel+"`") && !strings.Contains(places, "`"+rel+"/*`") {
				t.Errorf("docs/map.md does not tell what %s is for", rel)
			}
		}
	}
}
