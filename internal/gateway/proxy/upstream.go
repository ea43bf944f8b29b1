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
	"github.com/cardea-apim/cardea/internal/http1"
)

// Request is what goes to a backend, rebuilt from the exchange. It belongs to
// the caller; an upstream uses it, and its body, until the reply's body is
// closed or Send has failed, and not a moment longer.
type Request struct {
	Method  string
	TLS     bool
	Addr    string // host:port to dial
	Nearby  bool   // the host is this machine
	Proto   Proto
	Host    string // Host field
	Target  string // raw path and query
	Header  exchange.Header
	Body    io.Reader // nil: none
	BodyLen int64     // -1: unknown
	Trailer exchange.Trailer
	Timeout time.Duration

	Wire http1.Request // room for an upstream that needs one
	sent tracked
}

// Proto is the version of HTTP that a backend is to be spoken to with.
type Proto uint8

// The versions.
const (
	HTTP1   Proto = iota // HTTP/1.1
	Prefer2              // HTTP/2 if the backend agrees to it during the TLS handshake
	HTTP2                // HTTP/2; without TLS by prior knowledge
)

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
	// Send fills res, which is empty.
	Send(ctx context.Context, r *Request, res *Response) error
}

// Why a backend did not answer.
var (
	ErrConnect  = errors.New("connect to backend")
	ErrBusy     = errors.New("too many calls wait for a connection to the backend")
	ErrTimeout  = errors.New("backend timed out")
	ErrClosed   = errors.New("backend closed the connection")
	ErrProtocol = errors.New("backend broke the protocol")
	ErrRefused  = errors.New("backend address is not allowed")
	ErrClient   = errors.New("client went away")
	ErrBody     = errors.New("request body was incomplete")
)
