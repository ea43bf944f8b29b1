package app

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// welcome answers the root of the management side: somebody who opens the
// printed address in a browser learns where things are.
func (a *App) welcome() {
	a.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, fmt.Sprintf(`Cardea serves its management APIs here; this version has no portals.

Publisher API         %[1]s/api/am/publisher/v4/openapi.yaml
Developer Portal API  %[1]s/api/am/devportal/v3/openapi.yaml
Admin API             %[1]s/api/am/admin/v4/openapi.yaml
OAuth                 %[1]s/.well-known/openid-configuration
APIs                  %[2]s`, a.cfg.BaseURL, a.cfg.GatewayURL()))
	})
}

// command is how a user of this shell calls the program that is running:
// cardea where that finds it, otherwise its path.
func command() string {
	const name = "cardea"
	self, err := os.Executable()
	if err != nil {
		return name
	}
	if found, err := exec.LookPath(name); err == nil && sameFile(found, self) {
		return name
	}
	if dir, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(dir, self); err == nil && !strings.HasPrefix(rel, "..") {
			if !strings.Contains(rel, string(filepath.Separator)) {
				rel = "." + string(filepath.Separator) + rel
			}
			return rel
		}
	}
	return self
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
