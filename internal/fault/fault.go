// Package fault is the catalogue of stable errors: inner code labels what a
// caller could act on with one of its rows, and each edge (REST problem body,
// gateway error, OAuth error) renders the label once. Anything unlabelled is
// an internal error whose cause is logged and never shown.
package fault

import (
	"errors"
	"fmt"
	"net/http"
)

// Kind says what sort of refusal an error is, from which an edge derives a
// status when the row itself pins none.
type Kind uint8

// The kinds; Internal is the zero value, so that a forgotten kind is hidden
// rather than shown.
const (
	Internal Kind = iota
	Invalid
	Unauthenticated
	Forbidden
	NotFound
	Conflict
	Changed
	Throttled
	TooLarge
	Unsupported
	Unavailable
	Full
	// Pinned marks the few mistakes of a client that the original answers with
	// a 500 and that its clients rely on; Status is then 500 by decision.
	Pinned
)

var statusOf = [...]int{
	Internal:        http.StatusInternalServerError,
	Invalid:         http.StatusBadRequest,
	Unauthenticated: http.StatusUnauthorized,
	Forbidden:       http.StatusForbidden,
	NotFound:        http.StatusNotFound,
	Conflict:        http.StatusConflict,
	Changed:         http.StatusPreconditionFailed,
	Throttled:       http.StatusTooManyRequests,
	TooLarge:        http.StatusRequestEntityTooLarge,
	Unsupported:     http.StatusUnsupportedMediaType,
	Unavailable:     http.StatusServiceUnavailable,
	Full:            http.StatusInsufficientStorage,
	Pinned:          http.StatusInternalServerError,
}

// Error is one row of the catalogue, plus what this occurrence adds to it.
type Error struct {
	Kind   Kind
	Code   int    // clients match on it; a compatibility promise, never reused
	Msg    string // fixed per code
	Detail string // may be shown to the caller
	HTTP   int    // overrides the status derived from Kind when not 0
	Items  []Item // further findings, one per mistake
	Err    error  // for the log only, never for the caller
}

// Item is one of several mistakes reported together.
type Item struct {
	Code    string
	Message string
	Detail  string
}

// Error reads "code message: detail: cause".
func (e *Error) Error() string {
	s := fmt.Sprintf("%d %s", e.Code, e.Msg)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause, for the log and for errors.Is.
func (e *Error) Unwrap() error { return e.Err }

// Is matches any occurrence of the same row.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Kind == e.Kind
}

// Status is the HTTP status of this error.
func (e *Error) Status() int {
	if e.HTTP != 0 {
		return e.HTTP
	}
	return statusOf[e.Kind]
}

// With adds what may be shown to the caller. Value receivers keep rows constant.
func (e Error) With(detail string) *Error { e.Detail = detail; return &e }

// Withf is With and Sprintf.
func (e Error) Withf(format string, args ...any) *Error {
	e.Detail = fmt.Sprintf(format, args...)
	return &e
}

// Because adds the cause for the log.
func (e Error) Because(err error) *Error { e.Err = err; return &e }

// Listing adds further findings.
func (e Error) Listing(items ...Item) *Error { e.Items = items; return &e }

// Of finds the fault inside err; anything unlabelled becomes General and is hidden.
func Of(err error) *Error {
	if f, ok := errors.AsType[*Error](err); ok {
		return f
	}
	return General.Because(err)
}
