// Package hostile shows that the real binary goes on serving while clients and
// backends do their worst: slow and idle clients, large uploads, backends that
// break in every way, more load than it can take.
package hostile

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cardea-apim/cardea/internal/e2e"
)

func TestMain(m *testing.M) {
	raiseFiles()
	code := m.Run()
	e2e.Cleanup()
	os.Exit(code)
}

// raiseFiles lets this process, and what it starts, open as many files as the
// system allows.
func raiseFiles() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l) // needFiles says when that was not enough
	}
}

// needFiles skips a test that cannot open n files here and in the node.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var l unix.Rlimit
	ok(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &l))
	if l.Cur < n {
		t.Skipf("this needs %d open files; the system allows %d", n, l.Cur)
	}
}

// long reports whether the slow forms are to run.
func long() bool { return os.Getenv("CARDEA_LONG") != "" }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a node and its administrator.
type site struct {
	*e2e.Process
	c *e2e.Client
}

// start starts a node of its own whose callers without credentials have no
// limit that matters. A failed test shows the end of its log.
func start(t *testing.T, n e2e.Node) *site {
	t.Helper()
	n.Home = filepath.Join(t.TempDir(), "home")
	p, err := e2e.Start(t.Context(), n)
	ok(t, err)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			out := p.Output()
			t.Logf("log of the node:\n%s", out[max(0, len(out)-6000):])
		}
	})
	c, err := e2e.Login(t.Context(), p.Management(), "admin", "admin")
	ok(t, err)
	s := &site{Process: p, c: c}
	ok(t, s.unlimited(t.Context()))
	return s
}

// unlimited raises the plan of callers without credentials.
func (s *site) unlimited(ctx context.Context) error {
	var list struct {
		List []struct{ PolicyID, PolicyName string }
	}
	const plans = e2e.Admin + "/throttling/policies/subscription"
	if err := s.c.Must(ctx, http.StatusOK, http.MethodGet, plans, nil, &list); err != nil {
		return err
	}
	for _, p := range list.List {
		if p.PolicyName == "Unauthenticated" {
			return s.c.Must(ctx, http.StatusOK, http.MethodPut, plans+"/"+p.PolicyID, map[string]any{
				"policyName": p.PolicyName, "displayName": p.PolicyName, "description": "raised", "stopOnQuotaReach": true,
				"defaultLimit": map[string]any{"type": "REQUESTCOUNTLIMIT", "requestCount": map[string]any{"timeUnit": "min", "unitTime": 1, "requestCount": 1 << 30}},
			}, nil)
		}
	}
	return errors.New("no plan named Unauthenticated")
}

const definition = `{"openapi": "3.0.1", "info": {"title": "Open", "version": "1"}, "paths": {"/a": {
"get": {"x-auth-type": "None", "responses": {"200": {"description": "ok"}}},
"post": {"x-auth-type": "None", "responses": {"200": {"description": "ok"}}}}}}`

// open publishes an API without security for a backend that has timeout to
// answer (0: the default) and returns its path.
func (s *site) open(t *testing.T, name, backend string, timeout time.Duration) string {
	t.Helper()
	endpoint := map[string]any{"url": backend}
	if timeout > 0 {
		endpoint["config"] = map[string]any{"actionSelect": "fault", "actionDuration": strconv.FormatInt(timeout.Milliseconds(), 10)}
	}
	in := e2e.NewAPI{Definition: []byte(definition), Name: name, Version: "1.0.0", Context: "/" + strings.ToLower(name), Backend: backend}
	in.Extra = map[string]any{"endpointConfig": map[string]any{"endpoint_type": "http", "production_endpoints": endpoint, "sandbox_endpoints": endpoint}}
	id, err := s.c.Import(t.Context(), in)
	ok(t, err)
	ok(t, s.c.Publish(t.Context(), id))
	path := in.Context + "/1.0.0/a"
	return path
}

// host is the address of the plain gateway port.
func (s *site) host() string { return strings.TrimPrefix(s.Gateway(), "http://") }

// memory is a line of /proc/PID/status in KB: VmRSS, or VmHWM, its peak.
func (s *site) memory(t *testing.T, field string) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/status")
	ok(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, found := strings.CutPrefix(line, field+":"); found {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			ok(t, err)
			return kb
		}
	}
	t.Fatalf("no %s for the node", field)
	return 0
}

// processor is the processor time that the node has used.
func (s *site) processor(t *testing.T) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(s.Pid()) + "/stat")
	ok(t, err)
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	ok(t, err)
	system, err := strconv.ParseInt(fields[12], 10, 64)
	ok(t, err)
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}
