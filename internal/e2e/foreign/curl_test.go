package foreign

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// sums answers with what arrived: method, bytes and their SHA-256.
func sums(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := fmt.Sprintf("%s %d %x", r.Method, n, h.Sum(nil))
	switch r.URL.Path {
	case "/gzip":
		w.Header().Set("Vary", "Accept-Encoding")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, out) // a client that left needs no answer
			_ = z.Close()
			return
		}
	case "/trailer":
		w.Header().Set("Trailer", "X-Checksum")
		_, _ = io.WriteString(w, out)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Checksum", "abc123")
		return
	case "/large":
		w.Header().Set("Content-Length", "5000000")
		if r.Method != http.MethodHead {
			_, _ = w.Write(bytes.Repeat([]byte("z"), 5000000))
		}
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(out)))
	_, _ = io.WriteString(w, out)
}

func sumOf(method string, b []byte) string {
	return fmt.Sprintf("%s %d %x", method, len(b), sha256.Sum256(b))
}

// only says whether a case exists for a version of HTTP.
type only bool

// Run runs the case if it does.
func (o only) Run(t *testing.T, name string, f func(t *testing.T)) {
	if o {
		t.Run(name, f)
	}
}

// TestCurl walks through what curl can do with a server.
func TestCurl(t *testing.T) {
	t.Parallel()
	w := gateway(t)
	program := needed(t, "curl")
	backend := httptest.NewServer(http.HandlerFunc(sums))
	t.Cleanup(backend.Close)
	_, path := w.publish(t, "Curl", anything, backend.URL)
	dir := t.TempDir()
	file := func(name string, size int) (string, []byte) {
		b := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		full := filepath.Join(dir, name)
		ok(t, os.WriteFile(full, b, 0o600))
		return full, b
	}
	two, twoBytes := file("two", 2<<20)
	huge, _ := file("huge", 64<<20)
	token := "Authorization: Bearer " + w.token
	const status = "\n%{http_code} %{http_version} %{num_connects}"
	// curl answers with the body, the line of its --write-out, and what -v says.
	curl := func(t *testing.T, args ...string) (body, line, said string) {
		t.Helper()
		out, said, err := run(t, 40*time.Second, program, append([]string{"-sSkv", "--max-time", "30", "-w", status}, args...)...)
		if err != nil {
			t.Fatalf("%v: %s", err, said[max(0, len(said)-3000):])
		}
		i := strings.LastIndexByte(out, '\n')
		return out[:i], out[i+1:], said
	}

	for _, v := range []struct{ name, flag, base, version string }{
		{"1.0", "--http1.0", w.Gateway(), "1.0"},
		{"1.1", "--http1.1", w.Gateway(), "1.1"},
		{"1.0 over TLS", "--http1.0", w.GatewayTLS(), "1.0"},
		{"1.1 over TLS", "--http1.1", w.GatewayTLS(), "1.1"},
		{"2 by ALPN", "--http2", w.GatewayTLS(), "2"},
		{"2 by prior knowledge", "--http2-prior-knowledge", w.Gateway(), "2"},
		{"upgrade to 2 declined", "--http2", w.Gateway(), "1.1"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			base := v.base + path
			want := "200 " + v.version + " 1"
			if v.version == "1.0" {
				want = "200 1.1 1" // RFC 9110 §6.2: the answer carries the server's own version
			}
			expect := func(t *testing.T, body, wantBody, line, want string) {
				t.Helper()
				if body != wantBody || line != want {
					t.Errorf("got %.200q and %q, want %.200q and %q", body, line, wantBody, want)
				}
			}

			body, line, _ := curl(t, v.flag, "-H", token, base+"/a")
			expect(t, body, sumOf("GET", nil), line, want)

			t.Run("upload", func(t *testing.T) {
				body, line, _ := curl(t, v.flag, "-H", token, "-H", "Expect:", "--data-binary", "@"+two, base+"/a")
				expect(t, body, sumOf("POST", twoBytes), line, want)
				body, line, _ = curl(t, v.flag, "-H", token, "-T", two, base+"/a")
				expect(t, body, sumOf("PUT", twoBytes), line, want)
			})
			// HTTP/1.0 has no 100 Continue, no chunks and no trailers. With any
			// server, some releases of curl cannot use a connection of HTTP/2 by
			// prior knowledge twice, nor end an upload over HTTP/2 early.
			since11, prior := v.version != "1.0", v.flag == "--http2-prior-knowledge"
			only(since11).Run(t, "expect", func(t *testing.T) {
				body, line, said := curl(t, v.flag, "-H", token, "-H", "Expect: 100-continue", "--expect100-timeout", "25", "--data-binary", "@"+two, base+"/a")
				expect(t, body, sumOf("POST", twoBytes), line, want)
				if v.version == "1.1" && !strings.Contains(said, "< HTTP/1.1 100") {
					t.Errorf("no 100 Continue: %s", said[max(0, len(said)-2000):])
				}
			})
			only(since11).Run(t, "length not known", func(t *testing.T) {
				body, line, said := curl(t, v.flag, "-H", token, "-H", "Transfer-Encoding: chunked", "-X", "POST", "-T", two, base+"/a")
				expect(t, body, sumOf("POST", twoBytes), line, want)
				if v.version == "1.1" && !strings.Contains(said, "> Transfer-Encoding: chunked") {
					t.Error("curl did not send chunks")
				}
			})
			t.Run("HEAD", func(t *testing.T) {
				body, line, _ := curl(t, v.flag, "-H", token, "-I", base+"/large")
				if !strings.Contains(strings.ToLower(body), "content-length: 5000000\r\n") || line != want {
					t.Errorf("%s %s", body, line)
				}
			})
			t.Run("compressed", func(t *testing.T) {
				body, line, said := curl(t, v.flag, "-H", token, "--compressed", base+"/gzip")
				expect(t, body, sumOf("GET", nil), line, want)
				if !strings.Contains(strings.ToLower(said), "< content-encoding: gzip") {
					t.Error("the answer was not compressed")
				}
				body, line, said = curl(t, v.flag, "-H", token, base+"/gzip")
				expect(t, body, sumOf("GET", nil), line, want)
				if strings.Contains(strings.ToLower(said), "< content-encoding") {
					t.Error("the answer was compressed unasked")
				}
			})
			only(!prior).Run(t, "one connection", func(t *testing.T) {
				args := []string{v.flag, "-H", token}
				if v.version == "1.0" {
					args = append(args, "-H", "Connection: keep-alive")
				}
				for i := range 10 {
					args = append(args, base+"/"+strconv.Itoa(i))
					args = append(args, "-o", filepath.Join(t.TempDir(), "out"))
				}
				out, said, err := run(t, 30*time.Second, program, append([]string{"-sSk", "-w", "%{http_code} %{num_connects}\n"}, args...)...)
				ok(t, err)
				if want := "200 1\n" + strings.Repeat("200 0\n", 9); out != want {
					t.Errorf("%q %s", out, said)
				}
			})
			only(since11).Run(t, "trailer", func(t *testing.T) {
				args := []string{v.flag, "-H", token, "-H", "TE: trailers"}
				if v.version == "1.1" {
					args = append(args, "-H", "Connection: TE")
				}
				fields := filepath.Join(t.TempDir(), "fields")
				body, line, _ := curl(t, append(args, "-D", fields, base+"/trailer")...)
				expect(t, body, sumOf("GET", nil), line, want)
				got := must[[]byte](t)(os.ReadFile(fields))
				if _, after, found := strings.Cut(strings.ToLower(string(got)), "\r\n\r\n"); !found || after != "x-checksum: abc123\r\n" {
					t.Errorf("the fields after the body are %q", got)
				}
			})
			only(v.version != "2").Run(t, "refused early", func(t *testing.T) {
				for _, expectation := range []string{"Expect:", "Expect: 100-continue"} {
					body, line, said := curl(t, v.flag, "-H", expectation, "--expect100-timeout", "25", "-T", huge, base+"/a")
					if !strings.HasPrefix(line, "401 ") || !strings.Contains(body, "900902") {
						t.Errorf("%s: %s %.300s", expectation, line, body)
					}
					if v.version == "1.1" && expectation != "Expect:" && strings.Contains(said, "< HTTP/1.1 100") {
						t.Error("the body was asked for and then refused")
					}
				}
			})
		})
	}

	t.Run("many at once on one connection", func(t *testing.T) {
		t.Parallel()
		args := []string{"-sSk", "-Z", "--http2", "-H", token, "-w", "%{http_code} %{num_connects}\n"}
		for i := range 40 {
			args = append(args, "-o", filepath.Join(dir, "many"+strconv.Itoa(i)), w.GatewayTLS()+path+"/large")
		}
		out, said, err := run(t, 60*time.Second, program, args...)
		if err != nil || strings.Count(out, "200 ") != 40 {
			t.Fatalf("%v %s %s", err, out, said)
		}
		for i := range 40 {
			b := must[[]byte](t)(os.ReadFile(filepath.Join(dir, "many"+strconv.Itoa(i))))
			if len(b) != 5000000 || bytes.Count(b, []byte("z")) != len(b) {
				t.Fatalf("answer %d has %d bytes", i, len(b))
			}
		}
	})
}
