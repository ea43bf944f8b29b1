package store

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// builder writes a statement. Values only ever enter it as placeholders, and
// names only from the descriptions of the nouns.
type builder struct {
	strings.Builder
	args []any
}

// Str adds SQL text.
func (b *builder) Str(s string) *builder { b.WriteString(s); return b }

// Arg adds a placeholder.
func (b *builder) Arg(v any) *builder {
	b.args = append(b.args, v)
	b.WriteByte('$')
	b.WriteString(strconv.Itoa(len(b.args)))
	return b
}

// unit separates the elements of a list column; it also starts and ends it.
const unit = "\x1f"

// clean makes any text storable by both engines.
func clean(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// stored is the form of a value in a column.
func stored(v any) any {
	switch v := v.(type) {
	case string:
		return clean(v)
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	case time.Time:
		return micros(v)
	case []string:
		if len(v) == 0 {
			return ""
		}
		var b strings.Builder
		for _, s := range v {
			b.WriteString(unit)
			b.WriteString(strings.ReplaceAll(clean(s), unit, " "))
		}
		b.WriteString(unit)
		return b.String()
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.String: // a named text, such as an id
		return clean(r.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return r.Int()
	}
	return v
}

// field is a column as conditions see it.
type field struct {
	name string // quoted
	fold string // its folded twin, if any
	form form
}

var commonFields = map[string]field{
	"id":      {"n.id", "", text},
	"tenant":  {"n.tenant", "", text},
	"created": {"n.created", "", number},
	"updated": {"n.updated", "", number},
}

func (t *Table[T, ID]) field(name string) (field, error) {
	if f, ok := commonFields[name]; ok {
		return f, nil
	}
	c, ok := t.cols[name]
	if !ok {
		return field{}, fault.BadRequest.Withf("%s cannot be searched by %q", t.n.kind, name)
	}
	f := field{name: `n."` + c.name + `"`, form: c.form}
	if c.form.folds() {
		f.fold = "n.f_" + c.name
	}
	return f, nil
}

// where renders scope and conditions. An invalid scope is refused: the zero
// Scope sees nothing, and asking with it is a mistake worth hearing of.
func (t *Table[T, ID]) where(s apim.Scope, q apim.Query) (*builder, error) {
	if !s.Valid() {
		return nil, fault.NotPermitted.With("no tenant in scope")
	}
	b := &builder{}
	glue := " WHERE "
	if !s.All() {
		b.Str(glue + "n.tenant = ").Arg(string(s.Tenant()))
		glue = " AND "
	}
	for _, c := range q.Where {
		b.Str(glue)
		if err := t.cond(b, c); err != nil {
			return nil, err
		}
		glue = " AND "
	}
	for _, group := range q.Any {
		if len(group) == 0 {
			continue
		}
		b.Str(glue + "(")
		for i, c := range group {
			if i > 0 {
				b.Str(" OR ")
			}
			if err := t.cond(b, c); err != nil {
				return nil, err
			}
		}
		b.Str(")")
		glue = " AND "
	}
	return b, nil
}

// maxOneOf bounds the values of one condition.
const maxOneOf = 20_000

func (t *Table[T, ID]) cond(b *builder, c apim.Cond) error {
	f, err := t.field(c.Col)
	if err != nil {
		return err
	}
	val := stored(c.Value)
	str, isText := val.(string)
	if f.form == lower && isText {
		val, str = strings.ToLower(str), strings.ToLower(str)
	}
	if (f.form == number) == isText && c.Op != apim.OneOf {
		return fault.BadRequest.Withf("%s: %q takes another kind of value", t.n.kind, c.Col)
	}
	folded := func() string {
		switch {
		case f.fold != "":
			return f.fold
		case f.form == lower:
			return f.name
		}
		return "lower(" + f.name + ")"
	}
	find := t.d.dial.contains
	switch c.Op {
	case apim.Eq, apim.Ne, apim.Gt, apim.Lt:
		if f.form.lists() && (c.Op == apim.Eq || c.Op == apim.Ne) {
			return fault.BadRequest.Withf("%s: %q is a list: use has", t.n.kind, c.Col)
		}
		b.Str(f.name + " " + string(c.Op) + " ").Arg(val)
	case apim.EqFold:
		if !isText {
			return fault.BadRequest.Withf("%s: %q is no text", t.n.kind, c.Col)
		}
		if f.form.lists() {
			b.Str(find + "(" + folded() + ", ").Arg(unit + strings.ToLower(str) + unit).Str(") > 0")
			return nil
		}
		b.Str(folded() + " = ").Arg(strings.ToLower(str))
	case apim.Contains:
		if !isText {
			return fault.BadRequest.Withf("%s: %q is no text", t.n.kind, c.Col)
		}
		b.Str(find + "(" + folded() + ", ").Arg(strings.ToLower(str)).Str(") > 0")
	case apim.Has:
		if !f.form.lists() {
			return fault.BadRequest.Withf("%s: %q is no list", t.n.kind, c.Col)
		}
		b.Str(find + "(" + f.name + ", ").Arg(unit + str + unit).Str(") > 0")
	case apim.OneOf:
		return t.oneOf(b, f, c)
	default:
		return fault.BadRequest.Withf("unknown comparison %q", string(c.Op))
	}
	return nil
}

func (t *Table[T, ID]) oneOf(b *builder, f field, c apim.Cond) error {
	r := reflect.ValueOf(c.Value)
	if r.Kind() != reflect.Slice {
		return fault.BadRequest.Withf("%s: %q takes a list of values", t.n.kind, c.Col)
	}
	if r.Len() > maxOneOf {
		return fault.BadRequest.Withf("%s: more than %d values of %q", t.n.kind, maxOneOf, c.Col)
	}
	if r.Len() == 0 {
		b.Str("1 = 0")
		return nil
	}
	if f.form.lists() { // any of them is in the list
		b.Str("(")
		for i := range r.Len() {
			if i > 0 {
				b.Str(" OR ")
			}
			b.Str(t.d.dial.contains + "(" + f.name + ", ").Arg(unit + fmt.Sprint(stored(r.Index(i).Interface())) + unit).Str(") > 0")
		}
		b.Str(")")
		return nil
	}
	b.Str(f.name + " IN (")
	for i := range r.Len() {
		if i > 0 {
			b.Str(", ")
		}
		v := stored(r.Index(i).Interface())
		if s, ok := v.(string); ok && f.form == lower {
			v = strings.ToLower(s)
		}
		b.Arg(v)
	}
	b.Str(")")
	return nil
}

// page renders the select of one page. The page is chosen on the narrow rows;
// documents are fetched for it alone. Equal sort keys are ordered by id, so
// that pages neither repeat nor skip.
func (t *Table[T, ID]) page(where *builder, q apim.Query) (string, []any, error) {
	if q.Offset < 0 || q.Limit < 0 {
		return "", nil, fault.BadRequest.With("negative page")
	}
	key, dir := "n.created", "DESC"
	if q.Sort != "" {
		f, err := t.field(q.Sort)
		if err != nil {
			return "", nil, err
		}
		if f.form.lists() {
			return "", nil, fault.BadRequest.Withf("%s cannot be sorted by %q", t.n.kind, q.Sort)
		}
		key, dir = f.name, "ASC"
		if f.fold != "" {
			key = f.fold
		}
		if q.Desc {
			dir = "DESC"
		}
	}
	b := &builder{args: where.args[:len(where.args):len(where.args)]}
	order := " ORDER BY " + key + " " + dir + ", n.id " + dir
	if q.Limit == 1 && q.Offset == 0 {
		b.Str("SELECT " + rowColumns + " FROM " + t.n.table + " n JOIN blobs b ON b.hash = n.doc" + where.String() + order + " LIMIT 1")
		return b.String(), b.args, nil
	}
	// Sorting moves keys only; whole rows are fetched for the page.
	b.Str("SELECT " + rowColumns + " FROM (SELECT n.id, n.tenant FROM " + t.n.table + " n" + where.String() + order)
	if q.Limit > 0 {
		b.Str(" LIMIT ").Arg(q.Limit)
	} else if q.Offset > 0 {
		b.Str(" LIMIT ").Arg(int64(1) << 62)
	}
	if q.Offset > 0 {
		b.Str(" OFFSET ").Arg(q.Offset)
	}
	b.Str(") p JOIN " + t.n.table + " n ON n.id = p.id AND n.tenant = p.tenant JOIN blobs b ON b.hash = n.doc" + order)
	return b.String(), b.args, nil
}
