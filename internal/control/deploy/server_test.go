package deploy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/control/deploy"
	"github.com/cardea-apim/cardea/internal/node"
	"github.com/cardea-apim/cardea/internal/pki"
	"github.com/cardea-apim/cardea/internal/seal"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// site is a control process that other nodes can join.
type site struct {
	*world
	ca     *pki.CA
	server *deploy.Server
	stop   func()
}

func newSite(t *testing.T) *site {
	t.Helper()
	w := newWorld(t)
	ca, err := pki.EnsureCA(t.TempDir())
	must(t, err)
	s := &site{world: w, ca: ca}
	s.open("127.0.0.1:0", false)
	return s
}

func (s *site) open(addr string, always bool) {
	s.t.Helper()
	id, err := s.ca.IssueNode("control-1", []string{"control"})
	must(s.t, err)
	s.server = deploy.NewServer(deploy.ServerOptions{
		Feed: s.feed, Log: s.db.Log, Box: s.box, CA: s.ca, Identity: id, Bus: "bus://127.0.0.1:4222", Always: always, Logger: quiet,
	})
	s.stop = s.background(func(ctx context.Context) error { return s.server.Run(ctx, addr) })
}

func (s *site) url() string {
	s.t.Helper()
	eventually(s.t, "the listener opens", func() bool { return s.server.Addr() != nil })
	return "https://" + s.server.Addr().String()
}

// token issues one, which opens the listener.
func (s *site) token(roles ...string) string {
	s.t.Helper()
	tok, err := s.server.IssueToken(s.t.Context(), roles)
	must(s.t, err)
	return tok.String()
}

// join makes a home of a gateway.
func (s *site) join(id string) (home string) {
	s.t.Helper()
	home = s.t.TempDir()
	tok := s.token("gateway")
	_, err := node.Join(s.t.Context(), s.url(), tok, home, id)
	must(s.t, err)
	return home
}

func (s *site) client(home string, urls ...string) *node.Client {
	s.t.Helper()
	c, err := node.NewClient(node.ClientOptions{Controls: urls, Home: home, KeyID: s.box.ID(), Log: quiet})
	must(s.t, err)
	return c
}

// remote runs a gateway of another process until stop.
func (s *site) remote(home string, g *gateway, urls ...string) (f *node.Follower, stop func()) {
	s.t.Helper()
	f, err := node.NewFollower(node.Options{
		Dir: home + "/snapshot", Node: apim.GatewayNode{ID: "ignored", Labels: []string{"Default"}}, KeyID: s.box.ID(),
		Feed: s.client(home, urls...), Gateway: g, Log: quiet, MaxWait: 200 * time.Millisecond,
	})
	must(s.t, err)
	f.Load(s.t.Context())
	return f, s.background(func(ctx context.Context) error {
		defer f.Close()
		return f.Run(ctx)
	})
}

func TestListenerStaysClosedUntilANodeIsExpected(t *testing.T) {
	s := newSite(t)
	time.Sleep(20 * time.Millisecond)
	if s.server.Addr() != nil {
		t.Fatal("the listener is open though nobody is expected")
	}
	s.token("gateway")
	s.url()
}

func TestListenerOpensAgainForNodesThatJoinedOnce(t *testing.T) {
	s := newSite(t)
	s.join("gw-1")
	s.stop() // it never acknowledged anything, as after a restore that has no gateways
	s.open("127.0.0.1:0", false)
	s.url()
}

func TestJoin(t *testing.T) {
	s := newSite(t)
	tok := s.token("gateway", "traffic")
	home := t.TempDir()
	j, err := node.Join(t.Context(), s.url(), tok, home, "gw-1")
	must(t, err)
	if j.ID != "gw-1" || j.Bus != "bus://127.0.0.1:4222" || strings.Join(j.Roles, ",") != "gateway,traffic" {
		t.Errorf("joined as %+v", j)
	}
	box, err := seal.Load(home, "")
	if err != nil || box.ID() != s.box.ID() {
		t.Errorf("master key: %v", err)
	}
	id, err := pki.LoadIdentity(pki.Dir(home))
	if err != nil || id.ID() != "gw-1" || strings.Join(id.Roles(), ",") != "gateway,traffic" {
		t.Errorf("identity: %v", err)
	}
	again, err := node.LoadJoined(home)
	if err != nil || again.ID != "gw-1" || again.Controls[0] != s.url() {
		t.Errorf("remembered: %+v, %v", again, err)
	}
	if _, err := node.Join(t.Context(), s.url(), s.token("gateway"), home, "gw-2"); err == nil {
		t.Error("a home joins twice")
	}
	if _, err := node.Join(t.Context(), s.url(), tok, t.TempDir(), "gw-3"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a token works twice: %v", err)
	}
}

func TestJoinByTheFirstControlNodeThatAnswers(t *testing.T) {
	s := newSite(t)
	home, tok := t.TempDir(), s.token("gateway")
	gone, there := "https://127.0.0.1:1", s.url()
	if _, err := node.Join(t.Context(), gone+",no address", tok, t.TempDir(), "gw-1"); err == nil {
		t.Error("a bad address is taken")
	}
	j, err := node.Join(t.Context(), gone+","+there, tok, home, "gw-1")
	must(t, err)
	if strings.Join(j.Controls, ",") != gone+","+there {
		t.Errorf("it follows %v", j.Controls)
	}
	must(t, j.Refollow(home, ""))
	must(t, j.Refollow(home, there))
	kept, err := node.LoadJoined(home)
	must(t, err)
	if strings.Join(kept.Controls, ",") != there || kept.Bus != j.Bus || kept.ID != "gw-1" {
		t.Errorf("after a start with another list: %+v", kept)
	}
	if err := j.Refollow(home, "ftp://x"); err == nil {
		t.Error("a bad address is followed")
	}
}

func TestJoinRefuses(t *testing.T) {
	s := newSite(t)
	s.token("gateway")
	other, err := pki.EnsureCA(t.TempDir())
	must(t, err)
	expired := s.ca.NewToken()
	must(t, s.db.Log.AddJoinToken(t.Context(), apim.Digest(expired.Hash()), []string{"gateway"}, time.Now().Add(-time.Second)))
	s.ack("alive", snapshot.Version{}, time.Now())
	for name, c := range map[string]struct{ token, id, want string }{
		"a token nobody issued":        {s.ca.NewToken().String(), "gw-1", "403"},
		"an expired token":             {expired.String(), "gw-1", "403"},
		"a token of another CA":        {other.NewToken().String(), "gw-1", pki.ErrWrongCA.Error()},
		"no token":                     {"hello", "gw-1", "not a join token"},
		"the name of a live node":      {s.token("gateway"), "alive", "409"},
		"the name of the control node": {s.token("gateway"), "control-1", "409"},
		"a name that is none":          {s.token("gateway"), "../x", "does not name a node"},
	} {
		home := t.TempDir()
		_, err := node.Join(t.Context(), s.url(), c.token, home, c.id)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if _, err := os.Stat(seal.KeyFile(home)); !os.IsNotExist(err) {
			t.Errorf("%s: the home got a key", name)
		}
	}
	if _, err := s.server.IssueToken(t.Context(), []string{"root"}); err == nil {
		t.Error("a token for an unknown role is issued")
	}
}

func TestCertificateRolesLimitCalls(t *testing.T) {
	s := newSite(t)
	tok := s.token("analytics")
	home := t.TempDir()
	_, err := node.Join(t.Context(), s.url(), tok, home, "an-1")
	must(t, err)
	c := s.client(home, s.url())
	err = c.Follow(t.Context(), apim.GatewayNode{}, snapshot.Version{}, func(snapshot.Delta) error { return nil })
	if !errors.Is(err, node.ErrRefused) {
		t.Errorf("an analytics node follows: %v", err)
	}
	if err := c.Ack(t.Context(), apim.GatewayNode{ID: "gw"}); !errors.Is(err, node.ErrRefused) {
		t.Errorf("an analytics node acknowledges: %v", err)
	}
	// Without any certificate only joining is answered.
	bare := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, path := range []string{"/sync/v1/follow?after=0.0", "/sync/v1/body/x"} {
		resp, err := bare.Get(s.url() + path)
		must(t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a certificate: %s", path, resp.Status)
		}
	}
	resp, err := bare.Post(s.url()+"/sync/v1/join", "application/json", bytes.NewReader(make([]byte, 2<<20)))
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a huge request to join: %s", resp.Status)
	}
}

func TestNodeWithAnotherMasterKeyIsRefused(t *testing.T) {
	s := newSite(t)
	home := s.join("gw-1")
	c, err := node.NewClient(node.ClientOptions{Controls: []string{s.url()}, Home: home, KeyID: "other", Log: quiet})
	must(t, err)
	f, err := node.NewFollower(node.Options{Dir: t.TempDir(), Node: apim.GatewayNode{ID: "gw-1"}, KeyID: "other", Feed: c, Gateway: &gateway{}, Log: quiet})
	must(t, err)
	defer f.Close()
	if err := f.Run(t.Context()); !errors.Is(err, node.ErrRefused) {
		t.Errorf("Run = %v", err)
	}
}

func TestRemoteGatewayFollowsAcknowledgesAndServesOnWithoutControl(t *testing.T) {
	s := newSite(t)
	s.background(s.relay("c1", 0).Run)
	home := s.join("gw-1")
	url := s.url()
	local, far := &gateway{}, &gateway{}
	s.start("gw-local", t.TempDir(), local)
	_, stopFar := s.remote(home, far, url)
	eventually(t, "both are ready", func() bool { return len(s.saveApp("warm-"+time.Now().String()).Gateways) == 2 })
	r := s.saveApp("app1")
	if !r.Complete || !far.has("app/app1") || !local.has("app/app1") {
		t.Fatalf("receipt %+v", r)
	}
	if r.Gateways[0].Gateway != "gw-1" || r.Elapsed > time.Second {
		t.Errorf("receipt %+v: want the name of the certificate, quickly", r)
	}
	// A body too large for a delta is fetched by its hash.
	big := s.app("big")
	big.Attributes = map[string]string{"blob": strings.Repeat("x", 3*snapshot.InlineLimit)}
	s.write(func(ctx context.Context) error { return s.db.Applications.Create(ctx, tenant, big) })
	if body, _ := far.get("app/big"); len(body) < 3*snapshot.InlineLimit {
		t.Errorf("the large item has %d bytes", len(body))
	}
	// Control away, gateway restarted: it serves from its disk.
	addr := s.server.Addr().String()
	s.stop()
	stopFar()
	again := &gateway{}
	f, _ := s.remote(home, again, url)
	if !f.Loaded() || !again.has("app/app1", "app/big") {
		t.Fatal("nothing is served from the disk")
	}
	s.saveAll("app2")
	time.Sleep(100 * time.Millisecond)
	if again.has("app/app2") {
		t.Fatal("news without a control node")
	}
	// And catches up when control is back, by the difference only.
	s.open(addr, false)
	eventually(t, "the gateway catches up", func() bool { return again.has("app/app2") })
	if _, full := again.state(); full != 1 {
		t.Errorf("%d full snapshots, want the one from the disk", full)
	}
}

func TestGatewayGoesOnToAnotherControlNode(t *testing.T) {
	s := newSite(t)
	s.background(s.relay("c1", 0).Run)
	home := s.join("gw-1")
	second := &site{world: s.world, ca: s.ca}
	second.open("127.0.0.1:0", true)
	g := &gateway{}
	s.remote(home, g, s.url(), second.url())
	s.saveAll("app1")
	eventually(t, "the first feeds it", func() bool { return g.has("app/app1") })
	s.stop()
	s.saveAll("app2")
	eventually(t, "the second feeds it", func() bool { return g.has("app/app2") })
}

func TestLateJoinerDoesNotDelayReceipts(t *testing.T) {
	s := newSite(t)
	s.background(s.relay("c1", 0).Run)
	s.saveAll("a", "b", "c")
	settle(s.world)
	g := &gateway{stalled: make(chan struct{})}
	home := s.join("gw-late")
	s.remote(home, g, s.url())
	eventually(t, "the joiner is known", func() bool {
		gws, err := s.db.Log.Gateways(context.Background())
		return err == nil && len(gws) == 1
	})
	r := s.saveApp("d")
	if !r.Complete || r.Elapsed > time.Second || len(r.Gateways) != 0 {
		t.Errorf("receipt while a node is joining: %+v", r)
	}
	close(g.stalled)
	eventually(t, "the joiner has everything", func() bool { return g.has("app/a", "app/b", "app/c", "app/d") })
}

func TestCertificateIsRenewedInUse(t *testing.T) {
	s := newSite(t)
	home := s.join("gw-1")
	c := s.client(home, s.url())
	before, err := pki.LoadIdentity(pki.Dir(home))
	must(t, err)
	if renewed, err := c.Renew(t.Context()); renewed || err != nil {
		t.Errorf("a fresh certificate is renewed: %v %v", renewed, err)
	}
	must(t, c.RenewNow(t.Context()))
	after, err := pki.LoadIdentity(pki.Dir(home))
	must(t, err)
	if before.Cert.Leaf.SerialNumber.Cmp(after.Cert.Leaf.SerialNumber) == 0 || after.ID() != "gw-1" || strings.Join(after.Roles(), "") != "gateway" {
		t.Error("the certificate is the old one, or another node's")
	}
	must(t, c.Ack(t.Context(), apim.GatewayNode{Version: "0.0"}))
}

func TestFollowStreamIsLinesOfJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.background(s.relay("c1", 0).Run)
	s.saveAll("app1")
	settle(s.world)
	id, err := pki.LoadIdentity(pki.Dir(s.join("gw-1")))
	must(t, err)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url()+"/sync/v1/follow?after=0.0&env=Default", nil)
	must(t, err)
	req.Header.Set(deploy.KeyHeader, s.box.ID())
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: id.Client()}}).Do(req)
	must(t, err)
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	var first, beat snapshot.Delta
	must(t, dec.Decode(&first))
	if !first.Full || len(first.Items) == 0 {
		t.Errorf("first delta %+v", first)
	}
	for _, it := range first.Items {
		if strings.HasPrefix(it.Env, "~") {
			t.Errorf("a gateway gets the relay's own note %s", it.Key)
		}
	}
	must(t, dec.Decode(&beat))
	if beat.Full || len(beat.Items) != 0 || beat.Version != first.Version {
		t.Errorf("heartbeat %+v", beat)
	}
}

// Nodes that are started together wait for each other.
func TestJoinWaitsForAPortThatIsNotOpenYet(t *testing.T) {
	s := newSite(t)
	tok, url := s.token("gateway"), s.url()
	s.stop()
	joined := make(chan error, 1)
	go func() {
		_, err := node.Join(t.Context(), url, tok, t.TempDir(), "gw-1")
		joined <- err
	}()
	select {
	case err := <-joined:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(400 * time.Millisecond):
	}
	s.open(strings.TrimPrefix(url, "https://"), true)
	must(t, <-joined)
}
