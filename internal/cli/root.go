// Package cli is the command line: serve, and the commands that talk to a
// server. Exit codes: 0 done, 1 failed, 2 called wrongly.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Build says what the binary is.
type Build struct{ Version, Commit string }

// errUsage marks a call that could not be understood.
type errUsage struct{ error }

func (e errUsage) Unwrap() error { return e.error }

func usage(format string, args ...any) error { return errUsage{fmt.Errorf(format, args...)} }

// Main runs the command line and gives the exit code.
func Main(b Build, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args, sys, err := systemProperties(args)
	if err == nil {
		root := newRoot(b, sys)
		root.SetArgs(args)
		root.SetOut(stdout)
		root.SetErr(stderr)
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintln(stderr, "cardea: "+err.Error())
	if u, ok := errors.AsType[errUsage](err); ok {
		_ = u
		_, _ = fmt.Fprintln(stderr, "See cardea --help, or cardea COMMAND --help.")
		return 2
	}
	return 1
}

// systemProperties takes -Dx.y=v out of the arguments, which no flag parser reads.
func systemProperties(args []string) (rest []string, sys map[string]string, err error) {
	sys = map[string]string{}
	for i, a := range args {
		if a == "--" {
			return append(rest, args[i:]...), sys, nil
		}
		prop, ok := strings.CutPrefix(a, "-D")
		if !ok {
			rest = append(rest, a)
			continue
		}
		name, value, ok := strings.Cut(prop, "=")
		if !ok || name == "" {
			return nil, nil, usage("-D wants name=value, not %q", a)
		}
		sys[name] = value
	}
	return rest, sys, nil
}

func newRoot(b Build, sys map[string]string) *cobra.Command {
	root := &cobra.Command{
		Use:   "cardea",
		Short: "API management in one binary",
		Long: `Cardea publishes APIs, subscribes applications to them, hands out tokens,
guards and counts the calls. One binary holds all of it.

Start here:
  cardea serve --demo                  a server with a sample API
  cardea publish openapi.yaml          publish an API of your own
  cardea call NAME /path               subscribe, get a token, call it
  cardea stats                         what was called
  cardea explain ID                    why a call was refused`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q", args[0])
			}
			return cmd.Help()
		},
		Args: cobra.ArbitraryArgs,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return errUsage{err} })
	root.AddCommand(
		serveCommand(b, sys), versionCommand(b), backupCommand(b), restoreCommand(b), adminCommand(b), tokenCommand(), trustCommand(),
		loginCommand(), publishCommand(), callCommand(), explainCommand(), statsCommand(), nodesCommand(), auditCommand(), userCommand(),
	)
	return root
}

// exactly is cobra.ExactArgs as a usage error that names what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usage("%s wants %s", cmd.CommandPath(), strings.Join(names, " "))
		}
		return nil
	}
}

func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usage("%s takes at most %d arguments", cmd.CommandPath(), n)
		}
		return nil
	}
}

func versionCommand(b Build) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "cardea %s (%s)\n", b.Version, b.Commit)
			return err
		},
	}
}
