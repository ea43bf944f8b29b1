package foreign

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

// h2specTarget makes the test binary run h2spec against one server: the suite
// keeps its state in variables and ends the process when it cannot connect, so
// that each run needs a process of its own.
const h2specTarget = "CARDEA_FOREIGN_H2SPEC"

type h2specRun struct {
	Host   string
	Port   int
	Path   string
	TLS    bool
	Result string // file
	Only   []string
}

// h2specResult lists the cases by number and description.
type h2specResult struct {
	Passed, Skipped []string
	Failed          map[string]string // with what was expected and what came
}

func h2specChild(target string) int {
	var r h2specRun
	if err := json.Unmarshal([]byte(target), &r); err != nil {
		fmt.Println(err)
		return 1
	}
	c := &config.Config{
		Host: r.Host, Port: r.Port, Path: r.Path, TLS: r.TLS, Insecure: true,
		Timeout: 2 * time.Second, MaxHeaderLen: 4000, Strict: true, Sections: r.Only,
	}
	out := h2specResult{Failed: map[string]string{}}
	for _, group := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		group.Test(c)
		out.collect(group)
	}
	b, err := json.Marshal(out)
	if err == nil {
		err = os.WriteFile(r.Result, b, 0o600)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func (o *h2specResult) collect(g *spec.TestGroup) {
	for _, c := range slices.Concat(g.Tests, g.StrictTests) {
		if c.Result == nil {
			continue
		}
		name := fmt.Sprintf("%s/%d %s", g.ID(), c.Result.Sequence, c.Desc)
		switch {
		case c.Result.Failed:
			o.Failed[name] = c.Result.Error.Error()
		case c.Result.Skipped:
			o.Skipped = append(o.Skipped, name)
		default:
			o.Passed = append(o.Passed, name)
		}
	}
	for _, sub := range g.Groups {
		o.collect(sub)
	}
}

// run runs the suite against a server.
func (r h2specRun) run(t *testing.T) (got h2specResult, err error) {
	r.Result = filepath.Join(t.TempDir(), "result.json")
	target, err := json.Marshal(r)
	if err != nil {
		return got, err
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), h2specTarget+"="+string(target))
	if out, err := cmd.CombinedOutput(); err != nil {
		return got, fmt.Errorf("h2spec: %w\n%s", err, out[max(0, len(out)-2000):])
	}
	b, err := os.ReadFile(r.Result)
	if err != nil {
		return got, err
	}
	if err := json.Unmarshal(b, &got); err != nil {
		return got, err
	}
	if n := len(got.Passed) + len(got.Failed); len(r.Only) == 0 && n < 140 {
		return got, fmt.Errorf("h2spec ran %d cases only", n)
	}
	return got, nil
}

func h2specOf(t *testing.T, base, path string) h2specRun {
	host, port := split(t, base)
	return h2specRun{Host: host, Port: port, Path: path, TLS: strings.HasPrefix(base, "https:")}
}

const greeting = "Hello from a server that is asked odd things.\n"

// patient reads what comes before it answers; hasty does not.
var (
	patient = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // many of the suite's bodies are broken
		_, _ = io.WriteString(w, greeting)
	})
	hasty = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, greeting) })
)

var silent = log.New(io.Discard, "", 0)

// TestH2spec holds each of our HTTP/2 listeners to what Go's own server passes
// with a handler of the same kind.
func TestH2spec(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	backend := httptest.NewServer(patient)
	t.Cleanup(backend.Close)
	// One API for each: the suite opens streams by the hundred, and calls
	// without a token are limited.
	_, secure := w.publish(t, "SuiteTLS", open(anything), backend.URL)
	_, plain := w.publish(t, "SuitePlain", open(anything), backend.URL)
	listeners := []struct {
		name, base, path string
		handler          http.Handler
		ours, theirs     h2specRun
		got, reference   h2specResult
		err              [2]error
	}{
		{name: "TLS", base: w.GatewayTLS(), path: secure + "/a", handler: patient},
		{name: "prior knowledge", base: w.Gateway(), path: plain + "/a", handler: patient},
		{name: "management", base: w.Management(), path: "/healthz", handler: hasty},
	}
	var group sync.WaitGroup // the suite waits more than it works
	for i := range listeners {
		l := &listeners[i]
		l.ours, l.theirs = h2specOf(t, l.base, l.path), h2specOf(t, goServer(t, l.handler, strings.HasPrefix(l.base, "https:")), "/")
		group.Go(func() { l.got, l.err[0] = l.ours.run(t) })
		group.Go(func() { l.reference, l.err[1] = l.theirs.run(t) })
	}
	group.Wait()
	for _, l := range listeners {
		t.Run(l.name, func(t *testing.T) {
			ok(t, errors.Join(l.err[:]...))
			t.Logf("ours: %d passed, %d failed, %d skipped; Go's server: %d passed, %d failed, %d skipped", len(l.got.Passed), len(l.got.Failed),
				len(l.got.Skipped), len(l.reference.Passed), len(l.reference.Failed), len(l.reference.Skipped))
			// Some cases race with the answer; what fails each time is a failure.
			worse := beyond(l.got.Failed, l.reference.Failed)
			for range 2 {
				if len(worse) == 0 {
					break
				}
				l.ours.Only = nil
				for name := range worse {
					number, _, _ := strings.Cut(name, " ")
					l.ours.Only = append(l.ours.Only, number)
				}
				worse = beyond(must[h2specResult](t)(l.ours.run(t)).Failed, l.reference.Failed)
			}
			for name, why := range worse {
				t.Errorf("%s: %s", name, why)
			}
		})
	}
}

// beyond are the failures that the reference does not have.
func beyond(ours, theirs map[string]string) map[string]string {
	out := map[string]string{}
	for name, why := range ours {
		if _, also := theirs[name]; !also {
			out[name] = why
		}
	}
	return out
}

// goServer is net/http's server with HTTP/2, and its base URL.
func goServer(t *testing.T, handler http.Handler, secure bool) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = silent
	if secure {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.URL
}
