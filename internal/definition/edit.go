package definition

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Edit collects changes to a document's members. The document stays as it is;
// Apply makes the new bytes.
type Edit struct {
	d    *Doc
	root *change
}

// change is what shall become of one member: removed, replaced by set, or
// changed inside.
type change struct {
	remove bool
	set    json.RawMessage
	names  []string // of kids, in the order they were asked for
	kids   map[string]*change
}

// Edit starts an edit.
func (d *Doc) Edit() *Edit { return &Edit{d: d, root: &change{}} }

// Set gives the member at path a value, making the objects on the way if they
// are missing.
func (e *Edit) Set(value any, path ...string) error {
	b, err := encode(value)
	if err != nil {
		return err
	}
	c := e.root.at(path)
	*c = change{set: b}
	return nil
}

// Remove takes the member at path away.
func (e *Edit) Remove(path ...string) { *e.root.at(path) = change{remove: true} }

// Empty reports whether nothing was asked for.
func (e *Edit) Empty() bool { return len(e.root.names) == 0 }

// Apply gives the edited bytes. Without changes they are the bytes as received.
func (e *Edit) Apply() ([]byte, error) {
	if e.Empty() {
		return e.d.Bytes, nil
	}
	if e.d.Format == YAML {
		return e.applyYAML()
	}
	return spliceJSON(e.d.root, e.root)
}

func encode(v any) (json.RawMessage, error) {
	if r, ok := v.(json.RawMessage); ok {
		return r, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode edit: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func (c *change) at(path []string) *change {
	for _, p := range path {
		if c.kids == nil {
			c.kids = map[string]*change{}
		}
		k := c.kids[p]
		if k == nil {
			k = &change{}
			c.kids[p] = k
			c.names = append(c.names, p)
		}
		c = k
	}
	return c
}

// build is the value of a member that did not exist; ok is false if there is
// nothing to add.
func (c *change) build() (json.RawMessage, bool) {
	if c.remove {
		return nil, false
	}
	if c.set != nil {
		return c.set, true
	}
	var b bytes.Buffer
	b.WriteByte('{')
	for _, n := range c.names {
		v, ok := c.kids[n].build()
		if !ok {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(quote(n) + ":")
		b.Write(v)
	}
	if b.Len() == 1 {
		return nil, false
	}
	b.WriteByte('}')
	return b.Bytes(), true
}

// splice replaces bytes [start, end) by text.
type splice struct {
	start, end int
	text       string
}

func apply(src []byte, s []splice) []byte {
	sort.SliceStable(s, func(i, j int) bool { return s[i].start < s[j].start })
	var out bytes.Buffer
	at := 0
	for _, p := range s {
		if p.start < at {
			continue
		}
		out.Write(src[at:p.start])
		out.WriteString(p.text)
		at = p.end
	}
	out.Write(src[at:])
	return out.Bytes()
}

func spliceJSON(root node, c *change) ([]byte, error) {
	var s []splice
	collectJSON(root, c, &s)
	return apply(root.src, s), nil
}

func collectJSON(n node, c *change, out *[]splice) {
	if n.kind() != '{' {
		if v, ok := c.build(); ok {
			*out = append(*out, splice{n.start, n.end, string(v)})
		}
		return
	}
	ms := n.members()
	gone := make([]bool, len(ms))
	var added []string
	for _, name := range c.names {
		k := c.kids[name]
		i := slices.IndexFunc(ms, func(m member) bool { return m.name == name })
		switch {
		case i < 0:
			if v, ok := k.build(); ok {
				added = append(added, member0(n, ms, name, v))
			}
		case k.remove:
			gone[i] = true
		case k.set != nil:
			*out = append(*out, splice{ms[i].value.start, ms[i].value.end, layout(n, ms, k.set)})
		default:
			collectJSON(ms[i].value, k, out)
		}
	}
	kept := slices.Index(gone, false)
	for i := range ms {
		switch {
		case !gone[i]:
		case kept < 0 || i > kept: // with the comma before it
			from := ms[i].keyStart
			if i > 0 {
				from = ms[i-1].value.end
			}
			*out = append(*out, splice{from, ms[i].value.end, ""})
		default: // before the first one that stays: with the comma after it
			*out = append(*out, splice{ms[i].keyStart, ms[i+1].keyStart, ""})
		}
	}
	if len(added) == 0 {
		return
	}
	text := strings.Join(added, ",")
	at := n.start + 1
	if len(ms) > 0 {
		at = ms[len(ms)-1].value.end
	}
	if kept >= 0 {
		text = "," + text
	}
	*out = append(*out, splice{at, at, text})
}

// lead is the white space that stands before each member of n.
func lead(n node, ms []member) string {
	if len(ms) == 0 {
		return ""
	}
	from := n.start + 1
	if len(ms) > 1 {
		from = space(n.src, ms[len(ms)-2].value.end) + 1 // after its comma
	}
	return string(n.src[from:ms[len(ms)-1].keyStart])
}

func member0(n node, ms []member, name string, v json.RawMessage) string {
	l := lead(n, ms)
	sep := ":"
	if strings.Contains(l, "\n") || strings.HasPrefix(l, " ") {
		sep = ": "
	}
	return l + quote(name) + sep + layout(n, ms, v)
}

// layout breaks a value into lines where its neighbours are.
func layout(n node, ms []member, v json.RawMessage) string {
	l := lead(n, ms)
	i := strings.LastIndexByte(l, '\n')
	if i < 0 || len(v) == 0 || (v[0] != '{' && v[0] != '[') {
		return string(v)
	}
	indent := l[i+1:]
	step := "  "
	if strings.HasPrefix(indent, "\t") {
		step = "\t"
	}
	var b bytes.Buffer
	if json.Indent(&b, v, indent, step) != nil {
		return string(v)
	}
	return b.String()
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
