package keymanager

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// Bounds of a request to the OAuth endpoints.
const (
	maxBody   = 64 << 10
	maxParams = 64
)

// params are the parameters of a request by name. Those of the query count as
// those of the body: clients of the original send the grant there, with an
// empty body.
type params map[string]string

var (
	errRepeated = invalidRequest("Invalid request with repeated parameters.")
	errBody     = invalidRequest("The request body is not well-formed.")
)

// readParams collects the parameters of the query and of a form or JSON body.
// A parameter sent twice is an error, also once in each place.
func readParams(q *request) (params, error) {
	p := params{}
	if err := p.addForm(q.r.URL.RawQuery); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, &oauthError{status: http.StatusRequestEntityTooLarge, code: "invalid_request", text: "The request body is too large."}
		}
		return nil, &oauthError{status: http.StatusBadRequest, code: "invalid_request", text: "The request body could not be read.", err: err}
	}
	if len(body) == 0 {
		return p, nil
	}
	media := q.r.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(media)
	if err != nil && media != "" {
		return nil, errBody
	}
	switch kind {
	case "application/json":
		return p, p.addJSON(body)
	case "application/x-www-form-urlencoded", "":
		return p, p.addForm(string(body))
	}
	return nil, &oauthError{status: http.StatusUnsupportedMediaType, code: "invalid_request", text: "The media type of the request body is not supported."}
}

func (p params) add(name, value string) error {
	if _, ok := p[name]; ok {
		return errRepeated
	}
	if len(p) >= maxParams || !utf8.ValidString(name) || !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
		return errBody
	}
	p[name] = value
	return nil
}

func (p params) addForm(s string) error {
	for s != "" {
		var pair string
		pair, s, _ = strings.Cut(s, "&")
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return errBody
		}
		if err := p.add(name, value); err != nil {
			return err
		}
	}
	return nil
}

// addJSON reads an object of texts, numbers and booleans, the form the
// product's own clients use. Null counts as absent.
func (p params) addJSON(body []byte) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return errBody
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return errBody
		}
		tok, err := dec.Token()
		if err != nil {
			return errBody
		}
		var value string
		switch v := tok.(type) {
		case string:
			value = v
		case json.Number:
			value = v.String()
		case bool:
			value = map[bool]string{true: "true", false: "false"}[v]
		case nil:
			continue
		default:
			return errBody
		}
		if err := p.add(name.(string), value); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return errBody
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errBody
	}
	return nil
}

// basic reads Basic credentials. present tells whether the request has an
// Authorization header of that scheme at all, ok whether it could be read.
func basic(r *http.Request) (user, password string, present, ok bool) {
	list := r.Header.Values("Authorization")
	if len(list) == 0 {
		return "", "", false, false
	}
	scheme, rest, _ := strings.Cut(list[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false, false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest))
	if err != nil || len(list) > 1 || !utf8.Valid(b) {
		return "", "", true, false
	}
	user, password, ok = strings.Cut(string(b), ":")
	return user, password, true, ok
}

// bearer reads a bearer token from the Authorization header.
func bearer(r *http.Request) (string, bool) {
	list := r.Header.Values("Authorization")
	if len(list) != 1 {
		return "", false
	}
	scheme, rest, _ := strings.Cut(list[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	rest = strings.TrimSpace(rest)
	return rest, rest != ""
}
