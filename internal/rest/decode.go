package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
)

// maxDepth bounds the nesting of JSON bodies.
const maxDepth = 64

// Decode reads a JSON body into a T, checked against the schema the document
// gives for the operation. Malformed, oversized, too deeply nested or
// wrong-typed bodies are faults that name the member; unknown members are
// ignored.
func Decode[T any](r *http.Request) (T, error) {
	var v T
	b, err := Body(r)
	if err != nil {
		return v, err
	}
	if c := callOf(r.Context()); c != nil && c.op != nil && c.op.body != nil {
		if err := checkBody(c.op.body, b); err != nil {
			return v, err
		}
	}
	return v, Unmarshal(b, &v)
}

// DecodeOptional is Decode for operations whose body may be absent: an empty
// one gives the zero T.
func DecodeOptional[T any](r *http.Request) (T, error) {
	var v T
	b, err := readAll(r)
	if err != nil || len(bytes.TrimSpace(b)) == 0 {
		return v, err
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return Decode[T](r)
}

// Body reads a JSON body within the surface's bound.
func Body(r *http.Request) ([]byte, error) {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		mt, _, err := mime.ParseMediaType(ct)
		if err != nil || (mt != "application/json" && !strings.HasSuffix(mt, "+json")) {
			return nil, fault.MediaType.With("The body must be application/json")
		}
	}
	b, err := readAll(r)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, fault.BadRequest.With("The request body is empty")
	}
	return b, nil
}

func readAll(r *http.Request) ([]byte, error) {
	limit := int64(1 << 20)
	if c := callOf(r.Context()); c != nil {
		limit = c.surface.MaxBody
	}
	return readBounded(r.Body, limit)
}

// readBounded reads all of r, at most limit bytes.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fault.BadRequest.With("The request body could not be read").Because(err)
	}
	if int64(len(b)) > limit {
		return nil, fault.BodyTooLarge.Withf("The request body is larger than %d bytes", limit)
	}
	return b, nil
}

// Unmarshal is json.Unmarshal with bounded nesting and mistakes as faults.
func Unmarshal(b []byte, v any) error {
	if err := CheckDepth(b, maxDepth); err != nil {
		return err
	}
	err := json.Unmarshal(b, v)
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := t.Field
		if field == "" {
			field = "the body"
		}
		f := fault.BadRequest.Withf("%s: expected %s, found %s", field, wireType(t.Type.Kind().String()), t.Value)
		f.Items = []fault.Item{{Code: "400", Message: field, Detail: f.Detail}}
		return f
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		line, col := position(b, s.Offset)
		return fault.BadRequest.Withf("The request body is not JSON: line %d, column %d: %s", line, col, s.Error())
	}
	return fault.BadRequest.With("The request body is not what the operation expects").Because(err)
}

func wireType(kind string) string {
	switch kind {
	case "slice", "array":
		return "an array"
	case "map", "struct", "ptr":
		return "an object"
	case "bool":
		return "a boolean"
	case "string":
		return "a string"
	}
	return "a number"
}

func position(b []byte, offset int64) (line, col int) {
	offset = min(max(offset, 0), int64(len(b)))
	head := b[:offset]
	line = bytes.Count(head, []byte{'\n'}) + 1
	return line, len(head) - bytes.LastIndexByte(head, '\n')
}

// CheckDepth refuses JSON nested deeper than limit, without building anything.
func CheckDepth(b []byte, limit int) error {
	depth, in := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case in && c == '\\':
			i++
		case c == '"':
			in = !in
		case in:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return fault.BadRequest.Withf("The JSON is nested deeper than %d levels", limit)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
