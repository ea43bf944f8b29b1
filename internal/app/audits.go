package app

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/store"
)

// AuditView is a row of the audit as /audits shows it.
type AuditView struct {
	ID      int64           `json:"id"`
	Time    time.Time       `json:"time"`
	Tenant  string          `json:"tenant"`
	Kind    string          `json:"kind"`   // of what was touched: api, user, sign-in, …
	Object  string          `json:"object"` // its id or name
	Action  string          `json:"action"`
	Who     string          `json:"who"`
	Address string          `json:"address,omitempty"`
	Before  json.RawMessage `json:"before,omitempty"` // what differs; secrets are masked
	After   json.RawMessage `json:"after,omitempty"`
}

func viewAudit(a *store.Audit) AuditView {
	return AuditView{
		ID: a.ID, Time: a.At.UTC(), Tenant: string(a.Tenant), Kind: a.Kind, Object: a.Object, Action: a.Action,
		Who: a.Who, Address: a.Addr, Before: a.Before, After: a.After,
	}
}

// auditFilters are the parameters that a column must equal.
var auditFilters = []string{"kind", "object", "action", "who"}

// listAudits shows the audit of all tenants or of one, newest first.
func (a *App) listAudits(w http.ResponseWriter, r *http.Request) error {
	vals, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fault.BadRequest.With("the query is malformed")
	}
	scope := apim.Across(apim.Platform)
	var where []apim.Cond
	for name, v := range vals {
		switch {
		case len(v) > 1:
			return fault.BadRequest.Withf("parameter %.64q is given more than once", name)
		case name == "limit" || name == "offset":
		case name == "tenant":
			if v[0] != "" {
				scope = apim.In(apim.TenantID(v[0]))
			}
		case name == "from" || name == "to":
			at, err := time.Parse(time.RFC3339, v[0])
			if err != nil || at.Year() < 1971 || at.Year() > 9999 {
				return fault.BadRequest.Withf("parameter %s is a time such as 2026-01-31T12:00:00Z", name)
			}
			c := apim.Cond{Col: "at", Op: apim.Lt, Value: at}
			if name == "from" {
				c = apim.Cond{Col: "at", Op: apim.Gt, Value: at.Add(-time.Microsecond)}
			}
			where = append(where, c)
		case slices.Contains(auditFilters, name):
			where = append(where, apim.Cond{Col: name, Op: apim.Eq, Value: v[0]})
		default:
			return fault.BadRequest.Withf("unknown parameter %.64q", name)
		}
	}
	return list(w, r, "", viewAudit, func(ctx context.Context, q apim.Query) (apim.Page[store.Audit], error) {
		q.Where = where
		return a.db.Audits(ctx, scope, q)
	})
}
