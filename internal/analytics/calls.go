package analytics

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/usage"
)

// CallQuery selects raw calls. Raw calls are a sample when gateways had to drop
// some; counts come from Totals, Series and By.
type CallQuery struct {
	Query
	User   string
	ID     string // decision or correlation id
	Limit  int    // [50], at most 500
	Cursor string // Next of the page before
}

// CallView is one raw call as the request explorer shows it; durations in microseconds.
type CallView struct {
	Time        time.Time `json:"time"`
	ID          string    `json:"id"`
	API         string    `json:"api,omitempty"`
	APIName     string    `json:"apiName,omitempty"`
	APIVersion  string    `json:"apiVersion,omitempty"`
	Application string    `json:"application,omitempty"`
	// Name and owner as they are now; empty when the application is gone.
	ApplicationName  string `json:"applicationName,omitempty"`
	ApplicationOwner string `json:"applicationOwner,omitempty"`

	User      string `json:"user,omitempty"`
	Operation string `json:"operation,omitempty"`
	Verb      string `json:"verb,omitempty"`
	Path      string `json:"path,omitempty"`
	Status    int    `json:"status"`
	Code      int    `json:"code,omitempty"`
	KeyType   string `json:"keyType,omitempty"`
	Gateway   int64  `json:"gateway"`
	Backend   int64  `json:"backend"`
	BytesIn   int64  `json:"bytesIn"`
	BytesOut  int64  `json:"bytesOut"`
	Client    string `json:"client,omitempty"`
	UserAgent string `json:"userAgent,omitempty"`
}

// Calls is a page of raw calls, newest first.
type Calls struct {
	Range
	Calls []CallView `json:"calls"`
	Next  string     `json:"next,omitempty"` // cursor of the next page; empty on the last
}

// Calls lists raw calls.
func (d *DB) Calls(ctx context.Context, q CallQuery) (*Calls, error) {
	if q.Limit <= 0 {
		q.Limit = 50
	}
	q.Limit = min(q.Limit, 500)
	q.Environment = "" // not part of a raw call
	cond, args := q.where()
	cond, args = cond+" AND d.time >= ? AND d.time < ?", append(args, q.From.UnixMicro(), q.To.UnixMicro())
	for _, c := range []struct{ col, val string }{{"user", q.User}, {"ref", q.ID}} {
		if c.val != "" {
			cond, args = cond+" AND d."+c.col+" = ?", append(args, c.val)
		}
	}
	if q.Cursor != "" {
		at, id, err := parseCursor(q.Cursor)
		if err != nil {
			return nil, err
		}
		cond, args = cond+" AND (d.time, d.id) < (?, ?)", append(args, at, id)
	}
	rows, err := d.read.QueryContext(ctx, `SELECT id, time, ref, api, api_name, api_version, application, user, operation, verb, path,
		status, code, key_type, gateway, backend, bytes_in, bytes_out, client, agent
		FROM call d WHERE `+cond+` ORDER BY d.time DESC, d.id DESC LIMIT ?`, append(args, q.Limit+1)...)
	if err != nil {
		return nil, fmt.Errorf("query calls: %w", err)
	}
	defer rows.Close()
	out := &Calls{Range: Range{q.From.UTC(), q.To.UTC()}, Calls: make([]CallView, 0, q.Limit)}
	var id, at int64
	for rows.Next() {
		if len(out.Calls) == q.Limit {
			out.Next = strconv.FormatInt(at, 10) + "." + strconv.FormatInt(id, 10)
			break
		}
		var v CallView
		if err := rows.Scan(&id, &at, &v.ID, &v.API, &v.APIName, &v.APIVersion, &v.Application, &v.User, &v.Operation, &v.Verb, &v.Path,
			&v.Status, &v.Code, &v.KeyType, &v.Gateway, &v.Backend, &v.BytesIn, &v.BytesOut, &v.Client, &v.UserAgent); err != nil {
			return nil, fmt.Errorf("query calls: %w", err)
		}
		v.Time = time.UnixMicro(at).UTC()
		out.Calls = append(out.Calls, v)
	}
	return out, rows.Err()
}

func parseCursor(s string) (at, id int64, err error) {
	a, b, ok := strings.Cut(s, ".")
	at, err1 := strconv.ParseInt(a, 10, 64)
	id, err2 := strconv.ParseInt(b, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, fault.BadRequest.With("cursor is not one that was given out")
	}
	return at, id, nil
}

// Explanation tells why the gateway refused a call. What the id itself says is
// always there; Details only when Stored.
type Explanation struct {
	ID          string    `json:"id"`
	Time        time.Time `json:"time"`
	Gateway     string    `json:"gateway"`
	Status      int       `json:"status"`
	Code        int       `json:"code"`
	Rule        string    `json:"rule"`
	Meaning     string    `json:"meaning"`
	Tenant      string    `json:"tenant,omitempty"`
	API         string    `json:"api,omitempty"`
	Application string    `json:"application,omitempty"`
	// Names as they are now; empty for what is gone.
	APIName          string `json:"apiName,omitempty"`
	APIVersion       string `json:"apiVersion,omitempty"`
	ApplicationName  string `json:"applicationName,omitempty"`
	ApplicationOwner string `json:"applicationOwner,omitempty"`

	Details map[string]string `json:"details,omitempty"`
	Stored  bool              `json:"stored"`
	Note    string            `json:"note,omitempty"`
}

// Explain opens a decision id. Errors: fault.BadRequest for what is no decision
// id, fault.Missing for one that another installation made.
func (d *DB) Explain(ctx context.Context, id string) (*Explanation, error) {
	f, err := usage.OpenDecision(d.o.DecisionKey, id)
	switch {
	case errors.Is(err, usage.ErrDecisionSeal):
		return nil, fault.Missing.With("this decision was not made by this installation")
	case err != nil:
		return nil, fault.BadRequest.With("this is not a decision id").Because(err)
	}
	x := &Explanation{ID: id, Time: f.Time, Gateway: f.Gateway, Status: f.Status, Code: f.Code, Rule: f.Rule, Tenant: f.Tenant, API: f.API}
	var doc string
	err = d.read.QueryRowContext(ctx, `SELECT doc FROM decision WHERE ref = ?`, id).Scan(&doc)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		x.Note = "The details of this decision are not stored: they have not arrived yet, were sampled out, or are older than what is kept. The id itself tells the rule."
	case err != nil:
		return nil, fmt.Errorf("look up decision: %w", err)
	default:
		var s usage.Decision
		if err := json.Unmarshal([]byte(doc), &s); err != nil {
			return nil, fmt.Errorf("read decision: %w", err)
		}
		x.Stored, x.Details, x.Application = true, s.Details, s.Application
	}
	x.Meaning = x.meaning()
	return x, nil
}

func (x *Explanation) meaning() string {
	s := ruleMeaning(x.Rule, x.Code)
	if l := x.Details["limit"]; l != "" {
		s += fmt.Sprintf(" Policy %s allows %s %s per %s", x.Details["policy"], l, x.Details["unit"], shortly(x.Details["window"]))
		if r := x.Details["reset"]; r != "" {
			s += ", again from " + r
		}
		s += "."
	}
	return s
}

// shortly leaves out the empty parts of a duration: 24h0m0s is 24h.
func shortly(d string) string {
	if short, ok := strings.CutSuffix(d, "m0s"); ok {
		d = short + "m"
	}
	if short, ok := strings.CutSuffix(d, "h0m"); ok {
		d = short + "h"
	}
	return d
}

// shown are the details that an application's owner may see: what was asked of
// the caller, not who the caller was or how the inside is made.
var shown = []string{"level", "policy", "limit", "unit", "window", "reset", "required", "state", "cause", "keytype"}

// redact leaves what an application's owner may see.
func (x *Explanation) redact() {
	kept := map[string]string{}
	for _, k := range shown {
		if v, ok := x.Details[k]; ok {
			kept[k] = v
		}
	}
	x.Details, x.Gateway = kept, ""
	x.Meaning = ruleMeaning(x.Rule, x.Code)
}

func (v *CallView) redact() { v.User, v.Client, v.UserAgent = "", "", "" }
