package e2e

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

// command runs the binary as a person would and returns what it printed, both
// streams together, and its exit code.
func command(t *testing.T, env []string, args ...string) (out string, code int) {
	t.Helper()
	bin := must[string](t)(Binary())
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append(os.Environ(), env...)
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// refused starts a node that must not start, and returns what it said.
func refused(t *testing.T, n Node) string {
	t.Helper()
	p := must[*Process](t)(Launch(n))
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		p.Kill()
		t.Fatalf("the node still runs:\n%s", p.Output())
	}
	if p.err == nil {
		t.Errorf("the node ended without an error:\n%s", p.Output())
	}
	return p.Output()
}

// restart starts a node again as it was, and stops it at the end of the test.
func restart(t *testing.T, p *Process, args ...string) *Process {
	t.Helper()
	if args == nil {
		args = p.Args
	}
	again := must[*Process](t)(Start(t.Context(), Node{Home: p.Home, Offset: p.Offset, Args: args, Env: p.Env}))
	t.Cleanup(again.Kill)
	return again
}
