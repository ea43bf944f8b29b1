package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-apim/cardea/internal/fault"
)

var errTooBig = errors.New("too big")

// yamlTree parses one YAML document.
func yamlTree(b []byte) (*yaml.Node, error) {
	if yamlTooDeep(b) {
		return nil, fault.OpenAPIMalformed.Withf("The definition is nested deeper than %d levels", MaxDepth)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(b, &n); err != nil {
		return nil, fault.OpenAPIParse.With(strings.TrimPrefix(clip(err.Error()), "yaml: "))
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) == 0 || n.Content[0].Kind != yaml.MappingNode {
		return nil, fault.OpenAPIMalformed.With("The definition is not an object")
	}
	return n.Content[0], nil
}

// yamlTooDeep spots nesting by brackets or indicators before the parser, whose
// recursion follows it, sees the text.
func yamlTooDeep(b []byte) bool {
	depth := 0
	for _, c := range b {
		switch c {
		case '{', '[':
			if depth++; depth > 20*MaxDepth {
				return true
			}
		case '}', ']':
			depth = max(0, depth-1)
		case '\n':
		}
	}
	for line := range bytes.Lines(b) {
		if bytes.Count(line[:min(len(line), 4*MaxDepth)], []byte("- ")) > MaxDepth {
			return true
		}
	}
	return false
}

// yamlToJSON converts with order kept and numbers as text. Aliases are written
// out; the result is bounded, so that a document cannot multiply itself.
func yamlToJSON(b []byte) ([]byte, error) {
	root, err := yamlTree(b)
	if err != nil {
		return nil, err
	}
	w := &jsonWriter{limit: 2*len(b) + 4<<20}
	switch err := w.write(root, 0); {
	case errors.Is(err, errTooBig):
		return nil, fault.OpenAPIMalformed.With("The definition's aliases expand beyond what is allowed")
	case err != nil:
		return nil, err
	}
	return w.buf.Bytes(), nil
}

type jsonWriter struct {
	buf   bytes.Buffer
	limit int
}

func (w *jsonWriter) write(n *yaml.Node, depth int) error {
	if depth > MaxDepth {
		return fault.OpenAPIMalformed.Withf("Line %d: the definition is nested deeper than %d levels, or an alias contains itself", n.Line, MaxDepth)
	}
	if w.buf.Len() > w.limit {
		return errTooBig
	}
	switch n.Kind {
	case yaml.AliasNode:
		return w.write(n.Alias, depth+1)
	case yaml.MappingNode:
		return w.mapping(n, depth)
	case yaml.SequenceNode:
		w.buf.WriteByte('[')
		for i, c := range n.Content {
			if i > 0 {
				w.buf.WriteByte(',')
			}
			if err := w.write(c, depth+1); err != nil {
				return err
			}
		}
		w.buf.WriteByte(']')
	case yaml.ScalarNode:
		w.buf.WriteString(scalarJSON(n))
	default:
		w.buf.WriteString("null")
	}
	return nil
}

func (w *jsonWriter) mapping(n *yaml.Node, depth int) error {
	w.buf.WriteByte('{')
	first := true
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return fault.OpenAPIMalformed.Withf("Line %d: a name is not a scalar", k.Line)
		}
		if k.Tag == "!!merge" { // its members follow as if written here
			for v.Kind == yaml.AliasNode {
				v = v.Alias
			}
			if v.Kind != yaml.MappingNode || depth > MaxDepth {
				continue
			}
			inner := &jsonWriter{limit: w.limit - w.buf.Len()}
			if err := inner.mapping(v, depth+1); err != nil {
				return err
			}
			if s := bytes.TrimSuffix(bytes.TrimPrefix(inner.buf.Bytes(), []byte{'{'}), []byte{'}'}); len(s) > 0 {
				if !first {
					w.buf.WriteByte(',')
				}
				w.buf.Write(s)
				first = false
			}
			continue
		}
		if !first {
			w.buf.WriteByte(',')
		}
		first = false
		w.buf.WriteString(quote(k.Value))
		w.buf.WriteByte(':')
		if err := w.write(v, depth+1); err != nil {
			return err
		}
	}
	w.buf.WriteByte('}')
	return nil
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

func scalarJSON(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!null":
		return "null"
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			return strconv.FormatBool(b)
		}
	case "!!int", "!!float":
		if jsonNumber.MatchString(n.Value) {
			return n.Value
		}
		if i, ok := new(big.Int).SetString(strings.ReplaceAll(n.Value, "_", ""), 0); ok && len(n.Value) < 100 {
			return i.String()
		}
		var f float64
		if n.Decode(&f) == nil {
			if b, err := json.Marshal(f); err == nil {
				return string(b)
			}
		}
	}
	return quote(n.Value)
}

func yamlLine(n *yaml.Node, segs []string) int {
	line := n.Line
	for _, s := range segs {
		s = unescape(s)
		for n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		found := false
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == s {
				line, n, found = n.Content[i].Line, n.Content[i+1], true
				break
			}
		}
		if !found {
			break
		}
	}
	return line
}
