package foreign

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// needed returns the path of a program that .ci/setup installs. Without it the
// test is skipped, unless CARDEA_TEST_REQUIRE_FOREIGN is set, or for Node.js
// CARDEA_TEST_REQUIRE_NODE.
func needed(t *testing.T, program string) string {
	t.Helper()
	for _, name := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CARDEA_TEST_REQUIRE_FOREIGN") != "" || program == "node" && os.Getenv("CARDEA_TEST_REQUIRE_NODE") != "" {
		t.Fatalf("%s is missing; make setup installs it", program)
	}
	t.Skipf("%s is missing; make setup installs it", program)
	return ""
}

// run runs a program to its end and returns its output and its error output.
func run(t *testing.T, within time.Duration, program string, args ...string) (out, said string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	var o, e bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return o.String(), e.String(), err
}

// serve starts a server program, waits until it listens on addr, and ends it
// with the test; a failed test shows what it said.
func serve(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	var out safeBuffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	// A group of its own: servers have workers, and all are to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	ok(t, cmd.Start())
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended already
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Errorf("%s does not end", program)
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", program, out.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("%s ended: %v\n%s", program, err, out.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen on %s\n%s", program, addr, out.String())
		}
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// ports returns addresses on this machine that nobody listens on.
func ports(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ok(t, err)
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// split is the host and port of an address or base URL.
func split(t *testing.T, base string) (string, int) {
	t.Helper()
	_, addr, found := strings.Cut(base, "://")
	if !found {
		addr = base
	}
	host, port, err := net.SplitHostPort(addr)
	ok(t, err)
	return host, must[int](t)(strconv.Atoi(port))
}
