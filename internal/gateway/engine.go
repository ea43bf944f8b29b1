package gateway

import (
	"crypto/tls"
	"io"
	"strings"
	"time"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
	"github.com/cardea-apim/cardea/internal/http1"
)

// Serve is the handler of our own engine: one request of HTTP/1.1, and its
// answer. Handler is the same for HTTP/2.
func (g *Gateway) Serve(x *http1.Exchange) {
	c := g.acquire()
	defer g.inFlight.Add(-1)
	c.crowded = g.inFlight.Add(1) > g.o.MaxConcurrent
	c.take(x)
	c.serve()
	var bytes int64
	if c.gone {
		x.Abort()
	} else {
		bytes = c.answer(x)
	}
	c.done(bytes)
}

// take fills the exchange. Its strings are the engine's: nothing may keep them
// when the call is done.
func (c *call) take(x *http1.Exchange) {
	e := &c.Exchange
	e.Ctx, e.Method, e.Host = x.Context(), x.Method, x.Host
	target := x.Target
	if target != "" && target[0] != '/' {
		target = originForm(target)
	}
	if i := strings.IndexByte(target, '?'); i >= 0 {
		e.RawPath, e.RawQuery = target[:i], target[i+1:]
	} else {
		e.RawPath = target
	}
	e.Header = append(e.Header[:0], x.Header...)
	if x.Body != nil {
		e.Body, e.BodyLen = x.Body, x.Length
		if x.Length < 0 {
			e.Trailer = exchange.Trailer{Names: exchange.Announced(e.Header), From: x.Body}
		}
	}
	e.Peer = x.Peer().Addr()
	if s := x.TLS(); s != nil {
		c.secure = secureOf(s)
		e.TLS = &c.secure
	}
}

// originForm is an absolute target without its scheme and authority, which are
// in Host already (RFC 9112 §3.2.2). What is neither stays as it is and is
// refused later.
func originForm(target string) string {
	i := strings.Index(target, "://")
	if i < 0 || !exchange.Fold(target[:i], "http") && !exchange.Fold(target[:i], "https") {
		return target
	}
	rest := target[i+3:]
	j := strings.IndexAny(rest, "/?")
	switch {
	case j < 0:
		return "/"
	case rest[j] == '?':
		return "/" + rest[j:]
	}
	return rest[j:]
}

func secureOf(s *tls.ConnectionState) exchange.TLS {
	out := exchange.TLS{Version: s.Version, ServerName: s.ServerName}
	for _, cert := range s.PeerCertificates {
		out.Client = append(out.Client, cert.Raw)
	}
	return out
}

// answer writes the reply and returns how many bytes of a body went out. A
// reply that could not be completed cuts the connection.
func (c *call) answer(x *http1.Exchange) int64 {
	r := &c.Reply
	if r.Body != nil {
		defer r.Body.Close()
	}
	if r.Close {
		x.CloseAfter()
	}
	if r.Stream {
		x.Stream()
	}
	if err := x.Reply(r.Status, http1.Header(r.Header), r.Len); err != nil {
		c.g.o.Log.Debug("answer could not be begun", "err", err)
		x.Abort()
		return 0
	}
	if r.HasText {
		if x.Method == "HEAD" {
			return 0
		}
		n, err := x.WriteString(r.Text)
		if err != nil {
			x.Abort()
		}
		return int64(n)
	}
	if r.Body == nil || x.Method == "HEAD" || r.Status == 204 || r.Status == 304 {
		return 0
	}
	n, err := c.copyTo(x)
	if err != nil {
		_ = x.Flush() // what there is; then the connection is cut
		x.Abort()
		return n
	}
	if r.Len < 0 {
		if t := r.Trailer.Fields(); len(t) > 0 {
			x.Trailer(http1.Header(t))
		}
	}
	return n
}

// copyTo sends the body of the reply. What has arrived with the head of the
// backend's answer goes out as it lies there.
func (c *call) copyTo(x *http1.Exchange) (int64, error) {
	if w, ok := c.out.r.(interface{ Whole() ([]byte, bool) }); ok {
		if p, whole := w.Whole(); whole {
			n, err := x.Write(p)
			return int64(n), err
		}
	}
	from, ok := c.out.r.(io.WriterTo)
	if !ok {
		return x.ReadFrom(c.Reply.Body)
	}
	began := time.Now()
	c.sink = sink{x: x, stream: c.Reply.Stream || c.Reply.Len < 0}
	n, err := from.WriteTo(&c.sink)
	c.out.wait += time.Since(began) - c.sink.spent
	return n, err
}

// sink writes to the client and notes how long that took, which is not the
// backend's time.
type sink struct {
	x      *http1.Exchange
	stream bool
	spent  time.Duration
}

// Write sends p.
func (s *sink) Write(p []byte) (int, error) {
	from := time.Now()
	n, err := s.x.Write(p)
	s.spent += time.Since(from)
	return n, err
}

// Flush sends what waits, where a reader may be waiting for it.
func (s *sink) Flush() error {
	if !s.stream {
		return nil
	}
	from := time.Now()
	err := s.x.Flush()
	s.spent += time.Since(from)
	return err
}
