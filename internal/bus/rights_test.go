package bus

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/pki"
)

// byRole is who may do what in these tests.
func byRole(_ string, roles []string) (r Rights) {
	if slices.Contains(roles, "gateway") {
		r.Publish, r.Subscribe = []string{"report.*", "usage"}, []string{"news"}
	}
	if slices.Contains(roles, "analytics") {
		r.Answer = []string{"usage"}
	}
	return r
}

// guarded is an embedded bus which other nodes reach with the rights of byRole.
func guarded(t *testing.T) (f fixture, home *Bus, addr net.Addr) {
	t.Helper()
	f, home = newFixture(t), embedded(t)
	addr, err := home.Listen("127.0.0.1:0", f.server, byRole)
	if err != nil {
		t.Fatal(err)
	}
	return f, home, addr
}

func (f fixture) node(t *testing.T, name string, roles ...string) *tls.Config {
	t.Helper()
	id, err := f.ca.IssueNode(name, roles)
	if err != nil {
		t.Fatal(err)
	}
	return id.Client()
}

func listen(t *testing.T, b *Bus, subject string) <-chan string {
	t.Helper()
	got := make(chan string, 100)
	if _, err := b.Subscribe(subject, func(s string, d []byte) { got <- s + "=" + string(d) }); err != nil {
		t.Fatal(err)
	}
	return got
}

func publish(t *testing.T, b *Bus, subjects ...string) {
	t.Helper()
	for _, s := range subjects {
		if err := b.Publish(s, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNodesSendOnlyWhereTheirRolesAllow(t *testing.T) {
	f, home, addr := guarded(t)
	got := listen(t, home, ">")
	far := connect(t, addr, f.client)
	publish(t, far, "news", "report", "report.1.2", "usage.more", "$SYS.REQ.SERVER.PING", inboxOf("gw2")+".a", inboxOf("gw1")+".a", "report.1")
	if s := receive(t, got); s != "report.1=x" {
		t.Errorf("a gateway sent %q", s)
	}
}

func TestNodesHearOnlyWhatTheirRolesAllow(t *testing.T) {
	f, home, addr := guarded(t)
	far := connect(t, addr, f.client)
	got := make(chan string, 100)
	for _, subject := range []string{">", "*", "usage", "report.*", "news.>", inboxes + ">", inboxOf("gw2") + ".>", "$SYS.>", "news", inboxOf("gw1") + ".*"} {
		if _, err := far.Subscribe(subject, func(s string, _ []byte) { got <- subject + " hears " + s }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := far.Reply("usage", "usage", func([]byte) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	publish(t, home, "usage", "report.1", "news.more", inboxOf("gw2")+".a", inboxOf("gw1")+".a", "news")
	heard := []string{receive(t, got), receive(t, got)} // each subscription has its own goroutine
	select {
	case s := <-got:
		heard = append(heard, s)
	case <-time.After(100 * time.Millisecond):
	}
	slices.Sort(heard)
	if want := []string{inboxOf("gw1") + ".* hears " + inboxOf("gw1") + ".a", "news hears news"}; !slices.Equal(heard, want) {
		t.Errorf("%q, want %q", heard, want)
	}
	if _, err := home.Request(t.Context(), "usage", nil); !errors.Is(err, ErrNobody) {
		t.Errorf("a gateway answers for analytics: %v", err)
	}
}

func TestANodeAnswersOnlyWhatItWasAsked(t *testing.T) {
	f, home, addr := guarded(t)
	far := connect(t, addr, f.node(t, "counts", "analytics"))
	if _, err := far.Reply("usage", "q", func(d []byte) []byte { return d }); err != nil {
		t.Fatal(err)
	}
	gw := connect(t, addr, f.client)
	if ans, err := gw.Request(t.Context(), "usage", []byte("1")); err != nil || string(ans) != "1" {
		t.Errorf("from node to node: %q, %v", ans, err)
	}
	if ans, err := home.Request(t.Context(), "usage", []byte("2")); err != nil || string(ans) != "2" {
		t.Errorf("from the process of the bus: %q, %v", ans, err)
	}
	got := listen(t, home, ">")
	publish(t, far, inboxOf("gw1")+".guess", "usage", "news")
	if err := far.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, home, "end")
	if s := receive(t, got); s != "end=x" {
		t.Errorf("a node that answers sent %q unasked", s)
	}
}

func TestAnswersGoToInboxesOnly(t *testing.T) {
	f, home, addr := guarded(t)
	if _, err := home.Reply("usage", "q", func(d []byte) []byte { return d }); err != nil {
		t.Fatal(err)
	}
	got := listen(t, home, "news")
	far := connect(t, addr, f.client)
	if err := far.conn.PublishRequest("usage", "news", []byte("bent")); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Request(t.Context(), "usage", nil); err != nil { // asked after it
		t.Fatal(err)
	}
	publish(t, home, "news")
	if s := receive(t, got); s != "news=x" {
		t.Errorf("an answer went to a subject of the asker's choice: %q", s)
	}
}

func TestNodesWithoutARoleHereStayOut(t *testing.T) {
	f, _, addr := guarded(t)
	for name, roles := range map[string][]string{"none": nil, "another": {"stream"}} {
		b := connect(t, addr, f.node(t, name, roles...))
		ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if err := b.Flush(ctx); err == nil {
			t.Errorf("%s: reached the bus", name)
		}
		stop()
	}
}

// What a node says of itself counts for nothing, whenever it says it.
func TestForgedIdentitiesAreRefused(t *testing.T) {
	f, home, addr := guarded(t)
	ticket, drop := home.gate.ticket("gw2", Rights{Publish: []string{">"}})
	defer drop()
	hello := func(members string) string { return fmt.Sprintf("CONNECT {\"verbose\":true%s}\r\n", members) }
	for _, c := range []struct{ name, send, want string }{
		{"nothing claimed", hello("") + "PUB report.1 1\r\nx\r\n", "+OK +OK"},
		{"other rights claimed", hello(`,"user":"control","pass":"x","name":"control","auth_token":"`+home.gate.own+`"`) + "PUB news 1\r\nx\r\n", "+OK -ERR 'Permissions Violation"},
		{"another account claimed", hello(`,"account":"$SYS","new_account":true`) + "PUB $SYS.REQ.SERVER.PING 1\r\nx\r\n", "+OK -ERR 'Permissions Violation"},
		{"claimed later", hello("") + hello(`,"auth_token":"guess"`) + "PUB news 1\r\nx\r\n", "+OK -ERR 'Authorization Violation'"},
		{"said twice", hello("") + hello("") + "PUB news 1\r\nx\r\n", "+OK -ERR 'Authorization Violation'"},
		{"no CONNECT", "PUB report.1 1\r\nx\r\n", ""},
		{"CONNECT twice in a line", "CONNECT {} CONNECT {}\r\n", ""},
		{"CONNECT without end", "CONNECT {" + strings.Repeat(" ", 2*maxConnect), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", addr.String(), f.client)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(conn)
			if info, err := r.ReadString('\n'); err != nil || strings.Contains(info, home.gate.own) || strings.Contains(info, ticket) {
				t.Fatalf("INFO %q, %v", info, err)
			}
			if _, err := conn.Write([]byte(c.send)); err != nil {
				t.Fatal(err)
			}
			var got []string
			for len(got) < 2 { // or until the other side is done
				line, err := r.ReadString('\n')
				if err != nil {
					break
				}
				if !strings.HasPrefix(line, "PING") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if s := strings.Join(got, " "); !strings.HasPrefix(s, c.want) || c.want == "" && s != "" {
				t.Errorf("the bus says %q, want %q", s, c.want)
			}
		})
	}
}

func TestTicketsAreGoodForOneConnection(t *testing.T) {
	f, home, addr := guarded(t)
	far := connect(t, addr, f.client)
	if err := far.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	home.gate.mu.Lock()
	defer home.gate.mu.Unlock()
	if n := len(home.gate.tickets); n != 0 {
		t.Errorf("%d tickets are left", n)
	}
}

func TestNamesOfNodesDoNotMix(t *testing.T) {
	seen := map[string]string{}
	for _, n := range []string{"a", "a.b", "a.*", ">", "A", "a-b", "a_b"} {
		if !pki.ValidNodeID(n) && !strings.ContainsAny(n, "*>") {
			t.Errorf("%q is no name of a node", n)
		}
		in := inboxOf(n)
		if strings.ContainsAny(in, "*>") || strings.Count(in, ".") != 1 || seen[in] != "" {
			t.Errorf("inbox %q of %q, also of %q", in, n, seen[in])
		}
		seen[in] = n
	}
}

// A node that is no longer wanted is cut off and stays away; others notice nothing.
func TestCut(t *testing.T) {
	f, home := newFixture(t), embedded(t)
	var unwanted atomic.Bool
	bad := func(s tls.ConnectionState) bool {
		return unwanted.Load() && s.VerifiedChains[0][0].Subject.CommonName == "gw-bad"
	}
	conf := f.server.Clone()
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if bad(s) {
			return errors.New("unwanted")
		}
		return nil
	}
	addr, err := home.Listen("127.0.0.1:0", conf, byRole)
	if err != nil {
		t.Fatal(err)
	}
	join := func(name string) *Bus {
		b, err := Connect(Scheme+"://"+addr.String(), f.node(t, name, "gateway"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		for !b.Connected() {
			time.Sleep(time.Millisecond)
		}
		return b
	}
	gone, stays := join("gw-bad"), join("gw-good")
	heard, kept := listen(t, gone, "news"), listen(t, stays, "news")
	home.Cut(bad)
	publish(t, home, "news")
	<-heard // nobody is unwanted yet
	<-kept
	unwanted.Store(true)
	home.Cut(bad)
	for gone.Connected() {
		time.Sleep(time.Millisecond)
	}
	publish(t, home, "news")
	<-kept
	time.Sleep(500 * time.Millisecond) // it tries again several times
	if gone.Connected() || len(heard) > 0 {
		t.Error("a node that was cut off is back")
	}
	if !stays.Connected() || stays.conn.Reconnects != 0 {
		t.Error("another node was cut off too")
	}
	unwanted.Store(false)
	for !gone.Connected() {
		time.Sleep(time.Millisecond)
	}
}
