package foreign

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// npmPackages installs packages of npm once per machine, without running their
// scripts, and returns their folder.
func npmPackages(t *testing.T, names ...string) string {
	t.Helper()
	npm := needed(t, "npm")
	cache := must[string](t)(os.UserCacheDir())
	dir := filepath.Join(cache, "cardea-test", strings.ReplaceAll(strings.Join(names, "-"), "@", "-"))
	done := filepath.Join(dir, "done")
	if _, err := os.Stat(done); err == nil {
		return dir
	}
	ok(t, os.MkdirAll(dir, 0o755))
	args := append([]string{"install", "--prefix", dir, "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"}, names...)
	if _, said, err := run(t, 180*time.Second, npm, args...); err != nil {
		if os.Getenv("CARDEA_TEST_REQUIRE_NODE") != "" {
			t.Fatalf("install %v: %v\n%s", names, err, said)
		}
		t.Skipf("%v cannot be installed: %v", names, err)
	}
	ok(t, os.WriteFile(done, nil, 0o600))
	return dir
}

// TestOpenIDClients has two OpenID Connect clients of npm sign in by every
// flow a browser takes part in.
func TestOpenIDClients(t *testing.T) {
	t.Parallel()
	node := needed(t, "node")
	dir := npmPackages(t, "openid-client@6.8.1", "oauth4webapi@3.8.2")
	w := gateway(t)
	const callback = "http://127.0.0.1:1/callback"
	id, secret := browserClient(t, w, callback)
	out, said, err := run(t, 120*time.Second, node, filepath.Join("testdata", "openid.mjs"), dir, w.Management(), id, secret, callback)
	if err != nil || strings.Count(out, "ok ") != 10 {
		t.Errorf("%v\n%s%s", err, out, said)
	}
}

func browserClient(t *testing.T, w *world, callback string) (id, secret string) {
	t.Helper()
	body := must[[]byte](t)(json.Marshal(map[string]any{
		"clientName": "openid_clients", "owner": "admin", "callbackUrl": callback, "grantType": "authorization_code implicit refresh_token",
	}))
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, w.Management()+"/client-registration/v0.17/register", bytes.NewReader(body)))
	req.SetBasicAuth("admin", "admin")
	req.Header.Set("Content-Type", "application/json")
	res := must[*http.Response](t)(e2e.Insecure.Do(req))
	defer res.Body.Close()
	var made struct {
		ID     string `json:"clientId"`
		Secret string `json:"clientSecret"`
	}
	ok(t, json.NewDecoder(res.Body).Decode(&made))
	return made.ID, made.Secret
}
