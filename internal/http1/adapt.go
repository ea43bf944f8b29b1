package http1

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// Adapt serves h on a Server. It allocates as net/http does; what it gives h
// outlives the exchange's buffers.
func Adapt(h http.Handler) func(*Exchange) {
	return func(x *Exchange) {
		r, err := httpRequest(x)
		if err != nil {
			_ = x.Reply(http.StatusBadRequest, nil, 0)
			return
		}
		ctx, cancel := context.WithCancel(x.Context())
		defer cancel()
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, x.Local())
		w := &adapted{x: x, header: make(http.Header), head: x.Method == "HEAD"}
		r = r.WithContext(ctx)
		if b, ok := r.Body.(*httpBody); ok {
			b.r = r
		}
		h.ServeHTTP(w, r)
		w.finish()
	}
}

func httpRequest(x *Exchange) (*http.Request, error) {
	target := strings.Clone(x.Target)
	r := &http.Request{
		Method: strings.Clone(x.Method), RequestURI: target, Host: strings.Clone(x.Host), RemoteAddr: x.Peer().String(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: x.Minor, Header: make(http.Header, len(x.Header)),
		TLS: x.TLS(), Body: http.NoBody, Close: x.framing.close,
	}
	if x.Minor == 0 {
		r.Proto = "HTTP/1.0"
	}
	var err error
	if r.Method == http.MethodConnect {
		r.URL = &url.URL{Host: target}
	} else if r.URL, err = url.ParseRequestURI(target); err != nil {
		return nil, err
	}
	for _, f := range x.Header {
		k := http.CanonicalHeaderKey(f.Name)
		if k == "Transfer-Encoding" {
			continue
		}
		r.Header[k] = append(r.Header[k], strings.Clone(f.Value))
	}
	if x.Body != nil {
		r.Body, r.ContentLength = &httpBody{b: x.Body}, x.Length
		if x.Length < 0 {
			r.TransferEncoding = []string{"chunked"}
			if r.Header.Get("Trailer") != "" {
				r.Trailer = make(http.Header) // shared by copies of the request
			}
		}
	}
	return r, nil
}

// httpBody is a request body as net/http gives it.
type httpBody struct {
	b      *Body
	r      *http.Request
	closed bool
}

// Read reads the body; the trailer is in the request at its end.
func (b *httpBody) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.b.Read(p)
	if err == io.EOF && len(b.r.Trailer) == 0 && len(b.b.trailer) > 0 {
		if b.r.Trailer == nil {
			b.r.Trailer = make(http.Header)
		}
		for _, f := range b.b.trailer {
			b.r.Trailer.Add(f.Name, f.Value)
		}
	}
	return n, err
}

// Close makes later reads fail.
func (b *httpBody) Close() error { b.closed = true; return nil }

// adapted is the http.ResponseWriter of an exchange. A short answer whose
// handler returns before it flushes gets a Content-Length.
type adapted struct {
	x        *Exchange
	header   http.Header
	frozen   http.Header // as it was at WriteHeader
	status   int
	begun    bool // Reply was called
	head     bool
	gave     bool // the connection was given away
	buf      []byte
	declared []string // trailers
}

// Header is the answer's header, and its trailers after the body began.
func (w *adapted) Header() http.Header { return w.header }

// WriteHeader sets the status, or sends an interim answer.
func (w *adapted) WriteHeader(status int) {
	if w.status != 0 || w.gave {
		return
	}
	if status >= 100 && status < 200 && status != 101 {
		_ = w.x.Inform(status, listOf(w.header))
		return
	}
	w.status = status
	w.declared = w.header.Values("Trailer")
	w.frozen = w.header.Clone() // later changes are for trailers
}

// Write sends or keeps a part of the body.
func (w *adapted) Write(p []byte) (int, error) {
	if w.gave {
		return 0, http.ErrHijacked
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !bodyAllowed(w.status) && len(p) > 0 {
		return 0, http.ErrBodyNotAllowed
	}
	if !w.begun {
		if len(w.buf)+len(p) <= small/2 {
			w.buf = append(w.buf, p...)
			return len(p), nil
		}
		if err := w.begin(p, false); err != nil {
			return 0, err
		}
	}
	return w.x.Write(p)
}

// WriteString is Write.
func (w *adapted) WriteString(s string) (int, error) { return w.Write(aliasBytes(s)) }

func bodyAllowed(status int) bool { return status >= 200 && status != 204 && status != 304 }

// begin sends the head. next is what will be written behind what is kept;
// whole says that nothing else will.
func (w *adapted) begin(next []byte, whole bool) error {
	w.begun = true
	length := int64(-1)
	if v := w.frozen.Get("Content-Length"); v != "" {
		length = decimal(v)
	} else if whole && !(w.head && len(w.buf) == 0) && w.frozen.Get("Trailer") == "" {
		length = int64(len(w.buf))
	}
	if !bodyAllowed(w.status) && length < 0 {
		length = 0
	}
	if _, set := w.frozen["Content-Type"]; !set && bodyAllowed(w.status) && w.frozen.Get("Content-Encoding") == "" {
		if first := append(w.buf[:len(w.buf):len(w.buf)], next[:min(len(next), 512)]...); len(first) > 0 {
			w.frozen.Set("Content-Type", http.DetectContentType(first))
		}
	}
	if strings.EqualFold(w.frozen.Get("Connection"), "close") {
		w.x.CloseAfter()
	}
	if err := w.x.Reply(w.status, listOf(w.frozen), length); err != nil {
		return err
	}
	if len(w.buf) > 0 {
		if _, err := w.x.Write(w.buf); err != nil {
			return err
		}
	}
	w.buf = nil
	return nil
}

var lineEnds = strings.NewReplacer("\r", " ", "\n", " ")

func listOf(from http.Header) Header {
	h := make(Header, 0, len(from))
	for name, values := range from {
		if !isToken(name) || strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		for _, v := range values {
			h = append(h, Field{name, lineEnds.Replace(v)})
		}
	}
	return h
}

func (w *adapted) finish() {
	if w.gave {
		return
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun && w.begin(nil, true) != nil {
		return
	}
	var t Header
	for _, list := range w.declared {
		for name := range strings.SplitSeq(list, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			for _, v := range w.header[name] {
				t = append(t, Field{name, lineEnds.Replace(v)})
			}
		}
	}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			for _, v := range values {
				t = append(t, Field{name, lineEnds.Replace(v)})
			}
		}
	}
	w.x.Trailer(t)
}

// Flush sends what waits.
func (w *adapted) Flush() { _ = w.FlushError() }

// FlushError sends what waits.
func (w *adapted) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.begun {
		if err := w.begin(nil, false); err != nil {
			return err
		}
	}
	return w.x.Flush()
}

// EnableFullDuplex is how this server always works.
func (w *adapted) EnableFullDuplex() error { return nil }

// Hijack gives the connection away.
func (w *adapted) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.status != 0 {
		return nil, nil, ErrReplied
	}
	t, err := w.x.Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.gave = true
	rw := bufio.NewReadWriter(bufio.NewReader(t), bufio.NewWriter(t))
	if n := len(t.rest); n > 0 {
		_, _ = rw.Reader.Peek(min(n, rw.Reader.Size())) // as net/http has it
	}
	return t, rw, nil
}
