package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// raw sends bytes on a connection of its own and returns all answers that come
// back until the server closes or is silent.
func raw(t *testing.T, base, head string) (answers []*Answer, closed bool) {
	t.Helper()
	u, err := url.Parse(base)
	ok(t, err)
	var c net.Conn
	if u.Scheme == "https" {
		c, err = tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	} else {
		c, err = net.Dial("tcp", u.Host)
	}
	ok(t, err)
	defer c.Close()
	ok(t, c.SetDeadline(time.Now().Add(18*time.Second)))
	go func() { _, _ = io.WriteString(c, head) }() // the server may close before it has read all
	r := bufio.NewReader(c)
	for {
		if len(answers) > 0 { // a further answer, if any, follows at once
			ok(t, c.SetReadDeadline(time.Now().Add(150*time.Millisecond)))
		}
		if _, err := r.Peek(1); err != nil {
			ne, timeout := err.(net.Error)
			return answers, !timeout || !ne.Timeout()
		}
		ok(t, c.SetReadDeadline(time.Now().Add(15*time.Second)))
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return answers, true
		}
		body, _ := io.ReadAll(res.Body) // a connection that is reset after the answer may cut its text
		answers = append(answers, &Answer{Status: res.StatusCode, Header: res.Header, Body: body})
	}
}

func pick(path, api, management string) string {
	if strings.HasPrefix(path, Admin) {
		return "nobody" // answered before the body is looked at
	}
	if strings.HasPrefix(path, "/wire") {
		return api
	}
	return management
}

func statuses(list []*Answer) (out []int) {
	for _, a := range list {
		out = append(out, a.Status)
	}
	return out
}

// TestBadHeadsAreRefused sends heads that no client library sends.
func TestBadHeadsAreRefused(t *testing.T) {
	t.Parallel()
	p := node(t, Node{})
	c := admin(t, p)
	backend := NewBackend()
	defer backend.Close()
	api := must[string](t)(c.Import(t.Context(), openAPI("Wire", backend.URL)))
	ok(t, c.Publish(t.Context(), api))
	const path = "/wire/1.0.0/a"
	long := strings.Repeat("x", 80<<10)
	bad := map[string]struct {
		head string
		want []int // of the first answer; empty: any 4xx
	}{
		"no Host":                       {"GET " + path + " HTTP/1.1\r\n\r\n", []int{400}},
		"two Hosts":                     {"GET " + path + " HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []int{400}},
		"space before colon":            {"GET " + path + " HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n", []int{400}},
		"NUL in value":                  {"GET " + path + " HTTP/1.1\r\nHost: a\r\nX-A: b\x00c\r\n\r\n", []int{400}},
		"control in name":               {"GET " + path + " HTTP/1.1\r\nHost: a\r\nX\x01A: b\r\n\r\n", []int{400}},
		"two lengths":                   {"POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", []int{400}},
		"negative length":               {"POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", []int{400}},
		"length with a sign":            {"POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", []int{400}},
		"huge length":                   {"POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", []int{400}},
		"unknown coding":                {"POST " + path + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{400, 501}},
		"two codings":                   {"POST " + path + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", []int{400, 501}},
		"no request line":               {"\x16\x03\x01\r\n\r\n", []int{400}},
		"HTTP/0.9":                      {"GET " + path + "\r\n\r\n", []int{400}},
		"HTTP/3.0":                      {"GET " + path + " HTTP/3.0\r\nHost: a\r\n\r\n", []int{505, 400}},
		"space in target":               {"GET /wire/1.0.0/a b HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"control in target":             {"GET /wire/1.0.0/a\x01 HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"fragment in target":            {"GET " + path + "#x HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		"opaque target":                 {"GET http:@evil.example HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		"long target":                   {"GET /wire/1.0.0/" + long + " HTTP/1.1\r\nHost: a\r\n\r\n", []int{431, 414}},
		"long header":                   {"GET " + path + " HTTP/1.1\r\nHost: a\r\nX-A: " + long + "\r\n\r\n", []int{431}},
		"many headers":                  {"GET " + path + " HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X-A: 0123456789\r\n", 6000) + "\r\n", []int{431}},
		"Content-Length beside chunked": {"POST /wire/1.0.0/b/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", []int{400}},
		"one length twice":              {"POST /wire/1.0.0/b/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", []int{400}},
		"bare LF":                       {"GET " + path + " HTTP/1.1\nHost: a\nX-A: b\n\n", []int{400}},
		"folded header":                 {"GET " + path + " HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n", []int{400}},
		"bad chunk":                     {"POST /wire/1.0.0/b/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n", nil},
		"bad Host":                      {"GET " + path + " HTTP/1.1\r\nHost: a b\r\n\r\n", []int{400}},
		"dots":                          {"GET /wire/1.0.0/../1.0.0/a HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"encoded dots":                  {"GET /wire/1.0.0/%2e%2E/a HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"half encoded dots":             {"GET /wire/1.0.0/.%2e/a HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"twice encoded dots":            {"GET /wire/1.0.0/%252e%252e/a HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"dots with parameters":          {"GET /wire/1.0.0/..;x=1/a HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"dots and encoded /":            {"GET /wire/1.0.0/..%2fa HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"dots and backslash":            {"GET /wire/1.0.0/..%5ca HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"overlong dots":                 {"GET /wire/1.0.0/%c0%ae%c0%ae/a HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		"encoded slash":                 {"GET /wire%2f1.0.0/a HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}},
		"encoded slash inside":          {"GET /wire/1.0.0%2fa HTTP/1.1\r\nHost: a\r\n\r\n", []int{404}},
		"NUL in path":                   {"GET /wire/1.0.0/a%00 HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"line break in path":            {"GET /wire/1.0.0/a%0d%0aX:y HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"broken escape":                 {"GET /wire/1.0.0/%zz HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
		"CONNECT":                       {"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", nil},
		"asterisk":                      {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		"unknown method":                {"FROBNICATE " + path + " HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		"two slashes":                   {"GET //evil.example/%2e%2e HTTP/1.1\r\nHost: a\r\n\r\n", nil},
		"line break in a query":         {"GET " + path + "?a=b\x0bc HTTP/1.1\r\nHost: a\r\n\r\n", []int{400}},
	}
	for name, b := range bad {
		t.Run(name, func(t *testing.T) {
			before := backend.Hits.Load()
			for _, base := range []string{p.Gateway(), p.GatewayTLS()} {
				got, _ := raw(t, base, b.head)
				if len(got) == 0 {
					t.Fatal("no answer")
				}
				if s := got[0].Status; len(b.want) > 0 && !slices.Contains(b.want, s) || len(b.want) == 0 && (s < 400 || s > 499) {
					t.Errorf("%s: status %v, want %v: %.200s", base, statuses(got), b.want, got[0].Body)
				}
				for _, a := range got {
					if a.Status < 400 {
						t.Errorf("%s: a later answer is %d", base, a.Status)
					}
				}
			}
			if backend.Hits.Load() != before && name != "bad chunk" {
				t.Error("it reached the backend")
			}
		})
		t.Run("management/"+name, func(t *testing.T) {
			got, _ := raw(t, p.Management(), strings.Replace(b.head, "/wire/1.0.0", Publisher+"/apis", 1))
			if len(got) == 0 {
				t.Fatal("no answer")
			}
			a := got[0]
			if a.Status == http.StatusOK || a.Status >= 500 && !slices.Contains(b.want, a.Status) {
				t.Errorf("status %v: %.200s", statuses(got), a.Body)
			}
			if l := a.Header.Get("Location"); strings.HasPrefix(l, "//") || strings.Contains(l, "evil") && !strings.HasPrefix(l, "/") {
				t.Errorf("redirected to %q", l)
			}
		})
	}

	app := must[*App](t)(c.NewApp(t.Context(), "wire", "Unlimited"))
	must[string](t)(c.Subscribe(t.Context(), app.ID, api, "Unlimited"))
	token := must[string](t)(c.AppToken(t.Context(), app, ""))
	t.Run("smuggled request", func(t *testing.T) {
		// Whoever believes Content-Length would take GET /admin for the next request.
		got, _ := raw(t, p.Gateway(), "POST /wire/1.0.0/b/1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+token+"\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"1e\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n")
		for _, a := range got {
			var e Echo
			if json.Unmarshal(a.Body, &e) == nil && strings.Contains(e.Path, "admin") {
				t.Errorf("smuggled: %s", a.Body)
			}
		}
	})

	t.Run("headers", func(t *testing.T) {
		got, _ := raw(t, p.Gateway(), "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Drop, Cookie\r\nX-Drop: 1\r\nCookie: a=b\r\nKeep-Alive: 5\r\nProxy-Authorization: Basic eDp5\r\n"+
			"TE: trailers\r\nUpgrade: h2c\r\nTrailer: X-T\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Host: evil.example\r\napikey: abc\r\nX-Keep: 1\r\n\r\n")
		if len(got) != 1 || got[0].Status != http.StatusOK {
			t.Fatalf("status %v", statuses(got))
		}
		var e Echo
		ok(t, got[0].JSON(&e))
		for _, h := range []string{"X-Drop", "Cookie", "Keep-Alive", "Proxy-Authorization", "Te", "Upgrade", "Trailer", "Apikey", "Connection"} {
			if e.Header[h] != nil {
				t.Errorf("%s reached the backend: %v", h, e.Header[h])
			}
		}
		if e.Header["X-Keep"] == nil {
			t.Error("X-Keep did not reach the backend")
		}
	})

	t.Run("slow head", func(t *testing.T) {
		u, err := url.Parse(p.Gateway())
		ok(t, err)
		conn, err := net.Dial("tcp", u.Host)
		ok(t, err)
		defer conn.Close()
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: a\r\n")
		ok(t, err)
		ok(t, conn.SetReadDeadline(time.Now().Add(14*time.Second)))
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("the connection is still open after 14 s: %v", err)
		}
	})

	t.Run("body that does not come", func(t *testing.T) {
		for _, base := range []string{p.Gateway() + "/wire/1.0.0/b/1", p.Management() + Publisher + "/apis", p.Management() + "/oauth2/token", p.Management() + "/healthz", p.Management() + Admin + "/environments"} {
			t.Run(base[strings.LastIndexByte(base, ':'):], func(t *testing.T) {
				t.Parallel()
				u, err := url.Parse(base)
				ok(t, err)
				began := time.Now()
				got, closed := raw(t, base, "POST "+u.Path+" HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+pick(u.Path, token, c.Token)+"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n")
				if took := time.Since(began); took > 20*time.Second || len(got) == 0 && !closed {
					t.Errorf("still waiting after %v: %v", took, statuses(got))
				}
				for _, a := range got {
					if a.Status < 400 || a.Status == http.StatusInternalServerError {
						t.Errorf("status %d: %.200s", a.Status, a.Body)
					}
				}
			})
		}
	})

	t.Run("proxies are not believed unless configured", func(t *testing.T) {
		q := node(t, Node{Env: []string{`CARDEA_TRUSTED_PROXIES=192.0.2.0/24`}})
		c := admin(t, q)
		api := must[string](t)(c.Import(t.Context(), openAPI("Hop", backend.URL)))
		ok(t, c.Publish(t.Context(), api))
		got, _ := raw(t, q.Gateway(), "GET /hop/1.0.0/a HTTP/1.1\r\nHost: gw.example\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https\r\nForwarded: for=203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\nX-WSO2-CLIENT-CERTIFICATE: x\r\n\r\n")
		if len(got) != 1 || got[0].Status != http.StatusOK {
			t.Fatalf("status %v", statuses(got))
		}
		if bytes.Contains(got[0].Body, []byte("203.0.113.7")) || bytes.Contains(got[0].Body, []byte("evil.example")) {
			t.Errorf("what a stranger says reached the backend: %s", got[0].Body)
		}
	})

	if !reachable(t.Context(), p.Gateway()+path) {
		t.Error("the API does not answer any more")
	}
	if rss := residentMB(t, p.Pid()); rss > 400 {
		t.Errorf("the process holds %d MB after all this", rss)
	}
}
