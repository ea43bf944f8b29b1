package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	code := m.Run()
	Cleanup()
	os.Exit(code)
}

// node starts a node with its home in a folder of its own and stops it at the
// end of the test; a failed test shows the end of its log.
func node(t *testing.T, n Node) *Process {
	t.Helper()
	if n.Home == "" {
		n.Home = filepath.Join(t.TempDir(), "home")
	}
	p, err := Start(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			out := p.Output()
			t.Logf("log of the node at offset %d:\n%s", p.Offset, out[max(0, len(out)-6000):])
		}
	})
	return p
}

// admin signs in as the administrator of a fresh home.
func admin(t *testing.T, p *Process) *Client {
	t.Helper()
	c, err := Login(t.Context(), p.Management(), "admin", "admin")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// must fails the test on an error and passes the value on.
func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually asks until the condition holds or the time is over.
func eventually(t *testing.T, within time.Duration, what string, cond func(ctx context.Context) bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !cond(t.Context()) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// early waits until at least the given part of the current window remains, so
// that a count does not straddle two windows.
func early(window, need time.Duration) {
	now := time.Now()
	end := now.Truncate(window).Add(window)
	if left := end.Sub(now); left < need {
		time.Sleep(left + 50*time.Millisecond)
	}
}
