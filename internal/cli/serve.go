package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/cardea-apim/cardea/internal/app"
	"github.com/cardea-apim/cardea/internal/config"
)

// homeFlags name a node's home and configuration, for commands that run beside it.
type homeFlags struct {
	home, file string
	sys        map[string]string
	binary     string // version of this binary
}

func (f *homeFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.home, "home", "", "directory of everything the node owns (default $CARDEA_HOME or .cardea)")
	cmd.Flags().StringVar(&f.file, "config", "", "configuration file (default cardea.toml or deployment.toml in the home)")
}

func (f *homeFlags) dir() string {
	if f.home != "" {
		return f.home
	}
	if h := os.Getenv("CARDEA_HOME"); h != "" {
		return h
	}
	return ".cardea"
}

func (f *homeFlags) load(set map[string]string) (*config.Config, error) {
	file := f.file
	if file == "" {
		file = os.Getenv("CARDEA_CONFIG")
	}
	cfg, err := config.Load(config.Source{Home: f.dir(), File: file, Env: os.Environ(), Sys: f.sys, Set: set})
	if err != nil {
		return nil, err
	}
	cfg.Binary = f.binary
	return cfg, nil
}

func serveCommand(b Build, sys map[string]string) *cobra.Command {
	f := homeFlags{sys: sys, binary: b.Version}
	var offset, roles, listen, join, control, name string
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the server",
		Long: `Runs the server in the foreground until SIGTERM or Ctrl-C.

Without a configuration everything runs in this process, reachable from this
machine only: management APIs on https://localhost:9443, APIs on https://localhost:8243.
System properties of the original are given as -Dname=value.`,
		Example: `  cardea serve --demo
  cardea serve --home /var/lib/cardea --config deployment.toml
  cardea serve --home gw2 --offset 10 --roles gateway --join TOKEN --control https://localhost:9444`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Getenv("GOGC") == "" {
				// What lives is small. Collecting it half as often takes some megabytes
				// and gives calls the processor time.
				debug.SetGCPercent(200)
			}
			set := map[string]string{}
			for key, v := range map[string]string{
				"server.offset": offset, "cardea.roles": roles, "cardea.listen": listen,
				"cardea.node.join": join, "cardea.node.control": control, "cardea.node.name": name,
			} {
				if v != "" {
					set[key] = v
				}
			}
			cfg, err := f.load(set)
			if err != nil {
				return errUsage{fmt.Errorf("the configuration has mistakes:\n%w", err)}
			}
			cfg.Demo = demo
			return app.Serve(cmd.Context(), cfg, app.Options{Version: b.Version, Stdout: cmd.OutOrStdout(), Stderr: os.Stderr})
		},
	}
	f.bind(cmd)
	fl := cmd.Flags()
	fl.StringVar(&offset, "offset", "", "number added to every port")
	fl.StringVar(&roles, "roles", "", "parts to run: control, identity, gateway, traffic, analytics (default all)")
	fl.StringVar(&listen, "listen", "", "addresses to listen on, separated by commas (default 127.0.0.1,::1)")
	fl.StringVar(&join, "join", "", "one-time token by which this node joins others (see cardea token join)")
	fl.StringVar(&control, "control", "", "URLs of the control nodes to follow, separated by commas")
	fl.StringVar(&name, "name", "", "name of this node")
	fl.BoolVar(&demo, "demo", false, "add a sample backend, its API, an application and a user to an empty home")
	return cmd
}

// absolute is for messages.
func absolute(p string) string {
	if a, err := filepath.Abs(p); err == nil {
		return a
	}
	return p
}
