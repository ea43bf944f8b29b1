package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestTrailersTravelBothWays(t *testing.T) {
	t.Parallel()
	got := make(chan http.Header, 1)
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		n, _ := io.Copy(w, r.Body)
		got <- r.Trailer.Clone()
		w.Header().Set("X-Sum", fmt.Sprint(n))
		w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
		w.Header().Set(http.TrailerPrefix+"Set-Cookie", "a=b")
	}, nil)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", front.URL+"/pizza/1.0/open", io.MultiReader(strings.NewReader("hello"), strings.NewReader(" you")))
	req.Trailer = http.Header{"X-Check": {"42"}, "Apikey": {"stolen"}, "Authorization": {"Bearer x"}}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "hello you" {
		t.Errorf("body %q %v", body, err)
	}
	if sent := <-got; sent.Get("X-Check") != "42" || len(sent) != 1 {
		t.Errorf("the backend was sent the trailers %v", sent)
	}
	if res.Trailer.Get("X-Sum") != "9" || res.Trailer.Get("X-Late") != "yes" || res.Trailer.Get("Set-Cookie") != "" {
		t.Errorf("the client was sent the trailers %v", res.Trailer)
	}
}

// raw sends text to a server and reads what comes until it is quiet or closed.
func raw(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	b, _ := io.ReadAll(c)
	return string(b)
}

func TestAnswersWithoutABody(t *testing.T) {
	t.Parallel()
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "204"):
			w.WriteHeader(204)
		case strings.HasSuffix(r.URL.Path, "304"):
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
		case strings.HasSuffix(r.URL.Path, "hints"):
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(103)
			w.WriteHeader(102)
			io.WriteString(w, "after")
		case strings.HasSuffix(r.URL.Path, "switch"):
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nnoise")
			time.Sleep(200 * time.Millisecond)
			conn.Close()
		}
	}, nil)
	for path, want := range map[string]struct{ status, body string }{
		"204": {"204", ""}, "304": {"304", ""}, "hints": {"200", "after"}, "switch": {"500", "101506"},
	} {
		// A second request on the connection shows that the first was framed well.
		get := func(p, more string) string {
			return "GET /pizza/1.0/files/" + p + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n"
		}
		text := raw(t, front.URL, get(path, "")+get("204", "Connection: close\r\n"))
		r := bufio.NewReader(strings.NewReader(text))
		first, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Errorf("%s: %v in %q", path, err, text)
			continue
		}
		body, err := io.ReadAll(first.Body)
		if err != nil || !strings.HasPrefix(first.Status, want.status) || !strings.Contains(string(body), want.body) || want.body == "" && len(body) > 0 {
			t.Errorf("%s: %s %q %v", path, first.Status, body, err)
		}
		if second, err := http.ReadResponse(r, nil); err != nil || second.StatusCode != 204 {
			t.Errorf("%s: the next answer: %v %v in %q", path, second, err, text)
		}
	}
}

func TestUpgradesAreRefused(t *testing.T) {
	t.Parallel()
	_, front := between(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "served") }, nil)
	for name, c := range map[string]struct{ header, want string }{
		"WebSocket":      {"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n", "HTTP/1.1 400"},
		"HTTP/2":         {"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n", "HTTP/1.1 200"},
		"only mentioned": {"Upgrade: websocket\r\n", "HTTP/1.1 200"},
	} {
		if got := raw(t, front.URL, "GET /pizza/1.0/open HTTP/1.1\r\nHost: x\r\n"+c.header+"\r\n"); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %s", name, got, c.want)
		}
	}
}

func TestCallsInProgressAreBounded(t *testing.T) {
	t.Parallel()
	hold, arrived := make(chan struct{}), make(chan struct{}, 2)
	_, front := between(t, func(http.ResponseWriter, *http.Request) { arrived <- struct{}{}; <-hold }, nil,
		func(o *Options) { o.MaxConcurrent = 2 })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			res, err := http.Get(front.URL + "/pizza/1.0/open")
			if err != nil {
				t.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("a call within the bound: %d", res.StatusCode)
			}
		})
		<-arrived
	}
	res, err := http.Get(front.URL + "/pizza/1.0/open")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" || res.Header.Get(DecisionHeader) == "" || !strings.Contains(string(body), `"code":"503"`) {
		t.Errorf("one too many: %d %v %s", res.StatusCode, res.Header, body)
	}
	close(hold)
	wg.Wait()
	arrived <- struct{}{}
	<-arrived
	if res, err := http.Get(front.URL + "/pizza/1.0/open"); err != nil || res.StatusCode != 200 {
		t.Errorf("afterwards: %v %v", res, err)
	} else {
		res.Body.Close()
	}
}
