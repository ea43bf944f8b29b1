package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/client"
)

func explainCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "explain ID", Short: "tell why a call was refused", Args: exactly("ID"),
		Long: "Tells which rule, counter or claim made a decision of a gateway. The id is in the header " + decisionHeader + " of the answer.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			var d decisionView
			ask := func() error {
				d = decisionView{} // an answer leaves out what the one before had, such as its note
				return c.Do(cmd.Context(), http.MethodGet, client.Own+"/decisions/"+url.PathEscape(args[0]), nil, &d)
			}
			err = ask()
			// The details of a refusal just made are on their way.
			for range 5 {
				if err != nil || d.Stored || time.Since(d.Time) > 3*time.Second {
					break
				}
				time.Sleep(300 * time.Millisecond)
				err = ask()
			}
			if client.IsStatus(err, http.StatusNotFound) || client.IsStatus(err, http.StatusBadRequest) {
				return fmt.Errorf("%q is not a decision of this installation", args[0])
			}
			if err != nil {
				return err
			}
			return table(cmd.OutOrStdout(), d.rows())
		},
	}
	f.bind(cmd)
	return cmd
}

// decisionView is a decision as the server explains it.
type decisionView struct {
	ID          string    `json:"id"`
	Time        time.Time `json:"time"`
	Gateway     string    `json:"gateway"`
	Status      int       `json:"status"`
	Code        int       `json:"code"`
	Rule        string    `json:"rule"`
	Tenant      string    `json:"tenant"`
	API         string    `json:"api"`
	Application string    `json:"application"`
	APIName     string    `json:"apiName"`
	APIVersion  string    `json:"apiVersion"`
	namedApplication
	Meaning string            `json:"meaning"`
	Stored  bool              `json:"stored"`
	Note    string            `json:"note"`
	Details map[string]string `json:"details"`
}

func (d *decisionView) rows() [][]string {
	var out [][]string
	add := func(name, value string) {
		if value != "" && value != "0" {
			out = append(out, []string{name, value})
		}
	}
	add("rule", d.Rule)
	add("meaning", d.Meaning)
	add("status", strconv.Itoa(d.Status))
	add("code", strconv.Itoa(d.Code))
	if !d.Time.IsZero() {
		add("time", d.Time.Local().Format(time.RFC3339))
	}
	add("gateway", d.Gateway)
	add("tenant", d.Tenant)
	if d.APIName != "" {
		d.API = d.APIName + " " + d.APIVersion + ", " + d.API
	}
	add("API", d.API)
	if d.ApplicationName != "" {
		d.Application = d.application() + ", " + d.Application
	}
	add("application", d.Application)
	names := make([]string, 0, len(d.Details))
	for n := range d.Details {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		add("  "+n, d.Details[n])
	}
	add("note", d.Note)
	return out
}

// namedApplication is an application as people know it: names are unique for
// one owner only. It is empty for one that is gone.
type namedApplication struct {
	ApplicationName  string `json:"applicationName"`
	ApplicationOwner string `json:"applicationOwner"`
}

func (n namedApplication) application() string {
	return n.ApplicationName + " of " + n.ApplicationOwner
}

type latencyView struct {
	P50 uint64 `json:"p50"`
	P95 uint64 `json:"p95"`
	P99 uint64 `json:"p99"`
}

type sumsView struct {
	Key        string `json:"key"`
	APIName    string `json:"apiName"`
	APIVersion string `json:"apiVersion"`
	namedApplication
	Requests uint64      `json:"requests"`
	Errors   uint64      `json:"errors"`
	Refused  uint64      `json:"refused"`
	Gateway  latencyView `json:"gateway"`
	Backend  latencyView `json:"backend"`
}

func (s *sumsView) row(name string) []string {
	ms := func(us uint64) string { return strconv.FormatFloat(float64(us)/1000, 'f', 1, 64) }
	return []string{
		name, strconv.FormatUint(s.Requests, 10), strconv.FormatUint(s.Errors, 10), strconv.FormatUint(s.Refused, 10),
		ms(s.Gateway.P50), ms(s.Gateway.P99), ms(s.Backend.P50), ms(s.Backend.P99),
	}
}

func statsCommand() *cobra.Command {
	var f serverFlags
	var since time.Duration
	var api, by string
	cmd := &cobra.Command{
		Use: "stats", Short: "show what was called", Args: atMost(0),
		Long:    "Counts calls by API (or by application, operation, status, code), with errors and latency in milliseconds, split into gateway and backend.",
		Example: "  cardea stats\n  cardea stats --by operation --api PizzaShackAPI --since 1h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dims := []string{"api", "application", "operation", "status", "code"}
			if !slices.Contains(dims, by) {
				return usage("--by wants one of %v", dims)
			}
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			q := url.Values{"from": {time.Now().Add(-since).UTC().Format(time.RFC3339)}}
			if api != "" {
				found, err := c.API(cmd.Context(), api, "")
				if err != nil {
					return err
				}
				q.Set("api", found.ID)
			}
			var total sumsView
			if err := c.Do(cmd.Context(), http.MethodGet, client.Own+"/analytics/totals?"+q.Encode(), nil, &total); err != nil {
				return err
			}
			var groups struct {
				Groups []sumsView `json:"groups"`
			}
			q.Set("dimension", by)
			if err := c.Do(cmd.Context(), http.MethodGet, client.Own+"/analytics/by?"+q.Encode(), nil, &groups); err != nil {
				return err
			}
			rows := [][]string{{"", "CALLS", "ERRORS", "REFUSED", "GATEWAY p50", "p99", "BACKEND p50", "p99"}}
			for _, g := range groups.Groups {
				name := strings.TrimSpace(g.Key)
				if name == "" {
					name = "(none)" // a call that reached no operation, application, …
				}
				switch {
				case g.ApplicationName != "":
					name = g.application()
				case g.APIName == "":
				case by == "api":
					name = g.APIName + " " + g.APIVersion
				case by == "operation" && api == "":
					name = g.APIName + " " + g.APIVersion + " " + name
				}
				rows = append(rows, g.row(name))
			}
			return table(cmd.OutOrStdout(), append(rows, total.row("total")))
		},
	}
	f.bind(cmd)
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how far back")
	cmd.Flags().StringVar(&api, "api", "", "only this API")
	cmd.Flags().StringVar(&by, "by", "api", "group by api, application, operation, status or code")
	return cmd
}
