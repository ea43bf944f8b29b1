package http1

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// proceed sends 100 Continue if the client waits for it.
func (x *Exchange) proceed() error {
	x.c.wmu.Lock()
	defer x.c.wmu.Unlock()
	switch x.expect {
	case expecting:
		x.expect = expectDone
		x.c.vecs[0] = goOn
		return x.c.send(1)
	case expectRefused:
		return ErrNotWanted
	}
	return nil
}

// expectMet notes that the body came without an invitation.
func (x *Exchange) expectMet() {
	x.c.wmu.Lock()
	if x.expect == expecting {
		x.expect = expectDone
	}
	x.c.wmu.Unlock()
}

// Inform sends an interim answer, 1xx but 101. A client of HTTP/1.0 gets none.
func (x *Exchange) Inform(status int, h Header) error {
	if x.status != 0 {
		return ErrReplied
	}
	if x.Minor == 0 {
		return nil
	}
	if status < 100 || status > 199 || status == 101 {
		return fmt.Errorf("inform client: status %d is not interim", status)
	}
	x.c.wmu.Lock()
	defer x.c.wmu.Unlock()
	if status == 100 {
		if x.expect != expecting {
			return nil
		}
		x.expect = expectDone
	}
	x.statusLine(status)
	if err := x.fields(h); err != nil {
		x.out = x.out[:0]
		return err
	}
	x.out = append(x.out, '\r', '\n')
	return x.flushLocked()
}

// Reply begins the answer. length is the body's, -1 if it is not known. Fields
// that frame the message or concern the connection are the server's affair and
// left out; Date is added if there is none. A CONNECT cannot succeed.
func (x *Exchange) Reply(status int, h Header, length int64) error {
	if x.status != 0 {
		return ErrReplied
	}
	if status < 200 || status > 999 {
		return fmt.Errorf("reply: status %d", status)
	}
	if x.Method == "CONNECT" && status < 300 {
		return ErrNoTunnel
	}
	x.c.wmu.Lock()
	defer x.c.wmu.Unlock()
	if x.broken != nil {
		return x.broken
	}
	x.bodiless = status == 204 || status == 304 || x.Method == "HEAD"
	if x.expect == expecting {
		// Whether the client sends its body now is its choice: only the end of
		// the connection is clear.
		x.expect, x.keep = expectRefused, false
	}
	if b := x.Body; b != nil && !b.whole.Load() && (x.Length < 0 || x.Length > drainable) {
		x.keep = false // perhaps nobody reads the rest
	}
	if x.c.srv.draining.Load() {
		x.keep = false
	}
	chunked := length < 0 && !x.bodiless && x.Minor == 1
	if length < 0 && !x.bodiless && !chunked {
		x.keep = false // the end of the connection is the end of the body
	}
	x.statusLine(status)
	if err := x.fields(h); err != nil {
		x.out = x.out[:0]
		return err
	}
	if !h.Has("Date") {
		x.out = append(append(append(x.out, "Date: "...), x.c.srv.now()...), '\r', '\n')
	}
	switch {
	case chunked:
		x.out = append(x.out, "Transfer-Encoding: chunked\r\n"...)
	case length >= 0 && status != 204 && !(status == 304 && length == 0):
		x.out = append(x.out, "Content-Length: "...)
		x.out = strconv.AppendInt(x.out, length, 10)
		x.out = append(x.out, '\r', '\n')
	}
	if !x.keep {
		x.out = append(x.out, "Connection: close\r\n"...)
	} else if x.Minor == 0 {
		x.out = append(x.out, "Connection: keep-alive\r\n"...)
	}
	x.out = append(x.out, '\r', '\n')
	x.status, x.length, x.chunked = status, length, chunked
	return nil
}

func (x *Exchange) statusLine(status int) {
	if x.out == nil {
		x.out = getBuffer(x.c.gather)[:0]
	}
	x.out = append(x.out, "HTTP/1.1 "...)
	x.out = append(x.out, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10), ' ')
	x.out = append(x.out, http.StatusText(status)...)
	x.out = append(x.out, '\r', '\n')
}

// framed reports whether a field is the engine's to write.
func framed(name string) bool {
	switch len(name) {
	case 4:
		return fold(name, "Host")
	case 7:
		return fold(name, "Upgrade")
	case 10:
		return fold(name, "Connection") || fold(name, "Keep-Alive")
	case 14:
		return fold(name, "Content-Length")
	case 16:
		return fold(name, "Proxy-Connection")
	case 17:
		return fold(name, "Transfer-Encoding")
	}
	return false
}

func (x *Exchange) fields(h Header) error {
	out, err := appendFields(x.out, h, false)
	x.out = out
	return err
}

func appendFields(out []byte, h Header, all bool) ([]byte, error) {
	for i := range h {
		f := &h[i]
		if !all && framed(f.Name) {
			continue
		}
		if !isToken(f.Name) {
			return out, fmt.Errorf("%w: name %q", ErrBadField, f.Name)
		}
		out = append(out, f.Name...)
		out = append(out, ':', ' ')
		at := len(out)
		out = append(out, f.Value...)
		if !isText(out[at:]) {
			return out, fmt.Errorf("%w: value of %s", ErrBadField, f.Name)
		}
		out = append(out, '\r', '\n')
	}
	return out, nil
}

// Write sends a part of the body. Small parts wait for more, for Flush, or for
// the end of the handler.
func (x *Exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		return 0, ErrNoReply
	}
	if x.broken != nil {
		return 0, x.broken
	}
	if x.bodiless {
		return len(p), nil
	}
	if len(p) == 0 {
		return 0, nil
	}
	if x.length >= 0 && x.written+int64(len(p)) > x.length {
		x.broken = ErrTooLong
		return 0, ErrTooLong
	}
	x.written += int64(len(p))
	x.c.wmu.Lock()
	defer x.c.wmu.Unlock()
	if x.out == nil {
		x.out = getBuffer(x.c.gather)[:0]
	}
	if x.chunked {
		x.out = strconv.AppendInt(x.out, int64(len(p)), 16)
		x.out = append(x.out, '\r', '\n')
	}
	if len(x.out)+len(p)+2 <= x.c.gather {
		x.out = append(x.out, p...)
		if x.chunked {
			x.out = append(x.out, '\r', '\n')
		}
		return len(p), nil
	}
	v, n := &x.c.vecs, 0
	if len(x.out) > 0 {
		v[n] = x.out
		n++
	}
	v[n] = p
	n++
	if x.chunked {
		v[n] = crlf
		n++
	}
	x.sent = true
	err := x.c.send(n)
	x.out = x.out[:0]
	if err != nil {
		x.broken = err
		return 0, err
	}
	return len(p), nil
}

var (
	crlf = []byte("\r\n")
	goOn = []byte("HTTP/1.1 100 Continue\r\n\r\n")
)

// WriteString is Write.
func (x *Exchange) WriteString(s string) (int, error) { return x.Write(aliasBytes(s)) }

// ReadFrom sends a body from r, until its end. An error of r leaves the answer
// incomplete; the caller should Abort.
func (x *Exchange) ReadFrom(r io.Reader) (int64, error) {
	if w, ok := r.(io.WriterTo); ok {
		return w.WriteTo(x)
	}
	b := getBuffer(wide)
	defer putBuffer(b)
	var total int64
	for {
		n, err := r.Read(b)
		if n > 0 {
			m, werr := x.Write(b[:n])
			total += int64(m)
			if werr == nil && x.streams() {
				werr = x.Flush()
			}
			if werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Flush sends what waits to be sent.
func (x *Exchange) Flush() error {
	if x.status == 0 {
		return ErrNoReply
	}
	return x.flush()
}

func (x *Exchange) flush() error {
	x.c.wmu.Lock()
	defer x.c.wmu.Unlock()
	return x.flushLocked()
}

func (x *Exchange) flushLocked() error {
	if x.broken != nil && x.broken != errIncomplete {
		return x.broken
	}
	if len(x.out) == 0 {
		return nil
	}
	x.sent = true
	x.c.vecs[0] = x.out
	err := x.c.send(1)
	x.out = x.out[:0]
	if err != nil {
		x.broken = err
	}
	return err
}

// Trailer sets fields to send after a chunked body; elsewhere they are lost.
func (x *Exchange) Trailer(h Header) { x.trailer = h }

func (x *Exchange) finish() {
	if x.chunked {
		if x.out == nil {
			x.out = getBuffer(x.c.gather)[:0]
		}
		x.out = append(x.out, "0\r\n"...)
		mark := len(x.out)
		var err error
		if x.out, err = appendTrailer(x.out, x.trailer); err != nil {
			x.out = x.out[:mark]
			x.c.srv.Log.Warn("trailer was left out", "err", err)
		}
		x.out = append(x.out, '\r', '\n')
	}
	_ = x.flush()
}
