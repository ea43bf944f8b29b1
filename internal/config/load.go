// Package config reads the settings of a process: a TOML file with the keys of
// the original's deployment.toml and ours, environment variables and flags, in
// that order of increasing force. Every mistake is reported at once, with its
// file and line; secrets never appear in a message.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// Source is where settings come from.
type Source struct {
	Home string            // what the node owns; created when it is missing
	File string            // configuration file; empty: the usual names below Home, or none
	Env  []string          // os.Environ form
	Sys  map[string]string // -Dx.y=v
	Set  map[string]string // flags, by key
}

// defaultFiles are looked for below home when no file is named.
var defaultFiles = []string{"cardea.toml", "deployment.toml", "repository/conf/deployment.toml"}

// cliVariables belong to the client commands and are no settings.
var cliVariables = []string{"CARDEA_USER", "CARDEA_PASSWORD", "CARDEA_SERVER", "CARDEA_TOKEN", "CARDEA_HOME", "CARDEA_CONFIG", "CARDEA_BINARY", "CARDEA_LONG", "CARDEA_REAL_INPUT", "CARDEA_TEST_POSTGRES", "CARDEA_TEST_REQUIRE_POSTGRES", "CARDEA_TEST_REQUIRE_FOREIGN", "CARDEA_TEST_REQUIRE_NODE"}

// loader gathers values and mistakes.
type loader struct {
	src      Source
	cat      *catalogue
	raw      map[string]any
	order    []string
	where    map[string]string // key to "file:line" or "environment CARDEA_X"
	errs     []error
	untold   int // mistakes beyond maxMistakes
	ignored  []string
	notYet   []string
	warnings []string
}

// maxMistakes bounds how many mistakes are told at once, and maxFile the size of
// a configuration file in bytes.
const (
	maxMistakes = 100
	maxFile     = 4 << 20
)

func (l *loader) fail(where, format string, args ...any) {
	if len(l.errs) >= maxMistakes {
		l.untold++
		return
	}
	l.errs = append(l.errs, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
}

// Load reads and checks everything. The error lists every mistake.
func Load(src Source) (*Config, error) {
	home, err := filepath.Abs(src.Home)
	if err != nil {
		return nil, fmt.Errorf("resolve home: %w", err)
	}
	src.Home = home
	l := &loader{src: src, cat: theCatalogue(), raw: map[string]any{}, where: map[string]string{}}
	file, err := l.file()
	if err != nil {
		return nil, err
	}
	l.environment()
	for _, key := range sortedKeys(src.Set) {
		l.put(key, src.Set[key], "flag")
	}
	if n, ok := src.Sys["portOffset"]; ok {
		l.put("server.offset", n, "-DportOffset")
	}
	values := l.resolve()
	c := build(l, values)
	c.Home, c.File = home, file
	l.summary()
	c.Warnings = l.warnings
	if l.untold > 0 {
		l.errs = append(l.errs, fmt.Errorf("and %d more mistakes", l.untold))
	}
	if len(l.errs) > 0 {
		return nil, errors.Join(l.errs...)
	}
	return c, nil
}

// file reads the configuration file and checks each of its keys.
func (l *loader) file() (string, error) {
	name := l.src.File
	if name == "" {
		for _, f := range defaultFiles {
			if _, err := os.Stat(filepath.Join(l.src.Home, f)); err == nil {
				name = filepath.Join(l.src.Home, f)
				break
			}
		}
		if name == "" {
			return "", nil
		}
	}
	data, err := readFile(name)
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	entries, err := parse(name, data)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		where := fmt.Sprintf("%s:%d", name, e.line)
		l.admit(e, where)
	}
	return name, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return data, err
}

// admit checks one key of the file and keeps its value.
func (l *loader) admit(e entry, where string) {
	if to := l.cat.rename(e.key); to != e.key {
		if _, both := l.raw[to]; both {
			return // the present spelling wins
		}
		e.key, e.path = to, pathOf(to)
	}
	if len(e.path) == 1 {
		l.fail(where, "key %q stands outside of a section%s", e.key, l.hint(e.name()))
		return
	}
	r, known := l.cat.find(e.path)
	if !known {
		if _, section := l.cat.byFirst[e.path[0]]; !section || l.cat.inClosed(e.path) {
			l.fail(where, "unknown key %s%s", e.name(), l.hint(e.name()))
			return
		}
		r = row{reading: ignore}
	}
	if err := securityClass(e); err != nil {
		l.fail(where, "%s: %v", e.name(), err)
		return
	}
	l.note(r, e.name(), e.value)
	l.put(e.key, e.value, where)
}

// note remembers a key that will have no effect, for the summary.
func (l *loader) note(r row, name string, v any) {
	switch {
	case r.silent(v):
	case r.reading == ignore:
		l.ignored = append(l.ignored, name)
	case r.reading == later:
		l.notYet = append(l.notYet, name)
	}
}

func (l *loader) hint(key string) string {
	if len(l.errs) >= maxMistakes {
		return "" // it will not be told
	}
	if n := l.cat.nearest(key); n != "" {
		return "; did you mean " + n + "?"
	}
	return ""
}

func (l *loader) put(key string, v any, where string) {
	if _, seen := l.raw[key]; !seen {
		l.order = append(l.order, key)
	}
	l.raw[key], l.where[key] = v, where
}

// securityClass refuses a class of one's own where it would change what is
// accepted as a credential; the shipped ones name our built-in.
func securityClass(e entry) error {
	last := e.path[len(e.path)-1]
	if !slices.Contains([]string{"grant_handler", "grant_validator", "generator_impl", "key_validation_handler_impl"}, last) {
		return nil
	}
	if v := asString(e.value); v == "" || strings.HasPrefix(v, "org.wso2.carbon.") || strings.Contains(v, "$") {
		return nil
	}
	return errors.New("a class of one's own cannot be run; remove the key or use a third-party key manager")
}

// environment applies CARDEA_SECTION_KEY. A single underscore stands for a dot
// or itself, so names are found through the known keys.
func (l *loader) environment() {
	var names map[string]string
	for _, kv := range l.src.Env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "CARDEA_") || slices.Contains(cliVariables, name) {
			continue
		}
		if names == nil {
			names = l.environmentNames()
		}
		if key, ok := names[name]; ok {
			key = l.cat.rename(key)
			if r, ok := l.cat.find(pathOf(key)); ok {
				l.note(r, name, value)
			}
			l.put(key, value, "environment "+name)
			continue
		}
		l.warnings = append(l.warnings, "environment variable "+name+" names no setting")
	}
}

// environmentNames maps variable names to keys: those of the catalogue and the
// database and keystore families.
func (l *loader) environmentNames() map[string]string {
	names := map[string]string{}
	for _, r := range l.cat.rows {
		key := strings.Join(r.pattern, ".")
		if strings.Contains(key, "*") {
			continue
		}
		upper := strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
		if rest, ok := strings.CutPrefix(upper, "CARDEA_"); ok {
			names["CARDEA_"+rest] = key
		}
		if _, taken := names["CARDEA_"+upper]; !taken {
			names["CARDEA_"+upper] = key
		}
	}
	return names
}

// resolve replaces placeholders and checks types.
func (l *loader) resolve() Values {
	r := &resolver{
		raw: l.raw, done: map[string]any{}, busy: map[string]bool{}, env: map[string]string{},
		sys: l.src.Sys, defaults: defaults, home: l.src.Home,
	}
	for _, kv := range l.src.Env {
		k, v, _ := strings.Cut(kv, "=")
		r.env[k] = v
	}
	out := Values{m: map[string]any{}}
	for _, key := range l.order {
		if strings.HasPrefix(key, "secrets.") {
			continue
		}
		v, _, err := r.key(key)
		if err != nil {
			l.fail(l.where[key], "%s: %v", key, err)
			continue
		}
		if row, ok := l.cat.find(pathOf(key)); ok {
			if err := check(row.typ, v); err != nil {
				l.fail(l.where[key], "%s: %v", key, err)
				continue
			}
		}
		out.m[key] = v
		out.order = append(out.order, key)
	}
	if len(r.brackets) > 0 {
		sort.Strings(r.brackets)
		l.warnings = append(l.warnings, "secrets are in plain text in the file: "+strings.Join(slices.Compact(r.brackets), ", "))
	}
	return out
}

// summary turns the accepted but unused keys into one warning each kind; keys
// of one section stand together: apim.jwt.{enable, header}.
func (l *loader) summary() {
	for _, w := range []struct {
		keys []string
		text string
	}{
		{l.ignored, "these settings of the original have no part here and are ignored: "},
		{l.notYet, "these settings are not supported yet and have no effect: "},
	} {
		if len(w.keys) > 0 {
			sort.Strings(w.keys)
			l.warnings = append(l.warnings, w.text+strings.Join(bySection(slices.Compact(w.keys)), ", "))
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// bySection joins sorted keys that differ in their last segment only.
func bySection(keys []string) []string {
	section := func(k string) string { return k[:strings.LastIndexByte(k, '.')+1] }
	var order []string
	groups := map[string][]string{}
	for _, k := range keys {
		s := section(k)
		if groups[s] == nil {
			order = append(order, s)
		}
		groups[s] = append(groups[s], k[len(s):])
	}
	var out []string
	for _, s := range order {
		if g := groups[s]; len(g) == 1 || s == "" {
			for _, k := range g {
				out = append(out, s+k)
			}
		} else {
			out = append(out, s+"{"+strings.Join(g, ", ")+"}")
		}
	}
	return out
}
