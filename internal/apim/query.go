package apim

// Op is how a condition compares.
type Op string

// The comparisons a store understands.
const (
	Eq       Op = "="
	Ne       Op = "!="
	EqFold   Op = "=~"  // equal, ignoring case
	Contains Op = "~"   // contains, ignoring case; % and _ have no special meaning
	Has      Op = "has" // a list column holds the value
	OneOf    Op = "in"  // Value is []string
	Gt       Op = ">"
	Lt       Op = "<"
)

// Cond is one condition on a searchable column of a noun.
type Cond struct {
	Col   string
	Op    Op
	Value any
}

// Query selects, sorts and pages a list. Conditions of Where are ANDed; each
// element of Any is a group of which one must hold.
type Query struct {
	Where  []Cond
	Any    [][]Cond
	Sort   string // column; empty: newest first
	Desc   bool
	Offset int
	Limit  int // 0: no limit, for internal use; surfaces always set one
}

// Where is a query of one equality.
func Where(col string, value any) Query { return Query{Where: []Cond{{col, Eq, value}}} }

// And adds an equality.
func (q Query) And(col string, value any) Query {
	q.Where = append(q.Where[:len(q.Where):len(q.Where)], Cond{col, Eq, value})
	return q
}

// Page is one page of a list, with the number of all hits.
type Page[T any] struct {
	Items []*T
	Total int
}
