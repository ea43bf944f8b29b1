package rest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cardea-apim/cardea/internal/apim"
	"github.com/cardea-apim/cardea/internal/fault"
)

// operation is one operation of the document, prepared for requests.
type operation struct {
	ID      string
	Method  string
	Path    string
	scopes  []string
	public  bool // callers without credentials are welcome too
	params  []param
	body    *openapi3.Schema // of application/json
	names   []string         // path parameters, in order
	handler Handler
}

type param struct {
	name     string
	in       string
	required bool
	schema   *openapi3.Schema
	pattern  *regexp.Regexp
}

func operations(doc []byte) ([]*operation, error) {
	l := openapi3.NewLoader()
	t, err := l.LoadFromData(doc)
	if err != nil {
		return nil, fmt.Errorf("read OpenAPI document: %w", err)
	}
	var out []*operation
	for path, item := range t.Paths.Map() {
		for method, o := range item.Operations() {
			op := &operation{ID: o.OperationID, Method: method, Path: path}
			sec := o.Security
			if sec == nil {
				sec = &t.Security
			}
			for _, alternative := range *sec {
				op.public = op.public || len(alternative) == 0
				for _, scopes := range alternative {
					op.scopes = append(op.scopes, scopes...)
				}
			}
			for _, refs := range []openapi3.Parameters{item.Parameters, o.Parameters} {
				for _, p := range refs {
					if err := op.addParam(p.Value); err != nil {
						return nil, err
					}
				}
			}
			if o.RequestBody != nil && o.RequestBody.Value != nil {
				if mt := o.RequestBody.Value.Content["application/json"]; mt != nil && mt.Schema != nil {
					op.body = mt.Schema.Value
				}
			}
			out = append(out, op)
		}
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Path+" "+out[i].Method < out[j].Path+" "+out[j].Method
	})
	return out, nil
}

func (op *operation) addParam(v *openapi3.Parameter) error {
	// Header parameters are never refused: clients send all sorts of them.
	if v == nil || v.Schema == nil || v.In == openapi3.ParameterInHeader || v.In == openapi3.ParameterInCookie {
		return nil
	}
	p := param{name: v.Name, in: v.In, required: v.Required, schema: v.Schema.Value}
	if p.schema.Pattern != "" {
		re, err := regexp.Compile(p.schema.Pattern)
		if err != nil {
			return fmt.Errorf("pattern of parameter %s of %s: %w", v.Name, op.ID, err)
		}
		p.pattern = re
	}
	op.params = append(op.params, p)
	return nil
}

// open reports whether the operation names no scope: anybody may call it.
func (op *operation) open() bool { return len(op.scopes) == 0 }

// allows reports whether the actor holds any one of the scopes.
func (op *operation) allows(a *apim.Actor) bool {
	return op.open() || slices.ContainsFunc(op.scopes, a.HasScope)
}

func (op *operation) checkParams(r *http.Request, path map[string]string) error {
	if len(r.URL.RawQuery) > 16<<10 {
		return fault.BadRequest.With("The query is too long")
	}
	q := r.URL.Query()
	for _, p := range op.params {
		v, given := path[p.name], true
		if p.in == openapi3.ParameterInQuery {
			v, given = q.Get(p.name), q.Has(p.name)
		}
		if !given {
			if p.required {
				return fault.BadRequest.Withf("Query parameter %s is required", p.name)
			}
			continue
		}
		if v == "" && !p.required {
			continue
		}
		if err := p.check(v); err != nil {
			return err
		}
	}
	return nil
}

func (p *param) check(v string) error {
	bad := func(why string) error { return fault.BadRequest.Withf("Parameter %s %s", p.name, why) }
	s := p.schema
	switch {
	case strings.ContainsRune(v, 0):
		return bad("contains a NUL character")
	case s.Type.Is("integer"):
		if _, err := strconv.ParseInt(v, 10, 64); err != nil {
			return bad("must be an integer")
		}
	case s.Type.Is("boolean"):
		if _, err := strconv.ParseBool(v); err != nil {
			return bad("must be true or false")
		}
	case s.Type.Is("string"):
		if len(s.Enum) > 0 && !slices.ContainsFunc(s.Enum, func(e any) bool { return e == v }) {
			return bad("must be one of " + enumText(s.Enum))
		}
		if n := uint64(len([]rune(v))); s.MaxLength != nil && n > *s.MaxLength {
			return bad(fmt.Sprintf("must not be longer than %d characters", *s.MaxLength))
		}
		if p.pattern != nil && !p.pattern.MatchString(v) {
			return bad("has a form that is not allowed")
		}
	}
	return nil
}

func enumText(e []any) string {
	var s []string
	for _, v := range e {
		s = append(s, fmt.Sprint(v))
	}
	return strings.Join(s, ", ")
}
