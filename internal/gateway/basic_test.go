package gateway

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/auth"
	"github.com/cardea-apim/cardea/internal/snapshot"
)

// directory knows alice (carbon.super, role cook) and zoe (shop.com).
type directory struct {
	asked   atomic.Int64
	away    atomic.Bool
	changed atomic.Bool // alice's password is another one
}

func (d *directory) Person(_ context.Context, login, password string, from netip.Addr) (*auth.Person, error) {
	d.asked.Add(1)
	time.Sleep(5 * time.Millisecond)
	switch {
	case d.away.Load():
		return nil, errors.New("nobody answers")
	case from.String() != "192.0.2.7":
		return nil, errors.New("not told where the caller is")
	case login == "alice" && password == "pass:word" && !d.changed.Load():
		return &auth.Person{ID: "id-alice", Name: "alice", Tenant: tenant, Roles: []string{"Internal/everyone", "Cook"}}, nil
	case login == "zoe@shop.com" && password == "x":
		return &auth.Person{ID: "id-zoe", Name: "zoe", Tenant: "shop.com"}, nil
	case login == "mallory":
		return nil, auth.ErrDelayed
	}
	return nil, auth.ErrPassword
}

func basicOf(login, password string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(login+":"+password))
}

func basicWorld(t *testing.T) (*world, *directory) {
	d := &directory{}
	return pizzeria(t, func(a *snapshot.API) {
		a.Security.Basic = true
		a.ScopeRoles = map[string][]string{"order_read": {"waiter"}, "admin": {"cook", "boss"}, "boss": {"boss"}, "free": nil}
		a.Operations = append(a.Operations, snapshot.Operation{Target: "/boss", Verb: "GET", Auth: "Any", Scopes: []string{"boss"}},
			snapshot.Operation{Target: "/free", Verb: "GET", Auth: "Any", Scopes: []string{"boss", "free"}})
	}, func(o *Options) { o.Directory = d }), d
}

func TestBasicAuthentication(t *testing.T) {
	t.Parallel()
	w, _ := basicWorld(t)
	for name, c := range map[string]struct {
		path, header string
		status       int
		body         string
	}{
		"right password":             {"/menu", basicOf("alice", "pass:word"), 200, ""},
		"among other schemes":        {"/menu", "Authorization: Digest x, " + strings.TrimPrefix(basicOf("alice", "pass:word"), "Authorization: "), 200, ""},
		"scope by role":              {"/order/1", basicOf("alice", "pass:word"), 200, ""},
		"scope of another role":      {"/boss", basicOf("alice", "pass:word"), 403, "900910"},
		"scope of no role":           {"/free", basicOf("alice", "pass:word"), 200, ""},
		"wrong password":             {"/menu", basicOf("alice", "nope"), 401, "900901"},
		"unknown user":               {"/menu", basicOf("bob", "x"), 401, "900901"},
		"after too many failures":    {"/menu", basicOf("mallory", "x"), 401, "900901"},
		"user of another tenant":     {"/menu", basicOf("zoe@shop.com", "x"), 403, "900908"},
		"not base64":                 {"/menu", "Authorization: Basic ///", 401, "900901"},
		"no colon":                   {"/menu", "Authorization: Basic YWxpY2U=", 401, "900901"},
		"neither password nor token": {"/menu", "X: y", 401, "900902"},
	} {
		rec := w.get("/pizza/1.0"+c.path, c.header)
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.body) {
			t.Errorf("%s: %d %s, want %d %s", name, rec.Code, rec.Body, c.status, c.body)
		}
		if rec.Code == 200 && strings.Contains(rec.Body.String(), "pass") {
			t.Errorf("%s: the backend was sent the password: %s", name, rec.Body)
		}
	}
	if last := w.get("/pizza/1.0/menu", basicOf("alice", "pass:word")); last.Header().Get("RateLimit-Policy") == "" {
		t.Error("calls by password have no quota")
	}
}

func TestBasicAsksOnceAndForgetsWhatWasRevoked(t *testing.T) {
	t.Parallel()
	w, d := basicWorld(t)
	good := basicOf("alice", "pass:word")
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if rec := w.get("/pizza/1.0/menu", good); rec.Code != 200 {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		})
	}
	wg.Wait()
	if n := d.asked.Load(); n != 1 {
		t.Errorf("the identity role was asked %d times for the same password", n)
	}
	d.away.Store(true)
	if rec := w.get("/pizza/1.0/menu", good); rec.Code != 200 {
		t.Errorf("remembered while the identity role is away: %d", rec.Code)
	}
	if rec := w.get("/pizza/1.0/menu", basicOf("alice", "other")); rec.Code != 500 || !strings.Contains(rec.Body.String(), "900900") {
		t.Errorf("not remembered while it is away: %d %s", rec.Code, rec.Body)
	}
	d.away.Store(false)
	d.changed.Store(true)
	w.apply(false, item(t, snapshot.KindRevocation, "sub/id-alice", "", snapshot.Revocation{
		Entity: "id-alice", NotBefore: time.Now(), Expires: time.Now().Add(time.Hour),
	}))
	if rec := w.get("/pizza/1.0/menu", good); rec.Code != 401 {
		t.Errorf("the old password still opens: %d", rec.Code)
	}
}
