package gateway

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/cardea-apim/cardea/internal/gateway/exchange"
)

// sentBody is a request body on its way; every piece restarts the timeout. The
// client of net/http may try a request on another connection as long as nothing
// of the body was read: each try has its own attempt, and only the newest reads.
type sentBody struct {
	r       io.Reader
	e       *sending
	trailer func() exchange.Header
	to      http.Header

	reads sync.Mutex // held while r is read

	mu      sync.Mutex
	current *attempt // nil: nobody may read
	touched bool     // something was read
	reading bool
	stopped bool
}

// attempt is the body as one try sees it.
type attempt struct{ b *sentBody }

func (b *sentBody) attempt() *attempt {
	b.current = &attempt{b}
	return b.current
}

var errBodyBegun = errors.New("the body was already sent in part")

// again is the body for another try.
func (b *sentBody) again() (io.ReadCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.touched || b.stopped {
		return nil, errBodyBegun
	}
	b.current = &attempt{b}
	return b.current, nil
}

// begin reports whether a may read now.
func (b *sentBody) begin(a *attempt) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current != a {
		return false
	}
	b.touched, b.reading = true, true
	return true
}

// end reports whether what a read is still wanted.
func (b *sentBody) end(a *attempt) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	return b.current == a
}

// leave takes the right to read away from a, or from everybody, and ends a read
// under way.
func (b *sentBody) leave(a *attempt) {
	b.mu.Lock()
	mine := a == nil || b.current == a
	interrupt := mine && b.reading
	if mine {
		b.current = nil
	}
	b.stopped = b.stopped || a == nil
	b.mu.Unlock()
	if !interrupt {
		return
	}
	if i, ok := b.r.(interface{ Interrupt() }); ok {
		i.Interrupt()
	}
}

// stop ends reading: the body belongs to the caller's connection again.
func (b *sentBody) stop() {
	b.leave(nil)
	b.reads.Lock()
	defer b.reads.Unlock()
	b.e.timer.Stop()
}

// Read reads the body.
func (a *attempt) Read(p []byte) (int, error) {
	b := a.b
	b.reads.Lock()
	defer b.reads.Unlock()
	if !b.begin(a) {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.r.Read(p)
	if !b.end(a) {
		return 0, http.ErrBodyReadAfterClose
	}
	if !b.e.expired.Load() {
		b.e.timer.Reset(b.e.timeout)
	}
	if err != nil && err != io.EOF {
		b.e.broken.Store(&err)
	}
	if err == io.EOF && b.trailer != nil {
		for _, f := range b.trailer() {
			// What was not announced cannot be sent.
			if k := http.CanonicalHeaderKey(f.Name); hasKey(b.to, k) {
				b.to[k] = append(b.to[k], strings.Clone(f.Value))
			}
		}
		b.trailer = nil
	}
	return n, err
}

// Close ends this try's reading. The body itself belongs to the client's
// connection and stays open.
func (a *attempt) Close() error {
	a.b.leave(a)
	return nil
}

func hasKey(h http.Header, k string) bool {
	_, ok := h[k]
	return ok
}
