package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/config"
)

func load(t *testing.T, home string, set map[string]string) *config.Config {
	t.Helper()
	all := map[string]string{"cardea.roles": "control,identity"}
	for k, v := range set {
		all[k] = v
	}
	c, err := config.Load(config.Source{Home: home, Set: all})
	if err != nil {
		t.Fatal(err)
	}
	// Any free ports: nothing calls this process.
	c.Listen.Management, c.Listen.ManagementHTTP, c.Listen.Node = freePort(t), 0, freePort(t)
	return c
}

// firstStart starts and stops a process on the home.
func firstStart(t *testing.T, c *config.Config) string {
	t.Helper()
	var out bytes.Buffer
	a, err := New(t.Context(), c, Options{Stdout: &out, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestFirstPasswordIsGeneratedOnANetwork(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	out := firstStart(t, load(t, home, map[string]string{"cardea.listen": "0.0.0.0"}))
	file := filepath.Join(home, "admin-password")
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("password file: %v %v", st, err)
	}
	b, err := os.ReadFile(file)
	if err != nil || len(b) < 20 {
		t.Fatalf("password %q: %v", b, err)
	}
	if strings.Contains(out, strings.TrimSpace(string(b))) || !strings.Contains(out, file) {
		t.Errorf("printed: %s", out)
	}
}

func TestExplicitPasswordWins(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	c := load(t, home, map[string]string{"cardea.listen": "0.0.0.0", "super_admin.password": "chosen-one"})
	firstStart(t, c)
	if _, err := os.Stat(filepath.Join(home, "admin-password")); err == nil {
		t.Error("a password was generated although one is configured")
	}
}

func TestBackupIsRestoredIntoAnEmptyHomeOnly(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), nil)
	firstStart(t, c)
	var file bytes.Buffer
	if err := Backup(t.Context(), c, &file); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), load(t, t.TempDir(), nil), bytes.NewReader(file.Bytes()), RestoreOptions{}); err != nil {
		t.Errorf("into an empty home: %v", err)
	}
	if _, err := Restore(t.Context(), c, bytes.NewReader(file.Bytes()), RestoreOptions{}); err != nil {
		t.Errorf("into its own home: %v", err)
	}
	other := load(t, t.TempDir(), nil)
	firstStart(t, other)
	if _, err := Restore(t.Context(), other, bytes.NewReader(file.Bytes()), RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "another master key") {
		t.Errorf("into a home with another key: %v", err)
	}
	for name, bad := range map[string]io.Reader{
		"garbage": strings.NewReader("garbage"), "empty": strings.NewReader(""), "cut": bytes.NewReader(file.Bytes()[:file.Len()/2]),
	} {
		if _, err := Restore(t.Context(), load(t, t.TempDir(), nil), bad, RestoreOptions{}); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
}

func TestCommandsBesideAServerRefuseAHomeThatNeverStarted(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), nil)
	if _, err := ResetPassword(t.Context(), c, "admin", "whatever-1"); err == nil || !strings.Contains(err.Error(), "is --home right") {
		t.Errorf("reset password: %v", err)
	}
}

func TestControlAndIdentityApartNeedPostgreSQL(t *testing.T) {
	t.Parallel()
	_, err := New(t.Context(), load(t, t.TempDir(), map[string]string{"cardea.roles": "identity"}), Options{Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "need PostgreSQL") {
		t.Errorf("error = %v", err)
	}
}

// What somebody does beside a server leaves a row as what they do through it.
func TestOfflineCommandsAreAudited(t *testing.T) {
	t.Parallel()
	c := load(t, t.TempDir(), nil)
	c.Binary = "9.9-test"
	firstStart(t, c)
	password, err := ResetPassword(t.Context(), c, "admin", "")
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := Backup(t.Context(), c, &file); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), c, &file, RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	db, err := openBeside(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for kind, want := range map[string]struct{ action, object, after string }{
		"password":     {"reset", "admin", "cardea admin reset-password"},
		"installation": {"restore", "sqlite", "9.9-test"},
	} {
		page, err := db.Audits(t.Context(), apim.In(apim.SuperTenant), apim.Where("kind", kind))
		if err != nil || len(page.Items) != 1 {
			t.Fatalf("%s: %d rows, %v", kind, len(page.Items), err)
		}
		row := page.Items[0]
		if row.Action != want.action || row.Object != want.object || !strings.Contains(string(row.After), want.after) || strings.Contains(string(row.After), password) {
			t.Errorf("%s: %+v %s", kind, row, row.After)
		}
	}
}
