// Command gen makes our OpenAPI documents of the management APIs out of
// interface facts (paths, parameters, schemas, scopes), a list of the
// operations we serve, and our own prose. It is run by hand:
//
//	go run ./openapi/gen -facts DIR publisher-v4
//
// For a surface S it reads DIR/S.yaml, openapi/gen/S.operations and
// openapi/gen/S.prose.yaml, and writes openapi/S.yaml. Only what the listed
// operations reach is copied, no text is, and an operation or a tag without a
// summary of ours is an error.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

func main() {
	facts := flag.String("facts", "", "directory of the interface facts")
	out := flag.String("out", "openapi", "directory of the documents; gen/ below it holds the inputs")
	flag.Parse()
	if *facts == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	for _, s := range flag.Args() {
		if err := generate(*facts, *out, s); err != nil {
			fmt.Fprintf(os.Stderr, "gen %s: %v\n", s, err)
			os.Exit(1)
		}
	}
}

func generate(facts, out, surface string) error {
	doc, err := readYAML(filepath.Join(facts, surface+".yaml"))
	if err != nil {
		return err
	}
	prose, err := readYAML(filepath.Join(out, "gen", surface+".prose.yaml"))
	if err != nil {
		return err
	}
	if extra := get(prose, "paths"); extra != nil { // operations the facts lack
		merge(get(doc, "paths"), extra)
	}
	if extra := get(prose, "components"); extra != nil { // corrections of the facts
		merge(get(doc, "components"), extra)
	}
	list, err := readOperations(filepath.Join(out, "gen", surface+".operations"))
	if err != nil {
		return err
	}
	g := &generator{facts: doc, prose: prose, used: map[string]bool{}, ids: map[string]string{}}
	res, err := g.run(list)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("# Made by openapi/gen; edit its inputs, not this file.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(res); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, surface+".yaml"), b.Bytes(), 0o644)
}

func readYAML(path string) (*yaml.Node, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(n.Content) == 0 {
		return nil, fmt.Errorf("read %s: empty", path)
	}
	return n.Content[0], nil
}

// listed is one line of an .operations file: METHOD PATH [OPERATION-ID].
type listed struct{ method, path, id string }

func readOperations(path string) ([]listed, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []listed
	for i, line := range strings.Split(string(b), "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		switch len(f) {
		case 0:
		case 2:
			out = append(out, listed{f[0], f[1], ""})
		case 3:
			out = append(out, listed{f[0], f[1], f[2]})
		default:
			return nil, fmt.Errorf("%s:%d: want METHOD PATH [ID]", path, i+1)
		}
	}
	return out, nil
}
