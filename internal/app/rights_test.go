package app

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/bus"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/throttle"
	"github.com/cardea-apim/cardea/internal/traffic"
	"github.com/cardea-apim/cardea/internal/usage"
)

// nodesOnBus is a bus with the rights of the product, and a way to join it.
func nodesOnBus(t *testing.T) (home *bus.Bus, join func(name string, roles ...string) *bus.Bus) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ca, err := pki.EnsureCA(t.TempDir())
	check(err)
	id, err := ca.IssueNode("control", []string{"control"})
	check(err)
	home, err = bus.Embedded(bus.Options{})
	check(err)
	t.Cleanup(func() { home.Close() })
	addr, err := home.Listen("127.0.0.1:0", id.Server(false), busRights)
	check(err)
	return home, func(name string, roles ...string) *bus.Bus {
		t.Helper()
		id, err := ca.IssueNode(name, roles)
		check(err)
		b, err := bus.Connect(bus.Scheme+"://"+addr.String(), id.Client(), bus.Options{})
		check(err)
		t.Cleanup(func() { b.Close() })
		return b
	}
}

func echo(d []byte) []byte { return d }

// answers makes b answer requests on a subject, with what it got.
func answers(t *testing.T, b *bus.Bus, subject string) {
	t.Helper()
	var err error
	if strings.Contains(subject, bus.Sender) {
		_, err = b.ReplyTo(subject, "analytics", func(_ string, d []byte) []byte { return d })
	} else {
		_, err = b.Reply(subject, "analytics", echo)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRolesMayAskEachOther(t *testing.T) {
	_, join := nodesOnBus(t)
	gateway, counts, people, control := join("gw.1", "gateway"), join("counts", "analytics", "traffic"), join("people", "identity"), join("second", "control")
	for subject, b := range map[string]*bus.Bus{usage.SubjectBatch: counts, subjectAsk: counts, subjectPassword: people, subjectToken: people} {
		answers(t, b, subject)
	}
	for subject, b := range map[string]*bus.Bus{usage.SubjectBatch: gateway, subjectPassword: gateway, subjectToken: gateway, subjectAsk: control} {
		if ans, err := b.Request(t.Context(), subject, []byte("1")); err != nil || string(ans) != "1" {
			t.Errorf("%s: %q, %v", subject, ans, err)
		}
	}
}

func TestAGatewayIsNoOtherRole(t *testing.T) {
	home, join := nodesOnBus(t)
	gateway := join("gw1", "gateway")
	hubSends, hubHears := traffic.HubSubjects()
	others, _ := traffic.GatewaySubjects("gw2")
	_, mine := traffic.GatewaySubjects("gw1")
	_, foreign := traffic.GatewaySubjects("gw2")
	got := make(chan string, 100)
	hear := func(b *bus.Bus, who string, subjects ...string) {
		for _, s := range subjects {
			if _, err := b.Subscribe(s, func(subject string, _ []byte) { got <- who + " hears " + subject }); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, subject := range []string{subjectAsk, subjectPassword, subjectToken, usage.SubjectBatch} {
		answers(t, gateway, subject)
		if _, err := home.Request(t.Context(), subject, nil); !errors.Is(err, bus.ErrNobody) {
			t.Errorf("a gateway answers %s: %v", subject, err)
		}
	}
	hear(gateway, "gw1", hubHears...)
	hear(gateway, "gw1", foreign[0], "throttle.>", "usage.>", "_INBOX.>", ">")
	hear(home, "home", append(hubSends, subjectAsk, others[1])...)
	send := func(b *bus.Bus, subjects ...string) {
		for _, s := range subjects {
			if err := b.Publish(s, []byte("forged")); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(gateway, mine...) // what hubs say
	send(gateway, foreign[0], subjectAsk)
	send(home, foreign[0], "throttle.report.1", usage.SubjectBatch, subjectAsk, subjectPassword, "_INBOX.x")
	send(gateway, others[1])
	time.Sleep(200 * time.Millisecond)
	seen := map[string]int{}
	for len(got) > 0 {
		seen[<-got]++
	}
	// home hears itself, and the one message which a gateway may send.
	want := map[string]int{"home hears " + foreign[0]: 1, "home hears " + subjectAsk: 1, "home hears " + others[1]: 1}
	for s, n := range seen {
		if want[s] != n {
			t.Errorf("%s: %d times, want %d", s, n, want[s])
		}
	}
	for s := range want {
		if seen[s] == 0 {
			t.Errorf("missing: %s", s)
		}
	}
}

// A gateway counts for itself only: the subject tells who sends, whatever the
// batch says.
func TestAGatewayReportsForItselfOnly(t *testing.T) {
	home, join := nodesOnBus(t)
	own, other := join("gw.1", "gateway"), join("gw2", "gateway")
	senders := make(chan string, 10)
	if _, err := home.ReplyTo(usage.SubjectBatch, "analytics", func(sender string, d []byte) []byte {
		senders <- sender
		return d
	}); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*bus.Bus{"gw.1": own, "gw2": other} {
		if _, err := b.Request(t.Context(), usage.SubjectBatch, []byte("1")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := <-senders; got != name {
			t.Errorf("%s sends as %s", name, got)
		}
	}
	victim := strings.ReplaceAll(usage.SubjectBatch, bus.Sender, hex.EncodeToString([]byte("gw.1")))
	short, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	if _, err := other.Request(short, victim, []byte("forged")); err == nil {
		t.Error("a gateway sends as another one, and is answered")
	}
	if len(senders) > 0 {
		t.Errorf("a batch came in as of %s", <-senders)
	}
}

func TestCountsAreExchangedWithinTheRights(t *testing.T) {
	_, join := nodesOnBus(t)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	run := func(f func(context.Context) error) {
		running.Go(func() {
			if err := f(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	quiet := slog.New(slog.DiscardHandler)
	run(traffic.NewHub(traffic.HubOptions{Bus: join("hub", "traffic"), Name: "hub", Log: quiet}).Run)
	var limiters []*throttle.Limiter
	for _, name := range []string{"gw-one", "gw.two"} {
		l := throttle.New(throttle.Options{Track: true})
		run(traffic.NewExchange(traffic.ExchangeOptions{Limiter: l, Bus: join(name, "gateway"), Gateway: name, Log: quiet}).Run)
		limiters = append(limiters, l)
	}
	check := []throttle.Check{{Key: throttle.KeyOf(throttle.LevelApplication, "a"), Level: throttle.LevelApplication, Limit: 10000, Window: 24 * time.Hour}}
	for range 100 {
		limiters[0].Admit(time.Now(), check)
	}
	end := time.Now().Add(10 * time.Second)
	for own := int64(1); ; own++ {
		if d := limiters[1].Admit(time.Now(), check); d.Limit-d.Remaining >= own+100 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the second gateway never hears of the calls of the first")
		}
		time.Sleep(20 * time.Millisecond)
	}
}
