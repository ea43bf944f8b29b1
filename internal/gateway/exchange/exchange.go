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

	"github.com/cardea-apim/cardea/internal/http1"
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
	HTTP2    bool // the client speaks HTTP/2
	TLS      *TLS // nil on a plain connection
	Peer     netip.Addr

	// Client is the address of the caller as far as trusted proxies tell.
	Client netip.Addr

	Scratch Scratch

	Reply Reply
}

// TLS is what steps may know of a secure connection.
type TLS struct {
	Version    uint16
	ServerName string
	Client     [][]byte // DER certificates the client proved to own, leaf first
}

// Trailer is what may follow a body: the names that were announced, and where
// to ask for what came once the body has been read to its end.
type Trailer struct {
	Names []string
	From  interface{ Trailer() http1.Header } // nil: nothing can follow
	May   func(name string) bool              // nil: every field may
}

// Fields are what followed, as far as it may.
func (t *Trailer) Fields() Header {
	if t.From == nil {
		return nil
	}
	all := Header(t.From.Trailer())
	if t.May == nil || len(all) == 0 {
		return all
	}
	out := make(Header, 0, len(all))
	for _, f := range all {
		if t.May(f.Name) {
			out = append(out, f)
		}
	}
	return out
}

// Announced are the names in the Trailer fields of a header.
func Announced(h Header) (names []string) {
	for i := range h {
		if Fold(h[i].Name, "Trailer") {
			EachToken(h[i].Value, func(name string) bool {
				names = append(names, name)
				return true
			})
		}
	}
	return names
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
