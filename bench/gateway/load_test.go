package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAnswerIsComplete(t *testing.T) {
	for _, x := range []struct {
		name, in       string
		done, bad      bool
		status, length int
	}{
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", false, false, 0, 0},
		{"half a body", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na", false, false, 200, 2},
		{"a body", "HTTP/1.1 429 Slow\r\nA: b\r\nContent-Length:2\r\n\r\nab", true, false, 429, 2},
		{"no body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true, false, 200, 0},
		{"chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n", true, false, 200, 13},
		{"a chunk that ends like the last one", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nab\r\n0\r\n\r\n", false, false, 200, -1},
		{"another protocol", "SSH-2.0\r\n\r\n", false, true, 0, 0},
		{"a length that is none", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false, true, 200, -1},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := &loadConn{in: []byte(x.in)}
			done, err := c.complete()
			if done != x.done || (err != nil) != x.bad {
				t.Fatalf("done %v with error %v, want %v and %v", done, err, x.done, x.bad)
			}
			if c.status != x.status || c.length != x.length {
				t.Errorf("status %d and length %d, want %d and %d", c.status, c.length, x.status, x.length)
			}
		})
	}
}

func TestRequestsFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r")
	in := [][]byte{request("GET", "/a", "", ""), request("POST", "/b", "A: b\r\n", "xyz")}
	if err := writeRequests(file, in); err != nil {
		t.Fatal(err)
	}
	out, err := readRequests(file)
	if err != nil || len(out) != 2 || string(out[0]) != string(in[0]) || string(out[1]) != string(in[1]) {
		t.Fatalf("read %q (%v), wrote %q", out, err, in)
	}
	if err := os.Truncate(file, 20); err != nil {
		t.Fatal(err)
	}
	if _, err := readRequests(file); err == nil {
		t.Error("a file that was cut off was taken")
	}
}

// The generator sends what it should, at its rate or as fast as it can, over
// plain connections and TLS, and tells bad answers from good ones.
func TestGenerator(t *testing.T) {
	body := strings.Repeat("x", 100<<10)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || (r.Method == http.MethodPost && string(b) != body) {
			w.WriteHeader(http.StatusBadRequest)
		}
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusForbidden)
		}
		if r.URL.Path == "/chunks" {
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, body) // the generator reads to the end
	})
	open, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer open.Close()
	defer secure.Close()
	for _, x := range []struct {
		name     string
		server   *httptest.Server
		requests [][]byte
		rate     float64
		once     bool
		bad      bool
	}{
		{"at a rate", open, [][]byte{request("GET", "/", "", "")}, 500, false, false},
		{"full load", open, [][]byte{request("GET", "/", "", "")}, 0, false, false},
		{"bodies", open, [][]byte{request("POST", "/", "", body)}, 200, false, false},
		{"chunks", open, [][]byte{request("GET", "/chunks", "", "")}, 200, false, false},
		{"each once", open, [][]byte{request("GET", "/", "", ""), request("GET", "/", "", ""), request("GET", "/", "", "")}, 0, true, false},
		{"TLS", secure, [][]byte{request("GET", "/", "", "")}, 200, false, false},
		{"bad answers", open, [][]byte{request("GET", "/bad", "", "")}, 200, false, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			g := &generator{requests: x.requests, once: x.once, body: len(body)}
			if err := g.connect(x.server.Listener.Addr().String(), 4, x.server == secure); err != nil {
				t.Fatal(err)
			}
			defer g.close()
			g.run(x.rate, 300*time.Millisecond)
			r := g.res
			switch {
			case r.Error != "":
				t.Fatal(r.Error)
			case r.Sent == 0, len(g.took) != r.Sent:
				t.Errorf("%d answers, %d times", r.Sent, len(g.took))
			case x.bad && r.Bad != r.Sent, !x.bad && r.Bad != 0:
				t.Errorf("%d of %d answers are bad", r.Bad, r.Sent)
			case x.once && r.Sent != len(x.requests):
				t.Errorf("%d sent, want each of %d once", r.Sent, len(x.requests))
			case x.rate > 0 && float64(r.Sent) > x.rate*0.3+1:
				t.Errorf("%d sent in 300 ms at %.0f/s", r.Sent, x.rate)
			}
		})
	}
}

func TestH2Times(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("1\t200\t30\n2\t200\t10\n3\t403\t20\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	times, bad, err := h2Times(file)
	if got := fmt.Sprint(times, bad, err); got != "[10µs 20µs 30µs] 1 <nil>" {
		t.Error(got)
	}
}
