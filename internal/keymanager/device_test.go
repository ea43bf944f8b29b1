package keymanager_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/keymanager"
	"github.com/cardea-apim/cardea/internal/store/pgtest"
)

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

func (w *world) device(change func(*apim.Client)) (*apim.Client, string) {
	return w.client("admin", func(c *apim.Client) {
		c.Grants = []string{deviceGrant, "refresh_token"}
		if change != nil {
			change(c)
		}
	})
}

// start asks for the codes of a device.
func (w *world) start(c *apim.Client, secret, scope string) (code, user string) {
	w.t.Helper()
	a := w.do("POST", "/oauth2/device_authorize", url.Values{"scope": {scope}, "response_type": {"device"}}.Encode(), "Authorization", basicOf(string(c.ID), secret))
	m := a.json(w.t)
	if a.status != 200 || m["interval"] != 5.0 || m["expires_in"] != 600.0 || a.header.Get("Cache-Control") != "no-store" {
		w.t.Fatalf("%d %s", a.status, a.body)
	}
	user = m["user_code"].(string)
	if m["verification_uri"] != "https://localhost:9443/authenticationendpoint/device.do" || m["verification_uri_complete"] != m["verification_uri"].(string)+"?user_code="+user {
		w.t.Errorf("addresses: %s", a.body)
	}
	return m["device_code"].(string), user
}

func (w *world) decide(user, name, password, decision string) reply {
	w.t.Helper()
	return w.do("POST", "/authenticationendpoint/device.do", url.Values{"user_code": {user}, "username": {name}, "password": {password}, "decision": {decision}}.Encode())
}

// poll asks for the token; the error code when there is none.
func (w *world) poll(c *apim.Client, secret, code string) (map[string]any, string) {
	w.t.Helper()
	a := w.token(c, secret, "grant_type", deviceGrant, "device_code", code)
	m := a.json(w.t)
	if a.status == 200 {
		return m, ""
	}
	if a.status != http.StatusBadRequest {
		w.t.Errorf("%d %s", a.status, a.body)
	}
	return nil, m["error"].(string)
}

func TestDeviceAuthorization(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "pub", "Internal/publisher")
	c, secret := w.device(nil)
	code, user := w.start(c, secret, "openid orders:write apim:admin")
	if !regexp.MustCompile(`^[B-Z]{4}-[B-Z]{4}$`).MatchString(user) {
		t.Errorf("user code: %s", user)
	}
	if _, e := w.poll(c, secret, code); e != "authorization_pending" {
		t.Errorf("first: %s", e)
	}
	if _, e := w.poll(c, secret, code); e != "slow_down" {
		t.Errorf("at once again: %s", e)
	}
	w.clock.add(6 * time.Second)
	if _, e := w.poll(c, secret, code); e != "slow_down" {
		t.Errorf("the interval did not grow: %s", e)
	}
	w.clock.add(30 * time.Second)
	if _, e := w.poll(c, secret, code); e != "authorization_pending" {
		t.Errorf("patient: %s", e)
	}
	if a := w.do("GET", "/device", ""); a.status != 200 || !strings.Contains(a.body, `name="user_code"`) || !strings.Contains(a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("page: %d %v %s", a.status, a.header, a.body)
	}
	typed := strings.ToLower(strings.ReplaceAll(user, "-", " "))
	if a := w.do("GET", "/authenticationendpoint/device.do?user_code="+url.QueryEscape(typed), ""); a.status != 200 || !strings.Contains(a.body, c.Name) || !strings.Contains(a.body, "orders:write") || !strings.Contains(a.body, user) {
		t.Errorf("decision: %d %s", a.status, a.body)
	}
	if a := w.decide(typed, "pub", "wrong", "approve"); !strings.Contains(a.body, "is wrong") {
		t.Errorf("wrong password: %d %s", a.status, a.body)
	}
	w.clock.add(time.Minute)
	if _, e := w.poll(c, secret, code); e != "authorization_pending" {
		t.Errorf("after a wrong password: %s", e)
	}
	if a := w.decide(typed, "pub", "password", "approve"); !strings.Contains(a.body, "may act for you now") {
		t.Fatalf("approve: %d %s", a.status, a.body)
	}
	m, e := w.poll(c, secret, code)
	if e != "" || m["scope"] != "openid orders:write" || m["id_token"] == nil || m["refresh_token"] == nil {
		t.Fatalf("token: %v %s", m, e)
	}
	if _, e := w.poll(c, secret, code); e != "invalid_grant" {
		t.Errorf("used twice: %s", e)
	}
	if a := w.decide(typed, "pub", "password", "approve"); !strings.Contains(a.body, "not known") {
		t.Errorf("approved twice: %d %s", a.status, a.body)
	}
	if r := w.token(c, secret, "grant_type", "refresh_token", "refresh_token", m["refresh_token"].(string)); r.status != 200 {
		t.Errorf("refresh: %d %s", r.status, r.body)
	}
}

func TestDeviceAuthorizationsThatFail(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "pub", "Internal/publisher")
	c, secret := w.device(nil)
	other, otherSecret := w.device(nil)
	code, user := w.start(c, secret, "")
	for name, bad := range map[string]string{"unknown": "x", "the user code": user} {
		if _, e := w.poll(c, secret, bad); e != "invalid_grant" {
			t.Errorf("%s: %s", name, e)
		}
	}
	if a := w.token(c, secret, "grant_type", deviceGrant); a.status != http.StatusBadRequest || a.json(t)["error"] != "invalid_request" {
		t.Errorf("no code: %d %s", a.status, a.body)
	}
	w.decide(user, "pub", "password", "approve")
	if _, e := w.poll(other, otherSecret, code); e != "invalid_grant" {
		t.Errorf("another client: %s", e)
	}
	if a := w.token(c, "wrong", "grant_type", deviceGrant, "device_code", code); a.status != http.StatusUnauthorized {
		t.Errorf("without the secret: %d %s", a.status, a.body)
	}
	w.clock.add(time.Minute)
	if m, e := w.poll(c, secret, code); m == nil {
		t.Errorf("its own client: %s", e)
	}

	code, user = w.start(c, secret, "")
	if a := w.decide(user, "pub", "password", "deny"); !strings.Contains(a.body, "was not allowed") {
		t.Errorf("refuse: %d %s", a.status, a.body)
	}
	if _, e := w.poll(c, secret, code); e != "access_denied" {
		t.Errorf("refused: %s", e)
	}

	code, user = w.start(c, secret, "")
	w.clock.add(10 * time.Minute)
	if _, e := w.poll(c, secret, code); e != "expired_token" {
		t.Errorf("expired: %s", e)
	}
	if a := w.decide(user, "pub", "password", "approve"); !strings.Contains(a.body, "not known") {
		t.Errorf("expired: %s", a.body)
	}

	code, user = w.start(c, secret, "")
	w.decide(user, "pub", "password", "approve")
	w.must(w.dir.UpdateUser(w.ctx, apim.SuperTenant, mustUser(w, "pub").ID, func(u *apim.User) error { u.Locked = true; return nil }))
	if _, e := w.poll(c, secret, code); e != "invalid_grant" {
		t.Errorf("user locked since: %s", e)
	}

	no, noSecret := w.client("admin", nil)
	if a := w.do("POST", "/oauth2/device_authorize", "", "Authorization", basicOf(string(no.ID), noSecret)); a.status != http.StatusBadRequest || a.json(t)["error"] != "unauthorized_client" {
		t.Errorf("client without the grant: %d %s", a.status, a.body)
	}
	if a := w.do("POST", "/oauth2/device_authorize", "client_id="+string(c.ID)); a.status != http.StatusUnauthorized {
		t.Errorf("confidential client without its secret: %d %s", a.status, a.body)
	}
	open, _ := w.device(func(c *apim.Client) { c.Public = true })
	if a := w.do("POST", "/oauth2/device_authorize", "client_id="+string(open.ID)); a.status != 200 {
		t.Errorf("public client: %d %s", a.status, a.body)
	}
	off := newWorld(t, func(o *keymanager.Options) { o.RefusedGrants = []string{deviceGrant} })
	c, secret = off.device(nil)
	if a := off.do("POST", "/oauth2/device_authorize", "", "Authorization", basicOf(string(c.ID), secret)); a.status != http.StatusBadRequest {
		t.Errorf("switched off: %d %s", a.status, a.body)
	}
	if d := off.do("GET", "/.well-known/openid-configuration", ""); strings.Contains(d.body, "device") {
		t.Error("switched off, and discovery lists it")
	}
}

func TestUserCodesCannotBeGuessed(t *testing.T) {
	w := newWorld(t)
	c, secret := w.device(nil)
	_, user := w.start(c, secret, "")
	for range 20 {
		w.do("GET", "/device?user_code=BBBB-BBBB", "")
	}
	if a := w.do("GET", "/device?user_code="+user, ""); a.status != http.StatusTooManyRequests {
		t.Errorf("after 20 guesses: %d", a.status)
	}
	w.addr = "192.0.2.9:1"
	if a := w.do("GET", "/device?user_code="+user, ""); a.status != 200 {
		t.Errorf("somebody else: %d", a.status)
	}
}

func TestOfRacingDevicesOneWins(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "db") },
		"postgres": func(t *testing.T) string { return pgtest.URL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorldOn(t, url(t))
			w.user(apim.SuperTenant, "pub", "Internal/publisher")
			c, secret := w.device(nil)
			code, user := w.start(c, secret, "")
			w.decide(user, "pub", "password", "approve")
			var won, refused atomic.Int64
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if m, e := w.poll(c, secret, code); m != nil {
						won.Add(1)
					} else if e == "invalid_grant" {
						refused.Add(1)
					}
				})
			}
			all.Wait()
			if won.Load() != 1 || refused.Load() != 19 {
				t.Errorf("%d won, %d were refused", won.Load(), refused.Load())
			}
		})
	}
}

// TestDeviceAuthorizationWithAForeignClient drives it with golang.org/x/oauth2.
func TestDeviceAuthorizationWithAForeignClient(t *testing.T) {
	w := newWorld(t)
	w.user(apim.SuperTenant, "pub", "Internal/publisher")
	c, secret := w.device(nil)
	server := httptest.NewServer(w.h)
	defer server.Close()
	conf := oauth2.Config{
		ClientID: string(c.ID), ClientSecret: secret, Scopes: []string{"openid"},
		Endpoint: oauth2.Endpoint{DeviceAuthURL: server.URL + "/oauth2/device_authorize", TokenURL: server.URL + "/oauth2/token"},
	}
	started, err := conf.DeviceAuth(t.Context(), oauth2.SetAuthURLParam("client_secret", secret))
	if err != nil {
		t.Fatal(err)
	}
	w.decide(started.UserCode, "pub", "password", "approve")
	started.Interval = 1
	started.Expiry = time.Time{}
	got, err := conf.DeviceAccessToken(t.Context(), started)
	if err != nil || got.AccessToken == "" || got.Extra("id_token") == nil {
		t.Errorf("%v %v", got, err)
	}
}
