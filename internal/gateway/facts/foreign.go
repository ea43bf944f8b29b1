package facts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cardea-apim/cardea/internal/snapshot"
	"github.com/cardea-apim/cardea/internal/token"
)

// Rule is a token rule, compiled. Expressions match the whole text.
type Rule struct {
	match  *regexp.Regexp
	claims map[string]*regexp.Regexp
}

func newRules(list []snapshot.TokenRule) ([]Rule, error) {
	whole := func(s string) (*regexp.Regexp, error) { return regexp.Compile(`^(?:` + s + `)$`) }
	var out []Rule
	for i, r := range list {
		var c Rule
		var err error
		if r.Match != "" {
			if c.match, err = whole(r.Match); err != nil {
				return nil, fmt.Errorf("token rule %d: %w", i+1, err)
			}
		}
		for name, v := range r.Claims {
			if c.claims == nil {
				c.claims = map[string]*regexp.Regexp{}
			}
			if c.claims[name], err = whole(v); err != nil {
				return nil, fmt.Errorf("token rule %d: %w", i+1, err)
			}
		}
		out = append(out, c)
	}
	return out, nil
}

// Takes reports whether a rule of the key manager holds for a token; c is nil
// for an opaque one. Without rules every token is taken.
func (m *KeyManager) Takes(raw string, c *token.Claims) bool {
	return len(m.Rules) == 0 || slices.ContainsFunc(m.Rules, func(r Rule) bool {
		switch {
		case r.match != nil:
			return r.match.MatchString(raw)
		case c == nil || len(r.claims) == 0:
			return false
		}
		for name, want := range r.claims {
			if v, ok := c.Text(name); !ok || !want.MatchString(v) {
				return false
			}
		}
		return true
	})
}

// special are key managers that a verified signature does not settle.
func (m *KeyManager) special() bool {
	return m.Enabled && !m.Resident && (m.Exchanged || m.Introspection != nil)
}

// special are those of f, in a settled order.
func special(managers map[string]*KeyManager) []*KeyManager {
	var out []*KeyManager
	for _, m := range managers {
		if m.special() {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b *KeyManager) int { return strings.Compare(a.ID, b.ID) })
	return out
}
