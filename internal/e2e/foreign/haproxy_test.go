package foreign

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

const haproxyConf = `
global
  maxconn 500
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 500ms
  option redispatch
  retries 3
frontend front
  bind %[1]s
  bind %[2]s ssl crt %[3]s alpn h2,http/1.1
  use_backend none if { path /none }
  use_backend gone if { path /gone }
  use_backend slow if { path /slow }
  use_backend garbage if { path /garbage }
  default_backend two
backend two
  balance roundrobin
  server one %[4]s
  server other %[5]s
backend none
backend gone
  retries 0
  server gone %[6]s
backend slow
  server slow %[7]s
backend garbage
  server garbage %[8]s
`

// scripted is a server that answers each connection with the same bytes; empty:
// it never answers.
func scripted(t *testing.T, text string) string {
	t.Helper()
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = c.Read(make([]byte, 4096)) // whatever it asks
				if text == "" {
					_, _ = c.Read(make([]byte, 1)) // until HAProxy gives up
					return
				}
				_, _ = c.Write([]byte(text)) // HAProxy may not want it
			}()
		}
	}()
	return ln.Addr().String()
}

// TestHAProxy has HAProxy before two servers as the backend.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	program := needed(t, "haproxy")
	var hits [2]atomic.Int64
	var servers [2]*httptest.Server
	for i := range servers {
		servers[i] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			hits[i].Add(1)
			sums(w, r)
		}))
		t.Cleanup(servers[i].Close)
	}
	dir, addrs := t.TempDir(), ports(t, 3)
	pem := slices.Concat(must[[]byte](t)(os.ReadFile(w.cert.file)), must[[]byte](t)(os.ReadFile(w.cert.key)))
	ok(t, os.WriteFile(filepath.Join(dir, "pem"), pem, 0o600))
	conf := filepath.Join(dir, "haproxy.cfg")
	ok(t, os.WriteFile(conf, fmt.Appendf(nil, haproxyConf, addrs[0], addrs[1], filepath.Join(dir, "pem"),
		servers[0].Listener.Addr(), servers[1].Listener.Addr(), addrs[2], scripted(t, ""), scripted(t, "what is this\r\n\r\n")), 0o600))
	serve(t, addrs[0], program, "-db", "-f", conf)
	_, plain := w.publish(t, "ProxyPlain", anything, "http://"+addrs[0])
	_, secure := w.publish(t, "ProxySecure", anything, "https://"+addrs[1])

	t.Run("both servers work", func(t *testing.T) {
		w.hammer(t, 1000, 4, http.StatusOK, w.Gateway()+plain+"/a")
		if a, b := hits[0].Load(), hits[1].Load(); a+b != 1000 || a < 400 || b < 400 {
			t.Errorf("the servers had %d and %d calls", a, b)
		}
	})
	t.Run("its own answers pass unchanged", func(t *testing.T) {
		direct := client(t, false)
		for _, c := range []struct {
			path   string
			status int
		}{{"/none", 503}, {"/gone", 503}, {"/slow", 504}, {"/garbage", 502}} {
			want, err := w.call(t.Context(), direct, http.MethodGet, "http://"+addrs[0]+c.path, nil)
			ok(t, err)
			for _, http2 := range []bool{false, true} {
				for _, api := range []string{plain, secure} {
					got, err := w.call(t.Context(), client(t, http2), http.MethodGet, w.GatewayTLS()+api+c.path, nil)
					ok(t, err)
					if got.Status != c.status || want.Status != c.status || !bytes.Equal(got.Body, want.Body) || got.Header.Get("Content-Type") != want.Header.Get("Content-Type") {
						t.Errorf("HTTP/2 %v %s%s: status %d %.200q, want %d %.200q", http2, api, c.path, got.Status, got.Body, want.Status, want.Body)
					}
				}
			}
		}
	})
	t.Run("bodies", func(t *testing.T) {
		body := bytes.Repeat([]byte("0123456789abcdef"), 1<<19)
		for _, http2 := range []bool{false, true} {
			for _, api := range []string{plain, secure} {
				a, err := w.call(t.Context(), client(t, http2), http.MethodPost, w.GatewayTLS()+api+"/a", body)
				ok(t, err)
				if a.Status != http.StatusOK || string(a.Body) != sumOf("POST", body) {
					t.Errorf("HTTP/2 %v %s: %d %.200s", http2, api, a.Status, a.Body)
				}
			}
		}
	})
	t.Run("one server goes away", func(t *testing.T) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			time.Sleep(50 * time.Millisecond)
			servers[0].Config.SetKeepAlivesEnabled(false) // as a server does that is taken out of service
			servers[0].Close()
		}()
		w.hammer(t, 1000, 4, http.StatusOK, w.Gateway()+plain+"/a")
		<-done
	})
}
