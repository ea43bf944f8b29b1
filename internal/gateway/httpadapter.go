package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/http1"
)

// Handler is the gateway as a handler of net/http's server, which serves what
// our own engine hands over: HTTP/2. Listeners and timeouts are the caller's.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serveHTTP) }

func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 2 && malformed(r) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c := g.acquire()
	fill(&c.Exchange, r)
	defer g.inFlight.Add(-1)
	c.crowded = g.inFlight.Add(1) > g.o.MaxConcurrent
	if c.Body != nil && r.ProtoMajor == 1 {
		// The backend may answer before it has read everything. An engine that
		// cannot do that (a recorder in a test) still serves.
		_ = http.NewResponseController(w).EnableFullDuplex()
	}
	c.serve()
	var bytes int64
	var err error
	if c.gone {
		err = errGone
	} else {
		bytes, err = write(w, r, &c.Reply)
	}
	c.done(bytes)
	if err != nil {
		panic(http.ErrAbortHandler) // cut the connection: the answer is incomplete
	}
}

// malformed reports what net/http lets through of a request over HTTP/2 and our
// own engine does not over HTTP/1.1: no or a contradictory host, a target that
// is not a path, and a length that cannot be (RFC 9113 §8.1.1, §8.3.1).
func malformed(r *http.Request) bool {
	switch {
	case r.Host == "" || strings.ContainsFunc(r.Host, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"#/<>?@\^{|}`+"`", c) }):
		return true
	case r.Method != http.MethodConnect && r.RequestURI != "*" && !strings.HasPrefix(r.RequestURI, "/"):
		return true
	}
	for _, host := range r.Header["Host"] {
		if !exchange.Fold(host, r.Host) {
			return true
		}
	}
	lengths := r.Header["Content-Length"]
	if len(lengths) == 0 {
		return false
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	return len(lengths) > 1 || err != nil || int64(n) != r.ContentLength
}

// fill makes an exchange out of a request of net/http.
func fill(x *exchange.Exchange, r *http.Request) {
	x.Ctx, x.Method, x.Host = r.Context(), r.Method, r.Host
	target := r.RequestURI
	if target == "" || target[0] != '/' {
		target = r.URL.RequestURI() // absolute form; the authority is in Host
	}
	if i := strings.IndexByte(target, '?'); i >= 0 {
		x.RawPath, x.RawQuery = target[:i], target[i+1:]
	} else {
		x.RawPath = target
	}
	for name, values := range r.Header {
		for _, v := range values {
			x.Header = append(x.Header, exchange.Field{Name: name, Value: v})
		}
	}
	x.HTTP2 = r.ProtoMajor == 2
	x.BodyLen = r.ContentLength
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		x.Body = &interruptible{ReadCloser: r.Body}
	}
	if len(r.Trailer) > 0 && x.Body != nil {
		x.Trailer = trailerOf(&r.Trailer)
	}
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.Peer = a.Addr().Unmap()
	}
	if r.TLS != nil {
		x.TLS = new(secureOf(r.TLS))
	}
}

// interruptible is a body whose blocked read can be ended.
type interruptible struct {
	io.ReadCloser
	gone atomic.Bool // the client took its stream back, or left
}

// Read reads the body.
func (b *interruptible) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		if s := (streamError{}); errors.As(err, &s) || err.Error() == "client disconnected" {
			b.gone.Store(true)
		}
	}
	return n, err
}

// left reports whether the client of a failed body left: that is another thing
// than a body that ends too early.
func (c *call) left() bool {
	b, ok := c.in.r.(*interruptible)
	return ok && b.gone.Load()
}

// Interrupt ends a read that waits, and every later one.
func (b *interruptible) Interrupt() { _ = b.Close() }

// trailer is a trailer of net/http, which fills it when the body ends.
type trailer struct{ h *http.Header }

// Trailer lists the fields.
func (t trailer) Trailer() http1.Header {
	out := make(http1.Header, 0, len(*t.h))
	for name, values := range *t.h {
		for _, v := range values {
			out = append(out, http1.Field{Name: name, Value: v})
		}
	}
	return out
}

func trailerOf(h *http.Header) exchange.Trailer {
	names := make([]string, 0, len(*h))
	for name := range *h {
		names = append(names, name)
	}
	return exchange.Trailer{Names: names, From: trailer{h}}
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// write sends a reply. An error means that the client has only a part of it.
func write(w http.ResponseWriter, r *http.Request, reply *exchange.Reply) (int64, error) {
	// Texts are copied: header compression keeps them as long as the connection
	// lasts, and they may be in the room of the call or of the backend's answer.
	h := w.Header()
	for _, f := range reply.Header {
		k := http.CanonicalHeaderKey(strings.Clone(f.Name))
		h[k] = append(h[k], strings.Clone(f.Value))
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // do not guess
	}
	if reply.Close {
		h.Set("Connection", "close")
	}
	bodiless := r.Method == http.MethodHead || reply.Status == http.StatusNoContent || reply.Status == http.StatusNotModified
	if reply.Len >= 0 && (reply.Len > 0 || !bodiless) {
		h.Set("Content-Length", strconv.FormatInt(reply.Len, 10))
	}
	follows := reply.Trailer.From != nil && (reply.Len < 0 || r.ProtoMajor == 2)
	if follows {
		for _, name := range reply.Trailer.Names {
			h.Add("Trailer", strings.Clone(name))
		}
	}
	w.WriteHeader(reply.Status)
	if reply.HasText {
		if bodiless {
			return 0, nil
		}
		n, err := io.WriteString(w, reply.Text)
		return int64(n), err
	}
	if reply.Body == nil {
		return 0, nil
	}
	defer reply.Body.Close()
	if bodiless {
		return 0, nil
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	flush := reply.Stream || reply.Len < 0
	if flush {
		_ = flushNow(w) // the client may wait for the head before anything of the body comes
	}
	var total int64
	for {
		n, err := reply.Body.Read(*buf)
		if n > 0 {
			m, werr := w.Write((*buf)[:n])
			total += int64(m)
			if werr != nil {
				return total, werr
			}
			if flush {
				if err := flushNow(w); err != nil {
					return total, err
				}
			}
		}
		if err == io.EOF {
			if follows {
				for _, f := range reply.Trailer.Fields() {
					k := http.TrailerPrefix + http.CanonicalHeaderKey(f.Name)
					h[k] = append(h[k], strings.Clone(f.Value))
				}
			}
			return total, nil
		}
		if err != nil {
			_ = flushNow(w) // what there is; then the connection is cut
			return total, err
		}
	}
}

// flushNow sends what is buffered, where the engine can.
func flushNow(w http.ResponseWriter) error {
	if f, ok := w.(interface{ FlushError() error }); ok {
		return f.FlushError()
	}
	return nil
}
