package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/rest"
)

// paceServer listens with half a second of grace and a floor of 10 KB/s.
func paceServer(t *testing.T, conf *tls.Config, h http.HandlerFunc) string {
	t.Helper()
	l := newListeners(slog.New(slog.DiscardHandler))
	l.pace = pace{grace: 500 * time.Millisecond, rate: 10 << 10}
	port := freePort(t)
	if err := l.add(listener{name: "test", hosts: []string{"127.0.0.1"}, port: port, tls: conf, serve: h}); err != nil {
		t.Fatal(err)
	}
	l.start()
	t.Cleanup(func() { _ = l.drain(time.Second) })
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func testCertificate(t *testing.T) *tls.Config {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.EnsureCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.ServerCertificate(dir, []string{"localhost"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cert.TLS()
}

func TestHeadsAreBounded(t *testing.T) {
	t.Parallel()
	addr := paceServer(t, nil, func(w http.ResponseWriter, _ *http.Request) {})
	for size, want := range map[int]int{32 << 10: 200, 80 << 10: 431} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n", strings.Repeat("a", size)); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != want {
			t.Errorf("head of %d bytes: %v %v, want %d", size, res, err, want)
		}
	}
}

// trickle sends a body in pieces with pauses between.
func trickle(piece, pieces int, pause time.Duration) io.Reader {
	r, w := io.Pipe()
	go func() {
		defer w.Close()
		for range pieces {
			if _, err := w.Write(bytes.Repeat([]byte("x"), piece)); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}()
	return r
}

func TestBodiesMustKeepThePace(t *testing.T) {
	t.Parallel()
	h := func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			rest.Fault(w, r, err)
			return
		}
		time.Sleep(700 * time.Millisecond) // longer than a deadline left behind
		if r.Context().Err() != nil {
			return // the answer is lost: the test sees it
		}
		fmt.Fprintf(w, "%d", len(b))
	}
	conf := testCertificate(t)
	for name, c := range map[string]struct {
		tls  *tls.Config
		body func() io.Reader
		want int
	}{
		"steady":                   {nil, func() io.Reader { return trickle(2000, 10, 30*time.Millisecond) }, 200},
		"a pause within the grace": {nil, func() io.Reader { return trickle(100, 1, 50*time.Millisecond) }, 200},
		"drop by drop":             {nil, func() io.Reader { return trickle(1, 60, 30*time.Millisecond) }, 400},
		"steady over h2":           {conf, func() io.Reader { return trickle(2000, 10, 30*time.Millisecond) }, 200},
		"drop by drop over h2":     {conf, func() io.Reader { return trickle(1, 60, 30*time.Millisecond) }, 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "http://" + paceServer(t, c.tls, h)
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
			defer tr.CloseIdleConnections()
			if c.tls != nil {
				url = strings.Replace(url, "http:", "https:", 1)
			}
			res, err := (&http.Client{Transport: tr}).Post(url, "text/plain", c.body())
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			if res.StatusCode != c.want || err != nil {
				t.Errorf("%d %s %v, want %d", res.StatusCode, b, err, c.want)
			}
			if (c.tls != nil) != (res.ProtoMajor == 2) {
				t.Errorf("protocol %s", res.Proto)
			}
		})
	}
}

func TestAnswersMustBeRead(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]*tls.Config{"HTTP/1.1": nil, "HTTP/2": testCertificate(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan error, 1)
			addr := paceServer(t, conf, func(w http.ResponseWriter, _ *http.Request) {
				var err error
				for err == nil {
					_, err = w.Write(make([]byte, 32<<10))
				}
				ended <- err
			})
			if conf == nil {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
			} else {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}
				defer tr.CloseIdleConnections()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr, nil)
				if err != nil {
					t.Fatal(err)
				}
				res, err := tr.RoundTrip(req) // its body is never read
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				t.Error("a client that reads nothing holds the handler for ever")
			}
		})
	}
}
