package cli

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/app"
	"github.com/cardea-apim/cardea/internal/client"
)

const usersPath = client.Own + "/users"

// newPassword is the variable from which a new user's password is read;
// CARDEA_PASSWORD is the caller's own.
const newPassword = "CARDEA_NEW_PASSWORD"

func userCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "user", Short: "list, add, change and delete users",
		Long: `Users of a server. NAME is a user of the platform's own tenant, NAME@DOMAIN one
of another. Roles that open something: admin, Internal/creator, Internal/publisher,
Internal/subscriber, Internal/devops, Internal/observer, Internal/analytics.`,
	}
	cmd.AddCommand(userList(), userAdd(), userRoles(), userDelete())
	return cmd
}

func userList() *cobra.Command {
	var f serverFlags
	var tenant string
	cmd := &cobra.Command{
		Use: "list", Short: "list users and their roles", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			rows := [][]string{{"NAME", "STATE", "ROLES"}}
			path := usersPath + "?limit=500&tenant=" + url.QueryEscape(tenant)
			for path != "" {
				var page struct {
					List       []app.UserView
					Pagination struct{ Next string }
				}
				if err := c.Do(cmd.Context(), http.MethodGet, path, nil, &page); err != nil {
					return err
				}
				for _, u := range page.List {
					state := "active"
					if u.Locked {
						state = "locked"
					}
					rows = append(rows, []string{u.Name, state, strings.Join(u.Roles, ",")})
				}
				path = nextPage(page.Pagination.Next)
			}
			return table(cmd.OutOrStdout(), rows)
		},
	}
	f.bind(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", "", "users of this tenant (default: the platform's own)")
	return cmd
}

// nextPage keeps the query of a link to the next page: the path is known.
func nextPage(link string) string {
	_, query, ok := strings.Cut(link, "?")
	if !ok {
		return ""
	}
	return usersPath + "?" + query
}

func userAdd() *cobra.Command {
	var f serverFlags
	var roles []string
	cmd := &cobra.Command{
		Use: "add NAME", Short: "add a user", Args: exactly("NAME"),
		Long: "Adds a user. The password is read from $" + newPassword + ", or generated and printed.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			password, shown := os.Getenv(newPassword), "(from "+newPassword+")"
			if password == "" {
				password = strings.ToLower(rand.Text())
				shown = password
			}
			var u app.UserView
			in := map[string]any{"name": args[0], "password": password, "roles": roles}
			if err := c.Do(cmd.Context(), http.MethodPost, usersPath, in, &u); err != nil {
				return fmt.Errorf("add user: %w", err)
			}
			return table(cmd.OutOrStdout(), [][]string{{"user", u.Name}, {"password", shown}, {"roles", strings.Join(u.Roles, ",")}})
		},
	}
	f.bind(cmd)
	cmd.Flags().StringSliceVar(&roles, "roles", []string{"Internal/subscriber"}, "roles of the user, separated by commas")
	return cmd
}

func userRoles() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "roles NAME ROLE,...", Short: "replace the roles of a user", Args: exactly("NAME", "ROLE,..."),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			roles := strings.FieldsFunc(args[1], func(r rune) bool { return r == ',' || r == ' ' })
			var u app.UserView
			if err := c.Do(cmd.Context(), http.MethodPatch, usersPath+"/"+url.PathEscape(args[0]), map[string]any{"roles": roles}, &u); err != nil {
				return fmt.Errorf("change roles: %w", err)
			}
			return table(cmd.OutOrStdout(), [][]string{{"user", u.Name}, {"roles", strings.Join(u.Roles, ",")}})
		},
	}
	f.bind(cmd)
	return cmd
}

func userDelete() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "delete NAME...", Short: "delete users and end their tokens",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("cardea user delete wants NAME")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			var errs []error
			for _, name := range args {
				if err := c.Do(cmd.Context(), http.MethodDelete, usersPath+"/"+url.PathEscape(name), nil, nil); err != nil {
					errs = append(errs, fmt.Errorf("delete %s: %w", name, err))
					continue
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), "deleted", name); err != nil {
					errs = append(errs, err)
				}
			}
			return errors.Join(errs...)
		},
	}
	f.bind(cmd)
	return cmd
}
