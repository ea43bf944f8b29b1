package foreign

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/e2e"
)

// oidcProvider is the package that provider.mjs runs.
const oidcProvider = "oidc-provider@8.8.1"

// provider starts an OpenID provider of npm and returns its base URL. The
// package is installed once per machine, without running its scripts.
func provider(t *testing.T) string {
	t.Helper()
	node, npm := needed(t, "node"), needed(t, "npm")
	cache := must[string](t)(os.UserCacheDir())
	dir := filepath.Join(cache, "cardea-test", strings.ReplaceAll(oidcProvider, "@", "-"))
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider", "package.json")); err != nil {
		ok(t, os.MkdirAll(dir, 0o755))
		_, said, err := run(t, 180*time.Second, npm, "install", "--prefix", dir, "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", oidcProvider)
		if err != nil {
			if os.Getenv("CARDEA_TEST_REQUIRE_NODE") != "" {
				t.Fatalf("install %s: %v\n%s", oidcProvider, err, said)
			}
			t.Skipf("%s cannot be installed: %v", oidcProvider, err)
		}
	}
	addr := ports(t, 1)[0]
	_, port := split(t, addr)
	serve(t, addr, node, filepath.Join("testdata", "provider.mjs"), dir, strconv.Itoa(port))
	return "http://" + addr
}

// op speaks to the provider as a client would.
type op struct{ base string }

func (p op) form(t *testing.T, path, id, secret string, form url.Values) *e2e.Answer {
	t.Helper()
	req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), http.MethodPost, p.base+path, strings.NewReader(form.Encode())))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(id, secret)
	res := must[*http.Response](t)(http.DefaultClient.Do(req))
	defer res.Body.Close()
	var b bytes.Buffer
	_, err := b.ReadFrom(res.Body)
	ok(t, err)
	return &e2e.Answer{Status: res.StatusCode, Header: res.Header, Body: b.Bytes()}
}

func (p op) token(t *testing.T, id, secret, resource string) string {
	t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"read"}}
	if resource != "" {
		form.Set("resource", resource)
	}
	a := p.form(t, "/token", id, secret, form)
	var out struct {
		Access string `json:"access_token"`
	}
	if ok(t, a.JSON(&out)); out.Access == "" {
		t.Fatalf("token of the provider: %d %s", a.Status, a.Body)
	}
	return out.Access
}

// TestKeyManager has a provider that others wrote as a key manager: configured
// by its discovery document, it makes the client of an application, whose
// tokens then open an API.
func TestKeyManager(t *testing.T) {
	t.Parallel()
	p := op{provider(t)}
	ctx, home := t.Context(), filepath.Join(t.TempDir(), "home")
	node := must[*e2e.Process](t)(e2e.Start(ctx, e2e.Node{Home: home, Offset: must[int](t)(e2e.FreeOffset()), Env: []string{"CARDEA_APIM_CACHE_TOKEN_EXPIRY_TIME=1s"}}))
	t.Cleanup(func() {
		node.Kill()
		if t.Failed() {
			out := node.Output()
			t.Logf("the node said:\n%s", out[max(0, len(out)-4000):])
		}
	})
	admin := must[*e2e.Client](t)(e2e.Login(ctx, node.Management(), "admin", "admin"))
	api, err := admin.Import(ctx, e2e.NewAPI{Definition: []byte(anything), Name: "Elsewhere", Version: "1", Context: "/elsewhere", Backend: p.base + "/.well-known/openid-configuration"})
	ok(t, err)
	ok(t, admin.Publish(ctx, api))
	target := node.Gateway() + "/elsewhere/1/x"
	const jwt = "urn:cardea:jwt"
	reached := func(status int) bool {
		return status != http.StatusUnauthorized && status != http.StatusForbidden && status < 500
	}
	call := func(tok string) *e2e.Answer {
		return must[*e2e.Answer](t)(e2e.Call(ctx, http.MethodGet, target, tok, nil))
	}
	opens := func(what, tok string) {
		t.Helper()
		if a := call(tok); !reached(a.Status) {
			t.Errorf("%s: %d %s", what, a.Status, a.Body)
		}
	}
	refused := func(what, tok string, status int, text string) {
		t.Helper()
		if a := call(tok); a.Status != status || !strings.Contains(string(a.Body), text) {
			t.Errorf("%s: %d %s, want %d with %s", what, a.Status, a.Body, status, text)
		}
	}

	// The administrator: discover and register, with secrets that never show again.
	km := discover(t, admin, p.base+"/.well-known/openid-configuration")
	secrets := []string{"initial-s3cret-of-the-provider", "gateway-s3cret-of-the-provider"}
	km["name"], km["type"], km["enableOAuthAppCreation"], km["enableTokenGeneration"], km["enableMapOAuthConsumerApps"] = "Provider", "custom", true, true, true
	km["consumerKeyClaim"], km["scopesClaim"] = "client_id", "scope"
	km["additionalProperties"] = map[string]any{"initial_access_token": secrets[0], "client_id": "gateway", "client_secret": secrets[1], "token_resource": jwt}
	km["claimMapping"] = []any{map[string]string{"remoteClaim": "jti", "localClaim": "http://example.org/id"}}
	var made map[string]any
	ok(t, admin.Must(ctx, http.StatusCreated, http.MethodPost, e2e.Admin+"/key-managers", km, &made))
	path := e2e.Admin + "/key-managers/" + made["id"].(string)
	masked := func(what string, doc any) {
		t.Helper()
		b := must[[]byte](t)(json.Marshal(doc))
		for _, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s shows a secret: %s", what, b)
			}
		}
		if !bytes.Contains(b, []byte(`"client_secret":"*****"`)) {
			t.Errorf("%s does not mask: %s", what, b)
		}
	}
	masked("the answer", made)
	change := func(edit func(map[string]any)) {
		t.Helper()
		var now map[string]any
		ok(t, admin.Must(ctx, http.StatusOK, http.MethodGet, path, nil, &now))
		masked("reading", now)
		edit(now) // with its masks, which keep what they stand for
		ok(t, admin.Must(ctx, http.StatusOK, http.MethodPut, path, now, &now))
		masked("the answer to a change", now)
	}

	// The developer: an application, keys made by the provider, a subscription.
	var app struct{ ApplicationID string }
	ok(t, admin.Must(ctx, http.StatusCreated, http.MethodPost, e2e.Devportal+"/applications", map[string]any{"name": "elsewhere", "throttlingPolicy": "Unlimited"}, &app))
	apps := e2e.Devportal + "/applications/" + app.ApplicationID
	_, err = admin.Subscribe(ctx, app.ApplicationID, api, "Unlimited")
	ok(t, err)
	type keys struct {
		KeyMappingID, ConsumerKey, ConsumerSecret, KeyManager, Mode string
		SupportedGrantTypes                                         []string
		Token                                                       struct{ AccessToken string }
	}
	var k keys
	order := map[string]any{"keyType": "PRODUCTION", "keyManager": "Provider", "grantTypesToBeSupported": []string{"client_credentials"}, "scopes": []string{"default", "read"}, "callbackUrl": "", "validityTime": 3600, "additionalProperties": map[string]any{}}
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodPost, apps+"/generate-keys", order, &k))
	if k.ConsumerKey == "" || k.ConsumerSecret == "" || k.Mode != "CREATED" || k.KeyManager != "Provider" || k.Token.AccessToken == "" {
		t.Fatalf("generated %+v", k)
	}
	secrets = append(secrets, k.ConsumerSecret)
	ok(t, admin.Must(ctx, http.StatusConflict, http.MethodPost, apps+"/generate-keys", order, nil))

	opens("the token that came with the keys", k.Token.AccessToken)
	signed := p.token(t, k.ConsumerKey, k.ConsumerSecret, jwt)
	opens("a JWT", signed)
	refused("a tampered JWT", signed[:len(signed)-6]+"AAAAAA", 401, "900901")
	refused("a JWT of a client of no application", p.token(t, "gateway", "gateway-s3cret-of-the-provider", jwt), 403, "900908")
	var try struct{ AccessToken string }
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodPost, apps+"/oauth-keys/"+k.KeyMappingID+"/generate-token", map[string]any{"consumerSecret": k.ConsumerSecret, "validityPeriod": 60, "scopes": []string{"read"}}, &try))
	opens("a token to try with", try.AccessToken)
	ok(t, admin.Must(ctx, http.StatusBadRequest, http.MethodPost, apps+"/oauth-keys/"+k.KeyMappingID+"/generate-token", map[string]any{"consumerSecret": "wrong", "scopes": []string{}}, nil))

	// Opaque tokens are looked up; what the provider revokes ends with the memory of it.
	opaque := p.token(t, k.ConsumerKey, k.ConsumerSecret, "")
	opens("an opaque token", opaque)
	opens("an opaque token again", opaque)
	refused("an opaque token of nobody", "x"+opaque[1:], 401, "900901")
	if a := p.form(t, "/token/revocation", k.ConsumerKey, k.ConsumerSecret, url.Values{"token": {opaque}}); a.Status != http.StatusOK {
		t.Fatalf("revoke there: %d %s", a.Status, a.Body)
	}
	await(t, "an opaque token revoked there", func() bool { return call(opaque).Status == http.StatusUnauthorized })

	// New signing keys there are known with the first token that is signed by them.
	res := must[*http.Response](t)(http.Post(p.base+"/_rotate", "text/plain", nil))
	ok(t, res.Body.Close())
	await(t, "a token signed with a new key", func() bool { return reached(call(p.token(t, k.ConsumerKey, k.ConsumerSecret, jwt)).Status) })

	// A change of the keys is made there first; a code grant wants a callback.
	at := apps + "/oauth-keys/" + k.KeyMappingID
	var now keys
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodPut, at, map[string]any{"supportedGrantTypes": []string{"client_credentials", "authorization_code"}, "callbackUrl": "https://example.org/cb"}, &now))
	if len(now.SupportedGrantTypes) != 2 || now.ConsumerKey != k.ConsumerKey {
		t.Errorf("changed keys: %+v", now)
	}
	ok(t, admin.Must(ctx, http.StatusBadRequest, http.MethodPut, at, map[string]any{"supportedGrantTypes": []string{"no_such_grant"}}, nil))
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodPut, at, map[string]any{"supportedGrantTypes": []string{"client_credentials"}}, &now))

	// A client that exists there is mapped, with a secret that is checked there.
	existing := map[string]any{"consumerKey": "existing", "consumerSecret": "wrong", "keyManager": "Provider", "keyType": "SANDBOX"}
	ok(t, admin.Must(ctx, http.StatusBadRequest, http.MethodPost, apps+"/map-keys", existing, nil))
	existing["consumerSecret"] = "existing-s3cret-of-the-provider"
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodPost, apps+"/map-keys", existing, nil))
	secrets = append(secrets, "existing-s3cret-of-the-provider")
	opens("a token of a mapped client", p.token(t, "existing", "existing-s3cret-of-the-provider", jwt))

	// Which tokens are its own, whether it is asked about each, and whether they may be used at all.
	fresh := p.token(t, k.ConsumerKey, k.ConsumerSecret, jwt)
	rule := func(kind, value string) {
		t.Helper()
		change(func(m map[string]any) {
			m["tokenValidation"] = []any{map[string]any{"id": 1, "enable": kind != "", "type": kind, "value": value}}
		})
	}
	rule("JWT", `{"body":{"scope":"write"}}`)
	refused("a JWT that no rule takes", fresh, 401, "900901")
	rule("JWT", `{"body":{"scope":"read","iss":"http://127.*"}}`)
	opens("a JWT that a rule takes", fresh)
	rule("REGEX", `[A-Za-z0-9_-]{20,60}`)
	refused("a JWT that does not match", fresh, 401, "900901")
	opens("an opaque token that matches", p.token(t, k.ConsumerKey, k.ConsumerSecret, ""))
	rule("", "")
	change(func(m map[string]any) { m["enableSelfValidationJWT"] = false })
	refused("a JWT that the provider does not vouch for", fresh, 401, "900901") // it keeps no record of JWTs
	change(func(m map[string]any) { m["enableSelfValidationJWT"], m["tokenType"] = true, "EXCHANGED" })
	refused("a JWT for exchange only", fresh, 500, "900900")
	ok(t, admin.Must(ctx, http.StatusBadRequest, http.MethodPost, apps+"/map-keys", map[string]any{"consumerKey": "k", "keyManager": "Provider", "keyType": "PRODUCTION"}, nil))
	change(func(m map[string]any) { m["tokenType"] = "BOTH" })
	opens("a JWT for both", fresh)
	change(func(m map[string]any) { m["enabled"] = false })
	refused("a JWT of a key manager that is off", fresh, 401, "900901")
	change(func(m map[string]any) { m["enabled"] = true })

	// Deleted keys are gone there too; only then may the key manager go.
	ok(t, admin.Must(ctx, http.StatusConflict, http.MethodDelete, path, nil, nil))
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodDelete, at, nil, nil))
	if a := p.form(t, "/token", k.ConsumerKey, k.ConsumerSecret, url.Values{"grant_type": {"client_credentials"}}); a.Status != http.StatusUnauthorized {
		t.Errorf("the client is still there: %d %s", a.Status, a.Body)
	}
	refused("a JWT of deleted keys", fresh, 403, "900908")
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodDelete, e2e.Devportal+"/applications/"+app.ApplicationID, nil, nil))
	if a := p.form(t, "/token", "existing", "existing-s3cret-of-the-provider", url.Values{"grant_type": {"client_credentials"}}); a.Status != http.StatusOK {
		t.Errorf("a client that was only mapped is gone: %d %s", a.Status, a.Body)
	}
	ok(t, admin.Must(ctx, http.StatusOK, http.MethodDelete, path, nil, nil))
	node.Kill()
	atRest(t, home, secrets)
}

// discover has the administrator's API read a discovery document, and refuse
// addresses that nobody may send it to.
func discover(t *testing.T, admin *e2e.Client, address string) map[string]any {
	t.Helper()
	ask := func(address string) *e2e.Answer {
		return must[*e2e.Answer](t)(admin.Upload(t.Context(), http.MethodPost, e2e.Admin+"/key-managers/discover", e2e.Part{Name: "url", Data: []byte(address)}, e2e.Part{Name: "type", Data: []byte("custom")}))
	}
	for _, bad := range []string{"http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "file:///etc/passwd", "", "nonsense"} {
		if a := ask(bad); a.Status != http.StatusBadRequest {
			t.Errorf("discover %q: %d %s", bad, a.Status, a.Body)
		}
	}
	if a := ask(strings.TrimSuffix(address, "/openid-configuration") + "/nothing"); a.Status != http.StatusOK || !strings.Contains(string(a.Body), `"valid":false`) {
		t.Errorf("discover nothing: %d %s", a.Status, a.Body)
	}
	var out struct {
		Valid bool
		Value map[string]any
	}
	a := ask(address)
	if ok(t, a.JSON(&out)); !out.Valid || out.Value["tokenEndpoint"] == nil || out.Value["introspectionEndpoint"] == nil || out.Value["clientRegistrationEndpoint"] == nil {
		t.Fatalf("discovered: %d %s", a.Status, a.Body)
	}
	return out.Value
}

// await repeats a look until it holds: the gateway has a memory of a second.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !holds(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%s: not after 40 s", what)
			return
		}
	}
}

// atRest looks for secrets in everything that a node left on disk.
func atRest(t *testing.T, home string, secrets []string) {
	t.Helper()
	ok(t, filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for i, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s holds secret %d in clear", path, i)
			}
		}
		return nil
	}))
}
