package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to write into a stopped home
)

func TestAHomeNewerThanTheBinaryIsRefused(t *testing.T) {
	t.Parallel()
	p := node(t, Node{})
	ok(t, p.Stop())
	db := must[*sql.DB](t)(sql.Open("sqlite", filepath.Join(p.Home, "cardea.db")))
	_, err := db.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	ok(t, err)
	ok(t, db.Close())
	out := refused(t, p.Node)
	for _, part := range []string{"newer than this binary", "999", "restore a backup"} {
		if !strings.Contains(out, part) {
			t.Errorf("the refusal does not say %q:\n%s", part, out)
		}
	}
	// Commands beside the server say the same, and name themselves.
	version, _ := command(t, nil, "version")
	name := strings.Join(strings.Fields(version)[:2], " ")
	for _, args := range [][]string{{"backup", filepath.Join(t.TempDir(), "b.tgz")}, {"admin", "reset-password"}} {
		out, code := command(t, nil, append(args, "--home", p.Home)...)
		if code == 0 || !strings.Contains(out, "newer than this binary") || !strings.Contains(out, "this is "+name+",") {
			t.Errorf("%v: exit code %d, does not name %s:\n%s", args, code, name, out)
		}
	}
}

func TestASecondProcessOnAHomeIsRefused(t *testing.T) {
	t.Parallel()
	p := node(t, Node{})
	out := refused(t, Node{Home: p.Home})
	if !strings.Contains(out, "in use by another process") || !strings.Contains(out, fmt.Sprint("pid ", p.Pid())) {
		t.Errorf("the refusal does not name who has the home:\n%s", out)
	}
	if _, err := Login(t.Context(), p.Management(), "admin", "admin"); err != nil {
		t.Errorf("the first process is disturbed: %v", err)
	}
}

func TestResetPassword(t *testing.T) {
	t.Parallel()
	p := node(t, Node{})
	admin(t, p)
	out, code := command(t, nil, "admin", "reset-password", "--home", p.Home)
	_, rest, found := strings.Cut(out, "password  ")
	password := strings.TrimSpace(rest)
	if code != 0 || !found || len(password) < 16 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	if _, err := Login(t.Context(), p.Management(), "admin", "admin"); err == nil {
		t.Error("the former password still works")
	}
	if _, err := Login(t.Context(), p.Management(), "admin", password); err != nil {
		t.Errorf("the new password does not work while the server runs: %v", err)
	}
	if out, code := command(t, nil, "admin", "reset-password", "--home", p.Home, "--user", "nobody"); code == 0 || !strings.Contains(out, "no user nobody") {
		t.Errorf("an unknown user: exit code %d:\n%s", code, out)
	}
}

// A backup made under load holds every write acknowledged before it began; the
// restored home takes the place of the former one, also for its gateways.
func TestBackupWhileServingAndRestore(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	control := node(t, Node{Args: []string{"--roles", "control,identity,traffic,analytics"}})
	c := admin(t, control)
	gw := joinGateway(t, c, "gw-one")
	kept := must[string](t)(c.Import(t.Context(), openAPI("Kept", backend.URL)))
	ok(t, c.Publish(t.Context(), kept))

	// Writers go on while the backup is made.
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("app-%d-%d", w, i)
				if err := c.Must(ctx, http.StatusCreated, http.MethodPost, Devportal+"/applications", map[string]any{"name": name, "throttlingPolicy": "Unlimited"}, nil); err == nil {
					mu.Lock()
					acknowledged[name] = true
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	mu.Lock()
	before := make([]string, 0, len(acknowledged))
	for name := range acknowledged {
		before = append(before, name)
	}
	mu.Unlock()
	file := filepath.Join(t.TempDir(), "cardea.backup")
	out, code := command(t, nil, "backup", file, "--home", control.Home)
	stop()
	writers.Wait()
	if code != 0 {
		t.Fatalf("backup: exit code %d:\n%s", code, out)
	}
	later := must[string](t)(c.Import(t.Context(), openAPI("Later", backend.URL)))
	ok(t, c.Publish(t.Context(), later))
	if !reachable(t.Context(), gw.Gateway()+"/later/1.0.0/a") {
		t.Fatal("the API published after the backup is not callable")
	}
	head := version(t, c)

	home := filepath.Join(t.TempDir(), "restored")
	if out, code := command(t, nil, "restore", file, "--home", home); code == 0 || !strings.Contains(out, "--yes") {
		t.Errorf("restore without a yes: exit code %d:\n%s", code, out)
	}
	control.Kill()
	if out, code := command(t, nil, "restore", file, "--home", home, "--yes"); code != 0 {
		t.Fatalf("restore: exit code %d:\n%s", code, out)
	}
	again := node(t, Node{Home: home, Offset: control.Offset, Args: control.Args})
	c = admin(t, again)
	var list struct{ List []struct{ Name string } }
	ok(t, c.Must(t.Context(), http.StatusOK, http.MethodGet, Devportal+"/applications?limit=100000", nil, &list))
	restored := map[string]bool{}
	for _, app := range list.List {
		restored[app.Name] = true
	}
	for _, name := range before {
		if !restored[name] {
			t.Errorf("%s was acknowledged before the backup and is not in it", name)
		}
	}
	t.Logf("%d applications acknowledged before the backup, %d restored", len(before), len(restored))

	eventually(t, 15*time.Second, "the gateway follows the restored home", func(ctx context.Context) bool { return current(ctx, c, "gw-one") })
	if now := version(t, c); now.Epoch <= head.Epoch {
		t.Errorf("version %v after the restore, %v before: the epoch is not raised", now, head)
	}
	if !reachable(t.Context(), gw.Gateway()+"/kept/1.0.0/a") {
		t.Error("an API of the backup is gone from the gateway")
	}
	if a := must[*Answer](t)(Call(t.Context(), http.MethodGet, gw.Gateway()+"/later/1.0.0/a", "", nil)); a.Status != http.StatusNotFound {
		t.Errorf("an API that the restored home does not know answers %d on the gateway", a.Status)
	}
	third := must[string](t)(c.Import(t.Context(), openAPI("Third", backend.URL)))
	ok(t, c.Publish(t.Context(), third))
	if !reachable(t.Context(), gw.Gateway()+"/third/1.0.0/a") {
		t.Error("a new API is not callable after the restore")
	}
}
