package config

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// entry is one key of a file and where it stands.
type entry struct {
	path  []string // without element numbers
	key   string   // with them: apim.gateway.environment[0].name
	value any      // string, bool, int64, float64, []any
	line  int
}

// name is the key as a person wrote it, without element numbers.
func (e entry) name() string { return strings.Join(e.path, ".") }

// parse reads a TOML document as a flat list of keys with their lines, in order.
func parse(file string, data []byte) ([]entry, error) {
	if len(data) > 4<<20 {
		return nil, fmt.Errorf("%s: configuration file is larger than 4 MB", file)
	}
	var whole map[string]any // finds syntax errors and repeated keys, with positions
	if err := toml.Unmarshal(data, &whole); err != nil {
		if d, ok := errors.AsType[*toml.DecodeError](err); ok {
			line, col := d.Position()
			return nil, fmt.Errorf("%s:%d:%d: %s", file, line, col, strings.TrimPrefix(d.Error(), "toml: "))
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	w := &walker{data: data, counts: map[string]int{}}
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		w.expression(&p, p.Expression())
	}
	if err := p.Error(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return w.out, nil
}

type walker struct {
	data   []byte
	counts map[string]int // elements so far of each array of tables, by its key
	path   []string
	key    string
	out    []entry
}

func (w *walker) expression(p *unstable.Parser, n *unstable.Node) {
	switch n.Kind {
	case unstable.Table, unstable.ArrayTable:
		w.path, w.key = nil, ""
		it := n.Key()
		for it.Next() {
			w.path = append(w.path, string(it.Node().Data))
			w.key = join(w.key, string(it.Node().Data))
			last := it.IsLast()
			if n.Kind == unstable.ArrayTable && last {
				w.counts[w.key]++
			}
			if c := w.counts[w.key]; c > 0 {
				w.key += "[" + strconv.Itoa(c-1) + "]"
			}
		}
	case unstable.KeyValue:
		w.keyValue(p, n, w.path, w.key)
	}
}

func (w *walker) keyValue(p *unstable.Parser, n *unstable.Node, path []string, key string) {
	path = append([]string(nil), path...)
	line := 0
	it := n.Key()
	for it.Next() {
		// A quoted key that holds dots reads like the sub-tables it stands for.
		for seg := range strings.SplitSeq(string(it.Node().Data), ".") {
			path, key = append(path, seg), join(key, seg)
		}
		if line == 0 {
			line = 1 + bytes.Count(w.data[:p.Range(it.Node().Data).Offset], []byte("\n"))
		}
	}
	w.value(p, n.Value(), path, key, line)
}

func (w *walker) value(p *unstable.Parser, v *unstable.Node, path []string, key string, line int) {
	switch v.Kind {
	case unstable.InlineTable:
		it := v.Children()
		for it.Next() {
			w.keyValue(p, it.Node(), path, key)
		}
	case unstable.Array:
		if first := v.Child(); first.Valid() && first.Kind == unstable.InlineTable {
			it := v.Children()
			for i := 0; it.Next(); i++ {
				w.value(p, it.Node(), path, key+"["+strconv.Itoa(i)+"]", line)
			}
			return
		}
		w.out = append(w.out, entry{path: path, key: key, value: scalar(v), line: line})
	default:
		w.out = append(w.out, entry{path: path, key: key, value: scalar(v), line: line})
	}
}

func scalar(v *unstable.Node) any {
	switch v.Kind {
	case unstable.Bool:
		return string(v.Data) == "true"
	case unstable.Integer:
		if n, err := strconv.ParseInt(strings.ReplaceAll(string(v.Data), "_", ""), 0, 64); err == nil {
			return n
		}
		return string(v.Data)
	case unstable.Float:
		if f, err := strconv.ParseFloat(strings.ReplaceAll(string(v.Data), "_", ""), 64); err == nil {
			return f
		}
		return string(v.Data)
	case unstable.Array:
		list := []any{}
		it := v.Children()
		for it.Next() {
			if it.Node().Kind != unstable.Comment {
				list = append(list, scalar(it.Node()))
			}
		}
		return list
	default:
		return string(v.Data)
	}
}

func join(prefix, seg string) string {
	if prefix == "" {
		return seg
	}
	return prefix + "." + seg
}
