package http1

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
)

type bodyKind uint8

const (
	noBody bodyKind = iota
	lengthBody
	chunkedBody
	closeBody // ends with the connection
)

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkData
	chunkEnd
	chunkTrailer
)

const (
	maxChunkLine   = 512     // chunk size and extensions
	maxExtensions  = 8 << 10 // extensions of one body
	maxTrailer     = 8 << 10
	maxTrailers    = 64
	maxChunkDigits = 15
)

// Body is a message's content on its way. One goroutine at a time reads it.
type Body struct {
	src        *source
	kind       bodyKind
	state      chunkState
	left       int64 // of the length, or of this chunk
	extensions int
	err        error // io.EOF: complete
	trailer    Header
	touched    atomic.Bool
	asks       *Exchange   // whose client waits for 100 Continue
	whole      atomic.Bool // err is io.EOF; for other goroutines
	unread     bool        // err is of what the content was written to
}

func (b *Body) start(src *source, f *framing, untilClose bool) {
	b.src, b.state, b.extensions, b.err, b.trailer, b.left, b.asks = src, chunkSize, 0, nil, nil, 0, nil
	b.touched.Store(false)
	b.whole.Store(false)
	b.unread = false
	switch {
	case f.chunked:
		b.kind = chunkedBody
	case f.length > 0:
		b.kind, b.left = lengthBody, f.length
	case f.length < 0 && untilClose:
		b.kind = closeBody
	default:
		b.kind, b.err = noBody, io.EOF
		b.whole.Store(true)
	}
}

// Trailer are the fields after the content, once Read has given io.EOF, without
// those that mean something in a head only (RFC 9110 §6.5.1).
func (b *Body) Trailer() Header { return b.trailer }

func (b *Body) complete() bool { return b.err == io.EOF }

// Interrupt makes reads, also one that blocks now, end with ErrInterrupted. The
// connection is of no use afterwards. Any goroutine may call it.
func (b *Body) Interrupt() {
	if b.whole.Load() {
		return
	}
	b.src.stopped.Store(true)
	_ = b.src.conn.SetReadDeadline(past)
}

// Take is the whole rest of the content if it has arrived already. The bytes
// stay valid until the handler returns, and the body is complete.
func (b *Body) Take() ([]byte, bool) {
	s := b.src
	if b.err == io.EOF {
		return nil, true
	}
	if b.kind != lengthBody || b.err != nil || int64(s.buffered()) < b.left {
		return nil, false
	}
	b.touched.Store(true)
	p := s.buf[s.r : s.r+int(b.left)]
	s.r += len(p)
	if b.asks != nil {
		b.asks.expectMet()
	}
	// What follows must not move or be overwritten while p is in use.
	s.base = s.r
	b.left = 0
	_ = b.fail(io.EOF)
	return p, true
}

// next makes content available in the buffer and is how much of that may be
// taken, at least 1 without an error.
func (b *Body) next() (int, error) {
	s := b.src
	if b.err != nil {
		return 0, b.err
	}
	if b.asks != nil {
		if err := b.asks.proceed(); err != nil {
			return 0, b.fail(err)
		}
		b.asks = nil
	}
	for {
		if b.kind == chunkedBody && b.state != chunkData {
			if err := b.chunk(); err != nil {
				return 0, b.fail(err)
			}
			continue
		}
		if n := s.buffered(); n > 0 {
			if b.kind != closeBody && int64(n) > b.left {
				n = int(b.left)
			}
			return n, nil
		}
		s.widen()
		if err := s.fill(); err != nil {
			return 0, b.fail(b.cause(err))
		}
	}
}

func (b *Body) cause(err error) error {
	if err != io.EOF {
		return err
	}
	if b.kind == closeBody {
		return io.EOF
	}
	return io.ErrUnexpectedEOF
}

func (b *Body) fail(err error) error {
	b.err = err
	if err == io.EOF {
		b.whole.Store(true)
	}
	return err
}

// took notes that n bytes of content are used.
func (b *Body) took(n int) {
	if b.kind == closeBody {
		return
	}
	if b.left -= int64(n); b.left == 0 {
		if b.kind == lengthBody {
			_ = b.fail(io.EOF)
		} else {
			b.state = chunkEnd
		}
	}
}

// Read gives content as it arrives; io.EOF once it is complete, and
// io.ErrUnexpectedEOF or a *Malformed if it cannot be.
func (b *Body) Read(p []byte) (int, error) {
	if !b.touched.Load() {
		b.touched.Store(true)
	}
	if len(p) == 0 {
		return 0, nil
	}
	s := b.src
	// A large read with nothing buffered needs no copy.
	direct := b.kind != chunkedBody || b.state == chunkData
	if direct && b.err == nil && b.asks == nil && len(p) >= small && s.buffered() == 0 {
		if b.kind != closeBody && int64(len(p)) > b.left {
			p = p[:b.left]
		}
		n, err := s.patient(p)
		if err != nil {
			return 0, b.fail(b.cause(err))
		}
		b.took(n)
		return n, nil
	}
	n, err := b.next()
	if err != nil {
		return 0, err
	}
	n = copy(p, s.buf[s.r:s.r+n])
	s.r += n
	b.took(n)
	return n, nil
}

type flusher interface{ Flush() error }

// WriteTo writes the content to w without copying it in between. Where w can
// flush and its answer is a stream, it is flushed before we wait for more.
func (b *Body) WriteTo(w io.Writer) (total int64, err error) {
	b.touched.Store(true)
	s := b.src
	flush, _ := w.(flusher)
	if x, ok := w.(*Exchange); ok && !x.streams() {
		flush = nil
	}
	s.idle, s.broken = flush, nil
	defer func() { s.idle = nil }()
	for {
		n, err := b.next()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			b.unread = s.broken != nil
			return total, err
		}
		m, err := w.Write(s.buf[s.r : s.r+n])
		s.r += n
		b.took(n)
		total += int64(m)
		if err != nil {
			return total, err
		}
	}
}

// line is the next line without its end, at most limit bytes.
func (b *Body) line(limit int, long error) ([]byte, error) {
	s := b.src
	for from := 0; ; {
		if i := bytes.IndexByte(s.buf[s.r+from:s.w], '\n'); i >= 0 {
			i += from
			if i+1 > limit {
				return nil, long
			}
			line := s.buf[s.r : s.r+i]
			s.r += i + 1
			if i == 0 || line[i-1] != '\r' {
				return nil, errBareLF
			}
			return line[:i-1], nil
		}
		if from = s.buffered(); from >= limit {
			return nil, long
		}
		s.widen()
		if err := s.fill(); err != nil {
			return nil, b.cause(err)
		}
	}
}

// chunk reads what stands between the data of two chunks.
func (b *Body) chunk() error {
	switch b.state {
	case chunkEnd:
		line, err := b.line(2, errChunk)
		if err != nil {
			return err
		}
		if len(line) != 0 {
			return errChunk
		}
		b.state = chunkSize
	case chunkSize:
		line, err := b.line(maxChunkLine, errChunkExt)
		if err != nil {
			return err
		}
		i, size := 0, int64(0)
		for ; i < len(line); i++ {
			d := unhex[line[i]]
			if d < 0 {
				break
			}
			if i == maxChunkDigits {
				return errChunk
			}
			size = size<<4 | int64(d)
		}
		if i == 0 {
			return errChunk
		}
		if i < len(line) {
			if b.extensions += len(line) - i; line[i] != ';' || !isText(line[i:]) {
				return errChunk
			} else if b.extensions > maxExtensions {
				return errChunkExt
			}
		}
		if b.left, b.state = size, chunkData; size == 0 {
			b.state = chunkTrailer
		}
	case chunkTrailer:
		return b.readTrailer()
	}
	return nil
}

func (b *Body) readTrailer() error {
	// The common end, without fields.
	line, err := b.line(maxTrailer, errTrailer)
	if err != nil {
		return err
	}
	if len(line) == 0 {
		return io.EOF
	}
	var text []byte
	for len(line) > 0 {
		text = append(append(text, line...), '\r', '\n')
		if len(text) > maxTrailer {
			return errTrailer
		}
		if line, err = b.line(maxTrailer, errTrailer); err != nil {
			return err
		}
	}
	f := framing{length: -1}
	var h Header
	if _, bad := parseFields(append(text, '\r', '\n'), &h, &f, maxTrailers); bad != nil {
		return errTrailer
	}
	if f.framingSet {
		return errTrailer
	}
	b.trailer = slices.DeleteFunc(h, func(f Field) bool { return !trailing(f.Name) })
	return io.EOF
}

// unhex is the value of a hexadecimal digit, or -1.
var unhex = func() (t [256]int8) {
	for c := range t {
		t[c] = int8(strings.IndexByte("0123456789abcdef", lower(byte(c))))
	}
	return t
}()

// isMalformed finds the refusal in an error.
func isMalformed(err error) (*Malformed, bool) { return errors.AsType[*Malformed](err) }
