// Package definition reads and edits OpenAPI documents (2.0, 3.0, 3.1; JSON or
// YAML) without ever rewriting them: what was received is kept byte for byte,
// reading goes through a tree of byte spans, and an edit replaces the bytes it
// is about. A parsing library only checks; what it finds are findings.
package definition

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/cardea-apim/cardea/internal/fault"
)

// MaxSize bounds a document, in bytes; MaxDepth its nesting.
const (
	MaxSize  = 32 << 20
	MaxDepth = 200
)

// The formats of a document.
const (
	JSON = "json"
	YAML = "yaml"
)

// Doc is a document that was read. It is immutable.
type Doc struct {
	Bytes   []byte // as received
	Format  string
	Version string            // 2.0, 3.0.3, 3.1.0, ...
	root    node              // over Bytes, or over the JSON form of YAML
	top     []member          // the root's members, found once
	tree    func() *yaml.Node // of YAML, parsed when a line is asked for
}

// Read recognises and reads a document. It fails with a fault that says what is
// wrong and on which line.
func Read(b []byte) (*Doc, error) {
	d, err := parse(b)
	if err != nil {
		return nil, err
	}
	return d, d.shape()
}

func parse(b []byte) (*Doc, error) {
	if len(b) > MaxSize {
		return nil, fault.BodyTooLarge.Withf("The definition is larger than %d bytes", MaxSize)
	}
	t := bytes.TrimLeft(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")), " \r\n\t")
	if len(t) == 0 {
		return nil, fault.OpenAPIMissing.With("The definition is empty")
	}
	d := &Doc{Bytes: b, Format: JSON}
	text := b
	if t[0] == '{' {
		if err := validJSON(b[len(b)-len(t):], bytes.Count(b[:len(b)-len(t)], []byte{'\n'})); err != nil {
			return nil, err
		}
		start := len(b) - len(t)
		d.root = node{text, start, skip(text, start)}
		d.top = d.root.members()
		return d, nil
	}
	d.Format = YAML
	text, err := yamlToJSON(b)
	if err != nil {
		return nil, err
	}
	d.tree = sync.OnceValue(func() *yaml.Node {
		n, err := yamlTree(b)
		if err != nil {
			return &yaml.Node{Line: 1}
		}
		return n
	})
	d.root = node{text, 0, len(text)}
	d.top = d.root.members()
	if d.root.kind() != '{' {
		return nil, fault.OpenAPIMalformed.With("The definition is not an object")
	}
	return d, nil
}

func validJSON(b []byte, linesBefore int) error {
	var raw json.RawMessage
	if depthOf(b) > MaxDepth {
		return fault.OpenAPIMalformed.Withf("The definition is nested deeper than %d levels", MaxDepth)
	}
	err := json.Unmarshal(b, &raw)
	if err == nil {
		return nil
	}
	line := 1 + linesBefore
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		at := min(int(s.Offset), len(b))
		line += bytes.Count(b[:at], []byte{'\n'})
		return fault.OpenAPIParse.Withf("Line %d: %s", line, s.Error())
	}
	return fault.OpenAPIParse.Withf("Line %d: not a JSON document", line)
}

func depthOf(b []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(b); {
		switch b[i] {
		case '"':
			i = skipString(b, i)
			continue
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		}
		i++
	}
	return deepest
}

// shape checks what everything else relies on: a version we know and an object
// of paths with at least one resource.
func (d *Doc) shape() error {
	switch {
	case d.get("openapi").ok():
		d.Version = d.get("openapi").text()
		if !strings.HasPrefix(d.Version, "3.0") && !strings.HasPrefix(d.Version, "3.1") {
			return fault.OpenAPIUnknown.Withf("OpenAPI %s is not supported; 2.0, 3.0 and 3.1 are", clip(d.Version))
		}
	case d.get("swagger").ok():
		d.Version = d.get("swagger").text()
		if d.Version != "2.0" && d.Version != "2" {
			return fault.OpenAPIUnknown.Withf("Swagger %s is not supported; 2.0 is", clip(d.Version))
		}
		d.Version = "2.0"
	default:
		return fault.OpenAPIUnknown.With("The definition has neither an openapi nor a swagger member")
	}
	if d.get("info").kind() != '{' {
		return d.invalid().With("The definition has no info object")
	}
	if d.get("info", "title").kind() != '"' || d.get("info", "title").text() == "" {
		return d.invalid().With("The definition has no info.title")
	}
	paths := d.get("paths")
	if paths.ok() && paths.kind() != '{' {
		return d.invalid().Withf("Line %d: paths is not an object", d.Line("/paths"))
	}
	for _, p := range paths.members() {
		if strings.HasPrefix(p.name, "x-") {
			continue
		}
		if !strings.HasPrefix(p.name, "/") {
			return d.invalid().Withf("Line %d: the path %q does not start with a slash", d.Line("/paths/"+escape(p.name)), clip(p.name))
		}
		if p.value.kind() != '{' {
			return d.invalid().Withf("Line %d: the path %q is not an object", d.Line("/paths/"+escape(p.name)), clip(p.name))
		}
	}
	if !d.hasOperations() {
		return fault.OpenAPINoPaths.With("The definition has no resources")
	}
	return nil
}

func (d *Doc) hasOperations() bool {
	for _, p := range d.get("paths").members() {
		for _, m := range d.item(p.value).members() {
			if verbs[m.name] != "" && m.value.kind() == '{' {
				return true
			}
		}
	}
	return false
}

func (d *Doc) invalid() fault.Error {
	if d.Version == "2.0" {
		return fault.OpenAPIInvalid2
	}
	return fault.OpenAPIInvalid3
}

// get follows names from the root, of which each scan would cost the document.
func (d *Doc) get(names ...string) node {
	for i := len(d.top) - 1; i >= 0; i-- {
		if d.top[i].name == names[0] {
			return d.top[i].value.get(names[1:]...)
		}
	}
	return node{}
}

func clip(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + "…"
	}
	return s
}

func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}

func unescape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
}

// AsJSON is the document as JSON: the bytes themselves, or YAML converted.
func (d *Doc) AsJSON() []byte { return d.root.bytes() }

// ContentType is the media type of the bytes.
func (d *Doc) ContentType() string {
	if d.Format == YAML {
		return "application/yaml"
	}
	return "application/json"
}

// Line is the line on which the value at a JSON pointer starts, or of its
// nearest ancestor that exists.
func (d *Doc) Line(pointer string) int {
	segs := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	if d.Format == YAML {
		return yamlLine(d.tree(), segs)
	}
	at, n := d.root.start, d.root
	for _, s := range segs {
		s = unescape(s)
		next := node{}
		for _, m := range n.members() {
			if m.name == s {
				at, next = m.keyStart, m.value
			}
		}
		if !next.ok() {
			break
		}
		n = next
	}
	return 1 + bytes.Count(d.Bytes[:at], []byte{'\n'})
}
