package app

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
)

// noted collects the rows of refusals.
type noted struct {
	*refusals
	mu   sync.Mutex
	rows []refusalRow
	at   time.Time
}

func notes() *noted {
	n := &noted{at: time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)}
	n.refusals = &refusals{
		accounts: map[string]*held{}, from: map[string]*held{}, log: slog.New(slog.DiscardHandler),
		now: func() time.Time { return n.at },
		whose: func(_ context.Context, r *identity.Refusal) (apim.TenantID, bool) {
			return apim.SuperTenant, strings.HasPrefix(r.Name, "known")
		},
		write: func(_ context.Context, row refusalRow) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.rows = append(n.rows, row)
			return nil
		},
	}
	return n
}

// tally is how many rows there are, and how many attempts they tell of.
func (n *noted) tally() (rows, attempts int) {
	for _, row := range n.rows {
		if row.action == "more refused" {
			attempts += row.after["refused"].(int) + row.after["delayed"].(int)
		} else {
			attempts++
		}
	}
	return len(n.rows), attempts
}

func TestRefusedSignInsAreBoundedAndAllCounted(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		name, addr func(i int) string
		rows       int // with the summaries
	}{
		"a few":               {func(int) string { return "known" }, func(i int) string { return fmt.Sprint(i % 2) }, 5},
		"one account":         {func(int) string { return "known" }, func(i int) string { return fmt.Sprint(i) }, refusalsOfAccount + 1},
		"one address":         {func(i int) string { return fmt.Sprint("known", i) }, func(int) string { return "10.0.0.1" }, refusalsOfAddress + 1},
		"all of them differ":  {func(i int) string { return fmt.Sprint(i) }, func(i int) string { return fmt.Sprint(i) }, refusalsPerMinute + 1},
		"letters of one name": {func(i int) string { return []string{"known", "KNOWN"}[i%2] }, func(i int) string { return fmt.Sprint(i) }, refusalsOfAccount + 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := notes()
			count := 1000
			if name == "a few" {
				count = 5
			}
			var all sync.WaitGroup
			for i := range count {
				all.Go(func() {
					n.refused(identity.Refusal{Tenant: apim.SuperTenant, Name: tt.name(i), Addr: tt.addr(i), Delayed: i%3 == 0, Cause: "c"})
				})
			}
			all.Wait()
			if len(n.accounts) > refusalsPerMinute || len(n.from) > refusalsPerMinute {
				t.Errorf("%d accounts and %d addresses are remembered", len(n.accounts), len(n.from))
			}
			n.flush()
			if rows, attempts := n.tally(); rows != tt.rows || attempts != count {
				t.Errorf("%d rows of %d attempts, want %d of %d", rows, attempts, tt.rows, count)
			}
			n.flush()
			if rows, _ := n.tally(); rows != tt.rows {
				t.Errorf("an empty minute has %d rows", rows-tt.rows)
			}
		})
	}
}

func TestADayOfGuessingHasABoundedNumberOfRows(t *testing.T) {
	t.Parallel()
	n := notes()
	n.at = n.at.Truncate(24 * time.Hour)
	guess := func(minutes int) {
		for range minutes {
			for i := range 2 * refusalsPerMinute {
				n.refused(identity.Refusal{Name: fmt.Sprint(i), Addr: fmt.Sprint(i), Cause: "c"})
			}
			n.flush()
			n.at = n.at.Add(time.Minute)
		}
	}
	guess(24 * 60)
	rows, attempts := n.tally()
	if rows != refusalsPerDay+24*60 || attempts != 24*60*2*refusalsPerMinute {
		t.Errorf("%d rows of %d attempts", rows, attempts)
	}
	guess(1)
	if more, _ := n.tally(); more-rows != refusalsPerMinute+1 {
		t.Errorf("the first minute of the next day has %d rows", more-rows)
	}
}

func TestUnknownNamesAreMasked(t *testing.T) {
	t.Parallel()
	n := notes()
	for _, name := range []string{"known", "hunter2-is-my-password", "€uro-secret", ""} {
		n.refused(identity.Refusal{Name: name, Addr: "10.0.0.1", Cause: "c"})
	}
	for range 20 {
		n.refused(identity.Refusal{Name: "hunter2-is-my-password", Addr: "10.0.0.2", Cause: "c"})
	}
	n.flush()
	want := []string{"known", "h…", "€…", "", "h…"}
	for i, row := range n.rows {
		if i < len(want) && row.object != want[i] || strings.Contains(fmt.Sprint(row), "unter") {
			t.Errorf("row %d: %+v", i, row)
		}
	}
}

// Whoever is refused, wherever they try, leaves a row, and no secret in it.
func TestRefusedSignInsAreAudited(t *testing.T) {
	r := run(t)
	admin := user("admin", "admin")
	r.want(admin, "POST", "/api/cardea/v1/users", object{"name": "alice", "password": "right-One-7391", "roles": []string{"Internal/subscriber"}})
	c := r.want(admin, "POST", "/client-registration/v0.17/register", object{
		"clientName": "shop", "owner": "admin", "grantType": "password client_credentials", "saasApp": true,
	})
	id, secret := member(c, "clientId"), member(c, "clientSecret")
	const wrong = "Wrong-pass-58213"
	token := func(as who, v url.Values) {
		t.Helper()
		if status, body := r.ask(as, "POST", "/oauth2/token", v); status < 400 {
			t.Errorf("%v: status %d %s", v, status, body)
		}
	}
	r.ask(user("alice", wrong), "GET", dev+"/applications", nil)
	token(user(id, secret), url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {wrong}})
	token(user(id, wrong), url.Values{"grant_type": {"client_credentials"}})
	r.ask(user("alice", wrong), "POST", "/client-registration/v0.17/register", object{"clientName": "x"})
	r.ask(user("no-such-person", wrong), "GET", pub+"/apis", nil)
	for range 4 { // the fifth failure begins a delay
		r.ask(user("alice", wrong), "GET", dev+"/applications", nil)
	}
	count := func(query string) (n int) {
		t.Helper()
		page := r.want(admin, "GET", "/api/cardea/v1/audits?limit=500&"+query, nil)
		rows, _ := page["list"].([]any)
		for _, row := range rows {
			if text := fmt.Sprint(row); strings.Contains(text, wrong) || strings.Contains(text, secret) {
				t.Errorf("a row holds a secret: %s", text)
			}
		}
		return len(rows)
	}
	for query, want := range map[string]int{
		"kind=sign-in&object=alice&action=refused":         5,
		"kind=sign-in&object=alice&action=delayed":         2,
		"kind=sign-in&object=no-such-person":               0,
		"kind=sign-in&object=n%E2%80%A6&action=refused":    1,
		"kind=client+sign-in&object=" + id:                 1,
		"kind=sign-in&to=2020-01-01T00:00:00Z":             0,
		"kind=sign-in&tenant=none.example":                 0,
		"kind=sign-in&from=2020-01-01T00:00:00Z&offset=8":  0,
		"kind=sign-in&who=anonymous&tenant=carbon.super":   8,
		"kind=user&action=create&who=admin":                1,
		"kind=sign-in&from=2020-01-01T00:00:00Z&who=alice": 0,
	} {
		if n := count(query); n != want {
			t.Errorf("%s: %d rows, want %d", query, n, want)
		}
	}
	for _, query := range []string{"kin=x", "from=yesterday", "kind=a&kind=b", "limit=-1"} {
		if status, body := r.ask(admin, "GET", "/api/cardea/v1/audits?"+query, nil); status != 400 {
			t.Errorf("%s: status %d %s", query, status, body)
		}
	}
	if status, _ := r.ask(user("alice", "right-One-7391"), "GET", "/api/cardea/v1/audits", nil); status != 401 {
		t.Errorf("a subscriber sees the audit: status %d", status)
	}
}
