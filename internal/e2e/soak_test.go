package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soakTime is how long TestSoak lasts: CARDEA_SOAK, ten minutes by default.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("CARDEA_SOAK")
	if s == "" {
		return 10 * time.Minute
	}
	d, err := time.ParseDuration(s)
	ok(t, err)
	return d
}

// holding is what a process holds.
type holding struct{ memory, files, goroutines int }

func holds(t *testing.T, p *Process) holding {
	t.Helper()
	h := holding{memory: residentMB(t, p.Pid())}
	a := must[*Answer](t)(Call(t.Context(), http.MethodGet, p.Management()+"/metrics", "", nil))
	for line := range strings.Lines(string(a.Body)) {
		for name, to := range map[string]*int{"process_open_fds ": &h.files, "go_goroutines ": &h.goroutines} {
			if rest, found := strings.CutPrefix(line, name); found {
				v := must[float64](t)(strconv.ParseFloat(strings.TrimSpace(rest), 64))
				*to = int(v)
			}
		}
	}
	if h.files == 0 || h.goroutines == 0 {
		t.Fatalf("metrics tell no handles or goroutines: %d %.300s", a.Status, a.Body)
	}
	return h
}

// rude is a backend that closes, speaks nonsense, cuts its answer or stalls, in
// turns.
func rude(t *testing.T) string {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				switch n % 4 {
				case 1:
					_, _ = io.WriteString(c, "nonsense\r\n\r\n")
				case 2:
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut")
				case 3:
					_, _ = io.Copy(io.Discard, c) // until the gateway is tired of it
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// oneCall makes a call over a transport and says which status came; cut: the
// answer was not whole.
func oneCall(ctx context.Context, tr http.RoundTripper, method, target, token string, body io.Reader) (status int, cut, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	_, cut = io.Copy(io.Discard, res.Body)
	return res.StatusCode, cut, nil
}

// TestSoak has a node serve every kind of call, good and bad, for as long as
// CARDEA_SOAK says, while APIs come and go. When all callers have left, memory,
// goroutines and file handles must be where they were when the same callers
// had left after a tenth of that time. It runs with CARDEA_LONG only.
func TestSoak(t *testing.T) {
	if os.Getenv("CARDEA_LONG") == "" {
		t.Skip("CARDEA_LONG is not set")
	}
	lasts := soakTime(t)
	backend := NewBackend()
	defer backend.Close()
	p := node(t, Node{})
	c := admin(t, p)
	appPolicy(t, c, "Soak", 600, "min")
	api := must[string](t)(c.Import(t.Context(), NewAPI{Definition: []byte(tinyDefinition), Name: "soak", Version: "1.0.0", Context: "/soak", Backend: backend.URL}))
	ok(t, c.Publish(t.Context(), api))
	app := must[*App](t)(c.NewApp(t.Context(), "app-soak", "Soak"))
	must[string](t)(c.Subscribe(t.Context(), app.ID, api, "Unlimited"))
	bad := openAPI("SoakBad", rude(t))
	endpoint := map[string]any{"url": bad.Backend, "config": map[string]any{"actionSelect": "fault", "actionDuration": "500"}}
	bad.Extra = map[string]any{"endpointConfig": map[string]any{"endpoint_type": "http", "production_endpoints": endpoint, "sandbox_endpoints": endpoint}}
	ok(t, c.Publish(t.Context(), must[string](t)(c.Import(t.Context(), bad))))

	s := &soak{t: t, p: p, backend: backend.URL}
	renew := func() { // tokens, the administrator's too, are good for an hour
		s.c = admin(t, p)
		s.token = must[string](t)(s.c.AppToken(t.Context(), app, ""))
	}
	renew()
	s.run(lasts / 10)
	first := s.settled()
	t.Logf("after %v and %d calls: %+v", lasts/10, s.calls.Load(), first)
	for i := range 4 {
		renew()
		s.run(lasts * 9 / 40)
		t.Logf("part %d of 4, %d calls: %+v", i+1, s.calls.Load(), holds(t, p))
	}
	last := s.settled()
	t.Logf("after %v and %d calls: %+v", lasts, s.calls.Load(), last)
	if n := s.odd.Load(); n > 0 {
		t.Errorf("%d calls or changes failed: %v", n, *s.why.Load())
	}
	if last.memory > first.memory+first.memory/4+20 {
		t.Errorf("memory grew from %d MB to %d MB", first.memory, last.memory)
	}
	if last.files > first.files+20 {
		t.Errorf("open files grew from %d to %d", first.files, last.files)
	}
	if last.goroutines > first.goroutines+20 {
		t.Errorf("goroutines grew from %d to %d", first.goroutines, last.goroutines)
	}
}

// soak is the callers of TestSoak.
type soak struct {
	t              *testing.T
	p              *Process
	c              *Client
	token, backend string
	calls, odd     atomic.Int64
	churned        int
	why            atomic.Pointer[error]
}

func (s *soak) fail(err error) {
	s.odd.Add(1)
	s.why.Store(&err)
}

// settled is what the process holds a while after its callers left, with what
// is only idle given back.
func (s *soak) settled() holding {
	best := holds(s.t, s.p)
	for range 14 { // backends' connections are kept for 50 s
		time.Sleep(5 * time.Second)
		h := holds(s.t, s.p)
		best = holding{min(best.memory, h.memory), min(best.files, h.files), min(best.goroutines, h.goroutines)}
	}
	return best
}

// run makes all kinds of calls for a time.
func (s *soak) run(lasts time.Duration) {
	ctx, cancel := context.WithTimeout(s.t.Context(), lasts)
	defer cancel()
	insecure := &tls.Config{InsecureSkipVerify: true} // the node under test signs its own
	kept, fresh := &http.Transport{}, &http.Transport{DisableKeepAlives: true}
	secure := &http.Transport{TLSClientConfig: insecure.Clone()}
	two := &http.Transport{TLSClientConfig: insecure, ForceAttemptHTTP2: true}
	plain, tlsBase := s.p.Gateway()+"/soak/1.0.0/a", s.p.GatewayTLS()+"/soak/1.0.0/a"
	upload := func(base string) string { return base[:len(base)-1] + "b/1" }
	var wg sync.WaitGroup
	each := func(pause time.Duration, fn func() error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := fn()
				s.calls.Add(1)
				if err != nil && ctx.Err() == nil {
					s.fail(err)
				}
				time.Sleep(pause)
			}
		})
	}
	try := func(tr http.RoundTripper, method, target, token string, size int64, want ...int) func() error {
		return func() error {
			var body io.Reader
			if size > 0 {
				body = io.LimitReader(zeros{}, size)
			}
			status, cut, err := oneCall(ctx, tr, method, target, token, body)
			if err != nil || cut != nil {
				return errors.Join(err, cut)
			}
			for _, w := range want {
				if status == w {
					return nil
				}
			}
			return fmt.Errorf("%s %s: status %d, want one of %v", method, target, status, want)
		}
	}
	for _, tr := range []*http.Transport{kept, fresh, secure, two} {
		base := plain
		if tr == secure || tr == two {
			base = tlsBase
		}
		each(2*time.Millisecond, try(tr, http.MethodGet, base, s.token, 0, 200, 429))
		each(5*time.Millisecond, try(tr, http.MethodGet, base, "", 0, 401))
		each(50*time.Millisecond, try(tr, http.MethodPost, upload(base), s.token, 64<<10, 200, 429))
	}
	each(10*time.Millisecond, func() error { // a bad backend: a refusal, or an answer that is cut
		status, cut, err := oneCall(ctx, kept, http.MethodGet, s.p.Gateway()+"/soakbad/1.0.0/a", "", nil)
		if err == nil && (status == 200) != (cut != nil) || err == nil && status != 200 && status != 429 && status/100 != 5 {
			err = fmt.Errorf("bad backend: status %d, body %v", status, cut)
		}
		return err
	})
	host := strings.TrimPrefix(s.p.Gateway(), "http://")
	for _, half := range []string{
		"", "GET /soak/1.0.0/a HTT", "GET /soak/1.0.0/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + s.token + "\r\n\r\n",
		"POST /soak/1.0.0/b/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nAuthorization: Bearer " + s.token + "\r\n\r\nhalf",
	} {
		each(20*time.Millisecond, func() error { // a client that leaves in the middle
			nc, err := net.Dial("tcp", host)
			if err != nil {
				return err
			}
			_, err = io.WriteString(nc, half)
			return errors.Join(err, nc.Close())
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			s.churned++
			id, err := s.c.Import(ctx, openAPI(fmt.Sprintf("Churn%d", s.churned), s.backend))
			if err == nil {
				err = s.c.Publish(ctx, id)
			}
			if err == nil {
				err = s.c.Must(ctx, http.StatusOK, http.MethodDelete, Publisher+"/apis/"+id, nil, nil)
			}
			if err != nil && ctx.Err() == nil {
				s.fail(err)
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
	wg.Wait()
	for _, tr := range []*http.Transport{kept, fresh, secure, two} {
		tr.CloseIdleConnections()
	}
	Insecure.CloseIdleConnections()
}

type zeros struct{}

// Read gives zeros without end.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
