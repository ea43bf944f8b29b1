package publish

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/cardea-apim/cardea/internal/fault"
)

// secretNames are the members of endpoint and subscription settings whose
// values never leave the server.
var secretNames = map[string]bool{
	"password": true, "clientSecret": true, "apiKeyValue": true, "secret": true, "amznSecretKey": true,
	"secretKey": true, "accessSecret": true,
}

// seal replaces the secrets of a JSON document by their sealed form. An empty
// one keeps what old has at the same place.
func (s *Service) seal(raw, old json.RawMessage) (json.RawMessage, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	v, err := tree(raw)
	if err != nil {
		return nil, fault.BadRequest.With("The endpoint configuration is malformed").Because(err)
	}
	var was any
	if len(old) > 0 {
		if was, err = tree(old); err != nil {
			was = nil
		}
	}
	walk(v, was, func(now, before string) string {
		if now != "" {
			return s.Seal.Seal([]byte(now))
		}
		if strings.HasPrefix(before, "sealed:") {
			return before
		}
		return ""
	})
	return json.Marshal(v)
}

// Masked is a JSON document with its secrets shown empty.
func Masked(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return nil
	}
	v, err := tree(raw)
	if err != nil {
		return nil
	}
	walk(v, nil, func(string, string) string { return "" })
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

func tree(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

func walk(v, old any, fn func(now, before string) string) {
	switch x := v.(type) {
	case map[string]any:
		o, _ := old.(map[string]any)
		for k, m := range x {
			if s, ok := m.(string); ok && secretNames[k] {
				before, _ := o[k].(string)
				x[k] = fn(s, before)
				continue
			}
			walk(m, o[k], fn)
		}
	case []any:
		o, _ := old.([]any)
		for i, m := range x {
			var before any
			if i < len(o) {
				before = o[i]
			}
			walk(m, before, fn)
		}
	}
}
