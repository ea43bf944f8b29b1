// Package section lets several benchmarks keep their reports in one file: each
// replaces its own part and leaves the others.
package section

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// Replace puts text, which begins with a heading of the first level ("# Title"),
// in the place of the part of the file with the same heading, or at its end.
func Replace(path, text string) error {
	heading, _, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(heading, "# ") {
		return fmt.Errorf("replace a section of %s: %q is no heading of the first level", path, heading)
	}
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text = strings.TrimRight(text, "\n") + "\n"
	var out []string
	found := false
	for _, part := range split(string(old)) {
		if h, _, _ := strings.Cut(part, "\n"); h == heading {
			if found {
				continue
			}
			part, found = text, true
		}
		out = append(out, strings.TrimRight(part, "\n")+"\n")
	}
	if !found {
		out = append(out, text)
	}
	return os.WriteFile(path, []byte(strings.Join(out, "\n")), 0o644)
}

// split cuts before each heading of the first level.
func split(s string) []string {
	var parts []string
	for line := range strings.Lines(s) {
		if len(parts) == 0 || strings.HasPrefix(line, "# ") {
			parts = append(parts, "")
		}
		parts[len(parts)-1] += line
	}
	return parts
}
