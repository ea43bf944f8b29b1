package foreign

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// nginxConf has servers at: 0 plain, 1 ten requests on a connection, 2 TLS with
// HTTP/2, 3 idle connections for a moment only.
const nginxConf = `
daemon off;
pid %[1]s/pid;
worker_processes 1;
%[2]s
events { worker_connections 512; }
http {
  log_format one '$server_port $connection $server_protocol $status';
  access_log %[1]s/access.log one;
  client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
  sendfile on;
  keepalive_requests 1000000;
  keepalive_timeout 60s;
  gzip_types *;
  gzip_min_length 1;
  default_type text/plain;
  server {
    listen %[3]s;
    root %[1]s/files;
    client_max_body_size 1k;
    location = /ok { return 200 "fine\n"; }
    location = /502 { add_header X-From nginx always; return 502 "bad gateway of nginx\n"; }
    location = /503 { add_header X-From nginx always; add_header Retry-After 7 always; return 503 "unavailable at nginx\n"; }
    location = /504 { add_header X-From nginx always; return 504 "time-out at nginx\n"; }
    location = /page/502 { return 502; }
    location = /nothing { return 444; }
    location = /moved { return 302 /ok; }
    location /small/ { alias %[1]s/files/; gzip on; }
    location = /put { proxy_pass http://%[3]s/ok; }
  }
  server { listen %[4]s; keepalive_requests 10; location / { return 200 "ten\n"; } }
  server {
    listen %[5]s ssl http2;
    ssl_certificate %[7]s;
    ssl_certificate_key %[8]s;
    root %[1]s/files;
    location = /ok { return 200 "$server_protocol\n"; }
  }
  server { listen %[6]s; keepalive_timeout 50ms; location / { return 200 "brief\n"; } }
}
`

type nginx struct {
	dir   string
	addrs []string
	big   []byte
}

func startNginx(t *testing.T, w *world) *nginx {
	t.Helper()
	program := needed(t, "nginx")
	n := &nginx{dir: t.TempDir(), addrs: ports(t, 4), big: make([]byte, 64<<20)}
	ok(t, os.Mkdir(filepath.Join(n.dir, "files"), 0o755))
	rand.New(rand.NewSource(1)).Read(n.big)
	ok(t, os.WriteFile(filepath.Join(n.dir, "files", "big"), n.big, 0o644))
	ok(t, os.WriteFile(filepath.Join(n.dir, "files", "text"), bytes.Repeat([]byte("compressible "), 10000), 0o644))
	user := ""
	if os.Getuid() == 0 {
		user = "user root;" // the workers must reach the temporary folder
	}
	conf := filepath.Join(n.dir, "nginx.conf")
	ok(t, os.WriteFile(conf, fmt.Appendf(nil, nginxConf, n.dir, user, n.addrs[0], n.addrs[1], n.addrs[2], n.addrs[3], w.cert.file, w.cert.key), 0o600))
	serve(t, n.addrs[0], program, "-p", n.dir, "-e", "stderr", "-c", conf)
	return n
}

// log counts the requests and connections that one of its servers has seen, and
// the versions of HTTP.
func (n *nginx) log(t *testing.T, server int) (requests, connections int, versions map[string]int) {
	t.Helper()
	_, port := split(t, n.addrs[server])
	seen := map[string]bool{}
	versions = map[string]int{}
	for line := range strings.Lines(string(must[[]byte](t)(os.ReadFile(filepath.Join(n.dir, "access.log"))))) {
		f := strings.Fields(line)
		if len(f) == 4 && f[0] == fmt.Sprint(port) {
			requests++
			seen[f[1]] = true
			versions[f[2]]++
		}
	}
	return requests, len(seen), versions
}

// TestNginx has nginx as the backend.
func TestNginx(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	n := startNginx(t, w)
	_, plain := w.publish(t, "NginxPlain", anything, "http://"+n.addrs[0])
	_, ten := w.publish(t, "NginxTen", anything, "http://"+n.addrs[1])
	_, secure := w.publish(t, "NginxSecure", anything, "https://"+n.addrs[2])
	_, brief := w.publish(t, "NginxBrief", anything, "http://"+n.addrs[3])
	calls := 2000
	if long {
		calls = 50000
	}

	t.Run("connections are kept", func(t *testing.T) {
		w.hammer(t, calls, 4, http.StatusOK, w.Gateway()+plain+"/ok")
		if requests, connections, _ := n.log(t, 0); requests != calls || connections > 8 {
			t.Errorf("%d requests on %d connections", requests, connections)
		}
	})
	t.Run("ten requests on a connection", func(t *testing.T) {
		w.hammer(t, calls, 4, http.StatusOK, w.Gateway()+ten+"/ok")
		if requests, connections, _ := n.log(t, 1); requests != calls || connections < calls/10 || connections > calls/5 {
			t.Errorf("%d requests on %d connections", requests, connections)
		}
	})
	t.Run("connections closed as they are used", func(t *testing.T) {
		c := client(t, false)
		for i := range 60 {
			a, err := w.call(t.Context(), c, http.MethodGet, w.Gateway()+brief+"/ok", nil)
			if err != nil || a.Status != http.StatusOK {
				t.Fatalf("call %d: %v %+v", i, err, a)
			}
			time.Sleep(time.Duration(47000+i*100) * time.Microsecond) // around the moment at which nginx closes
		}
	})

	for _, c := range []struct {
		name, base string
		http2      bool
	}{{"1.1", w.Gateway(), false}, {"1.1 over TLS", w.GatewayTLS(), false}, {"2", w.GatewayTLS(), true}, {"2 without TLS", w.Gateway(), true}} {
		t.Run("HTTP/"+c.name, func(t *testing.T) {
			t.Parallel()
			direct, through := client(t, false), client(t, c.http2)
			t.Run("answers pass unchanged", func(t *testing.T) {
				for _, path := range []string{"/502", "/503", "/504", "/page/502", "/no/such/file"} {
					for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodHead} {
						want, err := w.call(t.Context(), direct, method, "http://"+n.addrs[0]+path, nil)
						ok(t, err)
						got, err := w.call(t.Context(), through, method, c.base+plain+path, nil)
						ok(t, err)
						if got.Status != want.Status || !bytes.Equal(got.Body, want.Body) {
							t.Errorf("%s %s: status %d, want %d, body %.300q, want %.300q", method, path, got.Status, want.Status, got.Body, want.Body)
						}
						for _, f := range []string{"Content-Type", "X-From", "Retry-After", "Content-Length", "Server", "Location", "Etag"} {
							if got.Header.Get(f) != want.Header.Get(f) {
								t.Errorf("%s %s: %s is %q, want %q", method, path, f, got.Header.Get(f), want.Header.Get(f))
							}
						}
					}
				}
			})
			t.Run("closed without an answer", func(t *testing.T) {
				a, err := w.call(t.Context(), through, http.MethodPost, c.base+plain+"/nothing", []byte("x"))
				ok(t, err)
				if a.Status < 500 || !bytes.Contains(a.Body, []byte(`"10`)) {
					t.Errorf("%d %s", a.Status, a.Body)
				}
			})
			t.Run("too large for nginx", func(t *testing.T) { // which answers before it has read the body
				a, err := w.call(t.Context(), through, http.MethodPut, c.base+plain+"/put", make([]byte, 8<<20))
				ok(t, err)
				if a.Status != http.StatusRequestEntityTooLarge || !bytes.Contains(a.Body, []byte("nginx")) {
					t.Errorf("%d %s", a.Status, a.Body)
				}
			})
			t.Run("compression", func(t *testing.T) {
				want := must[[]byte](t)(os.ReadFile(filepath.Join(n.dir, "files", "text")))
				a, err := w.call(t.Context(), through, http.MethodGet, c.base+plain+"/small/text", nil, "Accept-Encoding", "gzip")
				ok(t, err)
				if a.Header.Get("Content-Encoding") != "gzip" || len(a.Body) > len(want)/10 {
					t.Fatalf("%v, %d bytes", a.Header, len(a.Body))
				}
				z, err := gzip.NewReader(bytes.NewReader(a.Body))
				ok(t, err)
				if got := must[[]byte](t)(io.ReadAll(z)); !bytes.Equal(got, want) {
					t.Error("it unpacks to something else")
				}
				a, err = w.call(t.Context(), through, http.MethodGet, c.base+plain+"/small/text", nil)
				ok(t, err)
				if a.Header.Get("Content-Encoding") != "" || !bytes.Equal(a.Body, want) {
					t.Errorf("%v, %d bytes", a.Header, len(a.Body))
				}
			})
			t.Run("ranges", func(t *testing.T) {
				a, err := w.call(t.Context(), through, http.MethodGet, c.base+plain+"/big", nil, "Range", "bytes=1000000-1999999")
				ok(t, err)
				if a.Status != http.StatusPartialContent || a.Header.Get("Content-Range") != "bytes 1000000-1999999/67108864" || !bytes.Equal(a.Body, n.big[1000000:2000000]) {
					t.Errorf("%d %v, %d bytes", a.Status, a.Header, len(a.Body))
				}
				a, err = w.call(t.Context(), through, http.MethodGet, c.base+plain+"/big", nil, "Range", "bytes=0-9,-10")
				ok(t, err)
				if a.Status != http.StatusPartialContent || !strings.HasPrefix(a.Header.Get("Content-Type"), "multipart/byteranges") || !bytes.Contains(a.Body, n.big[len(n.big)-10:]) {
					t.Errorf("%d %v, %d bytes", a.Status, a.Header, len(a.Body))
				}
				a, err = w.call(t.Context(), through, http.MethodGet, c.base+plain+"/big", nil, "Range", "bytes=67108864-")
				ok(t, err)
				if a.Status != http.StatusRequestedRangeNotSatisfiable || a.Header.Get("Content-Range") != "bytes */67108864" {
					t.Errorf("%d %v", a.Status, a.Header)
				}
				a, err = w.call(t.Context(), through, http.MethodHead, c.base+plain+"/big", nil)
				ok(t, err)
				a, err = w.call(t.Context(), through, http.MethodGet, c.base+plain+"/big", nil, "If-None-Match", a.Header.Get("Etag"))
				ok(t, err)
				if a.Status != http.StatusNotModified || len(a.Body) != 0 {
					t.Errorf("%d %v, %d bytes", a.Status, a.Header, len(a.Body))
				}
			})
			t.Run("64 MB", func(t *testing.T) {
				for _, api := range []string{plain, secure} {
					a, err := w.call(t.Context(), through, http.MethodGet, c.base+api+"/big", nil)
					ok(t, err)
					if a.Status != http.StatusOK || sha256.Sum256(a.Body) != sha256.Sum256(n.big) {
						t.Errorf("%s: %d, %d bytes", api, a.Status, len(a.Body))
					}
				}
			})
			t.Run("version to the backend", func(t *testing.T) {
				a, err := w.call(t.Context(), through, http.MethodGet, c.base+secure+"/ok", nil)
				ok(t, err)
				want := "HTTP/1.1\n"
				if c.http2 {
					want = "HTTP/2.0\n"
				}
				if string(a.Body) != want {
					t.Errorf("the call went on over %q, want %q", a.Body, want)
				}
			})
		})
	}
}
