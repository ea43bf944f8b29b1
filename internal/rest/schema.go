package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/cardea-apim/cardea/internal/fault"
)

// patterns holds compiled patterns of the documents; nil marks one that does
// not compile here and is not enforced. The documents are ours: it is bounded.
var patterns sync.Map

// checkBody applies what the document says about types, lengths, patterns,
// bounds and required members. It is laxer than a validating library where the
// original is: null counts as absent, unknown members and enumerations are left
// to the use case, and read-only members are never required.
func checkBody(s *openapi3.Schema, b []byte) error {
	if err := CheckDepth(b, maxDepth); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil //nolint:nilerr // Unmarshal reports syntax, with its place
	}
	var items []fault.Item
	check(s, v, "", &items)
	if len(items) == 0 {
		return nil
	}
	f := fault.BadRequest.With(items[0].Detail)
	f.Items = items
	return f
}

const maxItems = 50

func check(s *openapi3.Schema, v any, path string, out *[]fault.Item) {
	if s == nil || v == nil || len(*out) >= maxItems {
		return
	}
	for _, sub := range s.AllOf {
		check(sub.Value, v, path, out)
	}
	bad := func(format string, args ...any) {
		name := path
		if name == "" {
			name = "the body"
		}
		*out = append(*out, fault.Item{Code: "400", Message: name, Detail: name + ": " + fmt.Sprintf(format, args...)})
	}
	switch x := v.(type) {
	case map[string]any:
		if s.Type != nil && !s.Type.Is("object") {
			bad("expected %s, found an object", article(s))
			return
		}
		for _, name := range s.Required {
			p := s.Properties[name]
			if p != nil && p.Value != nil && p.Value.ReadOnly {
				continue
			}
			if x[name] == nil {
				*out = append(*out, fault.Item{Code: "400", Message: join(path, name), Detail: join(path, name) + ": is required"})
			}
		}
		for name, p := range s.Properties {
			if p.Value != nil && !p.Value.ReadOnly {
				check(p.Value, x[name], join(path, name), out)
			}
		}
		if ap := s.AdditionalProperties.Schema; ap != nil {
			for name, m := range x {
				if s.Properties[name] == nil {
					check(ap.Value, m, join(path, name), out)
				}
			}
		}
	case []any:
		if s.Type != nil && !s.Type.Is("array") {
			bad("expected %s, found an array", article(s))
			return
		}
		if s.MaxItems != nil && uint64(len(x)) > *s.MaxItems {
			bad("has more than %d elements", *s.MaxItems)
		}
		if s.Items != nil {
			for i, e := range x {
				check(s.Items.Value, e, path+"["+strconv.Itoa(i)+"]", out)
			}
		}
	case string:
		if s.Type != nil && !s.Type.Is("string") {
			bad("expected %s, found a string", article(s))
			return
		}
		n := uint64(len([]rune(x)))
		if n < s.MinLength {
			bad("must have at least %d characters", s.MinLength)
		}
		if s.MaxLength != nil && n > *s.MaxLength {
			bad("must have at most %d characters", *s.MaxLength)
		}
		if re := pattern(s.Pattern); re != nil && !re.MatchString(x) {
			bad("has characters or a form that are not allowed")
		}
	case bool:
		if s.Type != nil && !s.Type.Is("boolean") {
			bad("expected %s, found a boolean", article(s))
		}
	case json.Number:
		checkNumber(s, x, bad)
	}
}

func checkNumber(s *openapi3.Schema, x json.Number, bad func(string, ...any)) {
	if s.Type != nil && !s.Type.Is("integer") && !s.Type.Is("number") {
		bad("expected %s, found a number", article(s))
		return
	}
	f, err := x.Float64()
	if err != nil {
		bad("is out of range")
		return
	}
	if s.Type.Is("integer") {
		if _, err := strconv.ParseInt(x.String(), 10, 64); err != nil {
			bad("must be a whole number")
			return
		}
	}
	if s.Min != nil && f < *s.Min {
		bad("must be at least %v", *s.Min)
	}
	if s.Max != nil && f > *s.Max {
		bad("must be at most %v", *s.Max)
	}
}

func pattern(p string) *regexp.Regexp {
	if p == "" {
		return nil
	}
	if v, ok := patterns.Load(p); ok {
		return v.(*regexp.Regexp)
	}
	re, err := regexp.Compile(p)
	if err != nil {
		re = nil
	}
	patterns.Store(p, re)
	return re
}

func article(s *openapi3.Schema) string {
	switch {
	case s.Type.Is("array"):
		return "an array"
	case s.Type.Is("object"):
		return "an object"
	case s.Type.Is("integer"):
		return "an integer"
	}
	for _, t := range s.Type.Slice() {
		return "a " + t
	}
	return "another type"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
