// Package docs_test holds the documentation to what the product does.
package docs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

func TestMain(m *testing.M) {
	code := m.Run()
	e2e.Cleanup()
	os.Exit(code)
}

var root = e2e.Root()

// The guides are run as they are pasted. In a guide, fenced blocks have a mark
// behind the language:
//
//	sh test              run in the one shell of the guide, with bash -eu
//	sh test fails        the same, and its last command must fail
//	sh test background   goes on running beside the rest of the guide
//	sh test after=1s     run after a pause
//	output               what the block before it printed; … is anything, a line of … any lines
//
// A comment <!-- node: --flag NAME=value --> gives flags and environment of the
// node; without one it is a demo. Ports in a guide are the standard ones; the
// test moves them by its offset.
func TestGuides(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "guides", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatal("no guides", err)
	}
	_, err = e2e.Binary() // once, before the guides run side by side
	ok(t, err)
	for _, tool := range []string{"bash", "curl", "jq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is missing (make setup installs it)", tool)
		}
	}
	for _, f := range append(files, filepath.Join(root, "README.md")) {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".md"), func(t *testing.T) {
			t.Parallel()
			g := readGuide(t, f)
			if len(g.blocks) > 0 {
				g.run(t)
			}
		})
	}
}

type guide struct {
	args, env []string // of the node
	blocks    []block
}

type block struct {
	line                 int
	code                 string
	fails, back, compare bool
	after                time.Duration
	want                 string
}

var nodeLine = regexp.MustCompile(`^<!-- node:(.*)-->$`)

func readGuide(t *testing.T, file string) guide {
	t.Helper()
	g := guide{args: []string{"--demo"}}
	lines := strings.Split(string(must[[]byte](t)(os.ReadFile(file))), "\n")
	for i := 0; i < len(lines); i++ {
		if m := nodeLine.FindStringSubmatch(lines[i]); m != nil {
			g.args = nil
			for _, f := range strings.Fields(m[1]) {
				if strings.HasPrefix(f, "CARDEA_") {
					g.env = append(g.env, f)
				} else {
					g.args = append(g.args, f)
				}
			}
		}
		info, ok := strings.CutPrefix(lines[i], "```")
		if !ok {
			continue
		}
		end := slices.Index(lines[i+1:], "```")
		if end < 0 {
			t.Fatalf("%s:%d: the block has no end", file, i+1)
		}
		text, marks := strings.Join(lines[i+1:i+1+end], "\n")+"\n", strings.Fields(info)
		switch {
		case slices.Equal(marks, []string{"output"}):
			if len(g.blocks) == 0 {
				t.Fatalf("%s:%d: an output of nothing", file, i+1)
			}
			last := &g.blocks[len(g.blocks)-1]
			last.want, last.compare = text, true
		case len(marks) > 1 && marks[1] == "test":
			b := block{line: i + 1, code: text}
			for _, m := range marks[2:] {
				switch pause, isPause := strings.CutPrefix(m, "after="); {
				case m == "fails":
					b.fails = true
				case m == "background":
					b.back = true
				case isPause:
					b.after = must[time.Duration](t)(time.ParseDuration(pause))
				default:
					t.Fatalf("%s:%d: unknown mark %q", file, i+1, m)
				}
			}
			g.blocks = append(g.blocks, b)
		}
		i += end + 1
	}
	return g
}

const divider = "\x1e block "

// script is the guide as one program that says where each block begins.
func (g guide) script() string {
	var s strings.Builder
	s.WriteString("set -eu -o pipefail\n")
	for i, b := range g.blocks {
		if b.after > 0 {
			fmt.Fprintf(&s, "sleep %v\n", b.after.Seconds())
		}
		fmt.Fprintf(&s, "printf '\\n%s%d\\n'\n", divider, i)
		switch {
		case b.back:
			fmt.Fprintf(&s, "{\n%s} >background.log 2>&1 &\n", b.code)
		case b.fails:
			fmt.Fprintf(&s, "set +e\n%s__rc=$?\nset -e\n[ $__rc -ne 0 ] || { echo 'this did not fail'; exit 97; }\n", b.code)
		default:
			s.WriteString(b.code)
		}
	}
	fmt.Fprintf(&s, "printf '\\n%s%d\\n'\n", divider, len(g.blocks))
	return s.String()
}

func (g guide) run(t *testing.T) {
	dir := t.TempDir()
	bin := must[string](t)(e2e.Binary())
	ok(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	ok(t, os.Symlink(must[string](t)(filepath.Abs(bin)), filepath.Join(dir, "bin", "cardea")))
	p, err := e2e.Start(t.Context(), e2e.Node{Home: filepath.Join(dir, ".cardea"), Args: g.args, Env: g.env})
	ok(t, err)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			out := p.Output()
			t.Logf("log of the node:\n%s", out[max(0, len(out)-2000):])
		}
	})
	waitGreeting(t, p)
	copyExamples(t, dir, p.Offset)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", movePorts(g.script(), p.Offset))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "CARDEA_SERVER="+p.Management(),
		"PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "NO_PROXY=localhost,127.0.0.1", "no_proxy=localhost,127.0.0.1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	// What a guide leaves running ends with it.
	stop := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = stop
	raw, err := cmd.CombinedOutput()
	_ = stop() // nothing is left in most guides
	got := strings.Split(standardPorts(string(raw), p.Offset), "\n"+divider)
	if len(got) != len(g.blocks)+2 {
		at := g.blocks[max(0, len(got)-2)]
		back, _ := os.ReadFile(filepath.Join(dir, "background.log")) // there only with background blocks
		t.Fatalf("line %d: the block failed (%v):\n%s\nprinted:\n%s\n%s", at.line, err, at.code, got[len(got)-1], back)
	}
	for i, b := range g.blocks {
		_, out, _ := strings.Cut(got[i+1], "\n")
		if b.compare && !matches(b.want, out) {
			t.Errorf("line %d:\n%s\nprinted:\n%s\nthe guide says:\n%s", b.line, b.code, out, b.want)
		}
	}
}

// copyExamples gives the guide the files beside it, under the names they have
// from the root of the repository.
func copyExamples(t *testing.T, dir string, by int) {
	t.Helper()
	guides := filepath.Join("docs", "guides")
	ok(t, os.MkdirAll(filepath.Join(dir, guides), 0o755))
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(root, guides))) {
		if !strings.HasSuffix(e.Name(), ".md") {
			b := must[[]byte](t)(os.ReadFile(filepath.Join(root, guides, e.Name())))
			ok(t, os.WriteFile(filepath.Join(dir, guides, e.Name()), []byte(movePorts(string(b), by)), 0o600))
		}
	}
}

// waitGreeting waits until a demo has made its sample, which is after the node
// is ready.
func waitGreeting(t *testing.T, p *e2e.Process) {
	if !slices.Contains(p.Args, "--demo") {
		return
	}
	for range 1000 {
		if strings.Contains(p.Output(), "Try next:") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the demo was not made in time")
}

var (
	ports  = regexp.MustCompile(`\b(9443|9763|8243|8280|9444|4222|9453|8290)\b`)
	number = regexp.MustCompile(`\b[0-9]{5}\b`)
	offset = regexp.MustCompile(`--offset ([0-9]+)`)
)

func movePorts(s string, by int) string {
	move := func(s string) string {
		n, _ := strconv.Atoi(s) // the expressions let only digits through
		return strconv.Itoa(n + by)
	}
	s = ports.ReplaceAllStringFunc(s, move)
	return offset.ReplaceAllStringFunc(s, func(m string) string { return "--offset " + move(strings.Fields(m)[1]) })
}

func standardPorts(s string, by int) string {
	return number.ReplaceAllStringFunc(s, func(m string) string {
		n, _ := strconv.Atoi(m)
		if back := strconv.Itoa(n - by); ports.MatchString(back) {
			return back
		}
		return m
	})
}

var spaces = regexp.MustCompile(`[ \t]+`)

// matches compares without regard to the width of columns.
func matches(want, got string) bool {
	tidy := func(s string) string {
		var out []string
		for line := range strings.Lines(strings.TrimSpace(s)) {
			out = append(out, strings.TrimSpace(spaces.ReplaceAllString(line, " ")))
		}
		return strings.Join(out, "\n")
	}
	var re strings.Builder
	re.WriteString(`^`)
	for i, line := range strings.Split(tidy(want), "\n") {
		if line == "…" {
			re.WriteString(`(\n?[^\n]*)*?`)
			continue
		}
		if i > 0 {
			re.WriteString(`\n?`)
		}
		re.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", `[^\n]*`))
		re.WriteString(`(?:\n|$)`)
	}
	re.WriteString(`$`)
	return regexp.MustCompile(re.String()).MatchString(tidy(got))
}

func TestGuideOutputs(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, want, got string
		match           bool
	}{
		{"the same", "one\ntwo\n", "one\ntwo\n", true},
		{"other width", "a  b\n", "a      b\n", true},
		{"a wildcard in a line", "id …\n", "id 123\n", true},
		{"a wildcard stays in its line", "id …\n", "id 123\nmore\n", false},
		{"lines skipped", "one\n…\nfour\n", "one\ntwo\nthree\nfour\n", true},
		{"nothing skipped", "one\n…\ntwo\n", "one\ntwo\n", true},
		{"the rest skipped", "one\n…\n", "one\ntwo\nthree\n", true},
		{"another line", "one\n", "two\n", false},
		{"a line too many", "one\n", "one\ntwo\n", false},
		{"a line missing", "one\ntwo\n", "one\n", false},
	}
	for _, tt := range tests {
		if got := matches(tt.want, tt.got); got != tt.match {
			t.Errorf("%s: matches = %v, want %v", tt.name, got, tt.match)
		}
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		ok(t, err)
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
