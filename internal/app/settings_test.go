package app

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/config"
	"github.com/cardea-apim/cardea/internal/identity"
)

// started is a process on a home with the given file. Its ports are bound, but
// requests are put to its handler directly.
func started(t *testing.T, home, toml string) (a *App, stop func()) {
	t.Helper()
	file := filepath.Join(home, "cardea.toml")
	if err := os.WriteFile(file, []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	for offset := 21_000 + os.Getpid()%3000; ; offset += 37 {
		cfg, err := config.Load(config.Source{Home: home, Set: map[string]string{"server.offset": fmt.Sprint(offset)}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		a, err = New(ctx, cfg, Options{Version: "test", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			cancel()
			if strings.Contains(err.Error(), "already in use") && offset < 45_000 {
				continue
			}
			t.Fatal(err)
		}
		return a, func() {
			cancel()
			for _, ln := range a.listeners.open {
				_ = ln.Close()
			}
			if err := a.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func ask(t *testing.T, a *App, method, path, contentType, body string, header ...string) (int, http.Header, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.SetBasicAuth("admin", "admin")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	a.mux.ServeHTTP(w, r)
	var out map[string]any
	_ = json.Unmarshal(w.Body.Bytes(), &out) // not every answer is JSON
	return w.Code, w.Header(), out
}

// environments are name/type/host of what Admin lists.
func environments(t *testing.T, a *App) []string {
	t.Helper()
	code, _, body := ask(t, a, "GET", "/api/am/admin/v4/environments", "", "")
	if code != http.StatusOK {
		t.Fatalf("environments: %d %v", code, body)
	}
	var out []string
	for _, e := range body["list"].([]any) {
		e := e.(map[string]any)
		vh := e["vhosts"].([]any)[0].(map[string]any)
		out = append(out, fmt.Sprintf("%v/%v/%v:%v readonly=%v", e["name"], e["type"], vh["host"], vh["httpsPort"], e["isReadOnly"]))
	}
	slices.Sort(out)
	return out
}

// The environments of the file are there read-only, follow it at each start,
// and go when it no longer names them.
func TestEnvironmentsFollowTheFile(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, step := range []struct {
		toml string
		want []string
	}{
		{
			"[[apim.gateway.environment]]\nname = \"Default\"\nhttps_endpoint = \"https://one.example:7000\"\n[[apim.gateway.environment]]\nname = \"Test\"\ntype = \"sandbox\"\nhttps_endpoint = \"https://two.example\"\n",
			[]string{"Default/hybrid/one.example:7000 readonly=true", "Test/sandbox/two.example:443 readonly=true"},
		},
		{
			"[[apim.gateway.environment]]\nname = \"Default\"\ntype = \"production\"\nhttps_endpoint = \"https://three.example:7000\"\n",
			[]string{"Default/production/three.example:7000 readonly=true"},
		},
	} {
		a, stop := started(t, home, step.toml)
		if got := environments(t, a); !slices.Equal(got, step.want) {
			t.Errorf("environments %q, want %q", got, step.want)
		}
		stop()
	}
}

func TestSettingsReachTheParts(t *testing.T) {
	t.Parallel()
	a, stop := started(t, t.TempDir(), `
[apim]
gateway_type = "Regular,AWS"
[apim.publisher.import_definition_file_size_limit]
oas = 1
[apim.throttling]
enable_unlimited_tier = false
[apim.devportal]
url = "https://portal.example/devportal"
create_default_application = false
[apim.oauth_config]
allowed_scopes = ["^free_.*"]
[oauth.grant_type.password]
enable = false
[oauth.token_validation]
app_access_token_validity = 77
[user_store]
username_java_regex = '^[\S]{3,8}$'
password_java_regex = '^[\S]{5,9}$'
rolename_java_regex = '^[a-z]+$'
[tenant_mgt]
enable_email_domain = true
[system.parameter]
'rest.api.publisher.allowed.origins' = "https://pages.example"
`)
	defer stop()

	t.Run("portals", func(t *testing.T) {
		_, _, s := ask(t, a, "GET", "/api/am/publisher/v4/settings", "", "")
		if got := fmt.Sprintf("%v %v %v", s["gatewayTypes"], s["devportalUrl"], s["defaultAdvancePolicy"]); got != "[Regular AWS] https://portal.example/devportal 10KPerMin" {
			t.Error(got)
		}
		if _, _, apps := ask(t, a, "GET", "/api/am/devportal/v3/applications", "", ""); fmt.Sprint(apps["count"]) != "0" {
			t.Errorf("applications of a new subscriber: %v", apps)
		}
		if _, _, p := ask(t, a, "GET", "/api/am/devportal/v3/throttling-policies/application", "", ""); strings.Contains(fmt.Sprint(p), "Unlimited") {
			t.Errorf("Unlimited is offered: %v", p)
		}
	})
	t.Run("largest definition", func(t *testing.T) {
		for size, want := range map[int]int{1 << 10: http.StatusOK, 1<<20 + 1: http.StatusRequestEntityTooLarge} {
			var b bytes.Buffer
			m := multipart.NewWriter(&b)
			doc := `{"openapi":"3.0.0","info":{"title":"T","version":"1","description":"` + strings.Repeat("x", size) + `"},"paths":{"/a":{"get":{"responses":{"200":{"description":""}}}}}}`
			if err := m.WriteField("inlineAPIDefinition", doc); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if code, _, body := ask(t, a, "POST", "/api/am/publisher/v4/apis/validate-openapi", m.FormDataContentType(), b.String()); code != want {
				t.Errorf("%d bytes: %d %v, want %d", size, code, body, want)
			}
		}
	})
	t.Run("origins", func(t *testing.T) {
		for origin, want := range map[string]string{"https://pages.example": "https://pages.example", "https://evil.example": ""} {
			for _, method := range []string{"GET", "OPTIONS"} {
				_, h, _ := ask(t, a, method, "/api/am/publisher/v4/settings", "", "", "Origin", origin, "Access-Control-Request-Method", "GET")
				if got := h.Get("Access-Control-Allow-Origin"); got != want {
					t.Errorf("%s from %s: allowed %q", method, origin, got)
				}
			}
		}
		if _, h, _ := ask(t, a, "GET", "/api/am/devportal/v3/settings", "", "", "Origin", "https://pages.example"); h.Get("Access-Control-Allow-Origin") != "" {
			t.Error("an origin of the publisher may call the developer portal")
		}
	})
	t.Run("grants and scopes", func(t *testing.T) {
		code, _, c := ask(t, a, "POST", "/client-registration/v0.17/register", "application/json",
			`{"clientName":"t","owner":"admin","grantType":"password client_credentials","saasApp":true}`)
		if code >= 300 {
			t.Fatalf("register: %d %v", code, c)
		}
		token := func(form string) (int, map[string]any) {
			r := httptest.NewRequest("POST", "/oauth2/token", strings.NewReader(form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth(c["clientId"].(string), c["clientSecret"].(string))
			w := httptest.NewRecorder()
			a.mux.ServeHTTP(w, r)
			var out map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
				t.Fatal(err)
			}
			return w.Code, out
		}
		if code, out := token("grant_type=password&username=admin&password=admin"); code != 400 || out["error"] != "unsupported_grant_type" {
			t.Errorf("password grant: %d %v", code, out)
		}
		_, out := token("grant_type=client_credentials&scope=" + url.QueryEscape("free_x"))
		if out["scope"] != "free_x" || fmt.Sprint(out["expires_in"]) != "77" && fmt.Sprint(out["expires_in"]) != "76" {
			t.Errorf("client credentials: %v", out)
		}
		_, _, d := ask(t, a, "GET", "/.well-known/openid-configuration", "", "")
		if strings.Contains(fmt.Sprint(d["grant_types_supported"]), "password") {
			t.Errorf("discovery offers %v", d["grant_types_supported"])
		}
	})
	t.Run("names and passwords", func(t *testing.T) {
		d := a.people.directory
		for _, u := range []struct {
			name, password string
			ok             bool
		}{{"a@b.cd", "secret", true}, {"ab", "secret", false}, {"abcdefghi", "secret", false}, {"abc", "1234", false}, {"abc", "1234567890", false}} {
			_, err := d.CreateUser(t.Context(), "carbon.super", identity.NewUser{Name: u.name, Password: u.password})
			if (err == nil) != u.ok {
				t.Errorf("user %s with %s: %v", u.name, u.password, err)
			}
		}
		if _, err := d.CreateRole(t.Context(), "carbon.super", "Upper", nil); err == nil {
			t.Error("a role name outside of the pattern is taken")
		}
		for login, ok := range map[string]bool{"a@b.cd": true, "a@b.cd@carbon.super": true, "admin@carbon.super": false, "a@b.cd@other.com": false} {
			if _, err := d.Authenticate(t.Context(), login, "carbon.super", "secret", "192.0.2.9"); (err == nil) != ok {
				t.Errorf("login %s: %v", login, err)
			}
		}
	})
}

func TestManagementAnswersAreTraced(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("four"))
	})
	h := traced("X-Id", slog.New(slog.NewTextHandler(&log, nil)), func(*http.Request) string { return "192.0.2.1" }, next)
	for sent, kept := range map[string]bool{"abcdef-12345": true, "short": false, "with space 123": false, strings.Repeat("x", 65): false} {
		log.Reset()
		r := httptest.NewRequest("GET", "/p", nil)
		r.Header.Set("activityID", sent)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		id := w.Header().Get("X-Id")
		if (id == sent) != kept || len(id) < 8 {
			t.Errorf("sent %q, answered %q", sent, id)
		}
		if want := "client=192.0.2.1 method=GET path=/p proto=HTTP/1.1 status=418 bytes=4"; !strings.Contains(log.String(), want) || !strings.Contains(log.String(), "trace="+id) {
			t.Errorf("logged %s", log.String())
		}
	}
}
