// Package exchange holds the one thing that every step of the gateway sees: a
// request on its way to a backend and the answer on its way back. It knows no
// engine (no net/http types), so that the HTTP/1.1 loop, HTTP/2 and the tests
// can all fill it.
package exchange

import (
	"context"
	"io"
	"net/netip"
	"time"
)

// Exchange is one request and its reply. An engine fills the request part,
// has the gateway serve it, and writes Reply. Strings stay valid only until the
// engine says that the exchange is done; who keeps them longer copies them.
type Exchange struct {
	Ctx    context.Context // ends when the client leaves
	Start  time.Time
	Method string
	// RawPath is the path of the target as received, never decoded; RawQuery is
	// what follows "?", without it.
	RawPath  string
	RawQuery string
	Host     string // Host field or :authority, with port
	Header   Header // as received; Host is not among it
	Body     io.Reader
	BodyLen  int64 // bytes; -1: not known before its end; 0: no body
	Trailer  Trailer
	TLS      *TLS // nil on a plain connection
	Peer     netip.Addr

	// Client is the address of the caller as far as trusted proxies tell.
	Client netip.Addr

	Reply Reply
}

// TLS is what steps may know of a secure connection.
type TLS struct {
	Version    uint16
	ServerName string
	Client     [][]byte // DER certificates the client proved to own, leaf first
}

// Trailer is what may follow a body: the names that were announced, and what
// came, which is known once the body has been read to its end.
type Trailer struct {
	Names []string
	Read  func() Header // nil: none
}

// Reply is what the engine sends to the client. Body is read to its end and
// closed by the engine; a nil Body has no bytes.
type Reply struct {
	Status  int
	Header  Header
	Body    io.ReadCloser
	Len     int64 // bytes; -1: not known (chunked or until close)
	Trailer Trailer
	Stream  bool // flush after every read: event streams
	Close   bool // close the client's connection afterwards
	Text    string
	HasText bool // Text is the whole body; Body is nil
}

// Plain sets a reply whose body is a text the gateway made.
func (r *Reply) Plain(status int, contentType, text string) {
	r.Status, r.Text, r.HasText, r.Body, r.Len = status, text, true, nil, int64(len(text))
	r.Header.Set("Content-Type", contentType)
}

// Scheme is "https" or "http", as the client's connection to this gateway is.
func (x *Exchange) Scheme() string {
	if x.TLS != nil {
		return "https"
	}
	return "http"
}
