// Command cardea is the whole product: the server and the commands that talk to one.
package main

import (
	"os"

	"github.com/cardea-apim/cardea/internal/cli"
)

// Set by the linker.
var (
	version = "dev"
	commit  = "unknown"
)

func main() {
	os.Exit(cli.Main(cli.Build{Version: version, Commit: commit}, os.Args[1:], os.Stdout, os.Stderr))
}
