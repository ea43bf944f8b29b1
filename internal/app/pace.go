package app

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/cardea-apim/cardea/internal/fault"
	"github.com/cardea-apim/cardea/internal/http1"
)

// pace is the slowest a peer may be: a grace, and a rate on average after it.
// Only time spent waiting for the peer counts, so a slow backend is not held
// against a client.
type pace struct {
	grace time.Duration
	rate  int64 // bytes per second
}

// floor is the pace of every listener; reference: security.
var floor = pace{grace: 10 * time.Second, rate: 1 << 10}

// account is what one direction has left. Progress earns time, up to the grace.
type account struct {
	pace
	left time.Duration
}

func (p pace) open() account { return account{p, p.grace} }

// deadline is until when the peer must have taken or given n bytes.
func (a *account) deadline(now time.Time, n int) time.Time { return now.Add(a.left + a.earns(n)) }

func (a *account) earns(n int) time.Duration {
	return time.Duration(n) * time.Second / time.Duration(a.rate)
}

// settle charges a wait and credits what moved in it.
func (a *account) settle(waited time.Duration, n int) {
	a.left = min(a.grace, a.left-waited+a.earns(n))
}

var errSlowBody = errors.New("the body came too slowly")

// slowBodies has handlers told in our words that a body came too slowly, which
// our engine sees to for HTTP/1.1.
func slowBodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			r.Body = namedBody{r.Body}
		}
		next.ServeHTTP(w, r)
	})
}

type namedBody struct{ io.ReadCloser }

// Read reads the body.
func (b namedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, http1.ErrTimeout) {
		err = fault.BadRequest.With(errSlowBody.Error()).Because(err)
	}
	return n, err
}

// paced bounds, over HTTP/2, where streams wait for the peer's window and not
// for the connection, how slowly the body of a request may come and how slowly
// the answer may be read. Our engine does that for HTTP/1.1.
// With silent the body may pause for as long as its reader waits.
func (p pace) paced(w http.ResponseWriter, r *http.Request, silent bool) http.ResponseWriter {
	if r.Body != nil && r.Body != http.NoBody && !silent {
		b := &pacedBody{ReadCloser: r.Body, rc: http.NewResponseController(w), in: p.open()}
		// Armed at once: a handler may answer without reading, and the server
		// then drains the body itself before it sends that answer.
		b.arm(time.Now())
		r.Body = b
	}
	return &pacedWriter{ResponseWriter: w, rc: http.NewResponseController(w), out: p.open()}
}

// pacedBody has a deadline for every read.
type pacedBody struct {
	io.ReadCloser
	rc    *http.ResponseController
	in    account
	armed time.Time
	set   bool
}

func (b *pacedBody) arm(now time.Time) {
	b.armed, b.set = now, b.rc.SetReadDeadline(b.in.deadline(now, 0)) == nil
}

// Read reads, or fails when the peer is slower than the floor.
func (b *pacedBody) Read(p []byte) (int, error) {
	start := time.Now()
	// A deadline set a moment ago is at most that moment too strict.
	if !b.set || start.Sub(b.armed) > b.in.grace/10 {
		b.arm(start)
	}
	n, err := b.ReadCloser.Read(p)
	b.in.settle(time.Since(start), n)
	if err != nil && b.set && !errors.Is(err, os.ErrDeadlineExceeded) {
		// Left alone it would end the request while its answer is being made. One
		// that has passed stays: the server drains the rest of a body before it
		// answers, and would wait for ever for what does not come.
		_ = b.rc.SetReadDeadline(time.Time{})
		b.set = false
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fault.BadRequest.With(errSlowBody.Error()).Because(err)
	}
	return n, err
}

// pacedWriter has a deadline for every write of an HTTP/2 stream.
type pacedWriter struct {
	http.ResponseWriter
	rc  *http.ResponseController
	out account
}

// Unwrap gives http.ResponseController the writer below.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *pacedWriter) do(n int, fn func() (int, error)) (int, error) {
	start := time.Now()
	if err := w.rc.SetWriteDeadline(w.out.deadline(start, n)); err != nil {
		return fn()
	}
	n, err := fn()
	w.out.settle(time.Since(start), n)
	if err == nil {
		err = w.rc.SetWriteDeadline(time.Time{}) // it would end an idle stream
	}
	return n, err
}

// Write writes, or fails when the peer is slower than the floor.
func (w *pacedWriter) Write(p []byte) (int, error) {
	return w.do(len(p), func() (int, error) { return w.ResponseWriter.Write(p) })
}

// FlushError sends what is buffered.
func (w *pacedWriter) FlushError() error {
	_, err := w.do(0, func() (int, error) { return 0, w.rc.Flush() })
	return err
}

// Flush is FlushError for those who do not care.
func (w *pacedWriter) Flush() { _ = w.FlushError() }
