// Package proxy takes an exchange to a backend and back: it picks an endpoint,
// rebuilds the request from what was parsed, tries another endpoint where that
// is safe, and cleans the answer. How bytes travel is an Upstream's affair.
package proxy

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
)

// Request is what goes to a backend, rebuilt from the exchange. It belongs to
// the caller and is valid until the reply's body is closed.
type Request struct {
	Method  string
	TLS     bool
	Addr    string // host:port to dial
	Host    string // Host field
	Target  string // raw path and query
	Header  exchange.Header
	Body    io.Reader // nil: none
	BodyLen int64     // -1: unknown
	Trailer exchange.Trailer
	Timeout time.Duration
}

// Response is a backend's answer. Body is never nil and must be closed.
type Response struct {
	Status  int
	Header  exchange.Header
	Body    io.ReadCloser
	Len     int64 // -1: unknown
	Trailer exchange.Trailer
}

// Upstream sends requests to backends. Errors wrap one of the errors below
// where one fits; ErrConnect promises that no byte of the request was sent.
type Upstream interface {
	Send(ctx context.Context, r *Request) (*Response, error)
}

// Why a backend did not answer.
var (
	ErrConnect  = errors.New("connect to backend")
	ErrTimeout  = errors.New("backend timed out")
	ErrClosed   = errors.New("backend closed the connection")
	ErrProtocol = errors.New("backend broke the protocol")
	ErrRefused  = errors.New("backend address is not allowed")
	ErrClient   = errors.New("client went away")
	ErrBody     = errors.New("request body was incomplete")
)
