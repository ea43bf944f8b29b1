package cli

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/client"
)

// asked runs a command against a server that answers with JSON, signed in.
func asked(t *testing.T, answer func(r *http.Request) any, args ...string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(answer(r))
	}))
	defer srv.Close()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("CARDEA_USER", "")
	t.Setenv("CARDEA_PASSWORD", "")
	if err := saveToken(srv.URL, client.Token{Access: "x", Expires: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := Main(Build{}, append(args, "--server", srv.URL), &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, &errs)
	}
	return out.String()
}

// The note that the details are missing goes once they have arrived.
func TestExplainForgetsTheFirstAnswer(t *testing.T) {
	asks := 0
	out := asked(t, func(*http.Request) any {
		asks++
		d := map[string]any{"rule": "burst-limit", "time": time.Now()}
		if asks == 1 {
			d["note"] = "the details are not stored"
		} else {
			d["stored"], d["details"] = true, map[string]string{"limit": "3"}
		}
		return d
	}, "explain", "ID")
	if strings.Contains(out, "not stored") || !strings.Contains(out, "limit") || asks != 2 {
		t.Errorf("after %d asks:\n%s", asks, out)
	}
}

// Operations of the same name in two APIs can be told apart.
func TestStatsByOperationNamesTheAPI(t *testing.T) {
	groups := map[string]any{"groups": []map[string]any{
		{"key": "GET /menu", "apiName": "Menu", "apiVersion": "1.0.0"},
		{"key": "GET /menu", "apiName": "Pizza", "apiVersion": "2.0.0"},
		{"key": " ", "apiName": "Menu", "apiVersion": "1.0.0"},
	}}
	out := asked(t, func(*http.Request) any { return groups }, "stats", "--by", "operation")
	for _, want := range []string{"Menu 1.0.0 GET /menu", "Pizza 2.0.0 GET /menu", "Menu 1.0.0 (none)"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
}

// People know applications and APIs by name; what is gone has its id only.
func TestApplicationsHaveNames(t *testing.T) {
	groups := map[string]any{"groups": []map[string]any{
		{"key": "0199-shop", "applicationName": "Shop", "applicationOwner": "alice"}, {"key": "0199-gone"}, {"key": ""},
	}}
	out := asked(t, func(*http.Request) any { return groups }, "stats", "--by", "application")
	for _, want := range []string{"Shop of alice", "0199-gone", "(none)"} {
		if !strings.Contains(out, want) {
			t.Errorf("stats: %q is missing:\n%s", want, out)
		}
	}
	if strings.Contains(out, "0199-shop") {
		t.Errorf("stats shows an id in place of a name:\n%s", out)
	}
	out = asked(t, func(*http.Request) any {
		return map[string]any{
			"stored": true, "api": "0199-api", "apiName": "Pizza", "apiVersion": "1.0", "application": "0199-shop",
			"applicationName": "Shop", "applicationOwner": "alice",
		}
	}, "explain", "ID")
	for _, want := range []string{"Pizza 1.0, 0199-api", "Shop of alice, 0199-shop"} {
		if !strings.Contains(out, want) {
			t.Errorf("explain: %q is missing:\n%s", want, out)
		}
	}
}

// A document on this machine's own server is fetched with the authority of the home.
func TestDocumentFromAServerOfTheHome(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "openapi: 3.0.1")
	}))
	defer srv.Close()
	home := t.TempDir()
	var p client.Publication
	other := &serverFlags{home: home, insecure: true}
	if err := readDocument(t.Context(), other, srv.URL, &p); err == nil {
		t.Error("a document came from a server of unknown authority")
	}
	file := caFile(home)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(file, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readDocument(t.Context(), &serverFlags{home: home}, srv.URL, &p); err != nil || string(p.Document) != "openapi: 3.0.1" {
		t.Errorf("document %q, %v", p.Document, err)
	}
}
