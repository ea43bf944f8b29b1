package gateway

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// stored knows some opaque tokens.
type stored struct {
	asked atomic.Int64
	away  atomic.Bool
	gone  atomic.Bool
}

func (s *stored) Access(_ context.Context, raw string) (*token.Claims, error) {
	s.asked.Add(1)
	time.Sleep(5 * time.Millisecond)
	now := time.Now()
	c := &token.Claims{
		Type: token.TypeAccess, Issuer: issuer, Subject: "alice", EntityID: "id-alice", ID: "jti-" + raw, Audience: []string{"key-1"}, AuthorizedParty: "key-1", ClientID: "key-1",
		Aut: token.AutUser, Scope: "default", IssuedAt: now.Add(-time.Minute), NotBefore: now.Add(-time.Minute), Expires: now.Add(time.Hour),
	}
	switch {
	case s.away.Load():
		return nil, errors.New("nobody answers")
	case s.gone.Load() || !strings.HasPrefix(raw, "good"):
		return nil, auth.ErrToken
	case raw == "good-scope":
		c.Scope = "order_read"
	case raw == "good-expired":
		c.Expires = now.Add(-time.Second)
	case raw == "good-issuer":
		c.Issuer = "https://elsewhere"
	case raw == "good-refresh":
		c.TokenType = token.KindRefresh
	case raw == "good-client":
		c.AuthorizedParty, c.ClientID = "key-9", "key-9"
	}
	return c, nil
}

func opaqueWorld(t *testing.T) (*world, *stored) {
	s := &stored{}
	return pizzeria(t, nil, func(o *Options) { o.Tokens = s }), s
}

func TestOpaqueTokens(t *testing.T) {
	t.Parallel()
	w, _ := opaqueWorld(t)
	for name, c := range map[string]struct {
		raw, path string
		status    int
	}{
		"good":              {"good", "/pizza/1.0/menu", 200},
		"with scope":        {"good-scope", "/pizza/1.0/order/1", 200},
		"without scope":     {"good", "/pizza/1.0/order/1", 403},
		"for applications":  {"good", "/pizza/1.0/app", 401},
		"unknown":           {"bad", "/pizza/1.0/menu", 401},
		"expired":           {"good-expired", "/pizza/1.0/menu", 401},
		"of another issuer": {"good-issuer", "/pizza/1.0/menu", 401},
		"a refresh token":   {"good-refresh", "/pizza/1.0/menu", 401},
		"unknown client":    {"good-client", "/pizza/1.0/menu", 403},
		"too long":          {"good" + strings.Repeat("a", 300), "/pizza/1.0/menu", 401},
	} {
		for range 2 { // the second time from memory
			if rec := w.get(c.path, bearerOf(c.raw)); rec.Code != c.status {
				t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
			}
		}
	}
}

func TestOpaqueTokensAreRememberedUntilRevoked(t *testing.T) {
	t.Parallel()
	w, s := opaqueWorld(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if rec := w.get("/pizza/1.0/menu", bearerOf("good")); rec.Code != 200 {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		})
	}
	all.Wait()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	s.away.Store(true)
	if rec := w.get("/pizza/1.0/menu", bearerOf("good")); rec.Code != 200 {
		t.Errorf("remembered: %d", rec.Code)
	}
	if rec := w.get("/pizza/1.0/menu", bearerOf("good-scope")); rec.Code != 500 || !strings.Contains(rec.Body.String(), "900900") {
		t.Errorf("not remembered: %d %s", rec.Code, rec.Body)
	}
	w.apply(false, item(t, snapshot.KindRevocation, "jti/jti-good", "", snapshot.Revocation{JTI: "jti-good", Expires: time.Now().Add(time.Hour)}))
	if rec := w.get("/pizza/1.0/menu", bearerOf("good")); rec.Code != 401 || !strings.Contains(rec.Body.String(), "900901") {
		t.Errorf("revoked: %d %s", rec.Code, rec.Body)
	}
}
