package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer spreads calls over gateways as a load balancer does: it asks each
// one every 20 ms whether it is ready, uses ready ones only, keeps connections
// alive until it is told to close them, and never sends a request twice.
type balancer struct {
	hosts []string
	ready []atomic.Uint64 // odd while ready; changes with every turn of readiness
	sent  atomic.Int64
	turns atomic.Int64 // times that a gateway ceased to be ready
	mu    sync.Mutex
	lost  []error
}

// lose notes a request that failed.
func (b *balancer) lose(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost = append(b.lost, err)
}

func newBalancer(ctx context.Context, gateways ...*Process) *balancer {
	b := &balancer{ready: make([]atomic.Uint64, len(gateways))}
	for i, g := range gateways {
		b.hosts = append(b.hosts, strings.TrimPrefix(g.Gateway(), "http://"))
		go b.watch(ctx, i, g.Management()+"/readyz")
	}
	return b
}

func (b *balancer) watch(ctx context.Context, i int, probe string) {
	for ctx.Err() == nil {
		a, err := Call(ctx, http.MethodGet, probe, "", nil)
		if ctx.Err() != nil {
			return // the probe was cut off
		}
		ready := err == nil && a.Status == http.StatusOK
		if was := b.ready[i].Load(); ready != (was%2 == 1) {
			b.ready[i].Add(1)
			if !ready {
				b.turns.Add(1)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// work sends one request after another until ctx ends.
func (b *balancer) work(ctx context.Context, worker int, path, token string) {
	type open struct {
		net.Conn
		in   *bufio.Reader
		turn uint64
	}
	conns := make([]open, len(b.hosts))
	shut := func(i int) {
		if conns[i].Conn != nil {
			_ = conns[i].Close() // it is of no use any more
			conns[i].Conn = nil
		}
	}
	defer func() {
		for i := range conns {
			shut(i)
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		at := -1
		for k := range b.hosts {
			i := (n + k) % len(b.hosts)
			turn := b.ready[i].Load()
			if conns[i].Conn != nil && conns[i].turn != turn {
				shut(i)
			}
			if at < 0 && turn%2 == 1 {
				at = i
			}
		}
		if at < 0 {
			time.Sleep(time.Millisecond)
			continue
		}
		if conns[at].Conn == nil {
			c, err := net.DialTimeout("tcp", b.hosts[at], 5*time.Second)
			if err != nil {
				b.lose(fmt.Errorf("connect to a ready gateway: %w", err))
				continue
			}
			conns[at] = open{c, bufio.NewReader(c), b.ready[at].Load()}
		}
		body := fmt.Sprintf("worker %d request %d", worker, n)
		last, err := exchange(conns[at].Conn, conns[at].in, b.hosts[at], path, token, body)
		b.sent.Add(1)
		if err != nil {
			b.lose(fmt.Errorf("gateway %d: %w", at, err))
			shut(at)
			continue
		}
		if last {
			shut(at)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// exchange sends one POST and checks that the backend got it as it was sent. It
// reports whether the connection ends with it.
func exchange(c net.Conn, in *bufio.Reader, host, path, token, body string) (last bool, err error) {
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return true, err
	}
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", path, host, token, len(body), body); err != nil {
		return true, err
	}
	res, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost})
	if err != nil {
		return true, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return true, err
	}
	if res.StatusCode != http.StatusOK || !strings.Contains(string(answer), body) {
		return res.Close, fmt.Errorf("status %d: %.300s", res.StatusCode, answer)
	}
	return res.Close, nil
}

// A process that stops first says so, and answers for a while yet.
func TestStopWarnsBeforeItCloses(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	p := node(t, Node{})
	_, token := securedAPI(t, admin(t, p), "warned", backend.URL, "Unlimited")
	host := strings.TrimPrefix(p.Gateway(), "http://")
	type open struct {
		net.Conn
		in *bufio.Reader
	}
	call := func(c open) (last bool, err error) {
		return exchange(c.Conn, c.in, host, "/warned/1.0.0/b/1", token, "hello")
	}
	conns := make([]open, 5)
	for i := range conns {
		c := must[net.Conn](t)(net.DialTimeout("tcp", host, 5*time.Second))
		defer c.Close()
		conns[i] = open{c, bufio.NewReader(c)}
		if last, err := call(conns[i]); err != nil || last {
			t.Fatalf("before the stop: last %v, %v", last, err)
		}
	}
	began := time.Now()
	stopped := make(chan error, 1)
	go func() { stopped <- p.Stop() }()
	eventually(t, 500*time.Millisecond, "the node says that it is not ready", func(ctx context.Context) bool {
		a, err := Call(ctx, http.MethodGet, p.Management()+"/readyz", "", nil)
		return err == nil && a.Status == http.StatusServiceUnavailable
	})
	// Connections of before, one after the other through the grace period, and a new one.
	for i := range conns {
		if last, err := call(conns[i]); err != nil || !last {
			t.Errorf("%v after the signal, on an open connection: last %v, %v", time.Since(began).Round(time.Millisecond), last, err)
		}
		c := must[net.Conn](t)(net.DialTimeout("tcp", host, 5*time.Second))
		if last, err := call(open{c, bufio.NewReader(c)}); err != nil || !last {
			t.Errorf("on a new connection: last %v, %v", last, err)
		}
		_ = c.Close()
		time.Sleep(100 * time.Millisecond)
	}
	ok(t, <-stopped)
	if took := time.Since(began); took < time.Second || took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

func TestNoRequestIsLostThroughRestartsAndDeployments(t *testing.T) {
	backend := NewBackend()
	defer backend.Close()
	control := node(t, Node{Args: []string{"--roles", "control,identity,traffic,analytics"}})
	c := admin(t, control)
	one, two := joinGateway(t, c, "gw-one"), joinGateway(t, c, "gw-two")
	_, token := securedAPI(t, c, "drain", backend.URL, "Unlimited")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	b := newBalancer(ctx, one, two)
	eventually(t, 5*time.Second, "both gateways are ready", func(context.Context) bool {
		return b.ready[0].Load()%2 == 1 && b.ready[1].Load()%2 == 1
	})
	var work sync.WaitGroup
	for w := range 8 {
		work.Go(func() { b.work(ctx, w, "/drain/1.0.0/b/"+fmt.Sprint(w), token) })
	}
	var others sync.WaitGroup
	others.Go(func() {
		for i := range 20 {
			other, err := c.Import(ctx, openAPI(fmt.Sprintf("Other%d", i), backend.URL))
			if err == nil {
				err = c.Publish(ctx, other)
			}
			if err != nil {
				t.Errorf("deploy another API: %v", err)
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	const restarts = 3
	for range restarts {
		began := time.Now()
		ok(t, two.Stop())
		if took := time.Since(began); took < time.Second || took > 10*time.Second {
			t.Errorf("a graceful stop took %v, want one second of grace and less than ten in all", took)
		}
		two = restart(t, two, "--roles", "gateway")
		time.Sleep(300 * time.Millisecond)
	}
	others.Wait()
	stop()
	work.Wait()
	for _, err := range b.lost[:min(len(b.lost), 10)] {
		t.Error(err)
	}
	n := len(b.lost)
	t.Logf("%d requests, %d lost", b.sent.Load(), n)
	if n > 0 || b.sent.Load() < 1000 {
		t.Errorf("%d of %d requests are lost, want none of at least 1000", n, b.sent.Load())
	}
	if got := b.turns.Load(); got != restarts {
		t.Errorf("a gateway ceased to be ready %d times, want %d", got, restarts)
	}
}
