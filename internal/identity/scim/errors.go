package scim

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/cardea-apim/cardea/internal/fault"
)

const (
	errorSchema = "urn:ietf:params:scim:api:messages:2.0:Error"
	listSchema  = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
	patchSchema = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
	bulkRequest = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
	bulkAnswer  = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
)

// refusal is an error as RFC 7644 §3.12 renders it.
type refusal struct {
	status int
	kind   string // scimType
	detail string
}

func (e *refusal) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.kind, e.detail) }

// bad is a mistake in the request.
func bad(kind, format string, args ...any) error {
	return &refusal{http.StatusBadRequest, kind, fmt.Sprintf(format, args...)}
}

func missing(what string) error {
	return &refusal{http.StatusNotFound, "", what + " does not exist"}
}

// errorBody is the answer for err, and its status; hidden is true for errors
// that are not the caller's to see.
func errorBody(err error) (status int, body map[string]any, hidden bool) {
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		f := fault.Of(err)
		r = &refusal{status: f.Status(), detail: f.Detail}
		hidden = f.Kind == fault.Internal
		switch f.Kind {
		case fault.Conflict:
			r.kind = "uniqueness"
		case fault.Invalid:
			r.kind = "invalidValue"
		}
		if r.detail == "" {
			r.detail = f.Msg
		}
	}
	body = map[string]any{"schemas": []string{errorSchema}, "status": strconv.Itoa(r.status), "detail": r.detail}
	if r.kind != "" {
		body["scimType"] = r.kind
	}
	return r.status, body, hidden
}
