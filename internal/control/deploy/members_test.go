package deploy_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/node"
	"github.com/cardea-apim/cardea/internal/pki"
)

// stream follows as a node and tells when the stream ends.
func (s *site) stream(home, url string) (ended <-chan error) {
	s.t.Helper()
	id, err := pki.LoadIdentity(pki.Dir(home))
	must(s.t, err)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url+"/sync/v1/follow?after=0.0&env=Default", nil)
	must(s.t, err)
	req.Header.Set(node.KeyHeader, s.box.ID())
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: id.Client()}}).Do(req)
	must(s.t, err)
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("follow: %s", resp.Status)
	}
	done := make(chan error, 1)
	go func() {
		defer resp.Body.Close()
		b := make([]byte, 4096)
		for {
			if _, err := resp.Body.Read(b); err != nil {
				done <- err
				return
			}
		}
	}()
	return done
}

func TestARemovedNodeIsCutOffAndRefused(t *testing.T) {
	s := newSite(t)
	s.background(s.relay("c1", 0).Run)
	s.saveAll("app1")
	settle(s.world)
	bad, good := s.join("gw-bad"), s.join("gw-good")
	second := &site{world: s.world, ca: s.ca}
	second.open("127.0.0.1:0", true)
	cut, cutToo, kept := s.stream(bad, s.url()), s.stream(bad, second.url()), s.stream(good, s.url())
	stale := s.client(bad, s.url())
	must(t, stale.RenewNow(t.Context())) // a renewed certificate is as good, and ends as well

	if err := s.server.Withdraw(t.Context(), "gw-unknown"); !errors.Is(err, &fault.Missing) {
		t.Errorf("an unknown node: %v", err)
	}
	must(t, s.server.Withdraw(t.Context(), "gw-bad"))
	<-cut
	<-cutToo // the other control node noticed by itself
	for name, err := range map[string]error{
		"ack":         stale.Ack(t.Context(), apim.GatewayNode{Version: "0.0"}),
		"renew":       stale.RenewNow(t.Context()),
		"on another":  s.client(bad, second.url()).Ack(t.Context(), apim.GatewayNode{Version: "0.0"}),
		"never again": s.server.Admit(s.state(bad)),
	} {
		if err == nil || name != "never again" && (!errors.Is(err, node.ErrRefused) || !strings.Contains(err.Error(), "was removed")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.server.Admit(s.state(good)); err != nil {
		t.Errorf("another node is refused: %v", err)
	}
	must(t, s.client(good, s.url()).Ack(t.Context(), apim.GatewayNode{Version: "0.0"}))
	select {
	case err := <-kept:
		t.Errorf("the stream of another node ends: %v", err)
	default:
	}

	// It lasts over a restart of the control node.
	s.stop()
	s.open("127.0.0.1:0", true)
	if err := s.client(bad, s.url()).Ack(t.Context(), apim.GatewayNode{Version: "0.0"}); !errors.Is(err, node.ErrRefused) {
		t.Errorf("after a restart: %v", err)
	}
	// Whoever joins anew under the name is another member.
	again := s.join("gw-bad")
	must(t, s.client(again, s.url()).Ack(t.Context(), apim.GatewayNode{Version: "0.0"}))
	if err := s.client(bad, s.url()).Ack(t.Context(), apim.GatewayNode{Version: "0.0"}); !errors.Is(err, node.ErrRefused) {
		t.Errorf("the former certificate after joining anew: %v", err)
	}
}

// A member that the database does not know, because it was restored, can be removed.
func TestAMemberOfBeforeARestoreCanBeRemoved(t *testing.T) {
	s := newSite(t)
	home := s.join("gw-1")
	other := newSite(t) // of the same authority, and without the member
	other.ca, other.box = s.ca, s.box
	other.stop()
	other.open("127.0.0.1:0", true)
	c := other.client(home, other.url())
	must(t, c.Ack(t.Context(), apim.GatewayNode{Version: "0.0"}))
	must(t, other.server.Withdraw(t.Context(), "gw-1"))
	if err := c.Ack(t.Context(), apim.GatewayNode{Version: "0.0"}); !errors.Is(err, node.ErrRefused) {
		t.Errorf("after it was removed: %v", err)
	}
}

// state is that of a connection which the node of home makes.
func (s *site) state(home string) tls.ConnectionState {
	s.t.Helper()
	id, err := pki.LoadIdentity(pki.Dir(home))
	must(s.t, err)
	return tls.ConnectionState{VerifiedChains: chains(id)}
}

func chains(id *pki.Identity) [][]*x509.Certificate {
	return [][]*x509.Certificate{{id.Cert.Leaf, id.CA}}
}
