package cli

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/app"
	"github.com/cardea-apim/cardea/internal/client"
)

func auditCommand() *cobra.Command {
	var f serverFlags
	var since time.Duration
	var limit int
	filter := map[string]*string{}
	cmd := &cobra.Command{
		Use: "audit", Short: "show who changed what, and whose sign-in was refused", Args: atMost(0),
		Long:    "Lists the audit, newest first, for administrators of the platform. What was changed is in /api/cardea/v1/audits.",
		Example: "  cardea audit --kind sign-in --since 1h\n  cardea audit --who alice",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > 5000 {
				return usage("--limit is a number from 1 to 5000")
			}
			q := url.Values{"from": {time.Now().Add(-since).UTC().Format(time.RFC3339)}, "limit": {strconv.Itoa(limit)}}
			for name, v := range filter {
				if *v != "" {
					q.Set(name, *v)
				}
			}
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			var page struct{ List []app.AuditView }
			if err := c.Do(cmd.Context(), http.MethodGet, client.Own+"/audits?"+q.Encode(), nil, &page); err != nil {
				return err
			}
			rows := [][]string{{"TIME", "WHO", "FROM", "ACTION", "KIND", "OBJECT"}}
			for _, a := range page.List {
				object := a.Object
				if a.Tenant != "carbon.super" {
					object += " in " + a.Tenant
				}
				rows = append(rows, []string{a.Time.Local().Format(time.RFC3339), a.Who, a.Address, a.Action, a.Kind, object})
			}
			return table(cmd.OutOrStdout(), rows)
		},
	}
	f.bind(cmd)
	cmd.Flags().DurationVar(&since, "since", 24*time.Hour, "how far back")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many rows")
	for name, text := range map[string]string{
		"kind": "only of this kind, such as sign-in, user, api", "object": "only of this object", "action": "only this action",
		"who": "only by this user", "tenant": "only of this tenant",
	} {
		filter[name] = cmd.Flags().String(name, "", text)
	}
	return cmd
}
