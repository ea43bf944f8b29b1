package e2e

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBadConfigurationStopsTheStart: every mistake is named with its line, the
// exit code is not 0, nothing hangs and nothing is served.
func TestBadConfigurationStopsTheStart(t *testing.T) {
	t.Parallel()
	bin := must[string](t)(Binary())
	for name, conf := range map[string]string{
		"not TOML":          "[server\nhostname = ",
		"binary":            "\x00\x01\xff\xfe",
		"unknown key":       "[cardea.log]\nlevle = \"info\"\n",
		"wrong type":        "[server]\noffset = \"many\"\n",
		"two keys":          "[server]\nhostname = \"a\"\nhostname = \"b\"\n",
		"deep":              "a = " + strings.Repeat("[", 200000) + strings.Repeat("]", 200000),
		"huge":              "# " + strings.Repeat("x", 80<<20),
		"many tables":       manyTables(),
		"placeholder loop":  "[server]\nhostname = \"$ref{server.hostname}\"\n",
		"bad offset":        "[server]\noffset = -70000\n",
		"bad database":      "[cardea.database]\nurl = \"mysql://x\"\n",
		"bad certificate":   "[keystore.tls]\nfile_name = \"../../../../etc/shadow\"\n[cardea.certificate]\nfile = \"/nonexistent\"\nkey_file = \"/nonexistent\"\n",
		"bad trusted proxy": "[cardea]\ntrusted_proxies = [\"banana\"]\n",
	} {
		t.Run(name, func(t *testing.T) {
			code, out, took, mb := runConfig(t, bin, conf)
			if code == 0 || code < 0 {
				t.Errorf("exit code %d: %.400s", code, out)
			}
			if took > 15*time.Second {
				t.Errorf("took %v", took)
			}
			if mb > 1024 {
				t.Errorf("it held %d MB", mb)
			}
			if strings.Contains(out, "panic") || strings.Contains(out, "goroutine ") || len(out) > 64<<10 {
				t.Errorf("%d bytes: %.600s", len(out), out)
			}
		})
	}
}

func manyTables() string {
	var b strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&b, "[cardea.x%d]\na=1\n", i)
	}
	return b.String()
}

// runConfig starts the binary with a configuration file and says how it ended,
// what it printed, and how many MB it held at most.
func runConfig(t *testing.T, bin, conf string) (code int, out string, took time.Duration, mb int64) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "cardea.toml")
	ok(t, os.WriteFile(file, []byte(conf), 0o600))
	offset := must[int](t)(FreeOffset())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	args := []string{"serve", "--home", filepath.Join(dir, "home"), "--config", file}
	if !strings.Contains(conf, "offset") {
		args = append(args, "--offset", strconv.Itoa(offset))
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	began := time.Now()
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return cmd.ProcessState.ExitCode(), string(b), time.Since(began), usage.Maxrss >> 10
}

// TestDefaultPasswordIsForLoopbackOnly: admin/admin ends when the listeners go
// beyond this machine, also on a home that was made while they did not.
func TestDefaultPasswordIsForLoopbackOnly(t *testing.T) {
	t.Parallel()
	for name, first := range map[string][]string{"first start": nil, "second start": {}} {
		t.Run(name, func(t *testing.T) {
			home := filepath.Join(t.TempDir(), "home")
			if first != nil {
				p := node(t, Node{Home: home, Args: first})
				admin(t, p)
				ok(t, p.Stop())
				if _, err := os.Stat(filepath.Join(home, "admin-password")); err == nil {
					t.Error("a password was generated on loopback")
				}
			}
			p := node(t, Node{Home: home, Args: []string{"--listen", "0.0.0.0"}})
			if _, err := Login(t.Context(), p.Management(), "admin", "admin"); err == nil {
				t.Error("admin/admin is good on all interfaces")
			}
			file := filepath.Join(home, "admin-password")
			info, err := os.Stat(file)
			ok(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v", info.Mode())
			}
			password := strings.TrimSpace(string(must[[]byte](t)(os.ReadFile(file))))
			if len(password) < 20 {
				t.Errorf("a password of %d characters", len(password))
			}
			if _, err := Login(t.Context(), p.Management(), "admin", password); err != nil {
				t.Error(err)
			}
			if out := p.Output(); strings.Contains(out, password) || strings.Count(out, "admin-password") == 0 {
				t.Errorf("the log must name the file and not the password: %.2000s", out)
			}
			u, err := url.Parse(p.Management())
			ok(t, err)
			plain := "http://localhost:" + strconv.Itoa(portHTTP+p.Offset)
			for _, target := range []string{"http:@evil.example/", "//evil.example/", "/\\evil.example", "*", "http://evil.example/x"} {
				got, _ := raw(t, plain, "GET "+target+" HTTP/1.1\r\nHost: evil.example\r\n\r\n")
				for _, a := range got {
					l, err := url.Parse(a.Header.Get("Location"))
					if err != nil || l.Host != "" && l.Host != u.Host || l.User != nil {
						t.Errorf("%s: redirected to %s", target, a.Header.Get("Location"))
					}
				}
			}
		})
	}
}
