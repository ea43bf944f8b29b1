package http1

import (
	"io"
	"time"
)

// Request is what goes to a server. Fields that frame the message or concern
// the connection are the client's affair and left out of Header; Host is not
// among them either.
type Request struct {
	Method string
	Target string // raw path and query
	Host   string
	Header Header
	Body   io.Reader // nil: none
	Length int64     // of the body; -1: not known
	// Trailer, if set, is asked for fields once the body ended; they are sent
	// if the length was not known.
	Trailer func() Header
	// Timeout is from when there is a connection to the head of the answer, and
	// anew with every piece of a body in either direction. Connecting may not
	// take longer either. 0: none.
	Timeout time.Duration
	Upgrade string // protocol to ask for; the answer may be 101
	// Inform, if set, is called with interim answers (100, 102, 103...).
	Inform func(status int, h Header)
}

// interrupter is a body whose blocked Read can be ended, such as *Body. Others
// make an answer that comes early wait for their next read.
type interrupter interface{ Interrupt() }

// taker is a body that may have arrived whole, such as *Body.
type taker interface{ Take() ([]byte, bool) }

// Response is an answer. Strings in it are valid until Close. Body reads may be
// interrupted by the call's context.
type Response struct {
	Status int
	Header Header
	Length int64 // of the body; -1: not known; for HEAD what was announced

	u       *upstream
	framing framing
	minor   int
	body    Body
}

// Read gives the body as it arrives.
func (r *Response) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	if err != nil && err != io.EOF {
		err = r.u.explain(err)
	}
	return n, err
}

// WriteTo writes the body to w; see Body.WriteTo.
func (r *Response) WriteTo(w io.Writer) (int64, error) {
	n, err := r.body.WriteTo(w)
	if err != nil && err == r.body.err && !r.body.unread {
		err = r.u.explain(err)
	}
	return n, err
}

// Whole is the body if all of it has arrived with the head.
func (r *Response) Whole() ([]byte, bool) { return r.body.Take() }

// Failed reports whether the error that ended WriteTo was the server's and not
// the writer's.
func (r *Response) Failed() bool {
	return r.body.err != nil && r.body.err != io.EOF && !r.body.unread
}

// Trailer are the fields after the body, once it was read to its end.
func (r *Response) Trailer() Header { return r.body.trailer }

// Close ends the use of the answer. The connection is kept if the answer was
// read to its end and the request was sent.
func (r *Response) Close() error {
	r.u.finish()
	return nil
}

// Tunnel takes over the connection after a 101; the answer needs no Close.
func (r *Response) Tunnel() (*Tunnel, error) {
	if r.Status != 101 {
		return nil, ErrNoUpgrade
	}
	return r.u.give(), nil
}
