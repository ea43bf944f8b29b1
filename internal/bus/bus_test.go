package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/pki"
)

func embedded(t *testing.T) *Bus {
	t.Helper()
	b, err := Embedded(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func receive(t *testing.T, c <-chan string) string {
	t.Helper()
	select {
	case s := <-c:
		return s
	case <-time.After(5 * time.Second):
		t.Fatal("nothing arrived")
		return ""
	}
}

func TestPublishReachesEverySubscriber(t *testing.T) {
	b := embedded(t)
	got := make(chan string, 10)
	for _, subject := range []string{"limits.a", "limits.*", "limits.>"} {
		if _, err := b.Subscribe(subject, func(s string, d []byte) { got <- s + "=" + string(d) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Publish("limits.a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if s := receive(t, got); s != "limits.a=1" {
			t.Errorf("got %q", s)
		}
	}
}

func TestCancelledSubscriptionHearsNothing(t *testing.T) {
	b := embedded(t)
	got := make(chan string, 10)
	cancel, err := b.Subscribe("x", func(_ string, d []byte) { got <- string(d) })
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := b.Subscribe("x", func(_ string, d []byte) { got <- "second " + string(d) }); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish("x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if s := receive(t, got); s != "second 1" {
		t.Errorf("got %q", s)
	}
}

func TestRequestGoesToOneOfAQueue(t *testing.T) {
	b := embedded(t)
	var calls atomic.Int32
	for range 2 {
		if _, err := b.Reply("usage.batch", "analytics", func(d []byte) []byte {
			calls.Add(1)
			return append([]byte("ack "), d...)
		}); err != nil {
			t.Fatal(err)
		}
	}
	ans, err := b.Request(t.Context(), "usage.batch", []byte("7"))
	if err != nil || string(ans) != "ack 7" {
		t.Fatalf("answer %q, %v", ans, err)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("%d repliers were asked", n)
	}
}

func TestRequestThatNobodyAnswersFailsAtOnce(t *testing.T) {
	start := time.Now()
	_, err := embedded(t).Request(t.Context(), "void", nil)
	if !errors.Is(err, ErrNobody) || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

type fixture struct {
	ca     *pki.CA
	server *tls.Config
	client *tls.Config
}

func all(string, []string) Rights {
	return Rights{Publish: []string{">"}, Subscribe: []string{">"}}
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	ca, err := pki.EnsureCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	srv, err := ca.IssueNode("control", []string{"control"})
	if err != nil {
		t.Fatal(err)
	}
	cl, err := ca.IssueNode("gw1", []string{"gateway"})
	if err != nil {
		t.Fatal(err)
	}
	return fixture{ca, srv.Server(false), cl.Client()}
}

func connect(t *testing.T, addr net.Addr, conf *tls.Config) *Bus {
	t.Helper()
	b, err := Connect(Scheme+"://"+addr.String(), conf, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestOtherNodesReachTheBusByMutualTLS(t *testing.T) {
	f := newFixture(t)
	home := embedded(t)
	addr, err := home.Listen("127.0.0.1:0", f.server, all)
	if err != nil {
		t.Fatal(err)
	}
	far := connect(t, addr, f.client)
	got := make(chan string, 10)
	if _, err := far.Subscribe("limits.>", func(_ string, d []byte) { got <- string(d) }); err != nil {
		t.Fatal(err)
	}
	if err := home.Publish("limits.a", []byte("there")); err != nil {
		t.Fatal(err)
	}
	if s := receive(t, got); s != "there" {
		t.Errorf("got %q", s)
	}
	if _, err := home.Reply("usage.batch", "q", func(d []byte) []byte { return d }); err != nil {
		t.Fatal(err)
	}
	if ans, err := far.Request(t.Context(), "usage.batch", []byte("back")); err != nil || string(ans) != "back" {
		t.Errorf("answer %q, %v", ans, err)
	}
}

func TestStrangersStayOut(t *testing.T) {
	f, other := newFixture(t), newFixture(t)
	home := embedded(t)
	addr, err := home.Listen("127.0.0.1:0", f.server, all)
	if err != nil {
		t.Fatal(err)
	}
	noCert := f.client.Clone()
	noCert.Certificates = nil
	foreign := f.client.Clone()
	foreign.Certificates = other.client.Certificates
	for name, conf := range map[string]*tls.Config{"no certificate": noCert, "certificate of another CA": foreign, "trusts another CA": other.client} {
		b := connect(t, addr, conf)
		ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := b.Flush(ctx); err == nil {
			t.Errorf("%s: reached the bus", name)
		}
		stop()
	}
	if _, err := home.Listen("127.0.0.1:0", &tls.Config{}, all); err == nil {
		t.Error("listens without asking for certificates")
	}
}

func TestClientsSurviveRestartsOfTheBus(t *testing.T) {
	f := newFixture(t)
	first := embedded(t)
	addr, err := first.Listen("127.0.0.1:0", f.server, all)
	if err != nil {
		t.Fatal(err)
	}
	far := connect(t, addr, f.client)
	got := make(chan string, 1000)
	if _, err := far.Subscribe("news", func(_ string, d []byte) { got <- string(d) }); err != nil {
		t.Fatal(err)
	}
	for range 3 { // restarts that come right after one another are the ones that hurt
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		first = embedded(t)
		if _, err := first.Listen(addr.String(), f.server, all); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := first.Reply("ask", "q", func(d []byte) []byte { return d }); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for heard := false; !heard; {
		if time.Now().After(deadline) {
			t.Fatal("the subscription did not come back")
		}
		if err := first.Publish("news", []byte("x")); err != nil {
			t.Fatal(err)
		}
		select {
		case <-got:
			heard = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	if ans, err := far.Request(t.Context(), "ask", []byte("1")); err != nil || string(ans) != "1" {
		t.Errorf("answer after restarts %q, %v", ans, err)
	}
}

func TestConnectBeforeTheBusIsThere(t *testing.T) {
	f := newFixture(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr()
	ln.Close()
	far := connect(t, addr, f.client) // does not fail
	home := embedded(t)
	got := make(chan string, 1)
	if _, err := home.Subscribe("early", func(_ string, d []byte) { got <- string(d) }); err != nil {
		t.Fatal(err)
	}
	if err := far.Publish("early", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if _, err := home.Listen(addr.String(), f.server, all); err != nil {
		t.Fatal(err)
	}
	if s := receive(t, got); s != "kept" {
		t.Errorf("got %q", s)
	}
}

func TestConnectRefusesNonsense(t *testing.T) {
	for _, urls := range []string{"", "host", "http://h:1", "bus://h:1", "bus://h:1,nats://h:2"} {
		if b, err := Connect(urls, nil, Options{}); err == nil {
			b.Close()
			t.Errorf("%q is accepted", urls)
		} else if !strings.HasPrefix(err.Error(), "connect bus: ") {
			t.Errorf("%q: %v", urls, err)
		}
	}
}
