package app

import (
	"crypto/rand"
	"fmt"
	"os"
	"strings"
)

// newNodeName is the host name and a random tail, so that two homes on one
// machine differ. Only letters, digits, dots and dashes: it becomes the common
// name of a certificate.
func newNodeName() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name node: %w", err)
	}
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '-'
	}, host)
	if len(clean) > 40 {
		clean = clean[:40]
	}
	return strings.Trim(clean, "-.") + "-" + strings.ToLower(rand.Text()[:6]), nil
}
