package app

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/identity"
)

// refusals writes refused sign-ins into the audit. So that nobody can fill the
// disk by guessing, a minute has a bounded number of rows for one account, one
// address and altogether, and so has a day; what is beyond is counted, and each
// of them has one row with the count at the end of the minute.
type refusals struct {
	write func(ctx context.Context, row refusalRow) error
	// whose finds the tenant whose audit has the row, and whether there is such
	// an account.
	whose func(ctx context.Context, r *identity.Refusal) (tenant apim.TenantID, known bool)
	log   *slog.Logger
	now   func() time.Time

	mu             sync.Mutex
	day            time.Time
	today          int // rows of this day
	all            held
	accounts, from map[string]*held // of this minute
}

// Rows of one minute, and of one day.
const (
	refusalsOfAccount = 8 // more than the failures that a delay begins with
	refusalsOfAddress = 15
	refusalsPerMinute = 30
	refusalsPerDay    = 5000
	refusalWindow     = time.Minute
)

// held is what one account, one address or the whole had in this minute.
type held struct {
	rows             int // written
	refused, delayed int // only counted
	first, last      time.Time
	like             refusalRow // tenant, kind, object and address of the summary
}

// refusalRow is one row of the audit.
type refusalRow struct {
	tenant               apim.TenantID
	kind, object, action string
	addr                 string
	after                map[string]any
}

func newRefusals(a *App) *refusals {
	return &refusals{
		log: a.log, now: time.Now, accounts: map[string]*held{}, from: map[string]*held{}, whose: a.whose,
		write: func(ctx context.Context, row refusalRow) error {
			ctx = apim.WithActor(ctx, &apim.Actor{User: "anonymous", Tenant: row.tenant, Addr: row.addr})
			return a.db.Audit(ctx, apim.In(row.tenant), row.kind, row.object, row.action, nil, row.after)
		},
	}
}

// whose belongs to refusals: an unknown user of an unknown tenant, and an
// unknown client, are the platform's affair.
func (a *App) whose(ctx context.Context, r *identity.Refusal) (apim.TenantID, bool) {
	if r.Client {
		c, err := a.db.Clients.Get(ctx, apim.Across(apim.Platform), apim.ClientID(r.Name))
		if err != nil {
			return apim.SuperTenant, false
		}
		return c.Tenant, true
	}
	if _, err := a.people.directory.User(ctx, r.Tenant, r.Name); err == nil {
		return r.Tenant, true
	}
	if _, err := a.people.directory.Tenant(ctx, r.Tenant); err != nil {
		return apim.SuperTenant, false
	}
	return r.Tenant, false
}

// refused is identity.Options.Refused.
func (s *refusals) refused(r identity.Refusal) {
	account := strings.ToLower(r.Name) + "@" + string(r.Tenant)
	now := s.now()
	if !s.admit(&r, account, now) {
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second) // whatever became of the request
	defer stop()
	row := refusalRow{kind: "sign-in", action: "refused", addr: r.Addr, after: map[string]any{"cause": r.Cause}}
	if r.Client {
		row.kind = "client sign-in"
	}
	if r.Delayed {
		row.action = "delayed"
	}
	var known bool
	row.tenant, known = s.whose(ctx, &r)
	row.object = r.Name
	if !known {
		// People type passwords where the name belongs.
		row.object = masked(r.Name)
		row.after["account"] = "unknown"
	}
	s.mu.Lock()
	for key, h := range map[string]*held{"a": s.accounts[account], "i": s.from[r.Addr]} {
		if h == nil {
			continue // a minute ended meanwhile
		}
		h.like = refusalRow{tenant: apim.SuperTenant, kind: row.kind, addr: r.Addr}
		if key == "a" {
			h.like = refusalRow{tenant: row.tenant, kind: row.kind, object: row.object}
		}
	}
	s.mu.Unlock()
	s.put(ctx, row)
}

// admit tells whether there is room for a row, and counts the attempt otherwise.
func (s *refusals) admit(r *identity.Refusal, account string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if today := now.UTC().Truncate(24 * time.Hour); !today.Equal(s.day) {
		s.day, s.today = today, 0
	}
	byAccount, byAddr := s.accounts[account], s.from[r.Addr]
	switch {
	case byAccount != nil && byAccount.rows >= refusalsOfAccount:
		byAccount.count(r, now)
		return false
	case byAddr != nil && byAddr.rows >= refusalsOfAddress:
		byAddr.count(r, now)
		return false
	case s.all.rows >= refusalsPerMinute || s.today >= refusalsPerDay:
		s.all.count(r, now)
		return false
	}
	// Made for what has a row only, and so as bounded as the rows.
	if byAccount == nil {
		byAccount = &held{}
		s.accounts[account] = byAccount
	}
	if byAddr == nil {
		byAddr = &held{}
		s.from[r.Addr] = byAddr
	}
	byAccount.rows++
	byAddr.rows++
	s.all.rows++
	s.today++
	return true
}

func (h *held) count(r *identity.Refusal, now time.Time) {
	if h.refused+h.delayed == 0 {
		h.first = now
	}
	h.last = now
	if r.Delayed {
		h.delayed++
	} else {
		h.refused++
	}
}

// summary is the row for what was only counted; false if there was nothing.
func (h *held) summary() (refusalRow, bool) {
	row := h.like
	if row.tenant == "" {
		row.tenant, row.kind = apim.SuperTenant, "sign-in"
	}
	row.action = "more refused"
	row.after = map[string]any{"refused": h.refused, "delayed": h.delayed, "from": h.first.UTC(), "to": h.last.UTC()}
	return row, h.refused+h.delayed > 0
}

// flush ends the minute: it writes the counts and begins anew.
func (s *refusals) flush() {
	s.mu.Lock()
	all, accounts, from := s.all, s.accounts, s.from
	s.all, s.accounts, s.from = held{}, map[string]*held{}, map[string]*held{}
	s.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	for _, m := range []map[string]*held{accounts, from, {"": &all}} {
		for _, h := range m {
			if row, some := h.summary(); some {
				s.put(ctx, row)
			}
		}
	}
}

func (s *refusals) put(ctx context.Context, row refusalRow) {
	if err := s.write(ctx, row); err != nil {
		s.log.ErrorContext(ctx, "refused sign-in not audited", "kind", row.kind, "object", row.object, "from", row.addr, "err", err)
	}
}

// run writes the counts each minute, and the last of them when the process ends.
func (s *refusals) run(ctx context.Context) error {
	t := time.NewTicker(refusalWindow)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			s.flush()
			return nil
		case <-t.C:
			s.flush()
		}
	}
}

// masked leaves enough of a text to recognise it when one knows it.
func masked(s string) string {
	if s == "" {
		return ""
	}
	_, n := utf8.DecodeRuneInString(s)
	return s[:n] + "…"
}
