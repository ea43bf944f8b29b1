package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-apim/cardea/internal/fault"
)

var errNoSplice = errors.New("not a block mapping")

// applyYAML splices the lines an edit is about. What the splices mean is
// compared with the same edit on the JSON form; where they cannot express it
// (flow style, anchors that would be lost), the edit is written as a whole.
func (e *Edit) applyYAML() ([]byte, error) {
	want, err := spliceJSON(e.d.root, e.root)
	if err != nil {
		return nil, err
	}
	if out, err := e.spliceYAML(); err == nil {
		if got, err := yamlToJSON(out); err == nil && sameJSON(got, want) {
			return out, nil
		}
	}
	var n yaml.Node
	if err := yaml.Unmarshal(want, &n); err != nil {
		return nil, fault.OpenAPIMalformed.With("The definition cannot be edited").Because(err)
	}
	block(&n)
	return encodeYAML(&n)
}

func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 || c.Kind == yaml.ScalarNode && c.Tag == "!!str" {
			c.Style &^= yaml.DoubleQuotedStyle
		}
		block(c)
	}
}

func encodeYAML(n *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return b.Bytes(), nil
}

type yamlSource struct {
	b     []byte
	lines []int // offset of each line, and of the end
	out   []splice
}

func (e *Edit) spliceYAML() ([]byte, error) {
	root, err := yamlTree(e.d.Bytes)
	if err != nil {
		return nil, err
	}
	s := &yamlSource{b: e.d.Bytes, lines: []int{0}}
	for i, c := range s.b {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	s.lines = append(s.lines, len(s.b))
	if err := s.collect(root, e.root, len(s.lines)); err != nil {
		return nil, err
	}
	return apply(s.b, s.out), nil
}

// offset is where a node starts; columns count characters.
func (s *yamlSource) offset(n *yaml.Node) int {
	at := s.lines[min(n.Line, len(s.lines))-1]
	for range n.Column - 1 {
		if at < len(s.b) {
			at++
			for at < len(s.b) && s.b[at]&0xC0 == 0x80 {
				at++
			}
		}
	}
	return at
}

// collect walks a block mapping whose last line is before line end.
func (s *yamlSource) collect(n *yaml.Node, c *change, end int) error {
	if n.Kind != yaml.MappingNode || n.Style&yaml.FlowStyle != 0 || len(n.Content) == 0 {
		return errNoSplice
	}
	indent := n.Content[0].Column - 1
	head := s.b[s.lines[n.Content[0].Line-1]:s.offset(n.Content[0])]
	if len(bytes.TrimSpace(head)) > 0 {
		return errNoSplice
	}
	insert := 0
	for i := 0; i+1 < len(n.Content); i += 2 {
		next := end
		if i+2 < len(n.Content) {
			next = n.Content[i+2].Line
		}
		last := s.lastLine(n.Content[i].Line, next, indent)
		insert = last
		k := c.kids[n.Content[i].Value]
		if k == nil {
			continue
		}
		key, v := n.Content[i], n.Content[i+1]
		switch {
		case k.remove:
			s.out = append(s.out, splice{s.lines[key.Line-1], s.lines[last], ""})
		case k.set != nil:
			if err := s.replace(key, v, k.set, indent, last); err != nil {
				return err
			}
		default:
			if err := s.collect(v, k, last+1); err != nil {
				return err
			}
		}
	}
	var text strings.Builder
	for _, name := range c.names {
		if has(n, name) {
			continue
		}
		v, ok := c.kids[name].build()
		if !ok {
			continue
		}
		t, err := entry(name, v, indent)
		if err != nil {
			return err
		}
		text.WriteString(t)
	}
	if text.Len() > 0 {
		at := s.lines[insert]
		t := text.String()
		if at > 0 && s.b[at-1] != '\n' {
			t = "\n" + strings.TrimSuffix(t, "\n")
		}
		s.out = append(s.out, splice{at, at, t})
	}
	return nil
}

// lastLine is the last line of an entry that starts on line first and ends
// before line next; blank lines and comments of what follows are not its own.
func (s *yamlSource) lastLine(first, next, indent int) int {
	last := min(next-1, len(s.lines)-1)
	for last > first {
		line := s.b[s.lines[last-1]:s.lines[last]]
		t := bytes.TrimLeft(line, " ")
		in := len(line) - len(t)
		t = bytes.TrimSpace(t)
		if len(t) == 0 || (t[0] == '#' && in <= indent) || bytes.HasPrefix(line, []byte("...")) || bytes.HasPrefix(line, []byte("---")) {
			last--
			continue
		}
		break
	}
	return last
}

func has(n *yaml.Node, name string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}

// replace changes a value: only the scalar's own bytes where that is possible.
func (s *yamlSource) replace(key, v *yaml.Node, set json.RawMessage, indent, last int) error {
	if v.Kind == yaml.ScalarNode && len(set) > 0 && set[0] != '{' && set[0] != '[' {
		at := s.offset(v)
		if end, ok := scalarEnd(s.b, at, v); ok {
			text := string(set)
			if set[0] == '"' && v.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) == 0 {
				text = plain(set)
			}
			s.out = append(s.out, splice{at, end, text})
			return nil
		}
	}
	t, err := entry(key.Value, set, indent)
	if err != nil {
		return err
	}
	end := s.lines[last]
	if end > 0 && s.b[end-1] != '\n' {
		t = strings.TrimSuffix(t, "\n")
	}
	s.out = append(s.out, splice{s.lines[key.Line-1], end, t})
	return nil
}

func scalarEnd(b []byte, at int, v *yaml.Node) (int, bool) {
	switch {
	case at >= len(b):
	case v.Style&yaml.DoubleQuotedStyle != 0 && b[at] == '"':
		return skipString(b, at), true
	case v.Style&yaml.SingleQuotedStyle != 0 && b[at] == '\'':
		for i := at + 1; i < len(b); i++ {
			if b[i] == '\'' {
				if i+1 < len(b) && b[i+1] == '\'' {
					i++
					continue
				}
				return i + 1, true
			}
		}
	case v.Style == 0 && bytes.HasPrefix(b[at:], []byte(v.Value)):
		return at + len(v.Value), true
	}
	return 0, false
}

// plain writes a JSON string as an unquoted scalar if that reads the same.
func plain(set json.RawMessage) string {
	s := unquote(set)
	var back map[string]any
	if strings.ContainsAny(s, "\n#") || yaml.Unmarshal([]byte("k: "+s), &back) != nil || back["k"] != s {
		return string(set)
	}
	return s
}

// entry is "name: value" as block lines at an indentation.
func entry(name string, v json.RawMessage, indent int) (string, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(v, &n); err != nil {
		return "", fmt.Errorf("read edit: %w", err)
	}
	block(&n)
	k := &yaml.Node{}
	k.SetString(name)
	b, err := encodeYAML(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{k, n.Content[0]}})
	if err != nil {
		return "", err
	}
	pad := strings.Repeat(" ", indent)
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if strings.TrimSpace(line) != "" {
			out.WriteString(pad)
		}
		out.WriteString(line)
	}
	return out.String(), nil
}
