package e2e

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

// onEachEngine runs a test on SQLite and on PostgreSQL; env is what the node
// and the commands beside it get.
func onEachEngine(t *testing.T, fn func(t *testing.T, env []string)) {
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		fn(t, nil)
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		fn(t, []string{"CARDEA_DATABASE_URL=" + pgtest.URL(t)})
	})
}

// answers asks until a call is answered with the status.
func answers(t *testing.T, status int, target, token string) {
	t.Helper()
	var last int
	eventually(t, 15*time.Second, target+" answers as it should", func(ctx context.Context) bool {
		a, err := Call(ctx, http.MethodGet, target, token, nil)
		if err == nil {
			last = a.Status
		}
		return err == nil && a.Status == status
	})
	if last != status {
		t.Errorf("%s answers %d, want %d", target, last, status)
	}
}

// What was backed up while serving comes back while serving: over REST, at the
// gateway of the process and at one that joined, and what came later is gone.
func TestRestoreWhileServing(t *testing.T) {
	onEachEngine(t, func(t *testing.T, env []string) {
		backend := NewBackend()
		defer backend.Close()
		p := node(t, Node{Env: env})
		c := admin(t, p)

		// State A.
		doc := openAPI("Kept", backend.URL)
		doc.Definition = []byte(tinyDefinition)
		kept := must[string](t)(c.Import(t.Context(), doc))
		ok(t, c.Publish(t.Context(), kept))
		app := must[*App](t)(c.NewApp(t.Context(), "kept-app", "Unlimited"))
		_ = must[string](t)(c.Subscribe(t.Context(), app.ID, kept, "Unlimited"))
		token := must[string](t)(c.AppToken(t.Context(), app, ""))
		answers(t, http.StatusOK, p.Gateway()+"/kept/1.0.0/a", token)
		file := filepath.Join(t.TempDir(), "cardea.backup")
		if out, code := command(t, env, "backup", file, "--home", p.Home); code != 0 {
			t.Fatalf("backup: exit code %d:\n%s", code, out)
		}

		// State B: a node joins, an API comes, the application goes, the password changes.
		gw := joinGateway(t, c, "gw-one")
		ok(t, c.Publish(t.Context(), must[string](t)(c.Import(t.Context(), openAPI("Later", backend.URL)))))
		for _, base := range []string{p.Gateway(), gw.Gateway()} {
			answers(t, http.StatusOK, base+"/later/1.0.0/a", "")
		}
		head := version(t, c)
		a := must[*Answer](t)(c.Do(t.Context(), http.MethodDelete, Devportal+"/applications/"+app.ID, nil))
		if a.Status != http.StatusOK {
			t.Fatalf("delete application: %d: %s", a.Status, a.Body)
		}
		eventually(t, 15*time.Second, "a token of the deleted application is refused", func(ctx context.Context) bool {
			a, err := Call(ctx, http.MethodGet, gw.Gateway()+"/kept/1.0.0/a", token, nil)
			return err == nil && (a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden)
		})
		if out, code := command(t, append(env, "CARDEA_PASSWORD=quite-another"), "admin", "reset-password", "--home", p.Home); code != 0 {
			t.Fatalf("reset password: exit code %d:\n%s", code, out)
		}

		pid := p.Pid()
		stop := silence(t, p.Gateway()+"/kept/1.0.0/a")
		out, code := command(t, env, "restore", file, "--home", p.Home, "--yes")
		if code != 0 || !strings.Contains(out, "not ready for") {
			t.Fatalf("restore: exit code %d:\n%s", code, out)
		}
		t.Logf("%s; its gateway ports were silent for %v", strings.TrimSpace(out), stop().Round(time.Millisecond))
		if p.Pid() != pid || !homeHeld(p) {
			t.Fatal("the process has ended")
		}

		// The command has ended: the process itself serves state A at once.
		c = admin(t, p)
		var got struct{ Name string }
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, Devportal+"/applications/"+app.ID, nil, &got))
		if got.Name != "kept-app" {
			t.Errorf("the application is %q", got.Name)
		}
		var apis struct{ List []struct{ Name string } }
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, Publisher+"/apis", nil, &apis))
		if len(apis.List) != 1 || apis.List[0].Name != "Kept" {
			t.Errorf("APIs: %+v", apis.List)
		}
		if a := must[*Answer](t)(Call(t.Context(), http.MethodGet, p.Gateway()+"/later/1.0.0/a", "", nil)); a.Status != http.StatusNotFound {
			t.Errorf("an API that the restored state does not know answers %d", a.Status)
		}
		if a := must[*Answer](t)(Call(t.Context(), http.MethodGet, p.Gateway()+"/kept/1.0.0/a", token, nil)); a.Status != http.StatusOK {
			t.Errorf("a token of the restored state answers %d: %s", a.Status, a.Body)
		}
		if now := version(t, c); now.Epoch <= head.Epoch {
			t.Errorf("version %v after the restore, %v before: the epoch is not raised", now, head)
		}
		// The gateway that joined after the backup follows.
		answers(t, http.StatusNotFound, gw.Gateway()+"/later/1.0.0/a", "")
		answers(t, http.StatusOK, gw.Gateway()+"/kept/1.0.0/a", token)
		ok(t, c.Publish(t.Context(), must[string](t)(c.Import(t.Context(), openAPI("Third", backend.URL)))))
		answers(t, http.StatusOK, p.Gateway()+"/third/1.0.0/a", "")
		answers(t, http.StatusOK, gw.Gateway()+"/third/1.0.0/a", "")

		t.Run("again", func(t *testing.T) {
			if out, code := command(t, env, "restore", file, "--home", p.Home, "--yes"); code != 0 {
				t.Fatalf("restore: exit code %d:\n%s", code, out)
			}
			answers(t, http.StatusNotFound, p.Gateway()+"/third/1.0.0/a", "")
			answers(t, http.StatusNotFound, gw.Gateway()+"/third/1.0.0/a", "")
		})
		if left := must[[]string](t)(filepath.Glob(filepath.Join(p.Home, "restore", "*"))); len(left) != 1 {
			t.Errorf("left in the folder: %v, want the state alone", left)
		}
		ok(t, p.Stop())
	})
}

// silence calls without a pause until it is told to stop, and gives the longest
// time between two answers of any kind.
func silence(t *testing.T, target string) (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	longest := make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		for last := time.Now(); ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
			if _, err := Call(ctx, http.MethodGet, target, "", nil); err == nil {
				most, last = max(most, time.Since(last)), time.Now()
			}
		}
		longest <- most
	}()
	return func() time.Duration {
		cancel()
		return <-longest
	}
}

// held reports whether the process still runs.
func homeHeld(p *Process) bool {
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

// A backup that cannot be restored is refused with its cause, and the server
// does not even pause.
func TestRestoreWhileServingRefuses(t *testing.T) {
	t.Parallel()
	other, p := node(t, Node{}), node(t, Node{})
	dir := t.TempDir()
	file, foreign := filepath.Join(dir, "own"), filepath.Join(dir, "foreign")
	for home, to := range map[string]string{p.Home: file, other.Home: foreign} {
		if out, code := command(t, nil, "backup", to, "--home", home); code != 0 {
			t.Fatalf("backup: exit code %d:\n%s", code, out)
		}
	}
	other.Kill()
	whole := must[[]byte](t)(os.ReadFile(file))
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 0x40
	c := admin(t, p)
	var before, after struct{ StartedAt string }
	ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/info", nil, &before))
	for name, bad := range map[string]struct {
		file []byte
		says string
	}{
		"truncated":         {whole[:len(whole)/2], "read backup"},
		"without its end":   {whole[:len(whole)-4], "cut off"},
		"a flipped bit":     {flipped, "read backup"},
		"no backup":         {[]byte("PK\x03\x04 something else"), "not a backup"},
		"empty":             {nil, "not a backup"},
		"of another server": {must[[]byte](t)(os.ReadFile(foreign)), "another master key"},
	} {
		path := filepath.Join(dir, "bad")
		ok(t, os.WriteFile(path, bad.file, 0o600))
		if out, code := command(t, nil, "restore", path, "--home", p.Home, "--yes"); code != 1 || !strings.Contains(out, bad.says) {
			t.Errorf("%s: exit code %d, want %q:\n%s", name, code, bad.says, out)
		}
	}
	ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/info", nil, &after))
	if before.StartedAt == "" || before != after {
		t.Errorf("the server started again: %v, then %v", before, after)
	}
	if left := must[[]string](t)(filepath.Glob(filepath.Join(p.Home, "restore", "*"))); len(left) != 0 {
		t.Errorf("left in the folder: %v", left)
	}

	t.Run("by the server", func(t *testing.T) {
		// Only the server has the key to compare with.
		p := node(t, Node{Env: []string{"CARDEA_MASTER_KEY=" + strings.Repeat("77", 32)}})
		c := admin(t, p)
		var before, after struct{ StartedAt string }
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/info", nil, &before))
		out, code := command(t, nil, "restore", foreign, "--home", p.Home, "--yes")
		if code != 1 || !strings.Contains(out, "the server goes on with what it had") || !strings.Contains(out, "another master key") {
			t.Errorf("exit code %d:\n%s", code, out)
		}
		ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, "/api/cardea/v1/info", nil, &after))
		if before != after {
			t.Errorf("the server started again: %v, then %v", before, after)
		}
	})
}

// A restore that was accepted when the process was killed is applied wholly by
// the next start, wherever the kill came.
func TestKillInTheMiddleOfARestore(t *testing.T) {
	onEachEngine(t, func(t *testing.T, env []string) {
		backend := NewBackend()
		defer backend.Close()
		p := node(t, Node{Env: env})
		c := admin(t, p)
		ok(t, c.Publish(t.Context(), must[string](t)(c.Import(t.Context(), openAPI("Kept", backend.URL)))))
		file := filepath.Join(t.TempDir(), "cardea.backup")
		if out, code := command(t, env, "backup", file, "--home", p.Home); code != 0 {
			t.Fatalf("backup: exit code %d:\n%s", code, out)
		}
		state := filepath.Join(p.Home, "restore", "state.json")
		whole := t // what restarts here outlives the phase
		for _, phase := range []string{"offered", "prepared", "applied", "any", "any"} {
			t.Run(phase, func(t *testing.T) {
				ok(t, c.Publish(t.Context(), must[string](t)(c.Import(t.Context(), openAPI("Later", backend.URL)))))
				answers(t, http.StatusOK, p.Gateway()+"/later/1.0.0/a", "")
				if phase == "offered" {
					ok(t, p.Pause()) // so that the process cannot come to it
				}
				said := make(chan string, 1)
				go func() {
					out, code := command(t, env, "restore", file, "--home", p.Home, "--yes")
					if code == 0 {
						out = "exit code 0: " + out
					}
					said <- out
				}()
				eventually(t, 20*time.Second, "the restore is "+phase, func(context.Context) bool {
					b, err := os.ReadFile(state)
					return err == nil && (strings.Contains(string(b), `"`+phase+`"`) || phase == "any" && !strings.Contains(string(b), `"serving"`))
				})
				if phase == "any" {
					moment := rand.N(2600 * time.Millisecond) // as long as the whole takes
					t.Logf("killed after %v", moment)
					time.Sleep(moment)
				}
				p.Kill()
				if out := <-said; !strings.Contains(out, "server has ended meanwhile") && phase != "any" {
					t.Errorf("the command said: %s", out)
				}
				p = restart(whole, p)
				c = admin(t, p)
				eventually(t, 15*time.Second, "the restore is reported", func(context.Context) bool {
					b, err := os.ReadFile(state)
					return err == nil && strings.Contains(string(b), `"serving"`)
				})
				answers(t, http.StatusNotFound, p.Gateway()+"/later/1.0.0/a", "")
				answers(t, http.StatusOK, p.Gateway()+"/kept/1.0.0/a", "")
				// Once only: what comes now survives the next start.
				ok(t, c.Publish(t.Context(), must[string](t)(c.Import(t.Context(), openAPI("Fresh", backend.URL)))))
				p.Kill()
				p = restart(whole, p)
				answers(t, http.StatusOK, p.Gateway()+"/fresh/1.0.0/a", "")
				c = admin(t, p)
			})
		}
	})
}

// With a second control process on the database the restore is refused, and
// both go on.
func TestRestoreRefusesASharedDatabase(t *testing.T) {
	t.Parallel()
	env := []string{"CARDEA_DATABASE_URL=" + pgtest.URL(t), "CARDEA_MASTER_KEY=" + strings.Repeat("5a", 32)}
	one := node(t, Node{Env: env})
	file := filepath.Join(t.TempDir(), "cardea.backup")
	if out, code := command(t, env, "backup", file, "--home", one.Home); code != 0 {
		t.Fatalf("backup: exit code %d:\n%s", code, out)
	}
	two := node(t, Node{Env: env, Args: []string{"--roles", "control,identity"}})
	out, code := command(t, env, "restore", file, "--home", one.Home, "--yes")
	if code != 1 || !strings.Contains(out, "other processes use this database too (1)") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	for _, p := range []*Process{one, two} {
		c := admin(t, p)
		_ = version(t, c)
	}
	ok(t, two.Stop())
	if out, code := command(t, env, "restore", file, "--home", one.Home, "--yes"); code != 0 {
		t.Errorf("with one process left: exit code %d:\n%s", code, out)
	}
}
