package cli

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/app"
	"github.com/cardea-apim/cardea/internal/client"
)

// caFile is where a home keeps the certificate of its authority.
func caFile(home string) string { return app.CAFile(home) }

func backupCommand(b Build) *cobra.Command {
	f := homeFlags{binary: b.Version}
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "write everything a node owns to one file, also while it serves",
		Long: `Writes the database, the master key and the certificates of the home to one
file (- for standard output). It holds secrets: keep it like a key. Analytics
are not part of it.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, err := f.load(nil)
			if err != nil {
				return errUsage{err}
			}
			if args[0] == "-" {
				return app.Backup(cmd.Context(), cfg, cmd.OutOrStdout())
			}
			tmp, err := os.CreateTemp(filepath.Dir(args[0]), ".backup-*")
			if err != nil {
				return fmt.Errorf("write backup: %w", err)
			}
			defer os.Remove(tmp.Name())
			err = app.Backup(cmd.Context(), cfg, tmp)
			if err = errors.Join(err, tmp.Chmod(0o600), tmp.Sync(), tmp.Close()); err != nil {
				return err
			}
			if err := os.Rename(tmp.Name(), args[0]); err != nil {
				return fmt.Errorf("write backup: %w", err)
			}
			st, err := os.Stat(args[0])
			if err != nil {
				return fmt.Errorf("write backup: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s, %d bytes\n", args[0], st.Size())
			return err
		},
	}
	f.bind(cmd)
	return cmd
}

func restoreCommand(b Build) *cobra.Command {
	f := homeFlags{binary: b.Version}
	var yes bool
	o := app.RestoreOptions{Version: b.Version}
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "replace the state of a node by a backup, also while it serves",
		Long: `Replaces the database by the one of the backup (- for standard input). On an
empty home the master key and the certificates come from the backup too; on
another home the keys must be the same. The backup is read whole before anything
is changed.

A server that serves from the home takes the backup over by itself: it makes the
new database beside the old one, drains, and starts again in place, which pauses
it for some seconds. Gateways elsewhere serve on and take the restored state over.`,
		Example: `  cardea restore --home /var/lib/cardea --yes backup.tgz`,
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := f.load(nil)
			if err != nil {
				return errUsage{err}
			}
			if !yes {
				return usage("restore replaces everything in %s: repeat with --yes", absolute(f.dir()))
			}
			r := cmd.InOrStdin()
			if args[0] != "-" {
				file, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("read backup: %w", err)
				}
				defer file.Close()
				r = file
			}
			o.Served = func() {
				_, _ = fmt.Fprintln(cmd.ErrOrStderr(), "the backup is whole; the server prepares it and starts again") // only progress
			}
			done, err := app.Restore(cmd.Context(), cfg, r, o)
			if err != nil {
				return err
			}
			what := fmt.Sprintf("restored the state of %s as version %s", done.Made.Local().Format(time.DateTime), done.Version)
			if done.Served && done.Pause > 0 {
				what += fmt.Sprintf("; the server was not ready for %s", done.Pause.Round(10*time.Millisecond))
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), what)
			return err
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().DurationVar(&o.Timeout, "timeout", 5*time.Minute, "how long to wait until a server that serves from the home has restored it")
	return cmd
}

func adminCommand(b Build) *cobra.Command {
	cmd := &cobra.Command{Use: "admin", Short: "administer a node from its own machine"}
	f := homeFlags{binary: b.Version}
	var user string
	reset := &cobra.Command{
		Use:   "reset-password",
		Short: "give a user a new password, on the node itself",
		Long:  "Writes a new password into the database of the home, also while the node serves. The password is read from $CARDEA_PASSWORD, or generated and printed.",
		Args:  atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.load(nil)
			if err != nil {
				return errUsage{err}
			}
			password, err := app.ResetPassword(cmd.Context(), cfg, user, os.Getenv("CARDEA_PASSWORD"))
			if err != nil {
				return err
			}
			if os.Getenv("CARDEA_PASSWORD") != "" {
				password = "(from CARDEA_PASSWORD)"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "user      %s\npassword  %s\n", user, password)
			return err
		},
	}
	f.bind(reset)
	reset.Flags().StringVar(&user, "user", "admin", "whose password")
	cmd.AddCommand(reset)
	return cmd
}

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "make tokens"}
	var f serverFlags
	var roles []string
	join := &cobra.Command{
		Use: "join", Short: "make a one-time token by which another node joins", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			var out struct {
				Token   string `json:"token"`
				Control string `json:"control"`
			}
			err = c.Do(cmd.Context(), http.MethodPost, client.Own+"/nodes/tokens", map[string]any{"roles": roles}, &out)
			if err != nil {
				return fmt.Errorf("make token: %w", err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", out.Token)
			if err == nil {
				_, err = fmt.Fprintf(cmd.ErrOrStderr(), "valid once, for a day; on the other machine:\n  cardea serve --roles %s --join %s --control %s\n",
					strings.Join(roles, ","), out.Token, out.Control)
			}
			return err
		},
	}
	f.bind(join)
	join.Flags().StringSliceVar(&roles, "roles", []string{"gateway"}, "what the node may do")
	cmd.AddCommand(join)
	return cmd
}

func trustCommand() *cobra.Command {
	var f homeFlags
	var install bool
	cmd := &cobra.Command{
		Use: "trust", Short: "show or install the certificate authority of a home", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			name := absolute(caFile(f.dir()))
			if _, err := os.Stat(name); err != nil {
				return fmt.Errorf("there is no certificate authority in %s; it is made at the first start", absolute(f.dir()))
			}
			if !install {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), name)
				return err
			}
			return installCA(cmd, name)
		},
	}
	f.bind(cmd)
	cmd.Flags().BoolVar(&install, "install", false, "install it in this machine's list of trusted authorities (needs root)")
	return cmd
}

func installCA(cmd *cobra.Command, name string) error {
	var run []string
	switch runtime.GOOS {
	case "linux":
		pem, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read certificate: %w", err)
		}
		target, update := "/usr/local/share/ca-certificates/cardea.crt", []string{"update-ca-certificates"}
		if _, err := os.Stat("/etc/pki/ca-trust/source/anchors"); err == nil {
			target, update = "/etc/pki/ca-trust/source/anchors/cardea.pem", []string{"update-ca-trust"}
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("install certificate: %w", err)
		}
		if err := os.WriteFile(target, pem, 0o644); err != nil {
			return fmt.Errorf("install certificate: %w", err)
		}
		run = update
	case "darwin":
		run = []string{"security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", "/Library/Keychains/System.keychain", name}
	default:
		return fmt.Errorf("install %s by hand: this system is not known", name)
	}
	out, err := exec.CommandContext(cmd.Context(), run[0], run[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("install certificate: %s: %w: %s", run[0], err, strings.TrimSpace(string(out)))
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), "installed", name)
	return err
}

func nodesCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "nodes", Short: "list the nodes and the version each gateway runs", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			var out struct {
				Version  string         `json:"version"`
				Nodes    []app.NodeView `json:"nodes"`
				Warnings []string       `json:"warnings"`
			}
			if err := c.Do(cmd.Context(), http.MethodGet, client.Own+"/nodes", nil, &out); err != nil {
				return err
			}
			rows := [][]string{{"GATEWAY", "STATE", "VERSION", "ENVIRONMENTS", "FAILED"}}
			for _, n := range out.Nodes {
				rows = append(rows, []string{n.Name, n.State, n.Version, strings.Join(n.Environments, ","), strings.Join(n.Failed, "; ")})
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "head %s\n", out.Version); err != nil {
				return err
			}
			if err := table(cmd.OutOrStdout(), rows); err != nil {
				return err
			}
			var warnings []string
			told := map[string]bool{} // a gateway in the control process says the same
			for _, n := range out.Nodes {
				for _, s := range n.Warnings {
					told[s] = true
					warnings = append(warnings, "warning: "+n.Name+": "+s)
				}
			}
			for _, s := range out.Warnings {
				if !told[s] {
					warnings = append(warnings, "warning: "+s)
				}
			}
			for _, s := range warnings {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), s); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f.bind(cmd)
	cmd.AddCommand(removeNodeCommand())
	return cmd
}

func removeNodeCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "withdraw the certificates of a node that joined", Args: exactly("NAME"),
		Long: `Control nodes refuse the node from now on, and end its connections within a
second. A gateway serves on by what it knows until it is stopped; a later start
is refused. The node can join again with a new token and an empty home.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := f.connect(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			if err := c.Do(cmd.Context(), http.MethodDelete, client.Own+"/nodes/"+url.PathEscape(args[0]), nil, nil); err != nil {
				if client.IsStatus(err, http.StatusNotFound) {
					return fmt.Errorf("no node %s has joined", args[0])
				}
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "removed", args[0])
			return err
		},
	}
	f.bind(cmd)
	return cmd
}
