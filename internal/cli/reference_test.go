package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	referenceBegin = "<!-- commands: written by UPDATE=1 go test ./internal/cli -run Reference -->\n"
	referenceEnd   = "<!-- end of commands -->\n"
)

// The guide of the command line tells every command and flag, in the words of
// the commands themselves.
func TestReference(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "guides", "command-line.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(b), referenceBegin)
	_, tail, ok2 := strings.Cut(rest, referenceEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has lost its marks", file)
	}
	want := head + referenceBegin + reference(newRoot(Build{}, nil)) + referenceEnd + tail
	if string(b) == want {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s is not what the commands say; UPDATE=1 go test ./internal/cli -run Reference", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func reference(root *cobra.Command) string {
	var out strings.Builder
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Runnable() && c != root && c.Name() != "help" && !c.Hidden {
			fmt.Fprintf(&out, "\n## %s\n\n`%s`\n\n%s\n", c.CommandPath(), c.UseLine(), upper(c))
			if c.Example != "" {
				fmt.Fprintf(&out, "\n```sh\n%s\n```\n", unindent(c.Example))
			}
			rows, server := "", c.Flags().Lookup("server") != nil
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Name == "help" || (server && serverFlag(f.Name)) {
					return
				}
				name := "--" + f.Name
				if f.Shorthand != "" {
					name = "-" + f.Shorthand + ", " + name
				}
				def := ""
				if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" {
					def = " (default " + strings.Trim(f.DefValue, "[]") + ")"
				}
				rows += fmt.Sprintf("| `%s` | %s%s |\n", name, f.Usage, def)
			})
			if rows != "" {
				fmt.Fprintf(&out, "\n| Flag | Meaning |\n|---|---|\n%s", rows)
			}
			if server {
				out.WriteString("\nAnd the [flags that name a server](#which-server).\n")
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return out.String() + "\n"
}

// serverFlag reports whether the flag is one of those that every command to a
// server takes; the guide tells of them once.
func serverFlag(name string) bool {
	var f serverFlags
	c := &cobra.Command{}
	f.bind(c)
	return c.Flags().Lookup(name) != nil
}

func upper(c *cobra.Command) string {
	s := c.Long
	if s == "" {
		s = c.Short + "."
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func unindent(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}
