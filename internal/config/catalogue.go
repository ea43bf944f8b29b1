package config

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed catalogue.txt
var catalogueText string

// reading says what we make of a key.
type reading string

const (
	same   reading = "SAME"
	mapped reading = "MAP"
	ignore reading = "IGNORE"
	quiet  reading = "QUIET"
	later  reading = "LATER"
	ours   reading = "OURS"
)

// row is one known key, or a family of them.
type row struct {
	pattern []string
	reading reading
	typ     string   // "", s, b, i, l, t, d:s, d:ms, d:m, d:d
	plain   []string // values that say what we do anyway, so need no warning
}

func (r row) matches(key []string) bool { return matchSegments(r.pattern, key) }

func matchSegments(pat, key []string) bool {
	for i, p := range pat {
		if p == "**" {
			return len(key) >= i
		}
		if i >= len(key) || (p != "*" && p != key[i]) {
			return false
		}
	}
	return len(pat) == len(key)
}

// silent reports whether a value of a row without effect asks for nothing that
// we do not do.
func (r row) silent(v any) bool { return slices.Contains(r.plain, strings.TrimSpace(asString(v))) }

// catalogue is the data file, read once.
type catalogue struct {
	rows    []row
	byFirst map[string][]row // rows by their first segment
	closed  [][]string
	renames [][2]string
}

var theCatalogue = sync.OnceValue(func() *catalogue {
	c, err := readCatalogue(catalogueText)
	if err != nil {
		panic(err) // the file is part of the program
	}
	return c
})

func readCatalogue(text string) (*catalogue, error) {
	c := &catalogue{byFirst: map[string][]row{}}
	for n, line := range strings.Split(text, "\n") {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || strings.HasPrefix(f[0], "#"):
		case f[0] == "!closed" && len(f) == 2:
			c.closed = append(c.closed, strings.Split(f[1], "."))
		case f[0] == "!rename" && len(f) == 3:
			c.renames = append(c.renames, [2]string{f[1], f[2]})
		case len(f) >= 2 && len(f) <= 4:
			for _, p := range expand(f[0]) {
				r := row{pattern: strings.Split(p, "."), reading: reading(f[1])}
				if len(f) > 2 && f[2] != "-" {
					r.typ = f[2]
				}
				if len(f) > 3 {
					r.plain = strings.Split(strings.TrimPrefix(f[3], "="), "|")
				}
				c.rows = append(c.rows, r)
				c.byFirst[r.pattern[0]] = append(c.byFirst[r.pattern[0]], r)
			}
		default:
			return nil, fmt.Errorf("read catalogue: line %d: %q", n+1, line)
		}
	}
	return c, nil
}

// expand resolves {a,b} groups.
func expand(s string) []string {
	open := strings.IndexByte(s, '{')
	if open < 0 {
		return []string{s}
	}
	shut := open + strings.IndexByte(s[open:], '}')
	var out []string
	for _, alt := range strings.Split(s[open+1:shut], ",") {
		for _, rest := range expand(s[shut+1:]) {
			out = append(out, s[:open]+alt+rest)
		}
	}
	return out
}

// find gives the row of a key. Exact rows win over open ones because the file
// lists them first.
func (c *catalogue) find(key []string) (row, bool) {
	for _, r := range c.byFirst[key[0]] {
		if r.matches(key) {
			return r, true
		}
	}
	return row{}, false
}

// inClosed reports whether a key belongs to a section whose keys are all listed.
func (c *catalogue) inClosed(key []string) bool {
	return slices.ContainsFunc(c.closed, func(sec []string) bool {
		return len(key) >= len(sec) && slices.Equal(sec, key[:len(sec)])
	})
}

// rename gives the present spelling of an older key.
func (c *catalogue) rename(key string) string {
	for _, r := range c.renames {
		if prefix, ok := strings.CutSuffix(r[0], "*"); ok {
			if rest, ok := strings.CutPrefix(key, prefix); ok {
				return strings.TrimSuffix(r[1], "*") + rest
			}
		} else if r[0] == key {
			return r[1]
		}
	}
	return key
}

// nearest is the known key with the smallest edit distance, or "".
func (c *catalogue) nearest(key string) string {
	best, at := "", len(key)/2+2
	for _, r := range c.rows {
		p := strings.TrimSuffix(strings.Join(r.pattern, "."), ".**")
		if d := distance(key, p, at); d < at {
			best, at = p, d
		}
	}
	return best
}

// distance is the Levenshtein distance, or limit when it is not below it.
func distance(a, b string, limit int) int {
	if abs(len(a)-len(b)) >= limit {
		return limit
	}
	prev, cur := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j]+cost, prev[j+1]+1, cur[j]+1)
		}
		prev, cur = cur, prev
	}
	return min(prev[len(b)], limit)
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
